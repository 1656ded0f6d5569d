import Synchronization
package import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A new file of known size that is written at any offset, by several threads at once (`pwrite`).
package final class OutputFile: Sendable {
  package let path: String
  private let descriptor: Int32
  private let isOpen = Atomic(true)

  /// Creates the file, which must not exist yet, with `byteCount` zeros.
  ///
  /// - Throws: `io.write`.
  package init(path: String, byteCount: Int) throws(Diagnostic) {
    let fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
    guard fd >= 0 else { throw Diagnostic.system("io.write", path, "cannot be created") }
    guard ftruncate(fd, off_t(byteCount)) == 0 else {
      let error = Diagnostic.system("io.write", path, "cannot be given \(byteCount) bytes")
      close(fd)
      throw error
    }
    self.path = path
    self.descriptor = fd
  }

  deinit { if isOpen.load(ordering: .acquiring) { close(descriptor) } }

  /// Writes all of `bytes` from `offset` on.
  ///
  /// - Throws: `io.write` with the system's reason (no space left, …).
  package func write(at offset: Int, _ bytes: UnsafeRawBufferPointer) throws(Diagnostic) {
    try FileCopy.write(bytes, to: descriptor, path: path, at: offset)
  }

  /// Moves `count` bytes of `source` from `offset` on to byte `target` of this file.
  ///
  /// - Throws: `io.read`, `io.truncated`, `io.write`.
  package func move(
    _ count: Int, of source: RandomAccessFile, at offset: Int, to target: Int
  ) throws(Diagnostic) {
    try FileCopy.move(
      count, of: source, at: offset, to: descriptor, path: path, at: target)
  }

  /// Writes all of `bytes` from `offset` on.
  package func write(at offset: Int, _ bytes: [UInt8]) throws(Diagnostic) {
    var failure: Diagnostic?
    bytes.withUnsafeBytes { buffer in
      do throws(Diagnostic) { try write(at: offset, buffer) } catch { failure = error }
    }
    if let failure { throw failure }
  }

  /// Closes the file, after `fsync` if `sync`; a second call does nothing.
  ///
  /// - Throws: `io.write`; some systems tell only here that the disk is full.
  package func finish(sync: Bool) throws(Diagnostic) {
    guard isOpen.exchange(false, ordering: .acquiringAndReleasing) else { return }
    if sync, fsync(descriptor) != 0 {
      let error = Diagnostic.system("io.write", path, "cannot be brought to the disk")
      close(descriptor)
      throw error
    }
    guard close(descriptor) == 0 else {
      throw Diagnostic.system("io.write", path, "cannot be closed")
    }
  }
}
