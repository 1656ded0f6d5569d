import Hub

/// The keys and values that attention still needs: rows of `widths` channels for each sequence.
///
/// It grows, token t in row t; with a window it becomes a ring once it has `window` rows, token t in
/// row t mod window.
final class KeyValueCache<T: Real> {
  private let batch: Int
  private let window: Int?
  private let widths: [Int]
  private let workspace: Workspace
  private var planes: [Buffer<T>]
  private(set) var capacity: Int

  /// A cache for rows of each of `widths` (keys, values, and whatever else goes with them).
  init(batch: Int, widths: [Int], window: Int?, workspace: Workspace) {
    self.batch = batch
    self.window = window
    self.widths = widths
    self.workspace = workspace
    let rows = min(window ?? 64, 64)
    capacity = rows
    planes = widths.map { workspace.buffer(batch * rows * $0) }
  }

  /// Rows of plane `plane` of `sequence`.
  func rows(_ plane: Int, _ sequence: Int) -> UnsafeMutablePointer<T> {
    planes[plane].pointer + sequence * capacity * widths[plane]
  }

  /// How many rows hold tokens when `position` tokens have been seen.
  func filled(_ position: Int) -> Int { min(position, capacity) }

  /// Puts rows of values [batch, tokens, width], those of `range` of the tokens or all, behind the
  /// `position` tokens seen so far.
  func append(
    _ values: [UnsafePointer<T>], tokens: Int, range: Range<Int>? = nil, position: Int
  ) {
    let range = range ?? 0..<tokens
    grow(to: position + range.count, used: position)
    for (plane, width) in widths.enumerated() {
      for sequence in 0..<batch {
        let room = rows(plane, sequence)
        for t in max(range.lowerBound, range.upperBound - capacity)..<range.upperBound {
          (room + (position + t - range.lowerBound) % capacity * width).update(
            from: values[plane] + (sequence * tokens + t) * width, count: width)
        }
      }
    }
  }

  /// Rows of `plane` of `sequence` in the order of the tokens: the last `count` of `position` seen.
  func copyLast(
    _ count: Int, position: Int, plane: Int, sequence: Int, into out: UnsafeMutablePointer<T>
  ) {
    let width = widths[plane]
    let room = rows(plane, sequence)
    for i in 0..<count {
      let row = (position - count + i) % capacity
      (out + i * width).update(from: room + row * width, count: width)
    }
  }

  private func grow(to needed: Int, used: Int) {
    guard needed > capacity, capacity < window ?? .max else { return }
    let larger = min(max(needed, 2 * capacity), window ?? .max)
    for (plane, width) in widths.enumerated() {
      let room: Buffer<T> = workspace.buffer(batch * larger * width)
      for sequence in 0..<batch {
        (room.pointer + sequence * larger * width).update(
          from: rows(plane, sequence), count: used * width)
      }
      planes[plane] = room
    }
    capacity = larger
  }
}
