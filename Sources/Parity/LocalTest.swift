public import Hub
import Inference
import Tensors

/// Runs single sub-layers of the side under test on the reference's own input, so that a fault shows in
/// the sub-layer that has it, and nowhere else.
///
/// What is compared is what the sub-layer itself gives, before it joins the residual stream, and what it
/// leaves for later ones: the stream's large values hide nothing.
public struct LocalTest {
  /// The two models and how far they may be apart.
  public var lockstep: Lockstep

  /// A test beside `lockstep`; its bound is float64's.
  public init(_ lockstep: Lockstep) {
    self.lockstep = lockstep
    self.lockstep.tolerance.isTight = true
  }

  /// Something in which the two sides differ.
  public enum Suspect: Sendable, Hashable {
    /// A piece of weight.
    case piece(PieceID)
    /// An attribute, of the sub-layer or of the model.
    case attribute(String)
  }

  /// A place whose own output is out of bounds.
  public struct Finding: Sendable, Hashable {
    /// The sub-layer; `nil` for what stands around them.
    public var sublayer: Int?
    /// What is needed to explain it: with the reference's in their place it is within bounds, and
    /// without any of them it is not.
    public var suspects: [Suspect]
    /// Whether putting the reference's in place cured it.
    public var isCured: Bool
    /// The largest difference.
    public var maxAbs: Double
    /// The same, relative to the largest value.
    public var relative: Double
    /// What is allowed.
    public var bound: Double

    /// The pieces among the suspects.
    public var pieces: [PieceID] {
      suspects.compactMap { if case .piece(let id) = $0 { id } else { nil } }
    }

    /// The attributes among them.
    public var attributes: [String] {
      suspects.compactMap { if case .attribute(let name) = $0 { name } else { nil } }
    }
  }

  /// The first sub-layers out of bounds, among those that have suspects.
  ///
  /// - Parameters:
  ///   - suspects: what differs, by sub-layer.
  ///   - limit: after how many findings the search ends.
  /// - Throws: `Problems` of reading.
  public func findings(_ suspects: [Int: [Suspect]], limit: Int = .max) throws -> [Finding] {
    guard let last = suspects.keys.max(), limit > 0 else { return [] }
    let a = try pass(Double.self, lockstep.reference.spec, lockstep.reference)
    a.keepsChange = true
    try a.embed()
    var findings: [Finding] = []
    for index in 0...last {
      guard let own = suspects[index] else {
        try a.advance()
        continue
      }
      let input = Input(stream: a.withStream { Array($0) }, crossed: a.crossed)
      try a.advance()
      let expected = parts(a, index)
      if let finding = try examine(index, input, expected, own) {
        findings.append(finding)
        if findings.count == limit { break }
      }
    }
    return findings
  }

  /// Sub-layer `index` on other tokens. Where it reads nothing that earlier ones leave, its input is the
  /// embedding of the tokens, so that a long run costs no more than the one sub-layer.
  ///
  /// - Throws: `Problems` of reading.
  public func finding(
    at index: Int, _ suspects: [Suspect], tokens: [[Int]]
  ) throws -> Finding? {
    var other = self
    other.lockstep.tokens = tokens
    let a = try other.pass(Double.self, lockstep.reference.spec, lockstep.reference)
    a.keepsChange = true
    try a.embed()
    let direct = a.withStream { Array($0) }
    if !a.jump(to: index, crossed: CrossedValues()) {
      try a.embed()
      for _ in 0..<index { try a.advance() }
    } else {
      a.withStream { stream in for i in direct.indices { stream[i] = direct[i] } }
    }
    let input = Input(stream: a.withStream { Array($0) }, crossed: a.crossed)
    try a.advance()
    return try other.examine(index, input, other.parts(a, index), suspects)
  }

