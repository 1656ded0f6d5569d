import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A mapped file that becomes shorter while it is read: the system ends the process by SIGBUS, and
/// nothing can be read on. What happened is said first, and the exit status is that of a failure.
enum ShrunkenFile {
  /// Takes the signal over.
  static func arm(json: Bool) {
    wantsDocument.store(json, ordering: .relaxed)
    _ = signal(SIGBUS, ended)
  }
}

private let wantsDocument = Atomic(false)

private let words: StaticString = """
  error[io.changed]: a checkpoint's file: became shorter while it was read, or its disk failed
    help: run it again when nothing else writes there; what is left over goes with the next run

  """

private let document: StaticString = """
  {"problems": [{"severity": "error", "code": "io.changed", "subject": "a checkpoint's file", \
  "message": "became shorter while it was read, or its disk failed", "help": null}]}

  """

/// A handler may do little more than write and end.
private func ended(_ number: Int32) {
  put(words, STDERR_FILENO)
  if wantsDocument.load(ordering: .relaxed) { put(document, STDOUT_FILENO) }
  _exit(2)
}

private func put(_ text: StaticString, _ descriptor: Int32) {
  _ = write(descriptor, text.utf8Start, text.utf8CodeUnitCount)
}
