import Tensors

/// Walks through the head of a GGUF file, in pieces of 64 KiB.
///
/// Nothing is allocated for what the file only claims: every length is compared with the bytes that
/// remain before anything else happens.
struct GGUFCursor {
  let file: RandomAccessFile
  /// The byte that is read next.
  private(set) var position: Int
  private var window: [UInt8] = []
  private var windowStart = 0
  private static let windowBytes = 64 << 10

  init(_ file: RandomAccessFile, at position: Int = 0) {
    self.file = file
    self.position = position
  }

  /// Bytes behind the position.
  var remaining: Int { file.byteCount - position }

  /// The next `count` bytes.
  ///
  /// - Throws: `gguf.truncated`; `io.*`.
  mutating func bytes(_ count: Int, _ what: @autoclosure () -> String) throws(Diagnostic)
    -> ArraySlice<UInt8>
  {
    guard count <= remaining else {
      throw .gguf(
        "truncated", "\(file.name): byte \(position)",
        "ends inside \(what()): \(count) bytes were expected, \(remaining) are left",
        help: Diagnostic.fetchGGUF)
    }
    let start = position - windowStart
    if start < 0 || start + count > window.count {
      window = try file.bytes(
        at: position, count: min(max(count, Self.windowBytes), remaining))
      windowStart = position
    }
    defer { position += count }
    let first = position - windowStart
    return window[first..<first + count]
  }

  /// Moves on without reading.
  ///
  /// - Throws: `gguf.truncated`.
  mutating func skip(_ count: Int, _ what: @autoclosure () -> String) throws(Diagnostic) {
    guard count <= remaining else {
      throw .gguf(
        "truncated", "\(file.name): byte \(position)",
        "ends inside \(what()): \(count) bytes were expected, \(remaining) are left",
        help: Diagnostic.fetchGGUF)
    }
    position += count
  }

  /// The next whole number.
  mutating func integer<T: FixedWidthInteger>(
    _: T.Type, _ what: @autoclosure () -> String
  ) throws(Diagnostic) -> T {
    let size = T.bitWidth / 8
    let bytes = try bytes(size, what())
    var value: T = 0
    for (place, byte) in bytes.enumerated() {
      value |= T(truncatingIfNeeded: byte) << T(truncatingIfNeeded: place * 8)
    }
    return value
  }

  /// A length in front of a text or list, of which each element takes at least `each` bytes.
  ///
  /// - Throws: `gguf.length` for more than the file can hold; `gguf.truncated`.
  mutating func length(each: Int, _ what: @autoclosure () -> String) throws(Diagnostic) -> Int {
    let at = position
    let claimed = try integer(UInt64.self, what())
    guard let count = Int(exactly: claimed), count <= remaining / each else {
      throw .gguf(
        "length", "\(file.name): byte \(at)",
        "\(what()) is said to have \(claimed) \(each == 1 ? "bytes" : "elements"), but only"
          + " \(remaining) bytes are left", help: Diagnostic.fetchGGUF)
    }
    return count
  }

  /// A text of at most `limit` bytes.
  mutating func string(
    atMost limit: Int, _ what: @autoclosure () -> String
  ) throws(Diagnostic) -> [UInt8] {
    let at = position
    let count = try length(each: 1, what())
    guard count <= limit else {
      throw .gguf(
        "length", "\(file.name): byte \(at)",
        "\(what()) has \(count) bytes; at most \(limit) are possible")
    }
    return Array(try bytes(count, what()))
  }
}
