package import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Small files beside the weights.
package enum TextFile {
  /// Writes a text.
  package static func write(_ text: String, to path: String) throws(Diagnostic) {
    try write(bytes: Array(text.utf8), to: path)
  }

  /// Writes bytes.
  package static func write(bytes: [UInt8], to path: String) throws(Diagnostic) {
    let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else { throw Diagnostic.system("io.write", path, "cannot be created") }
    defer { close(descriptor) }
    var done = 0
    while done < bytes.count {
      let count = bytes.withUnsafeBytes {
        systemWrite(descriptor, $0.baseAddress! + done, bytes.count - done)
      }
      if count < 0 {
        if errno == EINTR { continue }
        throw Diagnostic.system("io.write", path, "cannot be written")
      }
      done += count
    }
  }

  /// The names in a directory, sorted.
  package static func names(in path: String) throws(Diagnostic) -> [String] {
    guard let directory = opendir(path) else {
      throw Diagnostic.system("io.open", path, "cannot be listed")
    }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) {
        String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
      }
      if name != ".", name != ".." { names.append(name) }
    }
    return names.sorted()
  }
}

/// The C library's `write`, which the functions above would hide.
private func systemWrite(_ descriptor: Int32, _ bytes: UnsafeRawPointer, _ count: Int) -> Int {
  write(descriptor, bytes, count)
}
