package import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A new file that bytes are written to at any offset, by several threads at once (`pwrite`).
package final class ZipOutput: Sendable {
  package let path: String
  private let descriptor: Int32

  /// Creates the file; one that exists is refused.
  ///
  /// - Throws: `io.create` with the system's reason.
  package init(path: String) throws(Diagnostic) {
    descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw .system("io.create", path, "cannot be created") }
    self.path = path
  }

  deinit { close(descriptor) }

  /// Writes `bytes` from `offset` on.
  ///
  /// - Throws: `io.write` with the system's reason.
  package func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(Diagnostic) {
    try FileCopy.write(bytes, to: descriptor, path: path, at: offset)
  }

  /// Writes `bytes` from `offset` on.
  ///
  /// - Throws: `io.write`.
  package func write(_ bytes: [UInt8], at offset: Int) throws(Diagnostic) {
    var failure: Diagnostic?
    bytes.withUnsafeBytes { buffer in
      do throws(Diagnostic) { try write(buffer, at: offset) } catch { failure = error }
    }
    if let failure { throw failure }
  }

  /// Waits until the bytes are on the disk.
  ///
  /// - Throws: `io.write`.
  package func sync() throws(Diagnostic) {
    guard fsync(descriptor) == 0 else {
      throw .system("io.write", path, "cannot be flushed to the disk")
    }
  }
}
