public import Hub
import Inference
import Tensors

/// Runs each sub-layer of the side under test on the reference's own input, so that a fault shows in
/// the sub-layer that has it, and nowhere else.
public struct LocalTest {
  /// The comparison that found a divergence.
  public var lockstep: Lockstep

  /// A test beside `lockstep`.
  public init(_ lockstep: Lockstep) { self.lockstep = lockstep }

  /// A sub-layer whose own output is out of bounds.
  public struct Finding: Sendable, Hashable {
    /// The sub-layer.
    public var sublayer: Int
    /// The differing pieces without which it is within bounds, the fewest that explain it.
    public var pieces: [PieceID]
    /// Whether putting the reference's pieces in place cured it; otherwise an attribute is to blame.
    public var isCured: Bool
  }

  /// The sub-layers out of bounds, among `candidates`, and the pieces that explain each.
  ///
  /// - Parameters:
  ///   - candidates: the sub-layers to look at.
  ///   - differing: the pieces that differ between the sides.
  /// - Throws: `Problems` of reading.
  public func findings(
    among candidates: Set<Int>, differing: Set<PieceID>
  ) throws -> [Finding] {
    let a = try ForwardPass(
      Model<Double>(
        spec: lockstep.reference.spec, weights: lockstep.reference,
        options: lockstep.options), tokens: lockstep.tokens)
    try a.embed()
    var findings: [Finding] = []
    for index in lockstep.reference.spec.sublayers.indices {
      guard candidates.contains(index) else {
        try a.advance()
        continue
      }
      let input = Values(stream: a.withStream { Array($0) }, crossed: a.crossed)
      try a.advance()
      let expected = Values(stream: a.withStream { Array($0) }, crossed: a.crossed)
      if let finding = try examine(index, input, expected, differing) { findings.append(finding) }
    }
    return findings
  }

  /// What a sub-layer is given, or what it leaves: the residual stream, and what crosses layers beside
  /// it.
  private struct Values {
    var stream: [Double]
    var crossed: CrossedValues

    /// Everything in one row of parts, which are compared each on its own scale.
    var parts: [[Double]] {
      [stream] + [crossed.memory, crossed.injection].compactMap(\.self) + crossed.keys
    }

    func mapValues(_ body: (Double) -> Double) -> Values {
      Values(
        stream: stream.map(body),
        crossed: CrossedValues(
          memory: crossed.memory?.map(body), keys: crossed.keys.map { $0.map(body) },
          normed: crossed.normed?.map(body), injection: crossed.injection?.map(body),
          origin: crossed.origin?.map(body)))
    }
  }

  private func examine(
    _ index: Int, _ input: Values, _ expected: Values, _ differing: Set<PieceID>
  ) throws -> Finding? {
    guard
      let noisy = try output(
        Float.self, lockstep.reference.spec, lockstep.reference, index, input)
    else { return nil }
    var spreads = deviations(expected, noisy)
    if !spreads.allSatisfy(\.maxAbs.isFinite) {
      // Beyond float32: its noise with any exponent.
      let rough = try output(
        Double.self, lockstep.reference.spec, lockstep.reference, index,
        input.mapValues(rounded24))
      spreads = rough.map { deviations(expected, $0.mapValues(rounded24)) } ?? spreads
    }
    func isOff(_ exchanged: Set<PieceID>, _ spec: ModelSpec) throws -> Bool {
      let weights = OverlayWeights(
        lockstep.other, with: lockstep.reference, exchanged: exchanged)
      // Where the sub-layer cannot read what the reference's leave, nothing is said of it.
      guard let found = try output(Double.self, spec, weights, index, input) else { return false }
      let differences = deviations(expected, found)
      guard differences.count == spreads.count else { return true }
      return zip(differences, spreads).contains { difference, spread in
        difference.maxAbs
          > lockstep.tolerance.bound(noise: spread.maxAbs, scale: difference.scale, unit: 0x1p-53)
      }
    }
    let spec = lockstep.other.spec
    guard try isOff([], spec) else { return nil }
    let own = differing.filter { $0.sublayer == index }
    guard try !isOff(own, spec) else { return Finding(sublayer: index, pieces: [], isCured: false) }
    // A piece is needed when everything else being right does not help.
    var needed: [PieceID] = []
    for piece in own.sorted() where try isOff(own.subtracting([piece]), spec) {
      needed.append(piece)
    }
    // Faults that only together leave the bounds.
    if needed.isEmpty { needed = own.sorted() }
    return Finding(sublayer: index, pieces: needed, isCured: true)
  }

  /// How far the parts are apart, each for itself; a part that is missing or of another size makes
  /// the counts differ.
  private func deviations(_ a: Values, _ b: Values) -> [Deviation] {
    let (x, y) = (a.parts, b.parts)
    guard x.map(\.count) == y.map(\.count) else { return [] }
    return zip(x, y).map { a, b in
      var deviation = Deviation()
      a.withUnsafeBufferPointer { x in b.withUnsafeBufferPointer { deviation.add(x, $0) } }
      return deviation
    }
  }

  /// What sub-layer `index` leaves when it is given `input`; `nil` when its widths are others.
  private func output<S: Real>(
    _: S.Type, _ spec: ModelSpec, _ weights: any WeightSource, _ index: Int, _ input: Values
  ) throws -> Values? {
    let model = try Model<S>(spec: spec, weights: weights, options: lockstep.options)
    let pass = try ForwardPass(model, tokens: lockstep.tokens)
    guard pass.jump(to: index, crossed: input.crossed) else { return nil }
    pass.withStream { stream in for i in input.stream.indices { stream[i] = S(input.stream[i]) } }
    try pass.advance()
    // What it only passed on is not its own.
    var crossed = pass.crossed
    if spec.sublayers[index]["saves_memory"] != true { crossed.memory = input.crossed.memory }
    if spec.sublayers[index]["shares_kv"] != true { crossed.keys = input.crossed.keys }
    return Values(stream: pass.withStream { $0.map { Double($0) } }, crossed: crossed)
  }
}
