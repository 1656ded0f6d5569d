package import Hub
import Inference
package import Tensors

/// Says what a conversion makes of a model.
package protocol RewritePlanner: Sendable {
  /// One of a pair as a conversion to the other's layout expresses it, nothing rounded; `nil` where there
  /// is no such conversion, or it only moves bytes.
  ///
  /// - Parameter rows: rows of the vocabulary that are kept, where it is not all of them.
  /// - Throws: what reading throws.
  func rewritten(_ side: PairSide, rows: Int?) throws -> HubModel?
}

/// One of a pair.
package enum PairSide: Sendable {
  case a
  case b
}

/// Decides whether two models compute the same.
package struct PairCheck {
  private var pair: AlignedPair
  private let beyond: AlignedPair.RowsBeyond?
  private let request: ParityRequest
  private let plans: any RewritePlanner
  private let progress: (@Sendable (_ bytes: Int, _ piece: String) -> Void)?

  /// A check of `pair`.
  ///
  /// - Throws: what reading throws.
  package init(
    _ pair: AlignedPair, _ request: ParityRequest, plans: any RewritePlanner,
    progress: (@Sendable (_ bytes: Int, _ piece: String) -> Void)? = nil
  ) throws(Diagnostic) {
    self.pair = pair
    self.request = request
    self.plans = plans
    self.progress = progress
    beyond = try self.pair.cutToCommonRows()
  }

  /// A as it is compared: with the rows of the vocabulary that both have.
  package var spec: ModelSpec { pair.a.spec }

  /// Runs the two over `tokens`.
  ///
  /// - Throws: `Problems`, `Diagnostic` for what cannot be read or run.
  package func result(tokens: [[Int]]) throws -> ParityResult {
    var pair = pair
    let rows = pair.a.spec["vocab_rows"].int ?? 0
    var weights = try WeightComparison(pair, progress, castsAll: request.castsAll)
    let attributes = pair.attributes()
    let options = ModelOptions(selfExtend: request.selfExtend)
    let (reference, explained) = try reference(&pair, &weights, attributes, tokens, options)
    let unexplained = Unexplained(weights, attributes, reference, pair.b, explained)
    var tolerance = request.tolerance
    tolerance.isTight = request.precision == .float64
    var lockstep = Lockstep(
      reference: reference, other: pair.b, tokens: tokens, tolerance: tolerance, options: options,
      commonRows: rows)
    lockstep.isReferenceOther =
      Unexplained.isSameComputation(reference.spec, pair.b.spec)
      && weights.pieces.allSatisfy { weights.deliberate.contains($0.id) }
    if reference.spec != pair.a.spec || !weights.deliberate.isEmpty { lockstep.original = pair.a }
    var precision = request.precision
    var report =
      precision == .float64 ? try lockstep.run(Double.self) : try lockstep.run(Float.self)
    // What float32's noise hides is not hidden in float64: what nothing explains is judged there, a
    // sub-layer at a time.
    let judgement =
      request.tolerance.isMeasured || !unexplained.attributes.isEmpty
      ? try unexplained.judged(beside: lockstep, isExact: request.tolerance.isMeasured)
      : Unexplained.Judgement()
    if precision == .float32, report.passes, !judgement.findings.isEmpty {
      lockstep.tolerance.isTight = true
      precision = .float64
      report = try lockstep.run(Double.self)
      pair.problems.append(
        Diagnostic(
          .note, code: "parity.float64", subject: pair.b.name,
          message: "float32 does not tell the two apart; float64 does, and is what is shown"))
    }
    for finding in judgement.findings {
      guard let number = report.stages.firstIndex(where: { $0.name == finding.stage }) else {
        continue
      }
      if report.stages[number].ok { report.stages[number].isOffInside = true }
    }
    pair.problems += judgement.notes(pair.b)
    if weights.differing.contains(PieceID(nil, "embed.weight")), report.stages[0].ok,
      let (stage, row) = try unusedRows(lockstep, pair, rows, precision)
    {
      report.stages[0] = stage
      pair.problems.append(
        Diagnostic(
          .note, code: "parity.unused-rows", subject: pair.b.name,
          message: "the embedding of token \(row) differs, which these tokens do not use",
          notes: ["\(stage.name) tells the difference of the whole embedding"]))
    }
    if weights.differing.contains(PieceID(nil, "embed.weight")), report.stages[0].ok {
      pair.problems += try paddingRows(lockstep, pair, rows)
    }
    if let stage = report.stages.first(where: { !$0.ok }), stage.isFinite {
      report.firstDivergence = try divergence(
        stage.name, lockstep, pair, unexplained, judgement.findings)
    } else if let hidden = judgement.hidden.first {
      report.firstDivergence = hidden.divergence(pair.a.spec)
    }
    if let found = try Findings.notFinite(report, [("A", pair.a), ("B", pair.b)], precision) {
      report.firstDivergence = report.firstDivergence ?? found.divergence
      pair.problems.append(found.problem)
    }
    pair.problems += try pair.underflows(weights.all)
    pair.problems += Findings.notFiniteWeights(
      [("A", pair.a), ("B", pair.b)],
      [
        weights.notFinite.filter { $0.a > 0 }.map { NotFiniteTensor(pair.a, $0.id, $0.a) },
        weights.notFinite.filter { $0.b > 0 }.map { NotFiniteTensor(pair.b, $0.id, $0.b) },
      ], report)
    if !report.passes { pair.problems += try causes(pair, weights) }
    pair.problems += Findings.beyondFloat32(report, pair.a)
    if let beyond { pair.problems.append(told(beyond, pair, request)) }
    var generation: ParityGeneration?
    if request.generate > 0, report.stages.allSatisfy(\.isFinite) {
      let (found, problems) = try Findings.generation(
        pair.a, pair.b, tokens, request, options, bound: 2 * (report.stages.last?.bound ?? 0),
        isCast: !weights.deliberate.isEmpty)
      generation = found
      pair.problems += problems
    }
    if request.isThorough {
      pair.problems += try Thorough(lockstep).problems(pair.b.name)
    }
    pair.problems += stored(weights, report, pair, tolerance, precision)
    var result = ParityResult(
      report: report, precision: precision, tokens: (tokens.count, tokens[0].count),
      equalPieces: weights.equal, differing: weights.pieces, pieces: weights.all,
      spec: pair.a.spec, attributes: attributes, generation: generation,
      problems: pair.problems)
    result.isOnePass = lockstep.isReferenceOther
    return result
  }

  /// A in B's form wherever that is explained: a deliberate cast, a rotary table in bfloat16, a table in
  /// the file, values that a conversion computes. What casts cost is told apart.
  ///
  /// - Returns: that, and the attributes in which it still is in A's form, which B's are in another.
  private func reference(
    _ pair: inout AlignedPair, _ weights: inout WeightComparison,
    _ attributes: [CheckpointDiff.Attribute], _ tokens: [[Int]], _ options: ModelOptions
  ) throws -> (HubModel, explained: Set<Unexplained.Place>) {
    let rows = pair.a.spec["vocab_rows"].int ?? 0
    var reference = pair.a.exchanging(weights.deliberate.union(weights.tables), with: pair.b)
    reference.spec = roundingLike(pair, attributes)
    var tolerance = request.tolerance
    tolerance.isTight = true
    let common = beyond == nil ? nil : rows
    let differs = attributes.contains { !$0.isRounding }
    // Values that a conversion computes and rounds: that they are computed rightly is seen before the
    // rounding; behind it, the reference has them rounded too.
    let isNeeded = !weights.differing.isEmpty || differs
    let plan = isNeeded ? try plans.rewritten(.a, rows: common) : nil
    let forward = try PlannedValues(
      plan, from: pair.a, to: pair.b, unexplained: weights.differing, pair.vocabulary)
    // A may be what came of converting B.
    let plannedBack =
      isNeeded && forward?.differing.isEmpty != true ? try plans.rewritten(.b, rows: common) : nil
    let backward = try PlannedValues(
      plannedBack, from: pair.b, to: pair.a, unexplained: weights.differing, pair.vocabulary)
    if let planned = backward,
      planned.differing.count < (forward?.differing ?? weights.differing).count
    {
      // B rewritten, before the rounding, stands for A; what is not explained is A's own.
      let own = Set(pair.a.pieces.keys).subtracting(planned.rounded)
      reference = planned.model.exchanging(own, with: pair.a)
        .exchanging(weights.deliberate.union(weights.tables), with: pair.b)
      // Their place is the plan's; digits that A lost are A's own.
      weights.differing = planned.differing.union(
        planned.moved.filter { pair.a.pieces[$0]?.dtype != pair.b.pieces[$0]?.dtype })
      pair.problems += [planned.note(pair.a, of: "B")].compactMap { $0 }
      return (reference, Unexplained.Place.all(equalIn: planned.model.spec, pair.a.spec))
    } else if let planned = forward {
      var own = pair.a
      own.spec = reference.spec
      let exact = Lockstep(
        reference: own.exchanging(weights.tables, with: pair.b),
        other: planned.model.exchanging(weights.tables, with: pair.b), tokens: tokens,
        tolerance: tolerance, options: options, commonRows: rows)
      if try exact.run(Double.self).passes {
        weights.deliberate.formUnion(planned.rounded.union(planned.moved))
        weights.differing = planned.differing
        reference = planned.model.exchanging(
          weights.deliberate.union(weights.tables), with: pair.b)
        pair.problems += [planned.note(pair.b, of: "A")].compactMap { $0 }
      }
    }
    // Attributes that a conversion gives another value where it leaves the pieces alone.
    var spec = reference.spec
    for (model, other) in [(plan, pair.b.spec), (plannedBack, pair.a.spec)] {
      guard let planned = model?.spec,
        planned.sublayers.map(\.kind) == other.sublayers.map(\.kind)
      else { continue }
      for name in Unexplained.names(spec.attributes, pair.b.spec.attributes)
      where planned.attributes[name] == other.attributes[name] {
        spec.attributes[name] = pair.b.spec.attributes[name]
      }
      for i in spec.sublayers.indices where i < planned.sublayers.count {
        let (own, theirs) = (spec.sublayers[i].attributes, pair.b.spec.sublayers[i].attributes)
        for name in Unexplained.names(own, theirs)
        where !(spec.sublayers[i].kind == "mlp" && name == "d_ff")
          && planned.sublayers[i].attributes[name] == other.sublayers[i].attributes[name]
        {
          spec.sublayers[i].attributes[name] = theirs[name]
        }
      }
    }
    if spec != reference.spec {
      var planned = reference
      planned.spec = spec
      let exact = Lockstep(
        reference: reference, other: planned, tokens: tokens, tolerance: tolerance,
        options: options, commonRows: rows)
      do {
        if try exact.run(Double.self).passes { return (planned, []) }
      } catch is Problems {
        // With these attributes the pieces are no model: the attributes explain nothing.
      }
    }
    return (reference, [])
  }

  /// What is said of pieces that nothing explains.
  private func stored(
    _ weights: WeightComparison, _ report: ParityReport, _ pair: AlignedPair,
    _ tolerance: Tolerance, _ precision: Precision
  ) -> [Diagnostic] {
    guard !weights.differing.isEmpty, report.stages.allSatisfy(\.isFinite) else { return [] }
    let isMeasured = tolerance.isMeasured
    let names = weights.differing.sorted().flatMap { pair.b.tensors(of: $0) }
    let note = "in \(names.prefix(6).joined(separator: ", "))\(names.count > 6 ? " …" : "")"
    let count = weights.differing.count
    if report.passes, !pair.problems.contains(where: { $0.severity == .error }) {
      return [
        Diagnostic(
          isMeasured ? .note : .warning, code: "parity.weights-differ", subject: pair.b.name,
          message: isMeasured
            ? "\(count == 1 ? "1 piece is" : "\(count) pieces are") differently stored, the same function: to float64's last digits, on these tokens and on longer ones"
            : "\(count) pieces differ, though no stage is beyond the bounds that were given",
          notes: [note],
          help: isMeasured ? nil : "without --atol and --rtol the bounds are measured")
      ]
    }
    guard !report.passes, isMeasured, precision == .float64,
      report.stages.allSatisfy({ $0.maxAbs <= tolerance.looseBound($0) })
    else { return [] }
    return [
      Diagnostic(
        .note, code: "parity.near", subject: pair.b.name,
        message:
          "the two differ by no more than float32's noise; but \(count) pieces are neither equal, nor a cast, nor what a conversion gives",
        notes: [note],
        help: "--rtol 1e-5 accepts differences of this size, whatever made them")
    ]
  }

  /// What is said of rows of the vocabulary that only one side has: they are without effect, or they were
  /// not compared, which is no pass.
  private func told(
    _ beyond: AlignedPair.RowsBeyond, _ pair: AlignedPair, _ request: ParityRequest
  ) -> Diagnostic {
    let (wide, name, other) =
      beyond.isA ? (pair.a.name, "A", "B") : (pair.b.name, "B", "A")
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

  /// Why weights differ that a cast would explain, had it been one that is expected.
  private func causes(
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
          code: "parity.cast-down", subject: pair.b.name,
          message:
            "\(down.count) pieces that should stay float32 (A_log, D, dt biases) are A's rounded to \(types(down)), which is judged as a fault",
          notes: ["in \(listed(down.flatMap { pair.b.tensors(of: $0.id) }))"],
          help: "convert without --cast-all"))
    }
    let reversed = try pair.reversedCasts(weights.differing)
    if !reversed.isEmpty {
      problems.append(
        Diagnostic(
          code: "parity.reversed", subject: pair.a.name,
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
    let words = [pair.a, pair.b].compactMap { $0.spec["vocab_size"].int }.filter { $0 > 0 }
    let (x, y) = (lockstep.reference, lockstep.other)
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
    let words = [pair.a, pair.b].compactMap { $0.spec["vocab_size"].int }.filter { $0 > 0 }
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
    var spec = pair.a.spec
    let names = Set(attributes.filter(\.isRounding).map(\.name))
    for i in spec.sublayers.indices {
      for name in names where spec.sublayers[i].attributes[name] != nil {
        spec.sublayers[i].attributes[name] = pair.b.spec.sublayers[i][name]
      }
    }
    return spec
  }

  /// Where the two part, and what explains it, shown by exchange.
  private func divergence(
    _ stage: String, _ lockstep: Lockstep, _ pair: AlignedPair, _ unexplained: Unexplained,
    _ known: [Unexplained.Found]
  ) throws -> ParityReport.Divergence {
    let spec = lockstep.reference.spec
    let here = spec.sublayers(before: stage)
    if let found = known.first(where: { $0.stage == stage }) {
      return found.divergence(pair, isProven: found.finding.isCured)
    }
    let own = unexplained.suspects(atEnd: stage)
    guard !here.isEmpty else {
      let finding = own.isEmpty ? nil : try LocalTest(lockstep).finding(atEnd: stage, own)
      guard let finding else {
        return ParityReport.Divergence(
          stage: stage, sublayer: nil, kind: "model",
          suspects: names(own.compactMap(\.piece), pair), attributes: own.compactMap(\.attribute))
      }
      return Unexplained.Found(stage: stage, finding: finding)
        .divergence(pair, isProven: finding.isCured)
    }
    let suspects = unexplained.bySublayer.filter { here.contains($0.key) }
    if let finding = try LocalTest(lockstep).findings(suspects, limit: 1).first {
      return Unexplained.Found(stage: stage, finding: finding)
        .divergence(pair, isProven: finding.isCured)
    }
    let first = suspects.keys.min() ?? here[0]
    return ParityReport.Divergence(
      stage: stage, sublayer: first, kind: spec.sublayers[first].kind,
      suspects: names((suspects[first] ?? []).compactMap(\.piece), pair),
      attributes: (suspects[first] ?? []).compactMap(\.attribute))
  }

  private func names(_ pieces: [PieceID], _ pair: AlignedPair) -> [String] {
    var names: [String] = []
    for name in pieces.flatMap({ pair.b.holders(of: $0) }) where !names.contains(name) {
      names.append(name)
    }
    return names
  }
}
