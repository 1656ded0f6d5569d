public import Hub
public import Inference
public import Tensors

/// The stages that a framework itself computed.
public protocol TraceSource: Sendable {
  /// What messages call it.
  var name: String { get }
  /// A prompt and its greedy continuation, when the trace holds one.
  var greedy: [Int]? { get }
  /// The tokens [batch][length].
  var tokens: [[Int]] { get }
  /// The values of a stage in row-major order; `nil` when the trace does not hold it.
  func values(_ stage: String) throws(Diagnostic) -> [Double]?
  /// The unit roundoff of the type that the framework computed in.
  var unitRoundoff: Double { get }
}

/// Runs a model over a trace's tokens and compares every stage with the framework's own.
///
/// Each stage is computed from the trace's own stage before it: so a fault shows in the layer that has
/// it, and the rounding of many layers does not add up to more than a fault makes.
public struct TraceComparison {
  /// The model.
  public var model: HubModel
  /// What the framework computed.
  public var trace: any TraceSource
  /// How far a stage may be off.
  public var tolerance: Tolerance
  /// How models are run.
  public var options: ModelOptions

  /// A comparison.
  public init(
    model: HubModel, trace: any TraceSource, tolerance: Tolerance,
    options: ModelOptions = ModelOptions()
  ) {
    self.model = model
    self.trace = trace
    self.tolerance = tolerance
    self.options = options
  }

  /// Compares in the precision `Scalar` of the model.
  ///
  /// - Throws: `Problems` of tokens, attributes or reading; `trace.shape` for a stage of another
  ///   shape than the model's, `trace.empty` for a trace with no stage at all.
  public func run<Scalar: Real>(_ precision: Scalar.Type) throws -> ParityReport {
    let wantsFloat = Scalar.self == Float.self
    let report = try run(wantsFloat: wantsFloat, noise: Float.self)
    guard let stage = report.beyondFloat32, !wantsFloat else { return report }
    var again = try run(wantsFloat: false, noise: Double.self)
    again.beyondFloat32 = stage
    return again
  }

  /// How much coarser than float32 the framework computed; 1 for float32 and float64.
  var coarseness: Double { max(1, trace.unitRoundoff / 0x1p-24) }

  /// How far a stage may be off: where both sides are in float64, by float64's noise.
  func judge(_ difference: Spread, noise: Spread, wantsFloat: Bool) -> Tolerance.Verdict {
    var tolerance = tolerance
    tolerance.isTight = !wantsFloat && trace.unitRoundoff <= 0x1p-53
    let isCoarse = coarseness > 1
    return tolerance.judge(
      difference, noise: noise, coarseness: coarseness,
      unit: max(wantsFloat ? 0x1p-24 : 0x1p-53, isCoarse ? trace.unitRoundoff : 0),
      // What is stored in few digits has its noise in steps.
      byGroup: !isCoarse)
  }

  /// How the pass runs that the noise is taken from: in a framework's own type no better than the
  /// framework. The few digits of a coarser type hide what float32 makes of angles.
  var noiseOptions: ModelOptions {
    var options = options
    options.isRough = coarseness == 1
    return options
  }

