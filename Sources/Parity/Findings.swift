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
  /// Continues every prompt by both sides and compares.
  ///
  /// - Parameter bound: how far two logits may be apart by rounding alone.
  /// - Parameter isCast: whether B's weights are A's in a narrower type.
  static func generation(
    _ a: HubModel, _ b: HubModel, _ prompts: [[Int]], _ request: ParityRequest,
    _ options: ModelOptions, bound: Double, isCast: Bool
  ) throws -> (ParityGeneration?, [Diagnostic]) {
    request.precision == .float64
      ? try generation(Double.self, a, b, prompts, request, options, bound, isCast)
      : try generation(Float.self, a, b, prompts, request, options, bound, isCast)
  }

  private static func generation<S: Real>(
    _: S.Type, _ a: HubModel, _ b: HubModel, _ prompts: [[Int]], _ request: ParityRequest,
    _ options: ModelOptions, _ bound: Double, _ isCast: Bool
  ) throws -> (ParityGeneration?, [Diagnostic]) {
    let models = try [a, b].map {
      try Model<S>(spec: $0.spec, weights: $0, options: options)
    }
    var first: ParityGeneration?
    for (number, prompt) in prompts.enumerated() {
      var both: [[Int]] = []
      for (model, side) in zip(models, [a, b]) {
        let (tokens, problem) = try continuation(model, side, prompt, request)
        if let problem { return (ParityGeneration(a: [], b: []), [problem]) }
        both.append(tokens)
      }
      var found = ParityGeneration(a: both[0], b: both[1], sequences: prompts.count)
      found.difference = try difference(models[0], prompt, both[0], both[1], number)
      if let difference = found.difference {
        let isTie = request.sampling.temperature == 0 && difference.margin <= bound
        found.difference?.isExplained = isCast || isTie
        return (found, [told(found, request, "B")])
      }
      first = first ?? found
    }
    return (first, [])
  }

  /// The continuation that a trace holds, and the model's own; both greedy.
  static func generation(
    _ model: HubModel, beside trace: any TraceSource, _ request: ParityRequest,
    _ options: ModelOptions, bound: Double
  ) throws -> (ParityGeneration?, [Diagnostic]) {
    guard let greedy = trace.greedy, greedy.count > request.generate else {
      throw Diagnostic(
        code: "trace.greedy", subject: trace.name,
        message: "holds no greedy continuation of \(request.generate) tokens")
    }
    var own = request
    own.sampling = .greedy
    let prompt = Array(greedy.dropLast(request.generate))
    func run<S: Real>(_: S.Type) throws -> (ParityGeneration?, [Diagnostic]) {
      let engine = try Model<S>(spec: model.spec, weights: model, options: options)
      let (tokens, problem) = try continuation(engine, model, prompt, own)
      if let problem { return (ParityGeneration(a: [], b: []), [problem]) }
      var found = ParityGeneration(a: tokens, b: Array(greedy.suffix(request.generate)))
      found.difference = try difference(engine, prompt, found.a, found.b, 0)
      guard let difference = found.difference else { return (found, []) }
      found.difference?.isExplained = difference.margin <= bound
      return (found, [Self.told(found, own, "the trace")])
    }
    let (found, told) = try request.precision == .float64 ? run(Double.self) : run(Float.self)
    var problems = told
    if request.sampling != .greedy {
      problems.append(
        Diagnostic(
          .note, code: "parity.greedy", subject: trace.name,
          message: "holds a greedy continuation: the model's greedy one is compared, not its draws")
      )
    }
    return (found, problems)
  }

  /// Where two continuations part, and by how much `model` prefers its own token.
  private static func difference<S: Real>(
    _ model: Model<S>, _ prompt: [Int], _ a: [Int], _ b: [Int], _ sequence: Int
  ) throws -> ParityGeneration.Difference? {
    guard a != b else { return nil }
    let index = zip(a, b).prefix { $0 == $1 }.count
    var margin = 0.0
    if index < a.count, index < b.count {
      let logits = try model.logits(tokens: [prompt + a[..<index]])
      let last = logits.count - model.vocabularyRows
      margin = Double(logits[last + a[index]]) - Double(logits[last + b[index]])
    }
    return ParityGeneration.Difference(
      sequence: sequence, index: index, margin: margin, isExplained: false)
  }

  private static func told(
    _ found: ParityGeneration, _ request: ParityRequest, _ other: String
  ) -> Diagnostic {
    let difference = found.difference
    let isGreedy = request.sampling.temperature == 0
    return Diagnostic(
      difference?.isExplained == true ? .note : .warning, code: "parity.generation",
      subject: "sequence \(difference?.sequence ?? 0)",
      message:
        "A and \(other) continue it differently from token \((difference?.index ?? 0) + 1) of \(found.a.count) on",
      notes: [
        isGreedy
          ? "there A prefers its own token by \(difference?.margin ?? 0) in logits"
          : "both drew with seed \(request.sampling.seed)"
      ])
  }

  /// A continuation, and the problem where logits are not finite: then there is none.
  private static func continuation<S: Real>(
    _ model: Model<S>, _ side: HubModel, _ prompt: [Int], _ request: ParityRequest
  ) throws -> ([Int], Diagnostic?) {
    do {
      return (
        try FiniteGeneration(model, side).continuation(
          of: prompt, count: request.generate, sampling: request.sampling), nil
      )
    } catch let problems as Problems {
      guard let problem = problems.diagnostics.first, problem.code == NotFiniteLogits.code else {
        throw problems
      }
      return ([], problem)
    }
  }
}
