import Conversion
public import Hub
public import Inference
import Layouts
import OrderedCollections
public import Parity
public import Tensors

/// The precision of a run.
public enum Precision: String, Sendable, CaseIterable {
  /// The arbiter.
  case float64
  /// What people run.
  case float32
}

/// What a parity check should do.
public struct ParityRequest: Sendable {
  /// The precision of the side under test.
  public var precision = Precision.float64
  /// Bounds instead of the measured ones.
  public var tolerance = Tolerance()
  /// Tokens to generate and compare; 0 for none.
  public var generate = 0
  /// How they are chosen.
  public var sampling = Sampling.greedy
  /// Self-Extend, for full attention.
  public var selfExtend: SelfExtend?
  /// Whether rows of the vocabulary that only one side has may hold something: a cut that was asked for.
  var allowsLostRows = false
  /// Whether `A_log`, `D` and dt biases were cast on purpose.
  var castsAll = false

  /// A check with the defaults.
  public init() {}
}

/// What a parity check found, with the weights and the continuations.
public struct ParityResult: Sendable {
  /// The stages.
  public var report: ParityReport
  /// The precision.
  public var precision: Precision
  /// Sequences and their length.
  public var tokens: (batch: Int, length: Int)
  /// Pieces that are bitwise equal, or without effect.
  public var equalPieces: Int
  /// The others.
  public var differing: [CheckpointDiff.Piece]
  /// Every piece of either side and how it compares; empty beside a trace.
  public var pieces: [CheckpointDiff.Piece]
  /// The reference as the hub sees it, which the pieces' sub-layers refer to.
  public var spec: ModelSpec
  /// The attributes that differ.
  public var attributes: [CheckpointDiff.Attribute]
  /// The continuations, when they were asked for: A's and B's.
  public var generation: (a: [Int], b: [Int])?
  /// What it was computed with.
  public var engine = EngineDescription.current
  /// Everything noticed.
  public var problems: [Diagnostic]

  /// Whether the two compute the same: every stage is finite and within its bound, continuations are
  /// equal, and nothing was left uncompared.
  public var passes: Bool {
    report.passes && (generation.map { $0.a == $0.b } ?? true)
      && !problems.contains { $0.severity == .error }
  }
}

extension Weighbridge {
  /// Runs a checkpoint beside a framework's own trace of it.
  ///
  /// - Throws: `Problems`, `Diagnostic` for what cannot be read or run.
  public func parity(
    _ a: CheckpointInput, trace path: String, _ request: ParityRequest
  ) throws -> ParityResult {
    let loaded = try load(a)
    let member = try AlignedPair.Member(loaded)
    let trace = try TraceFile(path: path)
    let meter = Meter(total: 2 * member.model.byteCount, progress)
    let side = Side(
      spec: member.model.spec,
      weights: MeteredWeights(member.model, meter))
    let options = ModelOptions(selfExtend: request.selfExtend)
    let comparison = TraceComparison(
      side: side, trace: trace, tolerance: request.tolerance, options: options)
    var report =
      request.precision == .float64
      ? try comparison.run(Double.self) : try comparison.run(Float.self)
    var problems = loaded.problems.filter { $0.severity != .error }
    if let found = try notFinite(report, [("A", member), ("the trace", nil)], request.precision) {
      report.firstDivergence = found.divergence
      problems.append(found.problem)
    } else if var divergence = report.firstDivergence {
      let number = report.stages.firstIndex { $0.name == divergence.stage } ?? 0
      divergence.suspects = suspects(
        divergence.stage, after: number > 0 ? report.stages[number - 1].name : nil, member)
      report.firstDivergence = divergence
    }
    problems += notFiniteWeights([("A", member)], [try member.tensorsNotFinite()], report)
    problems += beyondFloat32(report, member)
    var generation: (a: [Int], b: [Int])?
    if request.generate > 0, report.stages.allSatisfy(\.isFinite) {
      guard let greedy = trace.greedy, greedy.count > request.generate else {
        throw Diagnostic(
          code: "trace.greedy", subject: path,
          message: "holds no greedy continuation of \(request.generate) tokens")
      }
      let prompt = Array(greedy.dropLast(request.generate))
      let (own, problem) = try continuation(side, prompt, request, options, member)
      if let problem { problems.append(problem) }
      generation = (own, Array(greedy.suffix(request.generate)))
    }
    return ParityResult(
      report: report, precision: request.precision,
      tokens: (trace.tokens.count, trace.tokens[0].count), equalPieces: 0, differing: [],
      pieces: [], spec: side.spec, attributes: [], generation: generation, problems: problems)
  }

