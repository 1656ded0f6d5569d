import Hub
import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Reads tokens from a file, a pipe or standard input.
enum TokenFile {
  /// More is no list of tokens.
  static let mostBytes = 1 << 30

  /// All bytes of the file at `path`, or of standard input for `-`.
  ///
  /// - Throws: `tokens.format` for a directory and for what is too large, `io.open`, `io.read`.
  static func bytes(_ path: String) throws(Diagnostic) -> [UInt8] {
    let isInput = path == "-"
    let descriptor = isInput ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw Diagnostic.system("io.open", path, "cannot be opened") }
    defer { if !isInput { close(descriptor) } }
    if !isInput { try checkKind(of: descriptor, path) }
    var bytes: [UInt8] = []
    var block = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = read(descriptor, &block, block.count)
      if count < 0 {
        if errno == EINTR { continue }
        throw Diagnostic.system("io.read", path, "cannot be read")
      }
      if count == 0 { break }
      bytes += block[..<count]
      guard bytes.count <= mostBytes else {
        throw Diagnostic(
          code: "tokens.format", subject: path,
          message: "has more than \(mostBytes) bytes, too many for tokens")
      }
    }
    guard !bytes.isEmpty else {
      throw Diagnostic(
        code: "tokens.format", subject: isInput ? "standard input" : path, message: "is empty",
        help: "give a JSON array of arrays of tokens: [[1, 2, 3]]")
    }
    return bytes
  }

  /// Seconds to wait for somebody to write to a named pipe.
  private static let patience: Int32 = 5

  /// Refuses what holds no tokens, without waiting for ever, and lets reads wait again.
  private static func checkKind(of descriptor: Int32, _ path: String) throws(Diagnostic) {
    var info = stat()
    guard fstat(descriptor, &info) == 0 else {
      throw Diagnostic.system("io.read", path, "cannot be read")
    }
    var fault: String?
    switch info.st_mode & S_IFMT {
    case S_IFDIR: fault = "is a directory"
    case S_IFCHR where isatty(descriptor) == 0: fault = "is a device"
    case S_IFIFO:
      var wait = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
      if poll(&wait, 1, patience * 1000) == 0 { fault = "is a pipe to which nobody writes" }
    default: break
    }
    if let fault {
      throw Diagnostic(
        code: "tokens.format", subject: path, message: fault,
        help: "give a file with a JSON array of arrays of tokens, a trace, or - for standard input")
    }
    _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) & ~O_NONBLOCK)
  }
}
