import Synchronization
import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// One temporary directory on its way to a destination. A process that is told to end finds all of
/// its claims here, whatever its other threads are doing.
final class OutputClaim: Sendable {
  private enum State { case open, placed, gone }

  private let path: String
  private let destination: String
  private let isKept: Bool
  /// Directories above that were created for it, the outermost first.
  private let parents: [String]
  private let state = Mutex(State.open)
  /// Descriptors reserved for the removal, which must not fail for lack of them.
  private let spare: Mutex<[Int32]>

  private struct Registry {
    var isClosed = false
    var claims: [OutputClaim] = []
  }
  private static let registry = Mutex(Registry())

  private init(_ path: String, _ destination: String, isKept: Bool, _ parents: [String]) {
    self.parents = parents
    self.path = path
    self.destination = destination
    self.isKept = isKept
    spare = Mutex((0..<3).map { _ in open("/dev/null", O_RDONLY | O_CLOEXEC) })
  }

  deinit { giveSpare() }

  private func giveSpare() {
    spare.withLock { spare in
      for descriptor in spare where descriptor >= 0 { close(descriptor) }
      spare = []
    }
  }

  /// Creates the directory at `path`; one that is kept may exist already.
  ///
  /// - Throws: `io.write`; `convert.interrupted` when the process is about to end.
  static func make(
    _ path: String, for destination: String, isKept: Bool, parents: [String] = []
  ) throws(Diagnostic) -> (claim: OutputClaim, isNew: Bool) {
    try registry.withLock { (registry) throws(Diagnostic) in
      guard !registry.isClosed else { throw interrupted(destination) }
      let isNew = mkdir(path, 0o777) == 0
      guard isNew || isKept && errno == EEXIST else {
        throw Diagnostic.system("io.write", path, "cannot be created")
      }
      let claim = OutputClaim(path, destination, isKept: isKept, parents)
      registry.claims.append(claim)
      return (claim, isNew)
    }
  }

  private static func interrupted(_ destination: String) -> Diagnostic {
    Diagnostic(
      code: "convert.interrupted", subject: destination, message: "was not written: interrupted")
  }

  /// Takes the claim out of the process's list.
  func release() {
    Self.registry.withLock { registry in registry.claims.removeAll { $0 === self } }
  }

  /// Puts the directory in place; an interruption comes before or after, never between.
  func place(_ body: () throws(Diagnostic) -> [Diagnostic]) throws(Diagnostic) -> [Diagnostic] {
    try state.withLock { (state) throws(Diagnostic) in
      guard state == .open else { throw Self.interrupted(destination) }
      let notes = try body()
      state = .placed
      return notes
    }
  }

  /// Removes the temporary of a claim that is open.
  ///
  /// - Returns: whether it was complete, kept or removed.
  @discardableResult
  func abandon(evenKept: Bool = false) -> OutputDirectory.Abandoned {
    state.withLock { state in
      let fate: OutputDirectory.Abandoned.Fate
      switch state {
      case .placed: fate = .complete
      case .open, .gone:
        state = .gone
        if isKept, !evenKept, FilePath.exists(path) {
          fate = .kept
        } else {
          giveSpare()
          // Other threads may still create a file in it.
          for _ in 0..<10 where FilePath.exists(path) { OutputDirectory.removeTree(path) }
          fate = FilePath.exists(path) ? .left : .removed
          // Only if they are empty.
          if fate == .removed { for parent in parents.reversed() { rmdir(parent) } }
        }
      }
      return OutputDirectory.Abandoned(destination: destination, path: path, fate: fate)
    }
  }

  /// Abandons every claim of the process, and lets no new one be made.
  static func abandonAll() -> [OutputDirectory.Abandoned] {
    let claims = registry.withLock { registry in
      registry.isClosed = true
      return registry.claims
    }
    let all = claims.map { $0.abandon() }
    // When all is in place already, the process may go on to its end.
    if all.contains(where: { $0.fate == .complete }) {
      registry.withLock { $0.isClosed = false }
    }
    return all
  }
}

extension OutputDirectory {
  /// The state of a directory after the process was told to stop.
  public struct Abandoned: Sendable {
    /// The state of the temporary.
    public enum Fate: Sendable {
      /// It is removed, and the destination as it was.
      case removed
      /// It waits for a run that continues it; the destination is as it was.
      case kept
      /// It could not be removed; the destination is as it was.
      case left
      /// The destination stands, whole and new.
      case complete
    }

    /// Where the directory should have stood.
    public var destination: String
    /// The temporary.
    public var path: String
    /// Its state.
    public var fate: Fate
  }

  /// Gives up every directory that this process is writing, from any thread: for a process that is
  /// told to end. No new one can be made afterwards.
  public static func abandonAll() -> [Abandoned] { OutputClaim.abandonAll() }
}
