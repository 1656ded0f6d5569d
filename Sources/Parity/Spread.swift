import Hub
import Inference

/// How far two stages are apart, by position and by group of channels, so that a large value in one
/// place hides nothing in another.
///
/// A difference is within the noise where the largest of each position is within that position's
/// noise, and the largest of each group of channels within that group's. Each is a maximum over many
/// values, which a lucky rounding of a few does not make small.
struct Spread {
  /// Everything together.
  private(set) var whole = Deviation()
  /// The largest difference of each position.
  private(set) var rows: [Double]
  /// The largest value of the reference at each position.
  private(set) var rowScales: [Double]
  /// The largest difference of each group of channels.
  private(set) var groups: [Double]
  /// The largest value of the reference in each group of channels.
  private(set) var groupScales: [Double]
  private let width: Int
  private let group: Int

  /// Values that a maximum is taken over, at least.
  static let population = 64

  /// Nothing measured yet, of [rows, width].
  init(rows: Int, width: Int) {
    self.width = max(width, 1)
    group = max(1, min(self.width, (Spread.population + rows - 1) / max(rows, 1)))
    let count = (self.width + group - 1) / group
    (self.rows, rowScales) = (Array(repeating: 0, count: rows), Array(repeating: 0, count: rows))
    (groups, groupScales) = (Array(repeating: 0, count: count), Array(repeating: 0, count: count))
  }

  /// Takes in [rows, width] of the reference and of the other side, from row `first` on.
  @specialized(where R == Double, S == Double)
  @specialized(where R == Double, S == Float)
  mutating func add<R: Real, S: Real>(
    _ reference: UnsafeBufferPointer<R>, _ other: UnsafeBufferPointer<S>, from first: Int = 0
  ) {
    precondition(reference.count == other.count && reference.count % width == 0)
    for row in 0..<reference.count / width {
      let before = whole
      whole.maxAbs = 0
      whole.scale = 0
      whole.add(
        UnsafeBufferPointer(rebasing: reference[row * width..<(row + 1) * width]),
        UnsafeBufferPointer(rebasing: other[row * width..<(row + 1) * width]))
      rows[first + row] = max(rows[first + row], whole.maxAbs)
      rowScales[first + row] = max(rowScales[first + row], whole.scale)
      whole.maxAbs = max(whole.maxAbs, before.maxAbs)
      whole.scale = max(whole.scale, before.scale)
      addGroups(
        UnsafeBufferPointer(rebasing: reference[row * width..<(row + 1) * width]),
        UnsafeBufferPointer(rebasing: other[row * width..<(row + 1) * width]))
    }
  }

  @inline(__always)
  private mutating func addGroups<R: Real, S: Real>(
    _ reference: UnsafeBufferPointer<R>, _ other: UnsafeBufferPointer<S>
  ) {
    let (width, group) = (width, group)
    groups.withUnsafeMutableBufferPointer { groups in
      groupScales.withUnsafeMutableBufferPointer { scales in
        var place = 0
        var left = group
        for i in 0..<width {
          let (a, b) = (Double(reference[i]), Double(other[i]))
          let (distance, magnitude) = (abs(a - b), abs(a))
          if !(distance <= groups[place]) { groups[place] = distance.isNaN ? .infinity : distance }
          if magnitude > scales[place], magnitude.isFinite { scales[place] = magnitude }
          left -= 1
          if left == 0 {
            place += 1
            left = group
          }
        }
      }
    }
  }
}

extension Tolerance {
  /// What was measured, against what is allowed.
  struct Verdict {
    /// The largest difference.
    var maxAbs: Double
    /// What is allowed where the difference is largest against it.
    var bound: Double
    /// The largest difference over its bound.
    var excess: Double
    /// Whether it is within its bounds everywhere.
    var ok: Bool { excess <= 1 }
  }

  /// Judges a difference by the noise of the same stage.
  ///
  /// - Parameters:
  ///   - coarseness: what the noise is multiplied by.
  ///   - unit: the unit roundoff of the coarser side.
  ///   - byGroup: whether each position and group of channels is judged, and not the stage as a whole.
  func judge(
    _ difference: Spread, noise: Spread, coarseness: Double = 1, unit: Double, byGroup: Bool = true
  ) -> Verdict {
    let whole = bound(
      noise: noise.whole.maxAbs * coarseness, scale: difference.whole.scale, unit: unit)
    var worst = Verdict(
      maxAbs: difference.whole.maxAbs, bound: whole,
      excess: Tolerance.excess(difference.whole.maxAbs, whole))
    guard isMeasured, byGroup, whole.isFinite else { return worst }
    func look(_ differences: [Double], _ noises: [Double], _ scales: [Double]) {
      for i in differences.indices where differences[i] > 0 {
        let own = groupBound(noise: noises[i] * coarseness, scale: scales[i], unit: unit)
        let excess = Tolerance.excess(differences[i], own)
        if excess > 1, excess > worst.excess { (worst.bound, worst.excess) = (own, excess) }
      }
    }
    look(difference.rows, noise.rows, difference.rowScales)
    look(difference.groups, noise.groups, difference.groupScales)
    return worst
  }

  private static func excess(_ difference: Double, _ bound: Double) -> Double {
    difference == 0 ? 0 : difference.isFinite && bound > 0 ? difference / bound : .infinity
  }
}
