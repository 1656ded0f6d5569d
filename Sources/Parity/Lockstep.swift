public import Hub
public import Inference
import Tensors

/// Runs two models over the same tokens, a sub-layer at a time, and compares them at every stage.
///
/// The reference runs in float64 and in float32, whose difference is the noise; the other side in
/// float64 or float32. Of the weights, one sub-layer of each is in memory. No computation is run
/// twice: where the reference is the first checkpoint rounded as the second is, and so computes what
/// the second does from the same bytes, the second's pass is the reference's.
public struct Lockstep {
  /// The reference.
  public var reference: HubModel
  /// The side under test.
  public var other: HubModel
  /// The first checkpoint as it is, where the reference rounds as the other side does: the
  /// predictions are compared with its own.
  public var original: HubModel?
  /// Whether the reference computes what the other side does, from the same bytes.
  public var isReferenceOther = false
  /// Sequences of equal length.
  public var tokens: [[Int]]
  /// How far a stage may be off.
  public var tolerance: Tolerance
  /// How models are run.
  public var options: ModelOptions
  /// Rows of the vocabulary that both have.
  public var commonRows: Int

  /// A comparison.
  public init(
    reference: HubModel, other: HubModel, tokens: [[Int]], tolerance: Tolerance,
    options: ModelOptions = ModelOptions(), commonRows: Int
  ) {
    self.reference = reference
    self.other = other
    self.tokens = tokens
    self.tolerance = tolerance
    self.options = options
    self.commonRows = commonRows
  }

  /// Compares in the precision `Scalar` of the side under test.
  ///
  /// - Throws: `Problems` of tokens, attributes or reading.
  public func run<Scalar: Real>(_ precision: Scalar.Type) throws -> ParityReport {
    let report = try run(precision, noise: Float.self)
    // Where float32 overflows on a reference that is finite, its noise is no number and bounds nothing.
    guard let stage = report.stages.first(where: { !$0.noise.isFinite && $0.notFiniteA == 0 })
    else {
      return report
    }
    var again = try run(precision, noise: Double.self)
    again.beyondFloat32 = stage.name
    return again
  }

  /// Compares with the noise of a pass in `Noise`; in float64 it is rounded to float32's digits behind
  /// each sub-layer.
  @specialized(where Scalar == Double, Noise == Float)
  @specialized(where Scalar == Float, Noise == Float)
  @specialized(where Scalar == Double, Noise == Double)
  @specialized(where Scalar == Float, Noise == Double)
  private func run<Scalar: Real, Noise: Real>(
    _ precision: Scalar.Type, noise: Noise.Type
  ) throws -> ParityReport {
    let a: ForwardPass<Double> = try pass(reference)
    let n: ForwardPass<Noise> = try pass(reference)
    let first: ForwardPass<Double>? = try original.map { try pass($0) }
    let shared = isReferenceOther ? a as? ForwardPass<Scalar> ?? n as? ForwardPass<Scalar> : nil
    let b = try shared ?? pass(other)
    func each(_ body: (any SteppedPass) throws -> Void) rethrows {
      try body(a)
      try body(n)
      if let first { try body(first) }
      if shared == nil { try body(b) }
    }
    var report = ParityReport()
    let unit = Scalar.self == Double.self ? 0x1p-53 : 0x1p-24
    // What one side multiplies before the head, the other may have in its final norm.
    let factors = [reference, isReferenceOther ? reference : other].map {
      $0.spec["logit_scale"].double ?? 1
    }
    func measureFinalNorm() {
      func scaled<S: Real>(_ pass: ForwardPass<S>, _ factor: Double) -> [Double] {
        pass.withStream { $0.map { Double($0) * factor } }
      }
      let x = scaled(a, factors[0])
      var (noise, difference) = (Deviation(), Deviation())
      func add(_ other: [Double], to deviation: inout Deviation) {
        x.withUnsafeBufferPointer { x in
          other.withUnsafeBufferPointer { deviation.add(x, $0) }
        }
      }
      add(scaled(n, factors[0]), to: &noise)
      add(scaled(b, factors[1]), to: &difference)
      report.stages.append(result(Stage.finalNorm.name, noise, difference, unit))
    }
    func measure(_ stage: Stage) {
      if stage == .finalNorm, factors[0] != factors[1] { return measureFinalNorm() }
      a.withStream { x in
        var noise = Deviation()
        n.withStream { noise.add(UnsafeBufferPointer(x), UnsafeBufferPointer($0)) }
        var difference = Deviation()
        b.withStream { difference.add(UnsafeBufferPointer(x), UnsafeBufferPointer($0)) }
        report.stages.append(result(stage.name, noise, difference, unit))
      }
    }
    try each { try $0.embed() }
    n.roundStreamToFloat32()
    let count = reference.spec.sublayers.count
    for index in 0..<count {
      for stage in reference.spec.stages(before: index) { measure(stage) }
      try each { try $0.advance() }
      n.roundStreamToFloat32()
      if report.firstNotFiniteSublayer == nil, !a.isStreamFinite || !b.isStreamFinite {
        report.firstNotFiniteSublayer = index
      }
    }
    for stage in reference.spec.stages(before: count) { measure(stage) }
    try each { try $0.finish() }
    n.roundStreamToFloat32()
    measure(.finalNorm)
    try measureLogits(a, n, first, shared == nil ? b : nil, unit, &report)
    return report
  }

