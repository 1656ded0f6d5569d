import Hub
import Inference
import Tensors

/// The longer check: several lengths, one of them beyond the windows, in both precisions; and on each
/// side a pass over whole sequences against the same tokens in chunks and one by one.
struct Thorough {
  private let lockstep: Lockstep

  /// A check of the two models of `lockstep`.
  init(_ lockstep: Lockstep) { self.lockstep = lockstep }

  /// The lengths that are run: short ones, one beyond a chunk, one beyond each window.
  private var lengths: [Int] {
    let windows = [lockstep.reference.spec, lockstep.other.spec].flatMap { spec in
      spec.sublayers.compactMap { $0["window"].int }
    }.map { $0 + 8 }.filter { $0 <= Unexplained.longestRun }
    return Set([1, 2, 3, 17, 65, 257] + windows).sorted()
  }

  /// What was found: errors, or a note that says what was run.
  ///
  /// - Throws: `Problems` of reading.
  func problems(_ name: String) throws -> [Diagnostic] {
    var problems: [Diagnostic] = []
    var failed: Set<String> = []
    func fail(_ what: String, _ length: Int, _ precision: String, _ note: String) {
      guard failed.insert(what + precision).inserted else { return }
      problems.append(
        Diagnostic(
          code: "parity.thorough", subject: name,
          message: "\(what) over \(length) tokens in \(precision)", notes: [note],
          help: "nothing of the kind shows on the run's own tokens"))
    }
    for length in lengths {
      var own = lockstep
      own.tokens = RandomTokens.draw(1, length, seed: UInt64(length), lockstep.reference.spec)
      own.original = nil
      for precision in [Precision.float64, .float32] {
        own.tolerance.isTight = precision == .float64
        if !own.isReferenceOther {
          let report = try precision == .float64 ? own.run(Double.self) : own.run(Float.self)
          if let stage = report.stages.first(where: { !$0.ok }) {
            fail(
              "A and B part at \(stage.name)", length, precision.rawValue,
              "the difference is \(stage.maxAbs), its bound \(stage.bound)")
          }
        }
        for (side, model) in [("A", own.reference), ("B", own.other)]
        where side == "A" || !own.isReferenceOther {
          let found =
            try precision == .float64
            ? forms(Double.self, model, own) : forms(Float.self, model, own)
          if let found {
            fail(
              "\(side)'s logits depend on how the tokens are given", length, precision.rawValue,
              found)
          }
        }
      }
    }
    guard problems.isEmpty else { return problems }
    return [
      Diagnostic(
        .note, code: "parity.thorough", subject: name,
        message:
          "1 x \(lengths.map(String.init).joined(separator: ", ")) tokens in float64 and float32: every stage within its bound",
        notes: ["on each side whole sequences, chunks and single tokens give the same logits"])
    ]
  }

  /// Whether a model gives the same logits for whole sequences, chunks and single tokens; what differs
  /// where it does not.
  private func forms<S: Real>(
    _: S.Type, _ model: HubModel, _ lockstep: Lockstep
  ) throws -> String? {
    let tokens = lockstep.tokens[0]
    var options = lockstep.options
    options.keepsWeights = true
    let engine = try Model<S>(spec: model.spec, weights: model, options: options)
    let other =
      try S.self == Double.self
      ? last(Model<Float>(spec: model.spec, weights: model, options: options), tokens)
      : last(Model<Double>(spec: model.spec, weights: model, options: options), tokens)
    let whole = try last(engine, tokens)
    func spread(_ x: [Double]) -> Spread {
      var spread = Spread(rows: 1, width: whole.count)
      whole.withUnsafeBufferPointer { a in x.withUnsafeBufferPointer { spread.add(a, $0) } }
      return spread
    }
    let noise = spread(other)
    // Most in chunks, the rest one by one, so that both follow each other.
    for (name, chunk, singles) in [("chunks", 16, 0), ("single tokens", 64, min(tokens.count, 24))]
    {
      let state = try engine.makeState()
      var given = 0
      var logits: [S] = []
      while given < tokens.count {
        let left = tokens.count - singles - given
        let count = left > 0 ? min(chunk, left) : 1
        logits = try engine.step([Array(tokens[given..<given + count])], state)
        given += count
      }
      let difference = spread(logits.map { Double($0) })
      let verdict = lockstep.tolerance.judge(
        difference, noise: noise, unit: S.self == Double.self ? 0x1p-53 : 0x1p-24)
      if !verdict.ok || difference.whole.notFiniteOther > 0 {
        return "\(name) differ by \(verdict.maxAbs), allowed is \(verdict.bound)"
      }
    }
    return nil
  }

  /// The logits behind the last token.
  private func last<S: Real>(_ model: Model<S>, _ tokens: [Int]) throws -> [Double] {
    let pass = try ForwardPass(model, tokens: [tokens])
    try pass.embed()
    for _ in model.spec.sublayers { try pass.advance() }
    try pass.finish()
    return try pass.logits(rows: pass.rows - 1..<pass.rows).map { Double($0) }
  }
}
