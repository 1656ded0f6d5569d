public import Inference
public import Layouts
public import Tensors

/// The stages that a framework itself computed.
public protocol TraceSource: Sendable {
  /// The tokens [batch][length].
  var tokens: [[Int]] { get }
  /// The values of a stage in row-major order; `nil` when the trace does not hold it.
  func values(_ stage: String) throws(Diagnostic) -> [Double]?
}

/// Runs a model over a trace's tokens and compares every stage with the framework's own.
public struct TraceComparison {
  /// The model.
  public var side: Side
  /// What the framework computed.
  public var trace: any TraceSource
  /// How far a stage may be off.
  public var tolerance: Tolerance
  /// How models are run.
  public var options: ModelOptions

  /// A comparison.
  public init(
    side: Side, trace: any TraceSource, tolerance: Tolerance, options: ModelOptions = ModelOptions()
  ) {
    self.side = side
    self.trace = trace
    self.tolerance = tolerance
    self.options = options
  }

  /// Compares in the precision `Scalar` of the model.
  ///
  /// - Throws: `Problems` of tokens, attributes or reading; `trace.shape` for a stage of another
  ///   shape than the model's, `trace.empty` for a trace with no stage at all.
  @specialized(where Scalar == Double)
  @specialized(where Scalar == Float)
  public func run<Scalar: Real>(_ precision: Scalar.Type) throws -> ParityReport {
    let tokens = trace.tokens
    let a = try ForwardPass(
      Model<Double>(spec: side.spec, weights: side.weights, options: options), tokens: tokens)
    let n = try ForwardPass(
      Model<Float>(spec: side.spec, weights: side.weights, options: options), tokens: tokens)
    let wantsFloat = Scalar.self == Float.self
    var report = ParityReport()
    func add(
      _ name: String, _ x: UnsafeBufferPointer<Double>, _ y: UnsafeBufferPointer<Float>
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
      var difference = Deviation()
      values.withUnsafeBufferPointer {
        if wantsFloat { difference.add($0, y) } else { difference.add($0, x) }
      }
      report.stages.append(
        ParityReport.Stage(
          name: name, maxAbs: difference.maxAbs,
          relative: difference.scale > 0 ? difference.maxAbs / difference.scale : difference.maxAbs,
          bound: tolerance.bound(
            noise: noise.maxAbs, scale: difference.scale, unit: wantsFloat ? 0x1p-24 : 0x1p-53),
          noise: noise.maxAbs))
    }
    func addStream(_ stage: Stage) throws {
      try a.withStream { x in
        try n.withStream { y in
          try add(stage.name, UnsafeBufferPointer(x), UnsafeBufferPointer(y))
        }
      }
    }
    try a.embed()
    try n.embed()
    for index in side.spec.sublayers.indices {
      for stage in side.spec.stages(before: index) { try addStream(stage) }
      try a.advance()
      try n.advance()
    }
    for stage in side.spec.stages(before: side.spec.sublayers.count) { try addStream(stage) }
    try a.finish()
    try n.finish()
    try addStream(.finalNorm)
    try a.withLogits(rows: 0..<a.rows) { x in
      try n.withLogits(rows: 0..<n.rows) { y in
        try add("logits", x, y)
        try gather(x, y, tokens, wantsFloat, &report)
      }
    }
    guard !report.stages.isEmpty else {
      throw Diagnostic(
        code: "trace.empty", subject: "trace", message: "holds no stage of this model")
    }
    report.firstDivergence = divergence(report)
    return report
  }

  private func gather(
    _ x: UnsafeBufferPointer<Double>, _ y: UnsafeBufferPointer<Float>, _ tokens: [[Int]],
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

  /// The first stage out of bounds; with a layer it is one of its sub-layers, of which a trace does
  /// not tell which.
  private func divergence(_ report: ParityReport) -> ParityReport.Divergence? {
    guard let stage = report.stages.first(where: { !$0.ok }) else { return nil }
    return ParityReport.Divergence(
      stage: stage.name, sublayer: side.spec.sublayers(before: stage.name).first,
      kind: side.spec.kind(before: stage.name), suspects: [])
  }
}

extension ModelSpec {
  /// The sub-layers between the stage before `stage` and it; none for embedding, norm and head.
  public func sublayers(before stage: String) -> [Int] {
    guard stage.hasPrefix("hidden_states."), let layer = Int(stage.dropFirst(14)) else { return [] }
    return sublayers.indices.filter { sublayers[$0].layer == layer - 1 }
  }

  /// The kind of what lies before `stage`.
  public func kind(before stage: String) -> String {
    sublayers(before: stage).first.map { sublayers[$0].kind } ?? "model"
  }
}
