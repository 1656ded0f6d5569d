public import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Many inputs through one target.
public struct FuzzRun: Sendable {
  /// The number of the input that is being read, for whoever has to tell of a crash.
  public static let current = Atomic(-1)

  /// Inputs read.
  public var executions = 0
  /// Of these, how many were taken; the others were refused with an error.
  public var accepted = 0
  /// Seconds of the processor's time that the slowest input took.
  public var slowest = 0.0
  /// Its number.
  public var slowestNumber = 0
  /// Megabytes by which the process grew.
  public var growth = 0
  /// Seconds of all.
  public var seconds = 0.0

  /// Reads inputs `first ..< first + executions`.
  ///
  /// - Parameters:
  ///   - package: the directory with `Fixtures` and `formats`.
  ///   - seed: other seeds make other inputs.
  /// - Throws: when the fixtures cannot be read.
  public init(
    _ target: FuzzTarget, executions: Int, first: Int = 0, seed: UInt64, package: String
  ) throws {
    let seeds = try target.seeds(in: package)
    var reader = try FuzzReader(target, package: package)
    defer { reader.close() }
    let before = Self.peakMegabytes()
    let start = ContinuousClock.now
    var last = clock()
    for number in first..<first + executions {
      Self.current.store(number, ordering: .relaxed)
      var mutator = Mutator(seed: seed, number: number, kind: target.kind)
      if reader.accepts(mutator.input(from: seeds)) { accepted += 1 }
      let now = clock()
      let taken = Double(now - last) / 1e6
      if taken > slowest { (slowest, slowestNumber) = (taken, number) }
      last = now
    }
    self.executions = executions
    seconds = (ContinuousClock.now - start) / .seconds(1)
    growth = Self.peakMegabytes() - before
  }

  /// The input of a number, to look at.
  ///
  /// - Throws: as `init`.
  public static func input(
    _ target: FuzzTarget, number: Int, seed: UInt64, package: String
  ) throws -> [UInt8] {
    var mutator = Mutator(seed: seed, number: number, kind: target.kind)
    return mutator.input(from: try target.seeds(in: package))
  }

  /// The most memory that this program has had.
  private static func peakMegabytes() -> Int {
    #if os(Linux)
      // `getrusage` also counts what the program's parent had when it started it.
      let file = fopen("/proc/self/status", "r")
      defer { if let file { fclose(file) } }
      var line = [CChar](repeating: 0, count: 256)
      var kilobytes = 0
      while let file, fgets(&line, Int32(line.count), file) != nil {
        let bytes = line.prefix { $0 != 0 }.map(UInt8.init(bitPattern:))
        let text = String(decoding: bytes, as: UTF8.self)
        guard text.hasPrefix("VmHWM:") else { continue }
        kilobytes = Int(text.filter(\.isNumber)) ?? 0
      }
      precondition(kilobytes > 0, "the system does not tell how much memory the program has had")
      return kilobytes >> 10
    #else
      var usage = rusage()
      getrusage(RUSAGE_SELF, &usage)
      return usage.ru_maxrss >> 20
    #endif
  }
}