  /// Runs two checkpoints of any layouts side by side, a sub-layer at a time.
  ///
  /// - Throws: `Problems`, `Diagnostic` for what cannot be read, run or compared.
  public func parity(
    _ a: CheckpointInput, _ b: CheckpointInput, tokens: TokenInput, _ request: ParityRequest
  ) throws -> ParityResult {
    try parity(load(a), loadSecond(b), tokens: tokens, request)
  }

  func parity(
    _ loadedA: LoadedCheckpoint, _ loadedB: LoadedCheckpoint, tokens input: TokenInput,
    _ request: ParityRequest
  ) throws -> ParityResult {
    var pair = try AlignedPair(loadedA, loadedB, vocabulary)
    let beyond = try pair.cutToCommonRows()
    let rows = pair.a.model.spec["vocab_rows"].int ?? 0
    // The weights are compared once; the reference runs in two precisions, the other in one.
    let meter = Meter(
      total: 3 * pair.a.model.byteCount + pair.b.model.byteCount, progress)
    var weights = try WeightComparison(pair, vocabulary, meter, castsAll: request.castsAll)
    let tokens = try input.tokens(for: pair.a.model.spec)
    let attributes = pair.attributes()
    let options = ModelOptions(selfExtend: request.selfExtend)
    let sideA = Side(
      spec: pair.a.model.spec,
      weights: MeteredWeights(pair.a.model, meter))
    let sideB = Side(
      spec: pair.b.model.spec,
      weights: MeteredWeights(pair.b.model, meter))
    // The reference has B's form wherever that is explained: a deliberate cast, a rotary table in
    // bfloat16, a table in the file. What casts cost is told apart.
    var reference = Side(
      spec: roundingLike(pair, attributes),
      weights: OverlayWeights(
        sideA.weights, with: sideB.weights, exchanged: weights.deliberate.union(weights.tables)))
    var tolerance = request.tolerance
    tolerance.isTight = true
    let common = beyond == nil ? nil : rows
    // Values that a conversion computes and rounds: that they are computed rightly is seen before the
    // rounding; behind it, the reference has them rounded too.
    let forward = try PlannedValues(
      from: pair.a, to: pair.b, unexplained: weights.differing, rows: common, vocabulary)
    // A may be what came of converting B.
    let backward =
      forward?.differing.isEmpty == true
      ? nil
      : try PlannedValues(
        from: pair.b, to: pair.a, unexplained: weights.differing, rows: common, vocabulary)
    if let planned = backward,
      planned.differing.count < (forward?.differing ?? weights.differing).count
    {
      // B rewritten, before the rounding, stands for A; what is not explained is A's own.
      let own = Set(pair.a.model.pieces.keys).subtracting(planned.rounded)
      reference = Side(
        spec: planned.side.spec,
        weights: OverlayWeights(
          OverlayWeights(planned.side.weights, with: sideA.weights, exchanged: own),
          with: sideB.weights, exchanged: weights.deliberate.union(weights.tables)))
      // Their place is the plan's; digits that A lost are A's own.
      weights.differing = planned.differing.union(
        planned.moved.filter { pair.a.model.pieces[$0]?.dtype != pair.b.model.pieces[$0]?.dtype })
      pair.problems += [planned.note(pair.a, of: "B")].compactMap { $0 }
    } else if let planned = forward {
      func withTables(_ side: Side) -> Side {
        Side(
          spec: side.spec,
          weights: OverlayWeights(side.weights, with: sideB.weights, exchanged: weights.tables))
      }
      let exact = Lockstep(
        reference: withTables(Side(spec: reference.spec, weights: sideA.weights)),
        other: withTables(planned.side), tokens: tokens, tolerance: tolerance, options: options,
        commonRows: rows)
      let report = try exact.run(Double.self)
      if report.passes {
        weights.deliberate.formUnion(planned.rounded.union(planned.moved))
        weights.differing = planned.differing
        reference = Side(
          spec: planned.side.spec,
          weights: OverlayWeights(
            planned.side.weights, with: sideB.weights,
            exchanged: weights.deliberate.union(weights.tables)))
        pair.problems += [planned.note(pair.b, of: "A")].compactMap { $0 }
      }
    }
    tolerance.isTight = request.precision == .float64
    var lockstep = Lockstep(
      reference: reference, other: sideB, tokens: tokens, tolerance: tolerance, options: options,
      commonRows: rows)
    if reference.spec != sideA.spec || !weights.deliberate.isEmpty {
      lockstep.original = sideA
      lockstep.isReferenceOther =
        reference.spec == sideB.spec
        && weights.pieces.allSatisfy { weights.deliberate.contains($0.id) }
    }
    var precision = request.precision
    var report =
      precision == .float64 ? try lockstep.run(Double.self) : try lockstep.run(Float.self)
    // What float32's noise hides is not hidden in float64: pieces that nothing explains are judged there.
    let isMeasured = request.tolerance.atol == nil && request.tolerance.rtol == nil
    if precision == .float32, isMeasured, !weights.differing.isEmpty, report.passes {
      var closer = lockstep
      closer.tolerance.isTight = true
      let found = try closer.run(Double.self)
      if !found.passes {
        (report, lockstep, precision) = (found, closer, .float64)
        pair.problems.append(
          Diagnostic(
            .note, code: "parity.float64", subject: pair.b.path,
            message: "float32 does not tell the two apart; float64 does, and is what is shown"))
      }
    }
    if weights.differing.contains(PieceID(nil, "embed.weight")), report.stages[0].ok,
      let (stage, row) = try unusedRows(lockstep, pair, rows, precision)
    {
      report.stages[0] = stage
      pair.problems.append(
        Diagnostic(
          .note, code: "parity.unused-rows", subject: pair.b.path,
          message: "the embedding of token \(row) differs, which these tokens do not use",
          notes: ["\(stage.name) tells the difference of the whole embedding"]))
    }
    if weights.differing.contains(PieceID(nil, "embed.weight")), report.stages[0].ok {
      pair.problems += try paddingRows(lockstep, pair, rows)
    }
    if let stage = report.stages.first(where: { !$0.ok }), stage.isFinite {
      report.firstDivergence = try divergence(stage.name, lockstep, pair, weights, attributes)
    }
    if let found = try notFinite(report, [("A", pair.a), ("B", pair.b)], precision) {
      report.firstDivergence = report.firstDivergence ?? found.divergence
      pair.problems.append(found.problem)
    }
    pair.problems += notFiniteWeights(
      [("A", pair.a), ("B", pair.b)],
      [
        weights.notFinite.filter { $0.a > 0 }.map { pair.a.notFinite($0.id, $0.a) },
        weights.notFinite.filter { $0.b > 0 }.map { pair.b.notFinite($0.id, $0.b) },
      ], report)
    if !report.passes { pair.problems += try explained(pair, weights) }
    pair.problems += beyondFloat32(report, pair.a)
    if let beyond { pair.problems.append(told(beyond, pair, request)) }
    var generation: (a: [Int], b: [Int])?
    if request.generate > 0, report.stages.allSatisfy(\.isFinite) {
      let (own, problemA) = try continuation(sideA, tokens[0], request, options, pair.a)
      let (theirs, problemB) = try continuation(sideB, tokens[0], request, options, pair.b)
      generation = (own, theirs)
      pair.problems += [problemA, problemB].compactMap { $0 }
    }
    if !weights.differing.isEmpty, report.stages.allSatisfy(\.isFinite) {
      let names = weights.differing.sorted().flatMap { pair.b.tensors(of: $0) }
      let note = "in \(names.prefix(6).joined(separator: ", "))\(names.count > 6 ? " …" : "")"
      let count = weights.differing.count
      let hasOtherValues = weights.pieces.contains {
        guard weights.differing.contains($0.id) else { return false }
        if case .differs = $0.status { return true }
        return false
      }
      let way = hasOtherValues ? "hold other values" : "are differently stored"
      let told =
        count == 1
        ? "1 piece \(hasOtherValues ? "holds other values" : "is differently stored"), and computes"
        : "\(count) pieces \(way), and compute"
      if report.passes, !pair.problems.contains(where: { $0.severity == .error }) {
        pair.problems.append(
          Diagnostic(
            isMeasured ? .note : .warning, code: "parity.weights-differ", subject: pair.b.path,
            message: isMeasured
              ? "\(told) the same on these tokens to float64's last digits"
              : "\(count) pieces differ, though no stage is beyond the bounds that were given",
            notes: [note],
            help: isMeasured ? nil : "without --atol and --rtol the bounds are measured"))
      } else if !report.passes, isMeasured, precision == .float64,
        report.stages.allSatisfy({ $0.maxAbs <= tolerance.looseBound($0) })
      {
        pair.problems.append(
          Diagnostic(
            .note, code: "parity.near", subject: pair.b.path,
            message:
              "the two differ by no more than float32's noise; but \(count) pieces are neither equal, nor a cast, nor what a conversion gives",
            notes: [note],
            help: "--rtol 1e-5 accepts differences of this size, whatever made them"))
      }
    }
    pair.problems += ConfigDifference.notes(
      pair.a.bound, pair.b.bound, attributes.filter { !$0.isRounding }.map { ($0.kind, $0.name) },
      vocabulary)
    return ParityResult(
      report: report, precision: precision, tokens: (tokens.count, tokens[0].count),
      equalPieces: weights.equal, differing: weights.pieces, pieces: weights.all,
      spec: pair.a.model.spec, attributes: attributes, generation: generation,
      problems: pair.problems)
  }

