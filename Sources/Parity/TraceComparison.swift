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
/// Where the framework computed in a type coarser than float32, each stage is computed from the
/// trace's own stage before it: otherwise the rounding of many layers would add up to more than a fault
/// makes.
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

  /// Compares with the noise of a pass in `Noise`, which is the model itself where float32 is wanted; in
  /// float64 it is rounded to float32's digits behind each sub-layer.
  @specialized(where Noise == Float)
  @specialized(where Noise == Double)
  private func run<Noise: Real>(wantsFloat: Bool, noise: Noise.Type) throws -> ParityReport {
    let tokens = trace.tokens
    let a = try ForwardPass(
      Model<Double>(spec: model.spec, weights: model, options: options), tokens: tokens)
    let n = try ForwardPass(
      Model<Noise>(spec: model.spec, weights: model, options: options), tokens: tokens)
    // The error of a pass grows with the roundoff of its type: what a framework that computes in
    // bfloat16 may be off is float32's noise times the ratio of the two.
    let coarseness = max(1, trace.unitRoundoff / 0x1p-24)
    let isCoarse = coarseness > 1
    var report = ParityReport()
    func add(
      _ name: String, _ x: UnsafeBufferPointer<Double>, _ y: UnsafeBufferPointer<Noise>
    ) throws(Diagnostic) {
      guard let values = try trace.values(name) else { return }
      guard values.count == x.count else {
        throw Diagnostic(
          code: "trace.shape", subject: name,
          message: "holds \(values.count) values, the model gives \(x.count)",
          help: "the trace is of another model")
      }
      var noise = Deviation()
      noise.add(x, y)
      if noise.notFiniteReference == 0, !noise.maxAbs.isFinite, report.beyondFloat32 == nil {
        report.beyondFloat32 = name
      }
      var difference = Deviation()
      values.withUnsafeBufferPointer {
        if wantsFloat { difference.add($0, y) } else { difference.add($0, x) }
      }
      report.stages.append(
        ParityReport.Stage(
          name: name, maxAbs: difference.maxAbs,
          relative: difference.scale > 0 ? difference.maxAbs / difference.scale : difference.maxAbs,
          bound: tolerance.bound(
            noise: noise.maxAbs * coarseness, scale: difference.scale,
            unit: max(wantsFloat ? 0x1p-24 : 0x1p-53, isCoarse ? trace.unitRoundoff : 0)),
          noise: noise.maxAbs * coarseness, notFiniteA: difference.notFiniteOther,
          notFiniteB: difference.notFiniteReference))
    }
    func addStream(_ stage: Stage) throws {
      try a.withStream { x in
        try n.withStream { y in
          try add(stage.name, UnsafeBufferPointer(x), UnsafeBufferPointer(y))
          guard isCoarse, let values = try trace.values(stage.name) else { return }
          for i in values.indices {
            x[i] = values[i]
            y[i] = Noise(values[i])
          }
        }
      }
    }
    try a.embed()
    try n.embed()
    n.roundStreamToFloat32()
    for index in model.spec.sublayers.indices {
      for stage in model.spec.stages(before: index) { try addStream(stage) }
      try a.advance()
      try n.advance()
      n.roundStreamToFloat32()
      if report.firstNotFiniteSublayer == nil,
        wantsFloat ? !n.isStreamFinite : !a.isStreamFinite
      {
        report.firstNotFiniteSublayer = index
      }
      let next = model.spec.sublayers.dropFirst(index + 1).first
      if next?.layer == model.spec.sublayers[index].layer { try addStream(.sublayer(index)) }
    }
    for stage in model.spec.stages(before: model.spec.sublayers.count) { try addStream(stage) }
    try a.finish()
    try n.finish()
    n.roundStreamToFloat32()
    try addStream(.finalNorm)
    try a.withLogits(rows: 0..<a.rows) { x in
      try n.withLogits(rows: 0..<n.rows) { y in
        try add("logits", x, y)
        if !isCoarse { try gather(x, y, tokens, wantsFloat, &report) }
      }
    }
    if isCoarse { try gatherWhole(tokens, wantsFloat, &report) }
    guard !report.stages.isEmpty else {
      throw Diagnostic(
        code: "trace.empty", subject: "trace", message: "holds no stage of this model")
    }
    report.firstDivergence = divergence(report)
    return report
  }

  /// The agreement of the predictions after a pass that nothing was put into.
  private func gatherWhole(
    _ tokens: [[Int]], _ wantsFloat: Bool, _ report: inout ParityReport
  ) throws {
    func pass<S: Real>(_: S.Type) throws -> ForwardPass<S> {
      let pass = try ForwardPass(
        Model<S>(spec: model.spec, weights: model, options: options), tokens: tokens)
      try pass.embed()
      for _ in model.spec.sublayers { try pass.advance() }
      try pass.finish()
      return pass
    }
    let a = try pass(Double.self)
    guard wantsFloat else {
      return try a.withLogits(rows: 0..<a.rows) { try gather($0, $0, tokens, false, &report) }
    }
    let n = try pass(Float.self)
    try a.withLogits(rows: 0..<a.rows) { x in
      try n.withLogits(rows: 0..<n.rows) { y in
        try gather(x, y, tokens, wantsFloat, &report)
      }
    }
  }

  private func gather<Noise: Real>(
    _ x: UnsafeBufferPointer<Double>, _ y: UnsafeBufferPointer<Noise>, _ tokens: [[Int]],
    _ wantsFloat: Bool, _ report: inout ParityReport
  ) throws {
    guard let values = try trace.values("logits"), values.count == x.count else { return }
    let ids = tokens.flatMap { $0 }
    let length = tokens[0].count
    let width = x.count / ids.count
    values.withUnsafeBufferPointer { z in
      for row in ids.indices {
        let range = row * width..<(row + 1) * width
        let next = row % length == length - 1 ? nil : ids[row + 1]
        let place = (sequence: row / length, index: row % length)
        let theirs = UnsafeBufferPointer(rebasing: z[range])
        if wantsFloat {
          report.logits.add(
            UnsafeBufferPointer(rebasing: y[range]), theirs, next: next, at: place)
        } else {
          report.logits.add(
            UnsafeBufferPointer(rebasing: x[range]), theirs, next: next, at: place)
        }
      }
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
