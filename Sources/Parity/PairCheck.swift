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
    // The reference has B's form wherever that is explained: a deliberate cast, a rotary table in
    // bfloat16, a table in the file. What casts cost is told apart.
    var reference = pair.a.exchanging(weights.deliberate.union(weights.tables), with: pair.b)
    reference.spec = roundingLike(pair, attributes)
    var tolerance = request.tolerance
    tolerance.isTight = true
    let common = beyond == nil ? nil : rows
    // Values that a conversion computes and rounds: that they are computed rightly is seen before the
    // rounding; behind it, the reference has them rounded too.
    let forward = try PlannedValues(
      plans.rewritten(.a, rows: common), from: pair.a, to: pair.b,
      unexplained: weights.differing, pair.vocabulary)
    // A may be what came of converting B.
    let backward =
      forward?.differing.isEmpty == true
      ? nil
      : try PlannedValues(
        plans.rewritten(.b, rows: common), from: pair.b, to: pair.a,
        unexplained: weights.differing, pair.vocabulary)
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
    } else if let planned = forward {
      var own = pair.a
      own.spec = reference.spec
      let exact = Lockstep(
        reference: own.exchanging(weights.tables, with: pair.b),
        other: planned.model.exchanging(weights.tables, with: pair.b), tokens: tokens,
        tolerance: tolerance, options: options, commonRows: rows)
      let report = try exact.run(Double.self)
      if report.passes {
        weights.deliberate.formUnion(planned.rounded.union(planned.moved))
        weights.differing = planned.differing
        reference = planned.model.exchanging(
          weights.deliberate.union(weights.tables), with: pair.b)
        pair.problems += [planned.note(pair.b, of: "A")].compactMap { $0 }
      }
    }
    tolerance.isTight = request.precision == .float64
    var lockstep = Lockstep(
      reference: reference, other: pair.b, tokens: tokens, tolerance: tolerance, options: options,
      commonRows: rows)
    if reference.spec != pair.a.spec || !weights.deliberate.isEmpty {
      lockstep.original = pair.a
      lockstep.isReferenceOther =
        reference.spec == pair.b.spec
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
            .note, code: "parity.float64", subject: pair.b.name,
            message: "float32 does not tell the two apart; float64 does, and is what is shown"))
      }
    }
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
      report.firstDivergence = try divergence(stage.name, lockstep, pair, weights, attributes)
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
    if !report.passes { pair.problems += try explained(pair, weights) }
    pair.problems += Findings.beyondFloat32(report, pair.a)
    if let beyond { pair.problems.append(told(beyond, pair, request)) }
    var generation: (a: [Int], b: [Int])?
    if request.generate > 0, report.stages.allSatisfy(\.isFinite) {
      let (own, problemA) = try Findings.continuation(pair.a, tokens[0], request, options)
      let (theirs, problemB) = try Findings.continuation(pair.b, tokens[0], request, options)
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
            isMeasured ? .note : .warning, code: "parity.weights-differ", subject: pair.b.name,
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
            .note, code: "parity.near", subject: pair.b.name,
            message:
              "the two differ by no more than float32's noise; but \(count) pieces are neither equal, nor a cast, nor what a conversion gives",
            notes: [note],
            help: "--rtol 1e-5 accepts differences of this size, whatever made them"))
      }
    }
    return ParityResult(
      report: report, precision: precision, tokens: (tokens.count, tokens[0].count),
      equalPieces: weights.equal, differing: weights.pieces, pieces: weights.all,
      spec: pair.a.spec, attributes: attributes, generation: generation,
      problems: pair.problems)
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
}