  /// What is said of rows of the vocabulary that only one side has: they are without effect, or they were
  /// not compared, which is no pass.
  private func told(
    _ beyond: AlignedPair.RowsBeyond, _ pair: AlignedPair, _ request: ParityRequest
  ) -> Diagnostic {
    let (wide, name, other) =
      beyond.isA ? (pair.a.path, "A", "B") : (pair.b.path, "B", "A")
    let rows =
      "rows \(beyond.rows.lowerBound) to \(beyond.rows.upperBound - 1) of \(name)'s vocabulary"
    guard let first = beyond.first else {
      return Diagnostic(
        .note, code: "parity.padding-rows", subject: wide,
        message: "\(rows), which \(other) does not have, are zeros, and were not compared")
    }
    return Diagnostic(
      request.allowsLostRows ? .warning : .error, code: "parity.rows-not-compared", subject: wide,
      message:
        "\(rows), which \(other) does not have, were not compared: \(beyond.used) of \(beyond.rows.count) are not zero",
      notes: ["the first is row \(first.row) of \(first.tensor)"],
      help: "only models with one vocabulary, padding aside, compute the same")
  }

  /// What is said of tensors with NaN or infinity, beside what was found in the stages: also where no
  /// token reaches them.
  private func notFiniteWeights(
    _ sides: [(name: String, member: AlignedPair.Member)], _ found: [[NotFiniteTensor]],
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

  /// Why weights differ that a cast would explain, had it been one that is expected.
  private func explained(
    _ pair: AlignedPair, _ weights: WeightComparison
  ) throws -> [Diagnostic] {
    func listed(_ names: [String]) -> String {
      "\(names.prefix(6).joined(separator: ", "))\(names.count > 6 ? " and \(names.count - 6) more" : "")"
    }
    func types(_ list: [(id: PieceID, type: DType)]) -> String {
      Set(list.map(\.type.rawValue)).sorted().joined(separator: " and ")
    }
    var problems: [Diagnostic] = []
    let down = weights.castDown.filter { weights.differing.contains($0.id) }
    if !down.isEmpty {
      problems.append(
        Diagnostic(
          code: "parity.cast-down", subject: pair.b.path,
          message:
            "\(down.count) pieces that should stay float32 (A_log, D, dt biases) are A's rounded to \(types(down)), which is judged as a fault",
          notes: ["in \(listed(down.flatMap { pair.b.tensors(of: $0.id) }))"],
          help: "convert without --cast-all"))
    }
    let reversed = try pair.reversedCasts(weights.differing)
    if !reversed.isEmpty {
      problems.append(
        Diagnostic(
          code: "parity.reversed", subject: pair.a.path,
          message:
            "A is B rounded to \(types(reversed)) in \(reversed.count) pieces: B holds digits that A has lost",
          notes: ["in \(listed(reversed.flatMap { pair.a.tensors(of: $0.id) }))"],
          help: "give the original first: parity B A judges A as a cast of B"))
    }
    return problems
  }

  /// Rows of the embedding behind the words, which no token has, where they differ: they are compared
  /// as weights.
  private func paddingRows(
    _ lockstep: Lockstep, _ pair: AlignedPair, _ rows: Int
  ) throws -> [Diagnostic] {
    let id = PieceID(nil, "embed.weight")
    let words = [pair.a, pair.b].compactMap { $0.model.spec["vocab_size"].int }.filter { $0 > 0 }
    let (x, y) = (lockstep.reference.weights, lockstep.other.weights)
    guard let first = words.min(), first < rows, let left = x.info(id), let right = y.info(id),
      left.shape.rowElements == right.shape.rowElements
    else { return [] }
    // The reference may hold values that a conversion computes, unrounded.
    let unit =
      left.dtype.bitWidth > right.dtype.bitWidth ? PlannedValues.roundoff(right.dtype) ?? 0 : 0
    let width = left.shape.rowElements
    let step = max(1, 262_144 / max(width, 1))
    var differing: [Int] = []
    var row = first
    while row < min(rows, left.shape.rows, right.shape.rows) {
      let block = row..<min(row + step, rows, left.shape.rows, right.shape.rows)
      let p = try x.doubles(id, rows: block)
      let q = try y.doubles(id, rows: block)
      for r in block {
        let own = (r - row) * width..<(r - row + 1) * width
        if own.contains(where: {
          p[$0] != q[$0] && !(p[$0].isNaN && q[$0].isNaN)
            && !(abs(p[$0] - q[$0]) <= unit * abs(p[$0]))
        }) {
          differing.append(r)
        }
      }
      row = block.upperBound
    }
    guard let found = differing.first else { return [] }
    let count = differing.count
    return [
      Diagnostic(
        code: "parity.padding-rows-differ", subject: pair.b.holders(of: id).first ?? id.description,
        message:
          "row \(found)\(count > 1 ? " and \(count - 1) more" : "") behind the \(first) words of the vocabulary differ\(count > 1 ? "" : "s"), which no token uses",
        help: "what computes the same with these tokens is not the same checkpoint")
    ]
  }

  /// The embedding of the whole vocabulary, where it is out of bounds though that of the tokens is
  /// not, and a token that shows it.
  private func unusedRows(
    _ lockstep: Lockstep, _ pair: AlignedPair, _ rows: Int, _ precision: Precision
  ) throws -> (ParityReport.Stage, token: Int)? {
    let words = [pair.a, pair.b].compactMap { $0.model.spec["vocab_size"].int }.filter { $0 > 0 }
    let count = min(rows, words.min() ?? rows)
    for start in stride(from: 0, to: count, by: 1024) {
      let ids = Array(start..<min(start + 1024, count))
      func embedded(_ ids: [Int]) throws -> ParityReport.Stage {
        precision == .float64
          ? try lockstep.embedded(ids, Double.self) : try lockstep.embedded(ids, Float.self)
      }
      let stage = try embedded(ids)
      guard !stage.ok else { continue }
      return (stage, try ids.first { try !embedded([$0]).ok } ?? start)
    }
    return nil
  }

  /// A's spec with B's attributes where they only change rounding.
  private func roundingLike(
    _ pair: AlignedPair, _ attributes: [CheckpointDiff.Attribute]
  ) -> ModelSpec {
    var spec = pair.a.model.spec
    let names = Set(attributes.filter(\.isRounding).map(\.name))
    for i in spec.sublayers.indices {
      for name in names where spec.sublayers[i].attributes[name] != nil {
        spec.sublayers[i].attributes[name] = pair.b.model.spec.sublayers[i][name]
      }
    }
    return spec
  }

  /// Where the two part, and the tensors that explain it, shown by exchange.
  private func divergence(
    _ stage: String, _ lockstep: Lockstep, _ pair: AlignedPair, _ weights: WeightComparison,
    _ attributes: [CheckpointDiff.Attribute]
  ) throws -> ParityReport.Divergence {
    let here = lockstep.reference.spec.sublayers(before: stage)
    guard !here.isEmpty else {
      let roles: Set<String>
      switch stage {
      case "hidden_states.0": roles = ["embed.weight", "embed_norm.weight", "embed_norm.bias"]
      case "final_norm": roles = ["final_norm.weight", "final_norm.bias"]
      default: roles = ["head.weight", "head.bias", "embed.weight"]
      }
      let own = weights.differing.filter { $0.sublayer == nil && roles.contains($0.role) }
      return ParityReport.Divergence(
        stage: stage, sublayer: nil, kind: "model",
        suspects: own.sorted().flatMap { pair.b.holders(of: $0) },
        attributes: attributes.filter { $0.place == "model" && !$0.isRounding }.map(\.name),
        isProven: !own.isEmpty)
    }
    let findings = try LocalTest(lockstep).findings(
      among: Set(here), differing: weights.differing)
    guard let first = findings.first else {
      return ParityReport.Divergence(
        stage: stage, sublayer: here.first, kind: lockstep.reference.spec.kind(before: stage),
        suspects: here.flatMap { index in
          weights.differing.filter { $0.sublayer == index }.sorted().flatMap {
            pair.b.tensors(of: $0)
          }
        })
    }
    let sublayer = lockstep.reference.spec.sublayers[first.sublayer]
    let place = "\(sublayer.kind) in layer \(sublayer.layer)"
    var names: [String] = []
    for piece in first.pieces {
      for name in pair.b.tensors(of: piece) where !names.contains(name) { names.append(name) }
    }
    return ParityReport.Divergence(
      stage: stage, sublayer: first.sublayer, kind: sublayer.kind, suspects: names,
      attributes: first.isCured
        ? [] : attributes.filter { $0.place == place && !$0.isRounding }.map(\.name),
      isProven: first.isCured)
  }

  /// Every tensor between the stage before and this one.
  private func suspects(
    _ stage: String, after previous: String?, _ member: AlignedPair.Member
  ) -> [String] {
    let spec = member.model.spec
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
      ids = member.model.pieces.keys.filter { $0.sublayer.map { here.contains($0) } ?? false }
    }
    var names: [String] = []
    for id in ids.sorted() {
      for name in member.tensors(of: id) where !names.contains(name) { names.append(name) }
    }
    return names
  }

