/// The checksums of the parts of one entry that have been written, in any order.
struct ChecksumPieces {
  private struct Piece {
    var range: Range<Int>
    var sum: ZipChecksum
  }

  /// Apart and in order; neighbours are joined, so that a plain pass from front to back keeps one.
  private var pieces: [Piece] = []
  /// Whether some bytes were written twice, so that only the file knows their sum.
  private(set) var isUnknown = false

  /// Takes note of a part.
  mutating func add(_ range: Range<Int>, _ sum: ZipChecksum) {
    guard !range.isEmpty else { return }
    // The first piece that ends behind the start of the new one.
    var low = 0
    var high = pieces.count
    while low < high {
      let middle = (low + high) / 2
      if pieces[middle].range.upperBound > range.lowerBound {
        high = middle
      } else {
        low = middle + 1
      }
    }
    var piece = Piece(range: range, sum: sum)
    if low < pieces.count, pieces[low].range.lowerBound < range.upperBound {
      isUnknown = true
      // Keep what is covered; the sums no longer matter.
      var last = low
      while last < pieces.count, pieces[last].range.lowerBound < range.upperBound {
        let other = pieces[last].range
        piece.range =
          min(
            piece.range.lowerBound, other.lowerBound)..<max(
            piece.range.upperBound, other.upperBound)
        last += 1
      }
      pieces.replaceSubrange(low..<last, with: CollectionOfOne(piece))
    } else {
      pieces.insert(piece, at: low)
    }
    join(low)
    if low > 0 { join(low - 1) }
  }

  /// Joins piece `index` with the next one where they touch.
  private mutating func join(_ index: Int) {
    guard index + 1 < pieces.count,
      pieces[index].range.upperBound == pieces[index + 1].range.lowerBound
    else { return }
    let next = pieces.remove(at: index + 1)
    pieces[index].sum.append(next.sum, count: next.range.count)
    pieces[index].range = pieces[index].range.lowerBound..<next.range.upperBound
  }

  /// The first byte of `0 ..< count` that was not written, or `nil`.
  func firstGap(in count: Int) -> Int? {
    guard count > 0 else { return nil }
    guard let first = pieces.first, first.range.lowerBound == 0 else { return 0 }
    return first.range.upperBound < count ? first.range.upperBound : nil
  }

  /// The first stretch of `range` that was not written, or `nil`.
  func firstGap(within range: Range<Int>) -> Range<Int>? {
    guard !range.isEmpty else { return nil }
    // The first piece that ends behind the start.
    var low = 0
    var high = pieces.count
    while low < high {
      let middle = (low + high) / 2
      if pieces[middle].range.upperBound > range.lowerBound {
        high = middle
      } else {
        low = middle + 1
      }
    }
    guard low < pieces.count else { return range }
    var start = range.lowerBound
    if pieces[low].range.lowerBound <= start {
      start = pieces[low].range.upperBound
      low += 1
    }
    guard start < range.upperBound else { return nil }
    let end = low < pieces.count ? pieces[low].range.lowerBound : range.upperBound
    return start..<min(end, range.upperBound)
  }

  /// The sum of the whole, once there is no gap and nothing was written twice.
  var sum: ZipChecksum { pieces.first?.sum ?? ZipChecksum() }
}