  /// What stands before or behind the sub-layers, on the reference's own input; `nil` where it is within
  /// bounds.
  ///
  /// - Parameter stage: `hidden_states.0`, `final_norm` or `logits`.
  /// - Throws: `Problems` of reading.
  public func finding(atEnd stage: String, _ suspects: [Suspect]) throws -> Finding? {
    let stream = try stage == "hidden_states.0" ? [] : lastStream(isNormed: stage == "logits")
    func output<S: Real>(_: S.Type, _ spec: ModelSpec, _ weights: any WeightSource) throws
      -> [[Double]]?
    {
      let pass = try pass(S.self, spec, weights)
      try pass.embed()
      if stage == "hidden_states.0" {
        return [pass.withStream { $0.map { Double($0) } }]
      }
      pass.withStream { own in for i in stream.indices { own[i] = S(stream[i]) } }
      if stage == "final_norm" {
        try pass.finish()
        return [pass.withStream { $0.map { Double($0) } }]
      }
      // A block of positions tells all that the head has.
      let rows = 0..<min(pass.rows, 64)
      return try pass.withLogits(rows: rows) { logits in
        let width = logits.count / rows.count
        return [
          rows.flatMap { row in
            (0..<min(lockstep.commonRows, width)).map { Double(logits[row * width + $0]) }
          }
        ]
      }
    }
    let reference = lockstep.reference
    guard let expected = try output(Double.self, reference.spec, reference) else { return nil }
    let noisy = try output(Float.self, reference.spec, reference)
    let rows = stage == "logits" ? min(stream.count / width, 64) : lockstep.tokens.joined().count
    return try examine(nil, suspects, expected, noisy ?? expected, rows: rows) { spec, weights in
      try output(Double.self, spec, weights)
    }
  }

  private var width: Int { max(1, lockstep.reference.spec["d_model"].int ?? 1) }

  private func lastStream(isNormed: Bool) throws -> [Double] {
    let pass = try pass(Double.self, lockstep.reference.spec, lockstep.reference)
    try pass.embed()
    for _ in lockstep.reference.spec.sublayers { try pass.advance() }
    if isNormed { try pass.finish() }
    return pass.withStream { Array($0) }
  }

  /// What a sub-layer is given.
  private struct Input {
    var stream: [Double]
    var crossed: CrossedValues

    func mapValues(_ body: (Double) -> Double) -> Input {
      Input(
        stream: stream.map(body),
        crossed: CrossedValues(
          memory: crossed.memory?.map(body), keys: crossed.keys.map { $0.map(body) },
          normed: crossed.normed?.map(body), injection: crossed.injection?.map(body),
          origin: crossed.origin?.map(body)))
    }
  }

  private func pass<S: Real>(
    _: S.Type, _ spec: ModelSpec, _ weights: any WeightSource
  ) throws(Problems) -> ForwardPass<S> {
    try ForwardPass(
      Model<S>(spec: spec, weights: weights, options: lockstep.options), tokens: lockstep.tokens)
  }

  /// What sub-layer `index` gave, and what it left for later ones: each on a scale of its own.
  private func parts<S: Real>(_ pass: ForwardPass<S>, _ index: Int) -> [[Double]] {
    let sublayer = pass.model.spec.sublayers[index]
    var parts = [pass.change.map { Double($0) }]
    // What it only passed on is not its own.
    if sublayer["saves_memory"] == true, let memory = pass.crossed.memory { parts.append(memory) }
    if sublayer["shares_kv"] == true, let keys = pass.crossed.keys.first {
      parts.append(idleShift(keys, sublayer))
      parts += pass.crossed.keys.dropFirst()
    }
    if let injection = pass.crossed.injection { parts.append(injection) }
    return parts
  }

  /// Shared keys as scores see them. Where nothing turns or norms them, what all keys of a channel have in
  /// common (a bias) shifts all scores of a query alike, and the softmax does not see it.
  private func idleShift(_ keys: [Double], _ sublayer: ModelSpec.Sublayer) -> [Double] {
    let width = (sublayer["n_kv_heads"].int ?? 0) * (sublayer["head_dim"].int ?? 0)
    guard width > 0, ["rope_base", "qk_norm_eps", "d_conv"].allSatisfy({ sublayer[$0] == .null })
    else { return keys }
    var means = [Double](repeating: 0, count: width)
    for (i, key) in keys.enumerated() { means[i % width] += key }
    let rows = Double(keys.count / width)
    return keys.enumerated().map { $1 - means[$0 % width] / rows }
  }

  /// What sub-layer `index` gives for `input`; `nil` when its widths are others.
  private func output<S: Real>(
    _: S.Type, _ spec: ModelSpec, _ weights: any WeightSource, _ index: Int, _ input: Input
  ) throws -> [[Double]]? {
    let pass = try pass(S.self, spec, weights)
    guard pass.jump(to: index, crossed: input.crossed) else { return nil }
    pass.withStream { stream in for i in input.stream.indices { stream[i] = S(input.stream[i]) } }
    pass.keepsChange = true
    try pass.advance()
    return parts(pass, index)
  }