  /// A continuation, and the problem where logits are not finite: then there is none.
  private func continuation(
    _ side: Side, _ prompt: [Int], _ request: ParityRequest, _ options: ModelOptions,
    _ member: AlignedPair.Member
  ) throws -> ([Int], Diagnostic?) {
    func run<S: Real>(_: S.Type) throws -> [Int] {
      let model = try Model<S>(spec: side.spec, weights: side.weights, options: options)
      return try FiniteGeneration(model, member).continuation(
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

  /// The first stage at which a side is not finite, and the tensors that hold NaN or infinity there.
  ///
  /// - Parameter sides: what the sides are called; the trace is no member.
  private func notFinite(
    _ report: ParityReport, _ sides: [(name: String, member: AlignedPair.Member?)],
    _ precision: Precision
  ) throws -> (divergence: ParityReport.Divergence, problem: Diagnostic)? {
    guard let stage = report.stages.first(where: { !$0.isFinite }),
      let spec = sides[0].member?.model.spec
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
  private func beyondFloat32(
    _ report: ParityReport, _ member: AlignedPair.Member
  ) -> [Diagnostic] {
    guard let stage = report.beyondFloat32 else { return [] }
    return [
      Diagnostic(
        .warning, code: "parity.beyond-float32", subject: member.path,
        message: "its activations leave float32 at \(stage), though float64 holds them",
        notes: ["the noise is that of a pass in float64 that is rounded to float32's digits"],
        help: "in float32 this model computes NaN or infinity")
    ]
  }
}

/// The pieces of two checkpoints compared before anything is run.
struct WeightComparison {
  /// Pieces that are bitwise equal, or without effect.
  var equal = 0
  /// The others.
  var pieces: [CheckpointDiff.Piece] = []
  /// All of them, in order.
  var all: [CheckpointDiff.Piece] = []
  /// Pieces of B that are A's rounded to a narrower type on purpose.
  var deliberate: Set<PieceID> = []
  /// Tables that one side has in its file where the other computes them.
  var tables: Set<PieceID> = []
  /// Pieces that differ otherwise.
  var differing: Set<PieceID> = []
  /// Of these, pieces that should stay float32 and are A's rounded to a narrower type.
  var castDown: [(id: PieceID, type: DType)] = []
  /// Pieces with NaN or infinity, and how many values of A and of B are.
  var notFinite: [(id: PieceID, a: Int, b: Int)] = []

  /// - Parameter castsAll: whether what should stay float32 was cast on purpose.
  init(
    _ pair: AlignedPair, _ vocabulary: Vocabulary, _ meter: Meter? = nil, castsAll: Bool = false
  ) throws {
    let statuses = try pair.statuses(meter)
    notFinite = try pair.notFinite(statuses).filter { $0.a > 0 || $0.b > 0 }
    for (id, status) in statuses {
      let piece = CheckpointDiff.Piece(
        id: id, tensorsA: pair.a.tensors(of: id), tensorsB: pair.b.tensors(of: id), status: status)
      all.append(piece)
      if status == .equal || status == .neutral {
        equal += 1
        if status == .neutral, id.sublayer == nil, id.role.hasPrefix("rotary.") {
          tables.insert(id)
        }
        continue
      }
      pieces.append(piece)
      let kind =
        id.sublayer.flatMap { vocabulary.kinds[pair.a.model.spec.sublayers[$0].kind] }
        ?? vocabulary.model
      let keeps = !castsAll && kind.piece(id.role)?.keepsFloat32 == true
      switch status {
      // Widening changes no value.
      case .cast(let from, let to) where to.bitWidth > from.bitWidth: continue
      // What should stay float32 is not cast on purpose, but from one half precision to the other it no
      // longer was.
      case .cast(let from, let to) where !keeps || from.bitWidth == to.bitWidth:
        deliberate.insert(id)
        continue
      case .rounded where !keeps:
        deliberate.insert(id)
        continue
      case .cast(_, let to), .rounded(let to): castDown.append((id, to))
      default: break
      }
      differing.insert(id)
    }
  }
}
