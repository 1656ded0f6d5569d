package import Hub
import Inference
package import Tensors

/// Decides whether a model computes what a framework's trace of it says.
package struct TraceCheck {
  private let model: HubModel
  private let trace: any TraceSource
  private let request: ParityRequest
  private let problems: [Diagnostic]
  private let count = FinitenessCount()

  /// A check of `model` beside `trace`.
  ///
  /// - Parameter problems: what was noticed before.
  package init(
    _ model: HubModel, _ trace: any TraceSource, _ request: ParityRequest,
    problems: [Diagnostic] = []
  ) {
    var model = model
    model.observers.append(count)
    self.model = model
    self.trace = trace
    self.request = request
    self.problems = problems
  }

  /// Runs the model over the trace's tokens.
  ///
  /// - Throws: `Problems`, `Diagnostic` for what cannot be read or run.
  package func result() throws -> ParityResult {
    let options = ModelOptions(selfExtend: request.selfExtend)
    let comparison = TraceComparison(
      model: model, trace: trace, tolerance: request.tolerance, options: options)
    var report =
      request.precision == .float64
      ? try comparison.run(Double.self) : try comparison.run(Float.self)
    var problems = self.problems
    if let found = try Findings.notFinite(
      report, [("A", model), ("the trace", nil)], request.precision)
    {
      report.firstDivergence = found.divergence
      problems.append(found.problem)
    } else if var divergence = report.firstDivergence {
      let number = report.stages.firstIndex { $0.name == divergence.stage } ?? 0
      divergence.suspects = suspects(
        divergence.stage, after: number > 0 ? report.stages[number - 1].name : nil, model)
      report.firstDivergence = divergence
    }
    problems += Findings.notFiniteWeights([("A", model)], [try count.tensors(of: model)], report)
    problems += Findings.beyondFloat32(report, model)
    var generation: (a: [Int], b: [Int])?
    if request.generate > 0, report.stages.allSatisfy(\.isFinite) {
      guard let greedy = trace.greedy, greedy.count > request.generate else {
        throw Diagnostic(
          code: "trace.greedy", subject: trace.name,
          message: "holds no greedy continuation of \(request.generate) tokens")
      }
      let prompt = Array(greedy.dropLast(request.generate))
      let (own, problem) = try Findings.continuation(model, prompt, request, options)
      if let problem { problems.append(problem) }
      generation = (own, Array(greedy.suffix(request.generate)))
    }
    return ParityResult(
      report: report, precision: request.precision,
      tokens: (trace.tokens.count, trace.tokens[0].count), equalPieces: 0, differing: [],
      pieces: [], spec: model.spec, attributes: [], generation: generation, problems: problems)
  }

  /// Every tensor between the stage before and this one.
  private func suspects(
    _ stage: String, after previous: String?, _ member: HubModel
  ) -> [String] {
    let spec = member.spec
    let here = Set(spec.sublayers(before: stage, after: previous))
    let ids: [PieceID]
    if here.isEmpty {
      let roles: [String]
      switch stage {
      case "hidden_states.0": roles = ["embed.weight"]
      case "final_norm": roles = ["final_norm.weight", "final_norm.bias"]
      default: roles = spec["tied"] == true ? ["embed.weight"] : ["head.weight"]
      }
      ids = roles.map { PieceID(nil, $0) }
    } else {
      ids = member.pieces.keys.filter { $0.sublayer.map { here.contains($0) } ?? false }
    }
    var names: [String] = []
    for id in ids.sorted() {
      for name in member.tensors(of: id) where !names.contains(name) { names.append(name) }
    }
    return names
  }
}
