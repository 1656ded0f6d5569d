import Synchronization
import Tensors

/// An entry that was compressed with zstd, read as what it was before, in little memory: reads that go
/// forward go on from where the last one ended, and one that goes back begins anew.
final class ZstdEntry: StoredBytes, @unchecked Sendable {
  let byteCount: Int
  var path: String { file.path }
  var name: String { file.name }

  private let library: ZstdLibrary
  private let file: RandomAccessFile
  private let range: Range<Int>
  /// Its first and last bytes, where a zip file keeps what it says of itself.
  private let head: [UInt8]
  private let tail: [UInt8]
  /// Guards what is below it.
  private let lock = Mutex(())
  /// Each at a place of its own; the one used last stands last.
  private var streams: [ZstdStream] = []

  /// Threads that read one entry at different places.
  private static let mostStreams = 4
  private static let endBytes = 4096
  private static let blockBytes = 256 << 10

  /// The entries that have streams, the oldest first: a stream holds megabytes.
  private static let open = Mutex<[ZstdEntry]>([])
  private static let mostOpen = 24

  /// Decompresses the bytes `range` of `file` once, to learn how many there are.
  ///
  /// - Parameters:
  ///   - limit: bytes that there may be.
  ///   - subject: names tensor and file in messages.
  /// - Throws: `dcp.no-library`, `dcp.transform`, `dcp.transform-size`, `dcp.transform-damaged`, `io.*`.
  init(
    _ range: Range<Int>, of file: RandomAccessFile, limit: Int, subject: String
  ) throws(Diagnostic) {
    let magic = try file.bytes(at: range.lowerBound, count: min(4, range.count))
    guard magic == [0x28, 0xb5, 0x2f, 0xfd] else {
      throw .dcp(
        "transform", subject, "is said to be compressed with zstd, but is no frame of it",
        help: Diagnostic.fetchDirectoryAgain)
    }
    library = try ZstdLibrary.load(for: subject)
    self.file = file
    self.range = range
    let stream = try ZstdStream(library, file, range)
    let block = UnsafeMutableRawBufferPointer.allocate(
      byteCount: Self.blockBytes, alignment: 64)
    defer { block.deallocate() }
    var head: [UInt8] = []
    var tail: [UInt8] = []
    while true {
      let count = try stream.read(into: block)
      let bytes = UnsafeRawBufferPointer(rebasing: block[..<count])
      if head.count < Self.endBytes { head += bytes.prefix(Self.endBytes - head.count) }
      tail = Array((tail + bytes.suffix(Self.endBytes)).suffix(Self.endBytes))
      guard stream.position <= limit else {
        throw .dcp(
          "transform-size", subject,
          "is more than \(limit) bytes when it is decompressed, and no chunk of its size is so large",
          help: "PyTorch writes no such chunks; do not trust the checkpoint")
      }
      if count < block.count { break }
    }
    byteCount = stream.position
    self.head = head
    self.tail = tail
  }

  func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(Diagnostic) {
    guard offset >= 0, let end = offset.checkedPlus(buffer.count), end <= byteCount else {
      throw outside(offset, buffer.count)
    }
    guard !buffer.isEmpty else { return }
    if end <= head.count { return buffer.copyBytes(from: head[offset..<end]) }
    let start = byteCount - tail.count
    if offset >= start { return buffer.copyBytes(from: tail[offset - start..<end - start]) }
    var failure: Diagnostic?
    lock.withLock { _ in
      do throws(Diagnostic) { try forward(offset, buffer) } catch {
        streams = []
        failure = error
      }
    }
    if let failure { throw failure }
    if end < start { Self.note(self) }
  }

  /// Reads by the stream that is nearest before `offset`.
  private func forward(
    _ offset: Int, _ buffer: UnsafeMutableRawBufferPointer
  ) throws(Diagnostic) {
    let nearest = streams.indices.filter { streams[$0].position <= offset }.max {
      streams[$0].position < streams[$1].position
    }
    let stream: ZstdStream
    if let nearest {
      stream = streams.remove(at: nearest)
    } else {
      if streams.count == Self.mostStreams { streams.removeFirst() }
      stream = try ZstdStream(library, file, range)
    }
    if stream.position < offset {
      let block = UnsafeMutableRawBufferPointer.allocate(
        byteCount: min(Self.blockBytes, offset - stream.position), alignment: 64)
      defer { block.deallocate() }
      while stream.position < offset {
        let part = UnsafeMutableRawBufferPointer(
          rebasing: block[..<min(block.count, offset - stream.position)])
        guard try stream.read(into: part) == part.count else { throw outside(offset, buffer.count) }
      }
    }
    guard try stream.read(into: buffer) == buffer.count else { throw outside(offset, buffer.count) }
    // What is left is in the tail.
    if stream.position < byteCount - tail.count { streams.append(stream) }
  }

  /// Takes note that `entry` has streams; the oldest of many give theirs up.
  private static func note(_ entry: ZstdEntry) {
    let old = open.withLock { open -> [ZstdEntry] in
      if open.last !== entry {
        open.removeAll { $0 === entry }
        open.append(entry)
      }
      guard open.count > mostOpen else { return [] }
      defer { open.removeFirst(open.count - mostOpen) }
      return Array(open.prefix(open.count - mostOpen))
    }
    for entry in old { entry.lock.withLock { _ in entry.streams = [] } }
  }

  func bytes(at offset: Int, count: Int) throws(Diagnostic) -> [UInt8] {
    guard offset >= 0, count >= 0, let end = offset.checkedPlus(count), end <= byteCount else {
      throw outside(offset, count)
    }
    var failure: Diagnostic?
    let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
      do throws(Diagnostic) {
        try read(at: offset, into: UnsafeMutableRawBufferPointer(buffer))
        initialized = count
      } catch { failure = error }
    }
    if let failure { throw failure }
    return bytes
  }

  private func outside(_ offset: Int, _ count: Int) -> Diagnostic {
    Diagnostic(
      code: "io.truncated", subject: path,
      message:
        "has a compressed part of \(byteCount) bytes, but \(count) from its byte \(offset) on"
        + " were expected", help: "the file is incomplete; fetch it again")
  }
}