  /// Compares with the noise of a pass in `Noise`; in float64 it is rounded to float32's digits behind
  /// each sub-layer.
  @specialized(where Noise == Float)
  @specialized(where Noise == Double)
  private func run<Noise: Real>(wantsFloat: Bool, noise: Noise.Type) throws -> ParityReport {
    let tokens = trace.tokens
    let a: ForwardPass<Double> = try pass(options)
    let n: ForwardPass<Noise> = try pass(noiseOptions)
    // The side under test, where it is not `a`.
    let t: ForwardPass<Float>? = wantsFloat ? try pass(options) : nil
    var report = ParityReport()
    func add(
      _ name: String, _ x: UnsafeBufferPointer<Double>, _ y: UnsafeBufferPointer<Noise>,
      _ z: UnsafeBufferPointer<Float>?
    ) throws(Diagnostic) {
      guard let values = try trace.values(name) else { return }
      guard values.count == x.count else {
        throw Diagnostic(
          code: "trace.shape", subject: name,
          message: "holds \(values.count) values, the model gives \(x.count)",
          help: "the trace is of another model")
      }
      let width = x.count / a.rows
      var noise = Spread(rows: a.rows, width: width)
      noise.add(x, y)
      if noise.whole.notFiniteReference == 0, !noise.whole.maxAbs.isFinite,
        report.beyondFloat32 == nil
      {
        report.beyondFloat32 = name
      }
      var difference = Spread(rows: a.rows, width: width)
      values.withUnsafeBufferPointer {
        if let z { difference.add($0, z) } else { difference.add($0, x) }
      }
      let (verdict, isInside) = verdict(name, difference, noise: noise, wantsFloat: wantsFloat)
      if isInside { report.float32Inside = report.float32Inside ?? name }
      var stage = ParityReport.Stage(
        name, difference, noise: noise, coarseness: coarseness, verdict)
      // The trace is what is compared with, and the second of the two.
      (stage.notFiniteA, stage.notFiniteB) = (stage.notFiniteB, stage.notFiniteA)
      report.stages.append(stage)
    }
    func addStream(_ stage: Stage) throws {
      try a.withStream { x in
        try n.withStream { y in
          func whole(_ z: UnsafeMutableBufferPointer<Float>?) throws {
            try add(
              stage.name, UnsafeBufferPointer(x), UnsafeBufferPointer(y),
              z.map { UnsafeBufferPointer($0) })
            guard let values = try trace.values(stage.name), values.allSatisfy(\.isFinite) else {
              return
            }
            for i in values.indices {
              x[i] = values[i]
              y[i] = Noise(values[i])
              z?[i] = Float(values[i])
            }
          }
          if let t { try t.withStream { try whole($0) } } else { try whole(nil) }
        }
      }
    }
    try a.embed()
    try n.embed()
    try t?.embed()
    n.roundStreamToFloat32()
    for index in model.spec.sublayers.indices {
      for stage in model.spec.stages(before: index) { try addStream(stage) }
      try a.advance()
      try n.advance()
      try t?.advance()
      n.roundStreamToFloat32()
      if report.firstNotFiniteSublayer == nil, !(t?.isStreamFinite ?? a.isStreamFinite) {
        report.firstNotFiniteSublayer = index
      }
      let next = model.spec.sublayers.dropFirst(index + 1).first
      if next?.layer == model.spec.sublayers[index].layer { try addStream(.sublayer(index)) }
    }
    for stage in model.spec.stages(before: model.spec.sublayers.count) { try addStream(stage) }
    try a.finish()
    try n.finish()
    try t?.finish()
    n.roundStreamToFloat32()
    try addStream(.finalNorm)
    try a.withLogits(rows: 0..<a.rows) { x in
      try n.withLogits(rows: 0..<n.rows) { y in
        if let t {
          try t.withLogits(rows: 0..<t.rows) { try add("logits", x, y, $0) }
        } else {
          try add("logits", x, y, nil)
        }
      }
    }
    try wantsFloat
      ? gather(Float.self, tokens, &report) : gather(Double.self, tokens, &report)
    guard !report.stages.isEmpty else {
      throw Diagnostic(
        code: "trace.empty", subject: "trace", message: "holds no stage of this model")
    }
    report.firstDivergence = divergence(report)
    return report
  }

  func pass<S: Real>(_ options: ModelOptions) throws(Problems) -> ForwardPass<S> {
    try ForwardPass(
      Model<S>(spec: model.spec, weights: model, options: options), tokens: trace.tokens)
  }

