import Dispatch

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// The files that this process may have open.
package enum Descriptors {
  /// How many must be free at the start: those of Dispatch's threads, of the output and its lock, and
  /// of a few files.
  static let least = 12
  /// How many no checkpoint's file may take: listings, removals and Dispatch, which ends the process
  /// when it gets none, need them.
  static let reserve = 4

  /// How many files the process may have open; `nil` where the system does not tell.
  static var limit: Int? {
    var limit = rlimit()
    #if canImport(Glibc)
      let resource = __rlimit_resource_t(UInt32(RLIMIT_NOFILE.rawValue))
    #else
      let resource = RLIMIT_NOFILE
    #endif
    guard getrlimit(resource, &limit) == 0 else { return nil }
    return Int(clamping: limit.rlim_cur)
  }

  /// Makes sure that the work can begin.
  ///
  /// - Throws: `io.descriptors`.
  package static func check() throws(Diagnostic) {
    guard let limit, limit < 256 else { return }
    var taken: [Int32] = []
    defer { for descriptor in taken { close(descriptor) } }
    while taken.count < least {
      let descriptor = open("/dev/null", O_RDONLY | O_CLOEXEC)
      guard descriptor >= 0 else {
        throw Diagnostic(
          code: "io.descriptors", subject: "open files",
          message: "only \(taken.count) more can be opened, under a limit of \(limit); "
            + "\(least) are needed",
          help: "let the process open more files: ulimit -n 4096")
      }
      taken.append(descriptor)
    }
    for descriptor in taken { close(descriptor) }
    taken = []
    // Dispatch opens its own with its first thread.
    let started = DispatchGroup()
    DispatchQueue.global().async(group: started) {}
    started.wait()
  }

  /// Closes files of checkpoints that nobody reads at the moment; whether there was any.
  @discardableResult
  package static func makeRoom(atLeast count: Int) -> Bool { OpenFiles.closeIdle(atLeast: count) }

  /// Gives the standard streams that the process was started without something in their place: a
  /// checkpoint's file would have their numbers otherwise, and get what is said. Writing to standard
  /// output still fails.
  package static func holdStandard() {
    for number in [STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO] {
      guard fcntl(number, F_GETFD) < 0, errno == EBADF else { continue }
      // The lowest free number is this one.
      _ = open("/dev/null", number == STDERR_FILENO ? O_WRONLY : O_RDONLY)
    }
  }
}
