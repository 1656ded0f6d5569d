import Checkpoints
import Dispatch
import Output
import Synchronization
import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// SIGINT, SIGTERM and SIGHUP while a directory is being written: the temporary goes, the user is
/// told, and the process dies by the signal, so that a shell sees 128 + its number and ends its
/// loops.
enum Interruption {
  private static let signals = [(SIGINT, "SIGINT"), (SIGTERM, "SIGTERM"), (SIGHUP, "SIGHUP")]

  /// How a process ends that waits for work until it is told to end: that is no failure.
  struct Ending: Sendable {
    /// Takes note that no new work shall begin.
    var stop: @Sendable () -> Void
    /// Tells what was done, given the signal's name and what was given up. Returns the exit status, or
    /// `nil` where another thread is ending the process already.
    var status: @Sendable (String, [OutputDirectory.Abandoned]) -> Int32?
  }

  /// Takes the signals over, but for those that the process was started to ignore (`nohup`).
  ///
  /// - Parameters:
  ///   - document: for `--json`: the document that tells of a problem.
  ///   - ending: how the process ends, where that is not by the signal.
  static func arm(
    document: (@Sendable (Diagnostic) -> String)?, ending: Ending? = nil
  ) {
    var ends: [Int32] = [-1, -1]
    guard pipe(&ends) == 0 else { return }
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    wakeUp.store(ends[1], ordering: .sequentiallyConsistent)
    let reading = ends[0]
    DispatchQueue(label: "signals").async {
      while true {
        var number: UInt8 = 0
        let count = read(reading, &number, 1)
        if count == 1 {
          end(by: Int32(number), document, ending)
        } else if errno != EINTR {
          return
        }
      }
    }
    for (number, _) in signals {
      let old = signal(number, received)
      if unsafeBitCast(old, to: Int.self) == unsafeBitCast(SIG_IGN, to: Int.self) {
        _ = signal(number, SIG_IGN)
      }
    }
    // Whoever started this from a thread that blocks signals has passed that on.
    var set = sigset_t()
    sigemptyset(&set)
    for (number, _) in signals { sigaddset(&set, number) }
    pthread_sigmask(SIG_UNBLOCK, &set, nil)
    // A full disk quota and a reader that went away come as errors of the calls.
    _ = signal(SIGXFSZ, SIG_IGN)
    _ = signal(SIGPIPE, SIG_IGN)
  }

  /// Waits while the process is being ended: what fails meanwhile fails for that, and whoever reported
  /// it first would end the process with another status than the signal's.
  static func settle() {
    while isEnding.load(ordering: .acquiring) { usleep(1000) }
  }

  private static let isEnding = Atomic(false)

  private static func end(
    by number: Int32, _ document: (@Sendable (Diagnostic) -> String)?, _ ending: Ending?
  ) {
    isEnding.store(true, ordering: .releasing)
    ending?.stop()
    let all = OutputDirectory.abandonAll()
    // The destination stands; what is left is to say so.
    if all.contains(where: { $0.fate == .complete }) {
      isEnding.store(false, ordering: .releasing)
      return
    }
    // A second signal ends it at once.
    for (number, _) in signals { _ = signal(number, SIG_DFL) }
    let name = signals.first { $0.0 == number }?.1 ?? "a signal"
    let problem = diagnostic(name, all)
    if let ending {
      if let status = ending.status(name, all) { _exit(status) }
      isEnding.store(false, ordering: .releasing)
      return
    }
    Standard.silence()
    Standard.write(problem.description + "\n", to: STDERR_FILENO, evenSilent: true)
    if let document {
      Standard.write(document(problem) + "\n", to: STDOUT_FILENO, evenSilent: true)
    }
    kill(getpid(), number)
    // Only for the moment until the signal arrives.
    while true { pause() }
  }

  private static func diagnostic(_ name: String, _ all: [OutputDirectory.Abandoned]) -> Diagnostic {
    guard let one = all.first else {
      return Diagnostic(
        code: "convert.interrupted", subject: name, message: "ended it before anything was written")
    }
    let fate =
      switch one.fate {
      case .removed, .complete: "the temporary \(one.path) is removed"
      case .left: "the temporary \(one.path) cannot be removed; the next run will try"
      case .kept: "what is done so far is kept in \(one.path)"
      }
    return Diagnostic(
      code: "convert.interrupted", subject: one.destination,
      message: "was not written: interrupted by \(name)",
      notes: [fate, "source and destination are as they were"],
      help: one.fate == .kept
        ? "the same command with --resume goes on from there; without it, it begins anew" : nil)
  }
}

/// Where the handler writes; a handler may do little else.
private let wakeUp = Atomic<Int32>(-1)

private func received(_ number: Int32) {
  let saved = errno
  var byte = UInt8(truncatingIfNeeded: number)
  _ = put(wakeUp.load(ordering: .relaxed), &byte, 1)
  errno = saved
}

/// The C library's `write`.
private func put(_ descriptor: Int32, _ bytes: UnsafePointer<UInt8>, _ count: Int) -> Int {
  write(descriptor, bytes, count)
}
