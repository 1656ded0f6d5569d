public import Inference
public import Layouts
import Tensors

/// A model to be run: what it computes and its weights.
public struct Side: Sendable {
  /// What it computes.
  public var spec: ModelSpec
  /// Its weights.
  public var weights: any WeightSource

  /// A side.
  public init(spec: ModelSpec, weights: any WeightSource) {
    self.spec = spec
    self.weights = weights
  }
}

/// Runs two models over the same tokens, a sub-layer at a time, and compares them at every stage.
///
/// The reference runs in float64 and in float32, whose difference is the noise; the other side in
/// float64 or float32. Of the weights, one sub-layer of each is in memory.
public struct Lockstep {
  /// The reference.
  public var reference: Side
  /// The side under test.
  public var other: Side
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
    reference: Side, other: Side, tokens: [[Int]], tolerance: Tolerance,
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
    let a = try ForwardPass(
      Model<Double>(spec: reference.spec, weights: reference.weights, options: options),
      tokens: tokens)
    let n = try ForwardPass(
      Model<Float>(spec: reference.spec, weights: reference.weights, options: options),
      tokens: tokens)
    let b = try ForwardPass(
      Model<Scalar>(spec: other.spec, weights: other.weights, options: options), tokens: tokens)
    var report = ParityReport()
    let unit = Scalar.self == Double.self ? 0x1p-53 : 0x1p-24
    func measure(_ stage: Stage) {
      a.withStream { x in
        var noise = Deviation()
        n.withStream { noise.add(UnsafeBufferPointer(x), UnsafeBufferPointer($0)) }
        var difference = Deviation()
        b.withStream { difference.add(UnsafeBufferPointer(x), UnsafeBufferPointer($0)) }
        report.stages.append(result(stage.name, noise, difference, unit))
      }
    }
    try a.embed()
    try n.embed()
    try b.embed()
    let count = reference.spec.sublayers.count
    for index in 0..<count {
      for stage in reference.spec.stages(before: index) { measure(stage) }
      try a.advance()
      try n.advance()
      try b.advance()
    }
    for stage in reference.spec.stages(before: count) { measure(stage) }
    try a.finish()
    try n.finish()
    try b.finish()
    measure(.finalNorm)
    try measureLogits(a, n, b, unit, &report)
    return report
  }

  private func result(
    _ name: String, _ noise: Deviation, _ difference: Deviation, _ unit: Double
  ) -> ParityReport.Stage {
    ParityReport.Stage(
      name: name, maxAbs: difference.maxAbs,
      relative: difference.scale > 0 ? difference.maxAbs / difference.scale : difference.maxAbs,
      bound: tolerance.bound(noise: noise.maxAbs, scale: difference.scale, unit: unit),
      noise: noise.maxAbs)
  }

  private func measureLogits<Scalar: Real>(
    _ a: ForwardPass<Double>, _ n: ForwardPass<Float>, _ b: ForwardPass<Scalar>, _ unit: Double,
    _ report: inout ParityReport
  ) throws {
    var noise = Deviation()
    var difference = Deviation()
    let ids = tokens.flatMap { $0 }
    let length = tokens[0].count
    for start in stride(from: 0, to: a.rows, by: 64) {
      let rows = start..<min(start + 64, a.rows)
      try a.withLogits(rows: rows) { x in
        try n.withLogits(rows: rows) { y in
          try b.withLogits(rows: rows) { z in
            let (wa, wb) = (x.count / rows.count, z.count / rows.count)
            for (i, row) in rows.enumerated() {
              let p = UnsafeBufferPointer(rebasing: x[i * wa..<i * wa + commonRows])
              let q = UnsafeBufferPointer(rebasing: y[i * wa..<i * wa + commonRows])
              let r = UnsafeBufferPointer(rebasing: z[i * wb..<i * wb + commonRows])
              noise.add(p, q)
              difference.add(p, r)
              let isLast = row % length == length - 1
              report.logits.add(p, r, next: isLast ? nil : ids[row + 1])
            }
          }
        }
      }
    }
    report.stages.append(result("logits", noise, difference, unit))
  }
}