  /// Compares the embeddings of `ids`, whether the sequences have them or not.
  ///
  /// - Throws: `Problems` of tokens, attributes or reading.
  public func embedded<Scalar: Real>(
    _ ids: [Int], _ precision: Scalar.Type
  ) throws -> ParityReport.Stage {
    let stage = try embedded(ids, precision, noise: Float.self)
    return stage.noise.isFinite || stage.notFiniteA > 0
      ? stage : try embedded(ids, precision, noise: Double.self)
  }

  @specialized(where Scalar == Double, Noise == Float)
  @specialized(where Scalar == Float, Noise == Float)
  private func embedded<Scalar: Real, Noise: Real>(
    _ ids: [Int], _ precision: Scalar.Type, noise: Noise.Type
  ) throws -> ParityReport.Stage {
    var short = self
    short.tokens = ids.map { [$0] }
    let a: ForwardPass<Double> = try short.pass(reference)
    let n: ForwardPass<Noise> = try short.pass(reference)
    let b: ForwardPass<Scalar> = try short.pass(other)
    try a.embed()
    try n.embed()
    try b.embed()
    n.roundStreamToFloat32()
    var noise = Deviation()
    var difference = Deviation()
    a.withStream { x in
      n.withStream { noise.add(UnsafeBufferPointer(x), UnsafeBufferPointer($0)) }
      b.withStream { difference.add(UnsafeBufferPointer(x), UnsafeBufferPointer($0)) }
    }
    return result(
      Stage.hiddenStates(0).name, noise, difference, Scalar.self == Double.self ? 0x1p-53 : 0x1p-24)
  }

  private func pass<S: Real>(_ model: HubModel) throws(Problems) -> ForwardPass<S> {
    try ForwardPass(
      Model<S>(spec: model.spec, weights: model, options: options), tokens: tokens)
  }

  private func result(
    _ name: String, _ noise: Deviation, _ difference: Deviation, _ unit: Double
  ) -> ParityReport.Stage {
    ParityReport.Stage(
      name: name, maxAbs: difference.maxAbs,
      relative: difference.scale > 0 ? difference.maxAbs / difference.scale : difference.maxAbs,
      bound: tolerance.bound(noise: noise.maxAbs, scale: difference.scale, unit: unit),
      noise: noise.maxAbs, notFiniteA: difference.notFiniteReference,
      notFiniteB: difference.notFiniteOther)
  }

  // `b` is the side under test, where it is not the reference.
  private func measureLogits<Scalar: Real, Noise: Real>(
    _ a: ForwardPass<Double>, _ n: ForwardPass<Noise>, _ first: ForwardPass<Double>?,
    _ b: ForwardPass<Scalar>?, _ unit: Double, _ report: inout ParityReport
  ) throws {
    var noise = Deviation()
    var difference = Deviation()
    for start in stride(from: 0, to: a.rows, by: 64) {
      let rows = start..<min(start + 64, a.rows)
      try a.withLogits(rows: rows) { x in
        try n.withLogits(rows: rows) { y in
          each(rows, x, y, &noise)
          func compare<S: Real>(_ z: UnsafeBufferPointer<S>) throws {
            each(rows, x, z, &difference)
            if let first {
              try first.withLogits(rows: rows) { agree(rows, $0, z, &report.logits) }
            } else {
              agree(rows, x, z, &report.logits)
            }
          }
          if let b {
            try b.withLogits(rows: rows) { try compare($0) }
          } else if Scalar.self == Double.self {
            try compare(x)
          } else {
            try compare(y)
          }
        }
      }
    }
    report.stages.append(result("logits", noise, difference, unit))
  }

  /// The rows of both, cut to the vocabulary that both have.
  private func pairs<R, S>(
    _ rows: Range<Int>, _ x: UnsafeBufferPointer<R>, _ y: UnsafeBufferPointer<S>,
    _ body: (Int, UnsafeBufferPointer<R>, UnsafeBufferPointer<S>) -> Void
  ) {
    let (wide, narrow) = (x.count / rows.count, y.count / rows.count)
    for (i, row) in rows.enumerated() {
      body(
        row, UnsafeBufferPointer(rebasing: x[i * wide..<i * wide + commonRows]),
        UnsafeBufferPointer(rebasing: y[i * narrow..<i * narrow + commonRows]))
    }
  }

  private func each<R: Real, S: Real>(
    _ rows: Range<Int>, _ x: UnsafeBufferPointer<R>, _ y: UnsafeBufferPointer<S>,
    _ deviation: inout Deviation
  ) {
    pairs(rows, x, y) { deviation.add($1, $2) }
  }

  private func agree<R: Real, S: Real>(
    _ rows: Range<Int>, _ x: UnsafeBufferPointer<R>, _ y: UnsafeBufferPointer<S>,
    _ agreement: inout LogitAgreement
  ) {
    let length = tokens[0].count
    pairs(rows, x, y) { row, p, q in
      let (sequence, index) = (row / length, row % length)
      agreement.add(
        p, q, next: index + 1 < length ? tokens[sequence][index + 1] : nil, at: (sequence, index))
    }
  }
}

/// A pass in either precision.
private protocol SteppedPass {
  func embed() throws(Problems)
  func advance() throws(Problems)
  func finish() throws(Problems)
}

extension ForwardPass: SteppedPass {}
