import CSystem
import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Bytes from file to file: by the file system where it shares blocks between files or copies on a
/// server, else through a buffer that stays in the cache.
enum FileCopy {
  /// Bytes of a read or write: little enough to stay in a core's own cache, and enough for the calls to
  /// cost nothing. Page caches take a write in folios of its size; larger ones are slower to be had,
  /// several times so on a virtual machine that gives its host back what is free.
  private static let blockBytes = 128 << 10
  /// Bytes of a page.
  private static let page = 4096

  /// Moves `count` bytes of `source` from `offset` on to byte `target` of an open file.
  ///
  /// - Throws: `io.read`, `io.truncated`; `io.write`, with `path`, the file's.
  static func move(
    _ count: Int, of source: RandomAccessFile, at offset: Int, to descriptor: Int32,
    path: String, at target: Int
  ) throws(Diagnostic) {
    if source.isRemote {
      // One request, written as it comes.
      var place = target
      return try source.stream(offset..<offset + count) { bytes throws(Diagnostic) in
        try write(bytes, to: descriptor, path: path, at: place)
        place += bytes.count
      }
    }
    var done = 0
    // Blocks can be shared where both lie alike in them.
    if (target - offset) % page == 0, csystem_copies_itself(descriptor) != 0 {
      while done < count {
        let moved = try source.withDescriptor { (origin) throws(Diagnostic) in
          csystem_copy(
            origin, off_t(offset + done), descriptor, off_t(target + done), count - done)
        }
        if moved < 0, errno == EINTR { continue }
        // Two file systems, or an old kernel; what is really wrong is told by the reads and writes
        // below.
        guard moved > 0 else { break }
        done += moved
      }
    }
    try buffered(
      count - done, of: source, at: offset + done, to: descriptor, path: path, at: target + done)
  }

  /// The same through a buffer.
  static func buffered(
    _ count: Int, of source: RandomAccessFile, at offset: Int, to descriptor: Int32,
    path: String, at target: Int
  ) throws(Diagnostic) {
    guard count > 0 else { return }
    let length = min(count, blockBytes)
    // Scratch memory as `malloc` gives it; see `PieceReader`.
    let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: length + page, alignment: 16)
    defer { scratch.deallocate() }
    var done = 0
    while done < count {
      // Blocks end at round places of the target.
      let size = min(count - done, length, blockBytes - (target + done) % blockBytes)
      let shift = place(
        in: UInt(bitPattern: scratch.baseAddress), from: offset + done, to: target + done)
      let block = UnsafeMutableRawBufferPointer(rebasing: scratch[shift..<shift + size])
      try source.read(at: offset + done, into: block)
      try write(UnsafeRawBufferPointer(block), to: descriptor, path: path, at: target + done)
      done += size
    }
  }

  /// Where in `scratch` a buffer should begin, less than a page from its start.
  ///
  /// The kernel copies with `rep movsb`, which AMD's Zen runs several times slower when the
  /// destination lies up to 64 bytes behind the source within a page (glibc's bug 30994).
  static func place(in scratch: UInt, from offset: Int, to target: Int) -> Int {
    let base = Int(truncatingIfNeeded: scratch % UInt(page))
    func ahead(_ a: Int, _ b: Int) -> Int { (a - b + 2 * page) % page }
    let source = offset % page
    // Half a page ahead of the source; a quarter where that would be just before the target.
    let half = (source + page / 2) % page
    let lag = ahead(target % page, half)
    let wanted = lag > 0 && lag <= 64 ? (source + page / 4) % page : half
    return ahead(wanted, base)
  }

  /// Writes all of `bytes` from `offset` on.
  ///
  /// - Throws: `io.write` with the system's reason (no space left, …).
  static func write(
    _ bytes: UnsafeRawBufferPointer, to descriptor: Int32, path: String, at offset: Int
  ) throws(Diagnostic) {
    var done = 0
    while done < bytes.count {
      let size = min(bytes.count - done, blockBytes - (offset + done) % blockBytes)
      let count = pwrite(descriptor, bytes.baseAddress! + done, size, off_t(offset + done))
      if count < 0 {
        if errno == EINTR { continue }
        throw Diagnostic.system("io.write", path, "cannot be written at byte \(offset + done)")
      }
      done += count
    }
  }
}