  /// The agreement of the predictions after a pass that nothing was put into.
  private func gather<S: Real>(
    _: S.Type, _ tokens: [[Int]], _ report: inout ParityReport
  ) throws {
    guard let values = try trace.values("logits") else { return }
    let pass: ForwardPass<S> = try pass(options)
    try pass.embed()
    for _ in model.spec.sublayers { try pass.advance() }
    try pass.finish()
    let ids = tokens.flatMap { $0 }
    let length = tokens[0].count
    try pass.withLogits(rows: 0..<pass.rows) { x in
      guard values.count == x.count else { return }
      let width = x.count / ids.count
      values.withUnsafeBufferPointer { z in
        for row in ids.indices {
          let range = row * width..<(row + 1) * width
          report.logits.add(
            UnsafeBufferPointer(rebasing: x[range]), UnsafeBufferPointer(rebasing: z[range]),
            next: row % length == length - 1 ? nil : ids[row + 1],
            at: (sequence: row / length, index: row % length))
        }
      }
    }
  }

  /// Judges a stage: by float64's noise, or by float32's where the framework computes parts of what lies
  /// before it in float32 whatever type the model has.
  func verdict(
    _ name: String, _ difference: Spread, noise: Spread, wantsFloat: Bool
  ) -> (verdict: Tolerance.Verdict, isInside: Bool) {
    let close = judge(difference, noise: noise, wantsFloat: wantsFloat)
    guard !close.ok, isFloat32Inside(name, wantsFloat) else { return (close, false) }
    var inside = tolerance
    inside.factor = Tolerance.insideFactor
    let wide = inside.judge(difference, noise: noise, unit: 0x1p-24)
    return wide.ok ? (wide, true) : (close, false)
  }

  /// S6-Mega, and retention with its tables in the file.
  private func isFloat32Inside(_ name: String, _ wantsFloat: Bool) -> Bool {
    guard tolerance.isMeasured, !wantsFloat, trace.unitRoundoff <= 0x1p-53 else { return false }
    let kinds = Vocabulary.standard
    let hasTables = model.pieces.contains {
      $0.key.sublayer == nil && kinds.model.piece($0.key.role)?.isTable == true
        && $0.value.dtype != .f64
    }
    return model.spec.sublayers(before: name).contains {
      let kind = model.spec.sublayers[$0].kind
      return kinds.kinds[kind]?.isFloat32Inside == true
        || hasTables && kind == MixerKind.retention.name
    }
  }

  /// The first stage out of bounds; where the trace does not hold the stream between a layer's
  /// sub-layers, it is one of them, of which it does not tell which.
  private func divergence(_ report: ParityReport) -> ParityReport.Divergence? {
    guard let number = report.stages.firstIndex(where: { !$0.ok }) else { return nil }
    let stage = report.stages[number].name
    let first = model.spec.sublayers(
      before: stage, after: number > 0 ? report.stages[number - 1].name : nil
    ).first
    return ParityReport.Divergence(
      stage: stage, sublayer: first, kind: first.map { model.spec.sublayers[$0].kind } ?? "model",
      suspects: [])
  }
}

extension ModelSpec {
  /// The sub-layers between the stage before `stage` and it; none for embedding, norm and head.
  ///
  /// - Parameter previous: the stage that was looked at before, which may lie inside the layer.
  public func sublayers(before stage: String, after previous: String? = nil) -> [Int] {
    func inside(_ name: String) -> Int? {
      name.hasPrefix("sublayer.") ? Int(name.dropFirst(9)) : nil
    }
    let start = previous.flatMap(inside) ?? -1
    if let end = inside(stage), sublayers.indices.contains(end) {
      return sublayers.indices.filter {
        $0 > start && $0 <= end && sublayers[$0].layer == sublayers[end].layer
      }
    }
    guard stage.hasPrefix("hidden_states."), let layer = Int(stage.dropFirst(14)) else { return [] }
    return sublayers.indices.filter { $0 > start && sublayers[$0].layer == layer - 1 }
  }

  /// The kind of what lies before `stage`.
  public func kind(before stage: String) -> String {
    sublayers(before: stage).first.map { sublayers[$0].kind } ?? "model"
  }
}
