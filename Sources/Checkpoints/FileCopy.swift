import CSystem
import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Bytes from file to file, moved inside the kernel where it can: no byte crosses into this process,
/// and file systems that share blocks share them.
enum FileCopy {
  /// Bytes of a block where the kernel cannot.
  private static let blockBytes = 1 << 20

  /// Moves `count` bytes of `source` from `offset` on to byte `target` of an open file.
  ///
  /// - Throws: `io.read`, `io.truncated`; `io.write`, with `path`, the file's.
  static func move(
    _ count: Int, of source: RandomAccessFile, at offset: Int, to descriptor: Int32,
    path: String, at target: Int
  ) throws(Diagnostic) {
    var done = 0
    while done < count {
      let moved = csystem_copy(
        source.descriptor, off_t(offset + done), descriptor, off_t(target + done), count - done)
      if moved < 0 {
        if errno == EINTR { continue }
        // Other file systems, special files, old kernels: what is left goes through a buffer, and
        // that tells what is really wrong.
        return try buffered(
          count - done, of: source, at: offset + done, to: descriptor, path: path,
          at: target + done)
      }
      if moved == 0 {
        // Some file systems answer 0 for what they cannot do; the end of the file is told by `read`.
        return try buffered(
          count - done, of: source, at: offset + done, to: descriptor, path: path,
          at: target + done)
      }
      done += moved
    }
  }

  /// The plain twin: through a buffer that stays in the cache.
  static func buffered(
    _ count: Int, of source: RandomAccessFile, at offset: Int, to descriptor: Int32,
    path: String, at target: Int
  ) throws(Diagnostic) {
    let buffer = UnsafeMutableRawBufferPointer.allocate(
      byteCount: min(count, blockBytes), alignment: 16)
    defer { buffer.deallocate() }
    var done = 0
    while done < count {
      let block = UnsafeMutableRawBufferPointer(rebasing: buffer[..<min(count - done, blockBytes)])
      try source.read(at: offset + done, into: block)
      try write(UnsafeRawBufferPointer(block), to: descriptor, path: path, at: target + done)
      done += block.count
    }
  }

  /// Writes all of `bytes` from `offset` on.
  ///
  /// - Throws: `io.write` with the system's reason (no space left, …).
  static func write(
    _ bytes: UnsafeRawBufferPointer, to descriptor: Int32, path: String, at offset: Int
  ) throws(Diagnostic) {
    var done = 0
    while done < bytes.count {
      let count = pwrite(
        descriptor, bytes.baseAddress! + done, bytes.count - done, off_t(offset + done))
      if count < 0 {
        if errno == EINTR { continue }
        throw Diagnostic.system("io.write", path, "cannot be written at byte \(offset + done)")
      }
      done += count
    }
  }
}
