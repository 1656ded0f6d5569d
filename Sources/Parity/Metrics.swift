import Hub
public import Inference

/// How far two stages are apart.
public struct Deviation: Sendable, Hashable {
  /// The largest absolute difference; infinite where either side is NaN or infinite, both alike too:
  /// what is no number is compared with nothing.
  public var maxAbs = 0.0
  /// The largest finite absolute value of the reference.
  public var scale = 0.0
  /// Values of the reference that are NaN or infinite.
  public var notFiniteReference = 0
  /// Values of the other side that are NaN or infinite.
  public var notFiniteOther = 0

  /// Nothing measured yet.
  public init() {}

  /// Takes in further values of the reference and of the other side.
  @specialized(where R == Double, S == Double)
  @specialized(where R == Double, S == Float)
  public mutating func add<R: Real, S: Real>(
    _ reference: UnsafeBufferPointer<R>, _ other: UnsafeBufferPointer<S>
  ) {
    precondition(reference.count == other.count)
    for i in 0..<reference.count {
      let a = Double(reference[i])
      let b = Double(other[i])
      let distance = abs(a - b)
      // Not finite as soon as one of the two is not.
      guard distance.isFinite else {
        maxAbs = .infinity
        if !b.isFinite { notFiniteOther += 1 }
        if !a.isFinite { notFiniteReference += 1 } else { scale = max(scale, abs(a)) }
        continue
      }
      let magnitude = abs(a)
      if magnitude > scale { scale = magnitude }
      if distance > maxAbs { maxAbs = distance }
    }
  }
}

/// How two models' predictions agree; gathered position by position in float64.
public struct LogitAgreement: Sendable, Hashable {
  /// The largest absolute difference of a logit.
  public var maxAbs = 0.0
  /// The largest Kullback-Leibler divergence of a position, from A's distribution to B's, in nats.
  public var klMax = 0.0
  /// Positions whose likeliest token is the same.
  public var top1 = 0
  /// Positions whose five likeliest tokens are the same set.
  public var top5 = 0
  /// Positions.
  public var positions = 0
  /// The positions where the two are furthest apart, the worst first; at most `worstCount`.
  public private(set) var worst: [Position] = []
  private var klSum = 0.0
  private var nllSumA = 0.0
  private var nllSumB = 0.0
  private var predictions = 0

  /// Nothing gathered yet.
  public init() {}

  /// The mean Kullback-Leibler divergence, in nats.
  public var klMean: Double { positions > 0 ? klSum / Double(positions) : 0 }
  /// The share of positions whose likeliest token is the same.
  public var top1Agreement: Double { positions > 0 ? Double(top1) / Double(positions) : 1 }
  /// The share of positions whose five likeliest tokens are the same set.
  public var top5Agreement: Double { positions > 0 ? Double(top5) / Double(positions) : 1 }
  /// A's mean negative log-likelihood of the next token, in nats; `nil` without a next token.
  public var nllA: Double? { predictions > 0 ? nllSumA / Double(predictions) : nil }
  /// B's.
  public var nllB: Double? { predictions > 0 ? nllSumB / Double(predictions) : nil }

  /// How many of the worst positions are kept.
  public static let worstCount = 10

  /// A token and how likely a model thinks it.
  public struct Guess: Sendable, Hashable {
    /// The token's number.
    public var token: Int
    /// Its probability.
    public var probability: Double
  }

  /// What the two say at one position.
  public struct Position: Sendable, Hashable {
    /// The sequence.
    public var sequence: Int
    /// The position in it.
    public var index: Int
    /// The Kullback-Leibler divergence from A's distribution to B's, in nats; infinite where one is
    /// not a number.
    public var kl: Double
    /// The token that follows, if one does.
    public var next: Int?
    /// A's likeliest tokens, the likeliest first.
    public var a: [Guess]
    /// B's.
    public var b: [Guess]

    /// Whether both think the same token likeliest.
    public var agrees: Bool { a.first?.token == b.first?.token && isNumber }

    /// Whether both predict anything.
    public var isNumber: Bool { !(a + b).contains { $0.probability.isNaN } }
  }

  /// Takes in the logits of one position and the token that follows, if one does.
  ///
  /// - Parameters:
  ///   - a: A's logits.
  ///   - b: B's.
  ///   - next: the token that follows.
  ///   - place: the sequence and the position in it, for `worst`.
  @specialized(where R == Double, S == Double)
  @specialized(where R == Double, S == Float)
  public mutating func add<R: Real, S: Real>(
    _ a: UnsafeBufferPointer<R>, _ b: UnsafeBufferPointer<S>, next: Int?,
    at place: (sequence: Int, index: Int)? = nil
  ) {
    let count = a.count
    let x = (0..<count).map { Double(a[$0]) }
    let y = (0..<count).map { Double(b[$0]) }
    for i in 0..<count {
      let distance = abs(x[i] - y[i])
      if distance > maxAbs || distance.isNaN { maxAbs = distance.isNaN ? .infinity : distance }
    }
    let logA = LogitAgreement.logNormalizer(x)
    let logB = LogitAgreement.logNormalizer(y)
    var kl = 0.0
    for i in 0..<count {
      let p = x[i] - logA
      // A probability of exactly zero adds nothing.
      let weight = Double.exp(p)
      if weight > 0 { kl += weight * (p - (y[i] - logB)) }
    }
    // What is no number is as far from a prediction as can be.
    let isNumber = !(logA.isNaN || logB.isNaN)
    kl = isNumber && !kl.isNaN ? max(kl, 0) : .infinity
    klSum += kl
    klMax = max(klMax, kl)
    let topA = LogitAgreement.largest(x, 5)
    let topB = LogitAgreement.largest(y, 5)
    if isNumber, topA.first == topB.first { top1 += 1 }
    if isNumber, Set(topA) == Set(topB) { top5 += 1 }
    positions += 1
    if let place {
      keep(
        Position(
          sequence: place.sequence, index: place.index, kl: kl, next: next,
          a: topA.map { Guess(token: $0, probability: .exp(x[$0] - logA)) },
          b: topB.map { Guess(token: $0, probability: .exp(y[$0] - logB)) }))
    }
    if let next, next >= 0, next < count {
      nllSumA += logA - x[next]
      nllSumB += logB - y[next]
      predictions += 1
    }
  }

  /// Keeps the worst positions in order; where two are alike the earlier stays.
  private mutating func keep(_ position: Position) {
    let place = worst.firstIndex { $0.kl < position.kl } ?? worst.count
    guard place < LogitAgreement.worstCount else { return }
    worst.insert(position, at: place)
    if worst.count > LogitAgreement.worstCount { worst.removeLast() }
  }

  private static func logNormalizer(_ x: [Double]) -> Double {
    let top = x.max() ?? 0
    var sum = 0.0
    for value in x { sum += Double.exp(value - top) }
    return top + Double.log1p(sum - 1)
  }

  /// The places of the largest values, the lower place first among equals.
  private static func largest(_ x: [Double], _ count: Int) -> [Int] {
    var best: [Int] = []
    for i in x.indices {
      var place = best.count
      while place > 0, x[best[place - 1]] < x[i] { place -= 1 }
      if place < count {
        best.insert(i, at: place)
        if best.count > count { best.removeLast() }
      }
    }
    return best
  }
}
