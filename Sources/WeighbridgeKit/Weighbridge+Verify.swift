public import Conversion
import Hub
import Layouts
import Parity
public import Tensors

extension Weighbridge {
  /// Reads back what was written and runs it beside its source.
  ///
  /// - Returns: tensors that hold NaN or infinity, which no token reached.
  /// - Throws: `Refusal` when the two do not compute the same; what reading throws.
  @discardableResult
  public func verify(
    written path: String, against source: LoadedCheckpoint
  ) throws -> [Diagnostic] {
    try verifyFunction(
      load(
        CheckpointInput(
          path: path, inertKeys: source.inertKeys, stepFloor: source.stepFloor)), against: source,
      ParityRequest())
  }

  /// Reads back what was written: its bytes should be those that the plan gives, and it should compute
  /// what the source computes.
  ///
  /// - Parameters:
  ///   - path: the directory that was written.
  ///   - plan: what was carried out.
  ///   - source: the checkpoint that the plan was made for.
  ///   - castsAll: whether the plan casts what should stay float32.
  /// - Returns: tensors that hold NaN or infinity, which no token reached.
  /// - Throws: `Refusal` with `verify.bytes` for each tensor that is not as the plan has it, or with
  ///   `verify.differs` when the two do not compute the same; what reading throws.
  @discardableResult
  public func verify(
    written path: String, plan: ConversionPlan, against source: LoadedCheckpoint,
    castsAll: Bool = false
  ) throws -> [Diagnostic] {
    let written = try load(
      CheckpointInput(
        path: path, inertKeys: source.inertKeys, stepFloor: source.stepFloor))
    let problems = try WrittenComparison(plan, from: source.source).problems(of: written.source)
    guard problems.isEmpty else { throw Refusal(layout: plan.to, problems: problems) }
    var request = ParityRequest()
    // Rows that were cut off on purpose are told by the plan.
    request.allowsLostRows = plan.exactness == .lossy
    request.castsAll = castsAll
    return try verifyFunction(written, against: source, request)
  }

  private func verifyFunction(
    _ written: LoadedCheckpoint, against source: LoadedCheckpoint, _ request: ParityRequest
  ) throws -> [Diagnostic] {
    let result = try parity(
      source, written, tokens: .random(batch: 1, length: 24, seed: 0), request)
    guard !result.passes, let layout = written.bound?.layout else {
      return result.problems.filter { $0.code == "parity.not-finite-weights" }
    }
    let divergence = result.report.firstDivergence
    let errors = result.problems.filter { $0.severity == .error }
    throw Refusal(
      layout: layout,
      problems: [
        Diagnostic(
          code: "verify.differs", subject: divergence?.stage ?? "logits",
          message: "what was written does not compute what the source computes",
          notes: (divergence.map { ["suspects: \($0.suspects.joined(separator: ", "))"] } ?? [])
            + errors.flatMap { ["\($0.subject): \($0.message)"] + $0.notes },
          help: errors.contains { $0.code == "parity.not-finite" }
            ? "nothing was left at the destination"
            : "nothing was left at the destination; please report this")
      ])
  }
}
