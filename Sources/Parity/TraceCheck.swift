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
      let previous = number > 0 ? report.stages[number - 1].name : nil
      let place = try TracePlace(comparison, divergence.stage, after: previous)
      if let found = try place?.divergence() {
        divergence = found
      } else {
        divergence.suspects = suspects(divergence.stage, after: previous, model)
      }
      report.firstDivergence = divergence
    }
    problems += notExercised()
    if let stage = report.float32Inside {
      problems.append(
        Diagnostic(
          .note, code: "parity.float32-inside", subject: stage,
          message:
            "is bounded by float32's noise: the framework computes parts of it in float32 whatever the model's type"
        ))
    }
    problems += Findings.notFiniteWeights([("A", model)], [try count.tensors(of: model)], report)
    problems += Findings.beyondFloat32(report, model)
    var generation: ParityGeneration?
    if request.generate > 0, report.stages.allSatisfy(\.isFinite) {
      let (found, told) = try Findings.generation(
        model, beside: trace, request, options, bound: 2 * (report.stages.last?.bound ?? 0))
      generation = found
      problems += told
    }
    if request.isThorough {
      var own = Lockstep(
        reference: model, other: model, tokens: trace.tokens, tolerance: request.tolerance,
        options: options, commonRows: model.spec["vocab_rows"].int ?? 0)
      own.isReferenceOther = true
      problems += try Thorough(own).problems(model.name)
    }
    return ParityResult(
      report: report, precision: request.precision,
      tokens: (trace.tokens.count, trace.tokens[0].count), equalPieces: 0, differing: [],
      pieces: [], spec: model.spec, attributes: [], generation: generation, problems: problems)
  }

  /// What the trace's tokens do not reach: a fault there does not show beside it.
  private func notExercised() -> [Diagnostic] {
    let length = trace.tokens[0].count
    var notes: [String] = []
    let windows = Set(model.spec.sublayers.compactMap { $0["window"].int }.filter { $0 >= length })
    if !windows.isEmpty {
      notes.append(
        "windows of \(windows.sorted().map(String.init).joined(separator: ", ")) tokens, in sequences of \(length)"
      )
    }
    let rows = model.spec["vocab_size"].int ?? model.spec["vocab_rows"].int ?? 0
    let used = Set(trace.tokens.joined()).count
    if used < rows { notes.append("\(rows - used) of \(rows) rows of the embedding") }
    guard !notes.isEmpty else { return [] }
    return [
      Diagnostic(
        .note, code: "parity.not-exercised", subject: trace.name,
        message: "its tokens do not reach everything: a fault there does not show", notes: notes)
    ]
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
