import Checkpoints
import Synchronization
package import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Where the parts of one conversion gather, each written by a process of its own and perhaps by another
/// machine: the hidden sibling `.NAME.weighbridge-parts` of the destination.
///
///     .out.weighbridge-parts/
///       conversion.json            what it is a conversion of; the first part writes it
///       part-00001-of-00004/       a part that is whole: its files and part.json
///       .part-00002-of-00004.….partial/    a part on its way, or what a killed process left
///
/// Nothing here needs locks that hold across machines: a part is written under a name that no other
/// process has, and appears by a rename.
package struct PartsDirectory: Sendable {
  /// Where the destination will stand.
  package let destination: String
  /// The directory.
  package let path: String

  /// The file that tells what the parts are of.
  package static let headName = "conversion.json"
  /// The file of each part that tells its files.
  package static let recordName = "part.json"

  private static let serial = Atomic(0)

  /// The directory for parts of `destination`, which need not be there.
  ///
  /// - Throws: `output.parent` where the destination's parent is no directory.
  package init(destination given: String) throws(Diagnostic) {
    let given = FilePath.trimmed(given)
    let target = FilePath.exists(given) ? FilePath.real(given) ?? given : given
    let parent = FilePath.directory(of: target)
    let home = FilePath.real(parent) ?? parent
    guard [.directory, .nothing].contains(FilePath.kind(home)) else {
      throw Diagnostic(
        code: "output.parent", subject: given,
        message: "cannot be created: \(shown(parent)) is no directory", help: "create it first")
    }
    let name = FilePath.name(of: target)
    destination = home == "." ? name : (home == "/" ? "" : home) + "/" + name
    path = (home == "/" ? "" : home) + "/.\(name).weighbridge-parts"
  }

  /// Whether it is there.
  package var exists: Bool { FilePath.kind(path) == .directory }

  /// Creates it with its parents; other processes may be doing the same.
  private func make() throws(Diagnostic) {
    var missing: [String] = []
    var place = path
    while !FilePath.exists(place), place != ".", place != "/" {
      missing.append(place)
      place = FilePath.directory(of: place)
    }
    for path in missing.reversed() where mkdir(path, 0o777) != 0 && errno != EEXIST {
      throw Diagnostic.system("output.parent", destination, "cannot be created: \(shown(path))")
    }
    guard exists else {
      throw Diagnostic(
        code: "output.parent", subject: destination,
        message: "cannot be written in parts: \(shown(path)) is no directory",
        help: "look at what it is, and move it away")
    }
  }

  // MARK: The head

  /// What the parts are of; `nil` when no part was begun.
  package func head() throws(Diagnostic) -> [UInt8]? {
    let place = "\(path)/\(Self.headName)"
    guard FilePath.kind(place) == .file else { return nil }
    let file = try RandomAccessFile(path: place)
    guard file.byteCount <= 1 << 28 else {
      throw Diagnostic(
        code: "part.head", subject: place, message: "has \(file.byteCount) bytes, too many")
    }
    return try file.bytes(at: 0, count: file.byteCount)
  }

  /// Makes `head` what the parts are of, unless another is there.
  ///
  /// One of another conversion of which no part was begun is replaced.
  ///
  /// - Returns: what is there now.
  /// - Throws: `output.parent`, `io.write`, `io.open`.
  package func establish(_ head: String, sync: Bool) throws(Diagnostic) -> [UInt8] {
    try make()
    for _ in 0..<100 {
      if let standing = try self.head() {
        if standing == Array(head.utf8) { return standing }
        let others = try FilePath.names(in: path).filter {
          $0 != Self.headName && !$0.hasPrefix(".head-")
        }
        guard others.isEmpty else { return standing }
        unlink("\(path)/\(Self.headName)")
      }
      // Whole under its own name first: whoever finds the head finds all of it.
      let own = "\(path)/.head-\(Self.unique()).partial"
      try TextFile.write(head, to: own)
      if sync { try OutputDirectory.sync(own) }
      defer { unlink(own) }
      if link(own, "\(path)/\(Self.headName)") == 0 || errno == EEXIST { continue }
      // A file system without links.
      guard Rename.withoutReplacing(own, "\(path)/\(Self.headName)") || errno == EEXIST else {
        throw Diagnostic.system("io.write", path, "cannot be written")
      }
    }
    throw Diagnostic(
      code: "output.busy", subject: destination,
      message: "parts of other conversions are written to it at this moment",
      help: "give every part the same options")
  }

  // MARK: The parts

  /// The name of part `number` of `count`, counted from 1: `part-00002-of-00004`.
  package static func name(_ number: Int, of count: Int) -> String {
    func five(_ value: Int) -> String {
      let digits = String(value)
      return String(repeating: "0", count: max(0, 5 - digits.utf8.count)) + digits
    }
    return "part-\(five(number))-of-\(five(count))"
  }

  /// The directory of a part that is whole.
  package func path(of part: String) -> String { "\(path)/\(part)" }

  /// The temporaries of `part`: it is being written, or a process was killed.
  package func temporaries(of part: String) -> [String] {
    ((try? FilePath.names(in: path)) ?? []).filter {
      $0.hasPrefix(".\(part).") && $0.hasSuffix(".partial")
    }
  }

  /// This kernel's run and this process, and a number: nobody else's.
  private static func unique() -> String {
    "\(kernel)-\(getpid())-\(serial.add(1, ordering: .relaxed).newValue)"
  }

  /// Tells machines, and a machine's runs, apart.
  private static let kernel: String = {
    if let file = fopen("/proc/sys/kernel/random/boot_id", "re") {
      defer { fclose(file) }
      var text = [CChar](repeating: 0, count: 64)
      if fgets(&text, 64, file) != nil {
        var digits: [UInt8] = []
        for character in text.prefix(while: { $0 != 0 }) {
          let byte = UInt8(bitPattern: character)
          if UnicodeScalar(byte).properties.isASCIIHexDigit { digits.append(byte) }
        }
        if digits.count >= 12 { return String(decoding: digits.prefix(12), as: UTF8.self) }
      }
    }
    var name = [CChar](repeating: 0, count: 256)
    gethostname(&name, 255)
    let bytes = name.prefix(while: { $0 != 0 }).map { UInt8(bitPattern: $0) }
    return String(Digest.of(String(decoding: bytes, as: UTF8.self)).prefix(12))
  }()

  /// A directory for `part` to be written in.
  ///
  /// - Throws: `io.write`; `convert.interrupted` when the process is about to end.
  package func begin(_ part: String) throws(Diagnostic) -> PartOnItsWay {
    clear(part)
    let own = "\(path)/.\(part).\(Self.unique()).partial"
    return try PartOnItsWay(own, target: path(of: part), destination: destination)
  }

  /// Removes what processes of this machine that are gone have left of `part`.
  private func clear(_ part: String) {
    for name in temporaries(of: part) {
      let words = name.dropFirst(part.utf8.count + 2).dropLast(".partial".count)
        .split(separator: "-")
      guard words.count >= 3, words[0] == Self.kernel, let process = Int32(words[1]),
        process != getpid(), kill(process, 0) != 0, errno == ESRCH
      else { continue }
      let place = "\(path)/\(name)"
      // A process of another container has a number of its own, and its lock.
      let descriptor = open(place, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
      guard descriptor >= 0 else { continue }
      defer { close(descriptor) }
      guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else { continue }
      OutputDirectory.removeTree(place)
    }
  }

  /// Gives a file of a part that is whole a second name in `directory`, or moves it there where the
  /// file system has no links.
  ///
  /// - Throws: `io.write`.
  package func place(
    _ file: String, of part: String, in directory: String
  ) throws(Diagnostic) {
    let from = "\(path)/\(part)/\(file)"
    if link(from, "\(directory)/\(file)") == 0 { return }
    guard rename(from, "\(directory)/\(file)") == 0 else {
      throw Diagnostic.system("io.write", from, "cannot be put in place")
    }
  }

  /// Removes everything, as the destination stands.
  ///
  /// - Parameter known: the files of each part, by the part's name.
  /// - Returns: what nobody here has written, which stays.
  package func remove(_ known: [String: Set<String>]) -> [Diagnostic] {
    var foreign: [String] = []
    for name in (try? FilePath.names(in: path)) ?? [] where name != Self.headName {
      if name.hasPrefix("."), name.hasSuffix(".partial") { continue }
      guard let files = known[name] else {
        foreign.append(name)
        continue
      }
      let own = (try? FilePath.names(in: "\(path)/\(name)")) ?? []
      foreign += own.filter { !files.contains($0) && $0 != Self.recordName }.map { "\(name)/\($0)" }
    }
    guard foreign.isEmpty else {
      for (part, files) in known {
        for file in files.union([Self.recordName]) { unlink("\(path)/\(part)/\(file)") }
        rmdir("\(path)/\(part)")
      }
      unlink("\(path)/\(Self.headName)")
      return [
        Diagnostic(
          .warning, code: "part.leftover", subject: path,
          message: "holds what no part has written, and stays: "
            + foreign.prefix(8).map { shown($0) }.joined(separator: ", "),
          help: "look at it, and remove it yourself")
      ]
    }
    // Under the name of a leftover, so that the next run removes what this one did not manage to.
    let name = FilePath.name(of: path).dropLast("parts".count)
    let trash =
      "\(FilePath.directory(of: path))/\(name)\(getpid())-"
      + "\(Self.serial.add(1, ordering: .relaxed).newValue)000.partial"
    OutputDirectory.removeTree(rename(path, trash) == 0 ? trash : path)
    return []
  }
}

/// A part on its way: a directory that nobody else writes to.
package final class PartOnItsWay: Sendable {
  /// Where to write.
  package let path: String
  private let target: String
  private let claim: OutputClaim
  private let lock: Int32

  fileprivate init(_ path: String, target: String, destination: String) throws(Diagnostic) {
    self.path = path
    self.target = target
    (claim, _) = try OutputClaim.make(path, for: destination, isKept: false)
    lock = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
    // Where there are no locks, the process's number has to do.
    if lock >= 0 { flock(lock, LOCK_EX | LOCK_NB) }
  }

  deinit {
    claim.abandon()
    claim.release()
    if lock >= 0 { close(lock) }
  }

  /// Puts the part in its place.
  ///
  /// - Parameter isWhole: whether the part that stands there already is whole; any other is replaced.
  /// - Returns: whether this one was taken; `false` when another process had finished the same.
  /// - Throws: `io.write`; `part.gone` when the directory of the parts is no longer there.
  package func commit(
    sync: Bool, unless isWhole: () -> Bool
  ) throws(Diagnostic) -> Bool {
    if sync { try OutputDirectory.syncTree(path) }
    var isTaken = true
    _ = try claim.place { () throws(Diagnostic) in
      if Rename.withoutReplacing(path, target) { return [] }
      guard errno == EEXIST || errno == ENOTEMPTY else { throw failure() }
      guard !isWhole() else {
        isTaken = false
        return []
      }
      let aside = String(path.dropLast(".partial".count)) + "-old.partial"
      guard rename(target, aside) == 0 || errno == ENOENT else { throw failure() }
      defer { OutputDirectory.removeTree(aside) }
      guard Rename.withoutReplacing(path, target) else {
        guard errno == EEXIST, isWhole() else { throw failure() }
        isTaken = false
        return []
      }
      return []
    }
    if isTaken {
      if sync { try OutputDirectory.sync(FilePath.directory(of: target)) }
    } else {
      OutputDirectory.removeTree(path)
    }
    return isTaken
  }

  private func failure() -> Diagnostic {
    guard errno == ENOENT else {
      return Diagnostic.system("io.write", target, "cannot be put in place")
    }
    return Diagnostic(
      code: "part.gone", subject: target,
      message: "cannot be put in place: the directory of the parts is gone",
      help: "another run has put them together, or somebody removed it")
  }
}
