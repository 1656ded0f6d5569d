import Hub

#if canImport(Darwin)
  import Darwin
#elseif canImport(Musl)
  import Musl
#else
  import Glibc
#endif

/// How far a pair of channels turns with the position (Su et al. 2021, arXiv 2104.09864).
package struct RotaryKind: Hashable, Sendable {
  /// How the tables are rounded.
  package enum Table: Hashable, Sendable {
    /// Not at all: angles in float64.
    case exact
    /// As lit_gpt has it: angles in float32, cosines and sines in bfloat16
    /// (`lit_gpt/model.py`, `build_rope_cache`).
    case bfloat16
  }

  /// The angle of each pair at position 1.
  package var frequencies: [Double]
  /// Positions are divided by it.
  var positionFactor = 1.0
  /// Cosines and sines are multiplied by it (YaRN's attention factor).
  var magnitude = 1.0
  /// The rounding.
  var table = Table.exact

  /// base^(-2i/dim), i in 0..<dim/2, of an odd dim one more; in float32 where lit_gpt computes so
  package init(base: Double, dim: Int, positionFactor: Double = 1, table: Table = .exact) {
    frequencies = (0..<(dim + 1) / 2).map { i in
      switch table {
      case .exact: 1 / pow(base, Double(2 * i) / Double(dim))
      case .bfloat16: Double(1 / Float(pow(Double(Float(base)), Double(Float(2 * i) / Float(dim)))))
      }
    }
    self.positionFactor = positionFactor
    self.table = table
  }

  /// These frequencies.
  init(frequencies: [Double]) { self.frequencies = frequencies }

  /// Cosine and sine at `position` for each pair.
  package func values(at position: Int) -> [(cos: Double, sin: Double)] {
    frequencies.map { frequency in
      switch table {
      case .exact:
        let angle = Double(position) / positionFactor * frequency
        return (cos(angle) * magnitude, sin(angle) * magnitude)
      case .bfloat16:
        let angle = Double(Float(position) / Float(positionFactor) * Float(frequency))
        let factor = Float(magnitude)
        return (
          roundToBF16(Float(cos(angle)) * factor), roundToBF16(Float(sin(angle)) * factor)
        )
      }
    }
  }
}

extension RotaryKind {
  /// Cosine and sine at `position` for each pair as a framework has them that computes in float32: the
  /// frequency is off by a unit in the last place, as powers are, and the angle is rounded.
  func roughValues(at position: Int) -> [(cos: Double, sin: Double)] {
    if table == .bfloat16 { return values(at: position) }
    return frequencies.enumerated().map { i, exact in
      let frequency = exact == 1 ? 1 : i % 2 == 0 ? Float(exact).nextUp : Float(exact).nextDown
      let angle = Double(Float(position) / Float(positionFactor) * frequency)
      let factor = Float(magnitude)
      return (Double(Float(cos(angle)) * factor), Double(Float(sin(angle)) * factor))
    }
  }
}

/// The nearest bfloat16, ties to even.
package func roundToBF16(_ x: Float) -> Double {
  let bits = x.bitPattern
  return Double(Float(bitPattern: (bits &+ 0x7fff &+ ((bits >> 16) & 1)) & 0xffff_0000))
}

/// Cosines and sines for a run of positions: [positions, pairs] each.
final class RotaryTable<T: Real> {
  let pairs: Int
  let cos: [T]
  let sin: [T]

  init(_ kind: RotaryKind, positions: [Int], isRough: Bool = false) {
    pairs = kind.frequencies.count
    let values = positions.flatMap { isRough ? kind.roughValues(at: $0) : kind.values(at: $0) }
    cos = values.map { T($0.cos) }
    sin = values.map { T($0.sin) }
  }
}

/// Tables that the sub-layers of one pass share.
final class RotaryCache<T: Real> {
  private struct Key: Hashable {
    var kind: RotaryKind
    var positions: Range<Int>
    var group: Int
    var shift: Int
  }
  private var tables: [Key: RotaryTable<T>] = [:]

  private let isRough: Bool

  init(isRough: Bool = false) { self.isRough = isRough }

  /// The table for positions floor(p / group) + shift.
  func table(
    _ kind: RotaryKind, _ positions: Range<Int>, group: Int = 1, shift: Int = 0
  ) -> RotaryTable<T> {
    let key = Key(kind: kind, positions: positions, group: group, shift: shift)
    if let table = tables[key] { return table }
    if tables.count > 8 { tables = [:] }
    let table = RotaryTable<T>(
      kind, positions: positions.map { $0 / group + shift }, isRough: isRough)
    tables[key] = table
    return table
  }
}

/// Turns the first 2 * pairs channels of each head, channel i with channel i + pairs:
/// x [tokens, heads, dim], cos and sin [tokens, pairs]; x and y may be the same.
@specialized(where T == Float)
@specialized(where T == Double)
package func rotate<T: Real>(
  _ x: UnsafePointer<T>, _ tokens: Int, _ heads: Int, _ dim: Int,
  _ cos: UnsafePointer<T>, _ sin: UnsafePointer<T>, _ pairs: Int,
  into y: UnsafeMutablePointer<T>
) {
  for t in 0..<tokens {
    let (c, s) = (cos + t * pairs, sin + t * pairs)
    for h in 0..<heads {
      let input = x + (t * heads + h) * dim
      let out = y + (t * heads + h) * dim
      for i in 0..<pairs {
        let (a, b) = (input[i], input[i + pairs])
        out[i] = a * c[i] - b * s[i]
        out[i + pairs] = a * s[i] + b * c[i]
      }
      for i in 2 * pairs..<max(dim, 2 * pairs) { out[i] = input[i] }
    }
  }
}

extension Run {
  /// Turns x [batch, tokens, heads, dim] by its positions, into y (which may be x).
  func rotate(
    _ x: UnsafePointer<T>, _ heads: Int, _ dim: Int, _ kind: RotaryKind, group: Int = 1,
    shift: Int = 0, into y: UnsafeMutablePointer<T>
  ) {
    let table = rotary.table(
      kind, position..<position + tokens, group: group, shift: shift)
    let grain = 64
    let perSequence = (tokens + grain - 1) / grain
    workers.forEach(batch * perSequence) { piece, _ in
      let t0 = piece % perSequence * grain
      let row = piece / perSequence * tokens + t0
      table.cos.withUnsafeBufferPointer { cos in
        table.sin.withUnsafeBufferPointer { sin in
          guard let cos = cos.baseAddress, let sin = sin.baseAddress else { return }
          Inference.rotate(
            x + row * heads * dim, min(grain, tokens - t0), heads, dim, cos + t0 * table.pairs,
            sin + t0 * table.pairs, table.pairs, into: y + row * heads * dim)
        }
      }
    }
  }
}

/// log(1 - 2^power)
func logOneMinus(power: Int) -> Double { log(1 - pow(2, Double(power))) }