  private func examine(
    _ index: Int, _ input: Input, _ expected: [[Double]], _ suspects: [Suspect]
  ) throws -> Finding? {
    let reference = lockstep.reference
    guard var noisy = try output(Float.self, reference.spec, reference, index, input) else {
      return nil
    }
    if !noisy.joined().allSatisfy(\.isFinite), expected.joined().allSatisfy(\.isFinite) {
      // Beyond float32: its noise with any exponent.
      let rough = try output(
        Double.self, reference.spec, reference, index, input.mapValues(rounded24))
      noisy = rough.map { $0.map { $0.map(rounded24) } } ?? noisy
    }
    return try examine(index, suspects, expected, noisy, rows: lockstep.tokens.joined().count) {
      try output(Double.self, $0, $1, index, input)
    }
  }

  /// Looks for the fewest suspects that explain a place.
  ///
  /// - Parameter output: what the place gives with this spec and these weights.
  private func examine(
    _ index: Int?, _ suspects: [Suspect], _ expected: [[Double]], _ noisy: [[Double]], rows: Int,
    _ output: (ModelSpec, any WeightSource) throws -> [[Double]]?
  ) throws -> Finding? {
    let noises = spreads(expected, noisy, rows)
    func judged(_ exchanged: Set<Suspect>) throws -> Tolerance.Verdict? {
      let (spec, weights) = exchange(exchanged, at: index)
      let found: [[Double]]?
      do { found = try output(spec, weights) } catch let problems as Problems {
        // Some of the reference's without the others may be no model at all.
        if exchanged.isEmpty { throw problems }
        return nil
      }
      guard let found, found.map(\.count) == expected.map(\.count) else { return nil }
      let verdicts = zip(spreads(expected, found, rows), noises).map { difference, noise in
        lockstep.tolerance.judge(difference, noise: noise, unit: 0x1p-53)
      }
      return verdicts.max { $0.excess < $1.excess }
    }
    func isOff(_ exchanged: Set<Suspect>) throws -> Bool { try judged(exchanged)?.ok != true }
    let first = try judged([])
    guard first?.ok != true else { return nil }
    let scale = expected.joined().reduce(0) { max($0, abs($1)) }
    var finding = Finding(
      sublayer: index, suspects: [], isCured: false, maxAbs: first?.maxAbs ?? .infinity,
      relative: (first?.maxAbs ?? .infinity) / max(scale, .leastNormalMagnitude),
      bound: first?.bound ?? 0)
    let all = Set(suspects)
    guard try !isOff(all) else { return finding }
    finding.isCured = true
    // What cures it alone is to blame, whatever else is stored differently beside it.
    if let one = try suspects.first(where: { try !isOff([$0]) }) {
      finding.suspects = [one]
      return finding
    }
    // Else each that is needed: everything else being right does not help. Faults that only together
    // leave the bounds are named together.
    finding.suspects = try suspects.filter { try isOff(all.subtracting([$0])) }
    if finding.suspects.isEmpty { finding.suspects = suspects }
    return finding
  }

  /// The side under test with the reference's in the place of `exchanged`.
  private func exchange(
    _ exchanged: Set<Suspect>, at index: Int?
  ) -> (ModelSpec, any WeightSource) {
    var spec = lockstep.other.spec
    var pieces: Set<PieceID> = []
    for suspect in exchanged {
      switch suspect {
      case .piece(let id): pieces.insert(id)
      case .attribute(let name):
        if let index {
          spec.sublayers[index].attributes[name] =
            lockstep.reference.spec.sublayers[index].attributes[name]
        } else {
          spec.attributes[name] = lockstep.reference.spec.attributes[name]
        }
      }
    }
    return (
      spec, OverlayWeights(lockstep.other, with: lockstep.reference, exchanged: pieces)
    )
  }

  private func spreads(_ a: [[Double]], _ b: [[Double]], _ rows: Int) -> [Spread] {
    zip(a, b).map { x, y in
      var spread = Spread(rows: rows, width: x.count / max(rows, 1))
      x.withUnsafeBufferPointer { x in y.withUnsafeBufferPointer { spread.add(x, $0) } }
      return spread
    }
  }
}
