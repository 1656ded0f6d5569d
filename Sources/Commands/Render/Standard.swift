import Synchronization
import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Standard output and standard error.
enum Standard {
  /// Writes a text and a line break to standard output; a reader that went away is no error.
  static func output(_ text: String) {
    // A long listing is not copied for the sake of its last byte.
    guard text.utf8.count > 65_536 else { return write(plain(text) + "\n", to: STDOUT_FILENO) }
    write(plain(text), to: STDOUT_FILENO)
    write("\n", to: STDOUT_FILENO)
  }

  /// Writes a text and a line break to standard error.
  static func error(_ text: String) { write(plain(text) + "\n", to: STDERR_FILENO) }

  /// `text` with what could take a terminal over made visible; our own colours stay.
  static func plain(_ text: String) -> String {
    // A search by characters would cost more than the rest of a long listing.
    if text.isPlain(lines: true) { return text }
    guard text.utf8.contains(0x1B) else { return text.visible(lines: true) }
    let inked = text.split(separator: Ink.start, omittingEmptySubsequences: false)
    return inked.enumerated().map { number, part in
      let code = number == 0 ? nil : Ink.codes.first { part.hasPrefix($0) }
      let rest = part.dropFirst(code?.count ?? 0)
      let start = number == 0 ? "" : code == nil ? Ink.start.visible(lines: false) : Ink.start
      return start + (code ?? "") + String(rest).visible(lines: true)
    }.joined()
  }

  /// Writes diagnostics to standard error.
  ///
  /// - Parameter all: each by itself, and not one for each cause.
  static func problems(_ problems: [Diagnostic], all: Bool = false) {
    let lines = all ? problems.map(\.description) : ProblemSummary(problems).lines()
    for line in lines { error(line) }
  }

  /// Whether standard error is a terminal on which a line can be taken away again.
  static var errorTakesLine: Bool { isatty(STDERR_FILENO) == 1 && variable("TERM") != "dumb" }

  /// Whether standard output is a terminal.
  static var outputIsTerminal: Bool { isatty(STDOUT_FILENO) == 1 }

  /// Whether standard output is a terminal that takes colours; see no-color.org.
  static var takesColour: Bool {
    isatty(STDOUT_FILENO) == 1 && variable("NO_COLOR").isEmpty && variable("TERM") != "dumb"
  }

  private static func variable(_ name: String) -> String {
    getenv(name).map { String(cString: $0) } ?? ""
  }

  /// The width of the terminal; where there is none that of COLUMNS, else 100.
  static var width: Int { width(of: STDOUT_FILENO) }

  /// The width that tables may take: without limit where standard output is no terminal and COLUMNS is not
  /// set, so that `grep` finds every name.
  static var tableWidth: Int {
    outputIsTerminal || columns != nil ? width : Int.max / 2
  }

  /// What COLUMNS says.
  private static var columns: Int? { Int(variable("COLUMNS")).flatMap { $0 > 20 ? $0 : nil } }

  /// The width of standard error's terminal; 100 where there is none.
  static var errorWidth: Int { width(of: STDERR_FILENO) }

  private static func width(of descriptor: Int32) -> Int {
    var size = winsize()
    if isatty(descriptor) == 1, ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 20 {
      return Int(size.ws_col)
    }
    return columns ?? 100
  }

  private static let isSilent = Atomic(false)

  /// Lets nothing more be written: a process that is told to end has its last word elsewhere.
  static func silence() { isSilent.store(true, ordering: .sequentiallyConsistent) }

  /// Why standard output did not take all that was written; 0 when it did, or when its reader went
  /// away.
  private static let failure = Atomic<Int32>(0)

  /// What to say of output that was lost.
  static var lost: Diagnostic? {
    let reason = failure.load(ordering: .sequentiallyConsistent)
    guard reason != 0 else { return nil }
    errno = reason
    return Diagnostic.system(
      "io.write", "standard output", "cannot be written",
      help: "the command itself ended; what it said there is lost or cut off")
  }

  static func write(_ text: String, to descriptor: Int32, evenSilent: Bool = false) {
    guard evenSilent || !isSilent.load(ordering: .sequentiallyConsistent) else { return }
    var text = text
    text.withUTF8 { bytes in
      var done = 0
      while done < bytes.count {
        let count = put(descriptor, bytes.baseAddress! + done, bytes.count - done)
        if count < 0 {
          if errno == EINTR { continue }
          if descriptor == STDOUT_FILENO, errno != EPIPE {
            failure.store(errno, ordering: .sequentiallyConsistent)
          }
          return
        }
        done += count
      }
    }
  }
}

/// The C library's `write`, which the functions above would hide.
private func put(_ descriptor: Int32, _ bytes: UnsafePointer<UInt8>, _ count: Int) -> Int {
  write(descriptor, bytes, count)
}
