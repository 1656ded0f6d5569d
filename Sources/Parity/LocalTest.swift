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
        spec: lockstep.reference.spec, weights: lockstep.reference.weights,
        options: lockstep.options), tokens: lockstep.tokens)
    try a.embed()
    var findings: [Finding] = []
    for index in lockstep.reference.spec.sublayers.indices {
      guard candidates.contains(index) else {
        try a.advance()
        continue
      }
      let input = a.withStream { Array($0) }
      try a.advance()
      let expected = a.withStream { Array($0) }
      if let finding = try examine(index, input, expected, differing) { findings.append(finding) }
    }
    return findings
  }

  private func examine(
    _ index: Int, _ input: [Double], _ expected: [Double], _ differing: Set<PieceID>
  ) throws -> Finding? {
    let noise = try output(
      Float.self, lockstep.reference.spec, lockstep.reference.weights, index, input)
    var spread = Deviation()
    compare(expected, noise, &spread)
    if !spread.maxAbs.isFinite {
      // Beyond float32: its noise with any exponent.
      spread = Deviation()
      let rough = try output(
        Double.self, lockstep.reference.spec, lockstep.reference.weights, index,
        input.map(rounded24))
      compare(expected, rough.map(rounded24), &spread)
    }
    func isOff(_ exchanged: Set<PieceID>, _ spec: ModelSpec) throws -> Bool {
      let weights = OverlayWeights(
        lockstep.other.weights, with: lockstep.reference.weights, exchanged: exchanged)
      let found = try output(Double.self, spec, weights, index, input)
      var difference = Deviation()
      compare(expected, found, &difference)
      return difference.maxAbs
        > lockstep.tolerance.bound(noise: spread.maxAbs, scale: difference.scale, unit: 0x1p-53)
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

  private func compare<S: Real>(_ a: [Double], _ b: [S], _ deviation: inout Deviation) {
    a.withUnsafeBufferPointer { x in b.withUnsafeBufferPointer { deviation.add(x, $0) } }
  }

  /// What the stream is behind sub-layer `index` when it is `input` before.
  private func output<S: Real>(
    _: S.Type, _ spec: ModelSpec, _ weights: any WeightSource, _ index: Int, _ input: [Double]
  ) throws -> [S] {
    // A model of this one sub-layer, so that the pass begins with it.
    var single = spec
    single.sublayers = [spec.sublayers[index]]
    single.sublayers[0].layer = 0
    single.layerCount = 1
    let model = try Model<S>(
      spec: single, weights: SublayerWeights(weights, index), options: lockstep.options)
    let pass = try ForwardPass(model, tokens: lockstep.tokens)
    pass.withStream { stream in for i in input.indices { stream[i] = S(input[i]) } }
    try pass.advance()
    return pass.withStream { Array($0) }
  }
}

/// One sub-layer of a model as the only one.
struct SublayerWeights: WeightSource {
  private let base: any WeightSource
  private let index: Int

  init(_ base: any WeightSource, _ index: Int) {
    self.base = base
    self.index = index
  }

  private func place(_ piece: PieceID) -> PieceID {
    piece.sublayer == nil ? piece : PieceID(index, piece.role)
  }

  func info(_ piece: PieceID) -> (shape: Shape, dtype: DType)? { base.info(place(piece)) }

  func read(
    _ piece: PieceID, rows: Range<Int>, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Diagnostic) { try base.read(place(piece), rows: rows, into: buffer) }

  func resident(_ piece: PieceID) -> UnsafeRawBufferPointer? { base.resident(place(piece)) }

  func checkResident() throws(Diagnostic) { try base.checkResident() }

  func evict(_ piece: PieceID) { base.evict(place(piece)) }
}
