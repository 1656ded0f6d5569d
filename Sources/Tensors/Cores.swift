import CKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// The processor's cores, and those that this process may use.
///
/// A scheduler such as Slurm binds a process to some cores (its affinity); a container gets a share of the
/// processor's time (its cgroup's quota). Threads beyond either only wait for each other.
public struct Cores: Sendable, Hashable {
  /// Cores of the machine that are online.
  public var online: Int
  /// Cores that the process's affinity allows.
  public var allowed: Int
  /// How many cores' time the cgroup's quota gives; `nil` where there is none.
  public var quota: Double?

  /// Threads that can run at once: at least one.
  public var usable: Int {
    guard let quota else { return max(1, min(online, allowed)) }
    return max(1, min(online, allowed, Int(quota.rounded(.up))))
  }

  /// This process's.
  public static let current = Cores(
    online: onlineCount, allowed: allowedCount,
    quota: quota(cgroups: text(of: "/proc/self/cgroup"), file: { text(of: $0) }))

  package init(online: Int, allowed: Int, quota: Double?) {
    self.online = online
    self.allowed = allowed
    self.quota = quota
  }

  private static var onlineCount: Int { max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))) }

  private static var allowedCount: Int {
    let count = Int(ck_allowed_cores())
    return count > 0 ? count : onlineCount
  }

  /// The least quota of the process's cgroup and those above it.
  ///
  /// - Parameters:
  ///   - cgroups: what `/proc/self/cgroup` says: `0::/path` for version 2, `4:cpu,cpuacct:/path` for
  ///     version 1.
  ///   - file: the text of a file of `/sys/fs/cgroup`; `nil` where there is none.
  package static func quota(cgroups: String?, file: (String) -> String?) -> Double? {
    var least: Double?
    func take(_ value: Double?) {
      guard let value, value.isFinite, value > 0 else { return }
      least = min(least ?? value, value)
    }
    for line in (cgroups ?? "").split(separator: "\n") {
      let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      guard fields.count == 3 else { continue }
      let isUnified = fields[0] == "0" && fields[1].isEmpty
      guard isUnified || fields[1].split(separator: ",").contains("cpu") else { continue }
      let root = "/sys/fs/cgroup" + (isUnified ? "" : "/\(fields[1])")
      var names = fields[2].split(separator: "/").filter { $0 != ".." }
      while true {
        let place = ([root] + names.map(String.init)).joined(separator: "/")
        take(isUnified ? unified(file(place + "/cpu.max")) : nil)
        if !isUnified {
          take(
            ratio(file(place + "/cpu.cfs_quota_us"), file(place + "/cpu.cfs_period_us")))
        }
        if names.isEmpty { break }
        names.removeLast()
      }
    }
    return least
  }

  /// `150000 100000` is a core and a half; `max 100000` is no limit.
  private static func unified(_ text: String?) -> Double? {
    let parts = (text ?? "").split(whereSeparator: \.isWhitespace).map(String.init)
    guard parts.count == 2 else { return nil }
    return ratio(parts[0], parts[1])
  }

  private static func ratio(_ quota: String?, _ period: String?) -> Double? {
    func number(_ text: String?) -> Double? {
      text.flatMap { Double(String($0.filter { !$0.isWhitespace })) }
    }
    guard let quota = number(quota), let period = number(period), quota > 0, period > 0 else {
      return nil
    }
    return quota / period
  }

  /// A small file of the system; its size is not known before it is read.
  private static func text(of path: String) -> String? {
    guard let file = fopen(path, "r") else { return nil }
    defer { fclose(file) }
    var bytes = [UInt8](repeating: 0, count: 65_536)
    let count = fread(&bytes, 1, bytes.count, file)
    return String(decoding: bytes[..<count], as: UTF8.self)
  }
}

extension Cores: CustomStringConvertible {
  /// `2 of 16 cores (bound to 4, a quota of 1.5)`.
  public var description: String {
    var limits: [String] = []
    if allowed < online { limits.append("bound to \(allowed)") }
    if let quota, quota < Double(min(online, allowed)) { limits.append("a quota of \(quota)") }
    let count = usable == online ? "\(online)" : "\(usable) of \(online)"
    let noun = online == 1 ? "core" : "cores"
    return "\(count) \(noun)" + (limits.isEmpty ? "" : " (\(limits.joined(separator: ", ")))")
  }
}
