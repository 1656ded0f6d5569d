import Hub
import Inference
import Tensors

/// What is said alike of pairs and of traces.
enum Findings {
  /// What is said of tensors with NaN or infinity, beside what was found in the stages: also where no
  /// token reaches them.
  static func notFiniteWeights(
    _ sides: [(name: String, member: HubModel)], _ found: [[NotFiniteTensor]],
    _ report: ParityReport
  ) -> [Diagnostic] {
    var notes: [String] = []
    var first: String?
    let told = report.firstDivergence.flatMap { $0.isNotFinite ? $0.suspects : nil } ?? []
    for (side, tensors) in zip(sides, found) {
      let own = tensors.filter { !told.contains($0.name) }
      first = first ?? own.first?.name
      notes += own.prefix(6).map { "\(side.name)'s tensor \($0.words)" }
      if own.count > 6 { notes.append("and \(own.count - 6) tensors more of \(side.name)") }
    }
    guard let first else { return [] }
    let isReached = report.stages.contains { !$0.isFinite }
    return [
      Diagnostic(
        .warning, code: "parity.not-finite-weights", subject: first,
        message: isReached
          ? "it is not the only tensor that holds NaN or infinity"
          : "holds NaN or infinity, which these tokens do not reach",
        notes: notes, help: "no model computes with them; inspect --stats counts them")
    ]
  }

  /// The first stage at which a side is not finite, and the tensors that hold NaN or infinity there.
  ///
  /// - Parameter sides: what the sides are called; the trace is no member.
  static func notFinite(
    _ report: ParityReport, _ sides: [(name: String, member: HubModel?)],
    _ precision: Precision
  ) throws -> (divergence: ParityReport.Divergence, problem: Diagnostic)? {
    guard let stage = report.stages.first(where: { !$0.isFinite }),
      let spec = sides[0].member?.spec
    else { return nil }
    let here = spec.sublayers(before: stage.name)
    let sublayer = here.isEmpty ? nil : report.firstNotFiniteSublayer ?? here.first
    let counts = [stage.notFiniteA, stage.notFiniteB]
    var found: [String] = []
    var suspects: [String] = []
    var notes: [String] = []
    for (side, count) in zip(sides, counts) where count > 0 {
      found.append("\(count) values of \(side.name)")
      guard let member = side.member else { continue }
      let culprit = try NotFiniteTensor(in: member, at: stage.name, sublayer)
      if let culprit {
        if !suspects.contains(culprit.name) { suspects.append(culprit.name) }
        notes.append(
          "\(side.name)'s tensor \(culprit.name) holds \(culprit.count) values that are NaN or infinite"
        )
      } else {
        let place = sublayer.map {
          " in sub-layer \($0) (\(spec.sublayers[$0].kind) of layer \(spec.sublayers[$0].layer))"
        }
        notes.append(
          "no tensor of \(side.name) holds NaN or infinity there: they arise\(place ?? "") as \(precision.rawValue) computes"
        )
      }
    }
    let which =
      counts.allSatisfy { $0 > 0 }
      ? sides.map(\.name).joined(separator: " and ") : sides[counts[0] > 0 ? 0 : 1].name
    var divergence = ParityReport.Divergence(
      stage: stage.name, sublayer: sublayer,
      kind: sublayer.map { spec.sublayers[$0].kind } ?? "model",
      suspects: suspects)
    divergence.isNotFinite = true
    return (
      divergence,
      Diagnostic(
        code: "parity.not-finite", subject: stage.name,
        message:
          "\(which) \(which.contains(" and ") ? "are" : "is") not finite from this stage on: \(found.joined(separator: " and ")) are NaN or infinite",
        notes: notes, help: "from there on no function was compared")
    )
  }

  /// What is said of a model whose activations leave float32.
  static func beyondFloat32(
    _ report: ParityReport, _ member: HubModel
  ) -> [Diagnostic] {
    guard let stage = report.beyondFloat32 else { return [] }
    return [
      Diagnostic(
        .warning, code: "parity.beyond-float32", subject: member.name,
        message: "its activations leave float32 at \(stage), though float64 holds them",
        notes: ["the noise is that of a pass in float64 that is rounded to float32's digits"],
        help: "in float32 this model computes NaN or infinity")
    ]
  }
  /// A continuation, and the problem where logits are not finite: then there is none.
  static func continuation(
    _ side: HubModel, _ prompt: [Int], _ request: ParityRequest, _ options: ModelOptions
  ) throws -> ([Int], Diagnostic?) {
    func run<S: Real>(_: S.Type) throws -> [Int] {
      let model = try Model<S>(spec: side.spec, weights: side, options: options)
      return try FiniteGeneration(model, side).continuation(
        of: prompt, count: request.generate, sampling: request.sampling)
    }
    do {
      return (request.precision == .float64 ? try run(Double.self) : try run(Float.self), nil)
    } catch let problems as Problems {
      guard let problem = problems.diagnostics.first, problem.code == NotFiniteLogits.code else {
        throw problems
      }
      return ([], problem)
    }
  }
}
