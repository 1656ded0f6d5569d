package import Tensors

/// Bytes that can be read at any offset: a file, or a stretch of one.
package protocol StoredBytes: Sendable {
  /// The file's path.
  var path: String { get }
  /// The file's own name.
  var name: String { get }
  /// How many there are.
  var byteCount: Int { get }

  /// Asks for a few bytes at each of `offsets` at once, where that spares waiting.
  func prefetch(_ offsets: [Int])

  /// Fills `buffer` with the bytes from `offset` on.
  ///
  /// - Throws: `io.read`, `io.truncated`.
  func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(Diagnostic)

  /// The bytes `offset ..< offset + count`.
  ///
  /// - Throws: `io.read`; `io.truncated` for a range past the end, before allocating.
  func bytes(at offset: Int, count: Int) throws(Diagnostic) -> [UInt8]
}

extension StoredBytes {
  /// Local bytes come as they are read.
  package func prefetch(_ offsets: [Int]) {}
}

extension RandomAccessFile: StoredBytes {}

/// A stretch of a file, for formats that put whole files into another.
///
/// Its first and last bytes are read at once, as that is where such files keep what they say of
/// themselves.
struct FileStretch: StoredBytes {
  private static let endBytes = 2048

  let file: RandomAccessFile
  let range: Range<Int>
  private let head: [UInt8]
  private let tail: [UInt8]

  /// The bytes `range` of `file`.
  ///
  /// - Throws: `io.read`, `io.truncated`.
  init(_ range: Range<Int>, of file: RandomAccessFile) throws(Diagnostic) {
    self.file = file
    self.range = range
    let headCount = min(range.count, Self.endBytes)
    let tailCount = min(range.count - headCount, Self.endBytes)
    head = try file.bytes(at: range.lowerBound, count: headCount)
    tail = try file.bytes(at: range.upperBound - tailCount, count: tailCount)
  }

  var path: String { file.path }
  var name: String { file.name }
  var byteCount: Int { range.count }

  func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(Diagnostic) {
    guard offset >= 0, let end = offset.checkedPlus(buffer.count), end <= byteCount else {
      throw outside(offset, buffer.count)
    }
    try file.read(at: range.lowerBound + offset, into: buffer)
  }

  func bytes(at offset: Int, count: Int) throws(Diagnostic) -> [UInt8] {
    guard offset >= 0, count >= 0, let end = offset.checkedPlus(count), end <= byteCount else {
      throw outside(offset, count)
    }
    if end <= head.count { return Array(head[offset..<end]) }
    let tailStart = byteCount - tail.count
    if offset >= tailStart { return Array(tail[offset - tailStart..<end - tailStart]) }
    return try file.bytes(at: range.lowerBound + offset, count: count)
  }

  private func outside(_ offset: Int, _ count: Int) -> Diagnostic {
    Diagnostic(
      code: "io.truncated", subject: path,
      message: "has a part of \(byteCount) bytes, but \(count) from its byte \(offset) on were"
        + " expected", help: "the file is incomplete; fetch it again")
  }
}
