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
    let descriptor = isInput ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw Diagnostic.system("io.open", path, "cannot be opened") }
    defer { if !isInput { close(descriptor) } }
    var info = stat()
    if fstat(descriptor, &info) == 0, info.st_mode & S_IFMT == S_IFDIR {
      throw Diagnostic(
        code: "tokens.format", subject: path, message: "is a directory",
        help: "give a file with a JSON array of arrays of tokens, a trace, or - for standard input")
    }
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
}
