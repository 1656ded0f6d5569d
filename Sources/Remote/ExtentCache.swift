import Synchronization

/// Bytes of remote files that were read and may be read again: heads, and what was read ahead. The
/// least used go when all files together have too many.
enum ExtentCache {
  private struct Extent {
    var file: Int
    var start: Int
    var bytes: [UInt8]
    var turn: Int
    var end: Int { start + bytes.count }
  }
  private struct Table {
    var extents: [Extent] = []
    var byteCount = 0
    var turn = 0
    var files = 0
  }
  private static let table = Mutex(Table())
  private static let mostBytes = 64 << 20

  /// A number for a new file.
  static func newFile() -> Int {
    table.withLock { table in
      table.files += 1
      return table.files
    }
  }

  /// Copies what is known from `offset` on to the beginning of `buffer`, and tells how much that is.
  static func copy(
    _ file: Int, from offset: Int, into buffer: UnsafeMutableRawBufferPointer
  ) -> Int {
    table.withLock { table in
      for place in table.extents.indices.reversed() {
        let extent = table.extents[place]
        guard extent.file == file, extent.start <= offset, offset < extent.end else { continue }
        table.turn += 1
        table.extents[place].turn = table.turn
        let count = min(buffer.count, extent.end - offset)
        extent.bytes.withUnsafeBytes {
          buffer.copyMemory(
            from: UnsafeRawBufferPointer(
              rebasing: $0[offset - extent.start..<offset - extent.start + count]))
        }
        return count
      }
      return 0
    }
  }

  /// Whether all of `range` is known.
  static func holds(_ file: Int, _ range: Range<Int>) -> Bool {
    table.withLock { table in
      table.extents.contains {
        $0.file == file && $0.start <= range.lowerBound && range.upperBound <= $0.end
      }
    }
  }

  /// Where the bytes that are not known end, at `end` at the latest, and how long the known stretch is
  /// that ends at `offset`.
  static func gap(_ file: Int, from offset: Int, to end: Int) -> (end: Int, before: Int) {
    table.withLock { table in
      var end = end
      var before = 0
      for extent in table.extents where extent.file == file {
        if extent.start > offset { end = min(end, extent.start) }
        if extent.end == offset { before = max(before, extent.bytes.count) }
      }
      return (end, before)
    }
  }

  /// Keeps bytes.
  static func add(_ file: Int, _ start: Int, _ bytes: [UInt8]) {
    guard !bytes.isEmpty else { return }
    table.withLock { table in
      table.turn += 1
      table.extents.append(Extent(file: file, start: start, bytes: bytes, turn: table.turn))
      table.byteCount += bytes.count
      while table.byteCount > mostBytes,
        let oldest = table.extents.indices.min(by: {
          table.extents[$0].turn < table.extents[$1].turn
        })
      {
        table.byteCount -= table.extents[oldest].bytes.count
        table.extents.remove(at: oldest)
      }
    }
  }

  /// Forgets a file.
  static func remove(_ file: Int) {
    table.withLock { table in
      table.extents.removeAll { extent in
        guard extent.file == file else { return false }
        table.byteCount -= extent.bytes.count
        return true
      }
    }
  }
}
