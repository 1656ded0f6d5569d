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

  /// Whether the two compute the same.
  public var passes: Bool {
    report.passes && (generation.map { $0.a == $0.b } ?? true)
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
    let meter = Meter(total: 2 * member.draft.byteCount, progress)
    let side = Side(
      spec: member.draft.spec,
      weights: DraftWeights(member.draft, reader: member.reader, meter: meter))
    let options = ModelOptions(selfExtend: request.selfExtend)
    let comparison = TraceComparison(
      side: side, trace: trace, tolerance: request.tolerance, options: options)
    var report =
      request.precision == .float64
      ? try comparison.run(Double.self) : try comparison.run(Float.self)
    if var divergence = report.firstDivergence {
      let number = report.stages.firstIndex { $0.name == divergence.stage } ?? 0
      divergence.suspects = suspects(
        divergence.stage, after: number > 0 ? report.stages[number - 1].name : nil, member)
      report.firstDivergence = divergence
    }
    var generation: (a: [Int], b: [Int])?
    if request.generate > 0 {
      guard let greedy = trace.greedy, greedy.count > request.generate else {
        throw Diagnostic(
          code: "trace.greedy", subject: path,
          message: "holds no greedy continuation of \(request.generate) tokens")
      }
      let prompt = Array(greedy.dropLast(request.generate))
      generation = (
        try continuation(side, prompt, request, options), Array(greedy.suffix(request.generate))
      )
    }
    return ParityResult(
      report: report, precision: request.precision,
      tokens: (trace.tokens.count, trace.tokens[0].count), equalPieces: 0, differing: [],
      pieces: [], spec: side.spec, attributes: [], generation: generation,
      problems: loaded.problems.filter { $0.severity != .error })
  }

  /// Runs two checkpoints of any layouts side by side, a sub-layer at a time.
  ///
  /// - Throws: `Problems`, `Diagnostic` for what cannot be read, run or compared.
  public func parity(
    _ a: CheckpointInput, _ b: CheckpointInput, tokens: TokenInput, _ request: ParityRequest
  ) throws -> ParityResult {
    try parity(load(a), load(b), tokens: tokens, request)
  }

  func parity(
    _ loadedA: LoadedCheckpoint, _ loadedB: LoadedCheckpoint, tokens input: TokenInput,
    _ request: ParityRequest
  ) throws -> ParityResult {
    var pair = try AlignedPair(loadedA, loadedB, vocabulary)
    let rows = try commonRows(pair)
    // The weights are compared once; the reference runs in two precisions, the other in one.
    let meter = Meter(
      total: 3 * pair.a.draft.byteCount + pair.b.draft.byteCount, progress)
    var weights = try WeightComparison(pair, vocabulary, meter)
    let tokens = try input.tokens(for: pair.a.draft.spec)
    let attributes = pair.attributes()
    let options = ModelOptions(selfExtend: request.selfExtend)
    let sideA = Side(
      spec: pair.a.draft.spec,
      weights: DraftWeights(pair.a.draft, reader: pair.a.reader, meter: meter))
    let sideB = Side(
      spec: pair.b.draft.spec,
      weights: DraftWeights(pair.b.draft, reader: pair.b.reader, meter: meter))
    // The reference rounds as B does where rounding is what was asked for: a deliberate cast, a
    // rotary table in bfloat16. What that costs is told apart.
    var reference = Side(
      spec: roundingLike(pair, attributes),
      weights: OverlayWeights(sideA.weights, with: sideB.weights, exchanged: weights.deliberate))
    var tolerance = request.tolerance
    // Values that a conversion computes and rounds to a narrow type: that they are computed rightly is
    // seen before the rounding; behind it, the reference has them rounded too.
    if let planned = try PlannedValues(pair, weights, vocabulary) {
      let exact = Lockstep(
        reference: Side(spec: reference.spec, weights: sideA.weights), other: planned.side,
        tokens: tokens, tolerance: tolerance, options: options, commonRows: rows)
      let report = try exact.run(Double.self)
      if report.passes {
        weights.deliberate.formUnion(planned.rounded)
        weights.differing = planned.differing
        reference = Side(
          spec: planned.side.spec,
          weights: OverlayWeights(
            planned.side.weights, with: sideB.weights, exchanged: weights.deliberate))
        pair.problems.append(planned.note(pair))
      }
    }
    // A table in the file is float32, one that is computed is not: their difference is float32's.
    let hasOneTable = ["rotary.frequencies", "rotary.log_decay"].contains { role in
      let id = PieceID(nil, role)
      return reference.weights.info(id) == nil && sideB.weights.info(id) != nil
        || reference.weights.info(id) != nil && sideB.weights.info(id) == nil
    }
    tolerance.isTight =
      request.precision == .float64 && weights.differing.isEmpty && !hasOneTable
    var lockstep = Lockstep(
      reference: reference, other: sideB, tokens: tokens, tolerance: tolerance, options: options,
      commonRows: rows)
    if reference.spec != sideA.spec || !weights.deliberate.isEmpty {
      lockstep.original = sideA
      lockstep.isReferenceOther =
        reference.spec == sideB.spec && weights.pieces.count == weights.deliberate.count
    }
    var report =
      request.precision == .float64 ? try lockstep.run(Double.self) : try lockstep.run(Float.self)
    if weights.differing.contains(PieceID(nil, "embed.weight")), report.stages[0].ok,
      let (stage, row) = try unusedRows(lockstep, pair, rows, request.precision)
    {
      report.stages[0] = stage
      pair.problems.append(
        Diagnostic(
          .note, code: "parity.unused-rows", subject: pair.b.path,
          message: "the embedding of token \(row) differs, which these tokens do not use",
          notes: ["\(stage.name) tells the difference of the whole embedding"]))
    }
    if let stage = report.stages.first(where: { !$0.ok }) {
      report.firstDivergence = try divergence(stage.name, lockstep, pair, weights, attributes)
    }
    var generation: (a: [Int], b: [Int])?
    if request.generate > 0 {
      generation = (
        try continuation(sideA, tokens[0], request, options),
        try continuation(sideB, tokens[0], request, options)
      )
    }
    if report.passes, !weights.differing.isEmpty {
      let names = weights.differing.sorted().flatMap { pair.b.tensors(of: $0) }
      pair.problems.append(
        Diagnostic(
          .warning, code: "parity.weights-differ", subject: pair.b.path,
          message:
            "\(weights.differing.count) pieces differ, though no stage is out of bounds on these tokens",
          notes: ["in \(names.prefix(6).joined(separator: ", "))\(names.count > 6 ? " …" : "")"],
          help: "differences of rounding are within bounds; other tokens may show more"))
    }
    return ParityResult(
      report: report, precision: request.precision, tokens: (tokens.count, tokens[0].count),
      equalPieces: weights.equal, differing: weights.pieces, pieces: weights.all,
      spec: pair.a.draft.spec, attributes: attributes, generation: generation,
      problems: pair.problems)
  }

  /// Rows of the vocabulary that both sides have.
  private func commonRows(_ pair: AlignedPair) throws(Diagnostic) -> Int {
    let (a, b) = (pair.a.draft.spec, pair.b.draft.spec)
    let rowsA = a["vocab_rows"].int ?? 0
    let rowsB = b["vocab_rows"].int ?? 0
    if rowsA == rowsB { return rowsA }
    let wordsA = a["vocab_size"].int ?? rowsA
    let wordsB = b["vocab_size"].int ?? rowsB
    // Padding aside, the vocabularies must be the same: one side may not know which rows are padding.
    guard
      wordsA == wordsB || wordsA == rowsB || wordsB == rowsA || wordsA == rowsA && rowsB > rowsA
        || wordsB == rowsB && rowsA > rowsB
    else {
      throw Diagnostic(
        code: "parity.vocabulary", subject: pair.b.path,
        message:
          "has a vocabulary of \(wordsB) in \(rowsB) rows, \(pair.a.path) one of \(wordsA) in \(rowsA)",
        help: "only models with one vocabulary can be compared")
    }
    return min(rowsA, rowsB)
  }

  /// The embedding of the whole vocabulary, where it is out of bounds though that of the tokens is
  /// not, and a token that shows it.
  private func unusedRows(
    _ lockstep: Lockstep, _ pair: AlignedPair, _ rows: Int, _ precision: Precision
  ) throws -> (ParityReport.Stage, token: Int)? {
    let words = [pair.a, pair.b].compactMap { $0.draft.spec["vocab_size"].int }.filter { $0 > 0 }
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
    var spec = pair.a.draft.spec
    let names = Set(attributes.filter(\.isRounding).map(\.name))
    for i in spec.sublayers.indices {
      for name in names where spec.sublayers[i].attributes[name] != nil {
        spec.sublayers[i].attributes[name] = pair.b.draft.spec.sublayers[i][name]
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
    var tolerance = lockstep.tolerance
    tolerance.isTight = tolerance.isTight && weights.differing.isEmpty
    var local = lockstep
    local.tolerance = tolerance
    let findings = try LocalTest(local).findings(
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
    let spec = member.draft.spec
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
      ids = member.draft.pieces.keys.filter { $0.sublayer.map { here.contains($0) } ?? false }
    }
    var names: [String] = []
    for id in ids.sorted() {
      for name in member.tensors(of: id) where !names.contains(name) { names.append(name) }
    }
    return names
  }

  private func continuation(
    _ side: Side, _ prompt: [Int], _ request: ParityRequest, _ options: ModelOptions
  ) throws -> [Int] {
    func run<S: Real>(_: S.Type) throws -> [Int] {
      try Model<S>(spec: side.spec, weights: side.weights, options: options).generate(
        prompt: prompt, count: request.generate, sampling: request.sampling)
    }
    return request.precision == .float64 ? try run(Double.self) : try run(Float.self)
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
  /// Pieces that differ otherwise.
  var differing: Set<PieceID> = []

  init(_ pair: AlignedPair, _ vocabulary: Vocabulary, _ meter: Meter? = nil) throws {
    for (id, status) in try pair.statuses(meter) {
      let piece = CheckpointDiff.Piece(
        id: id, tensorsA: pair.a.tensors(of: id), tensorsB: pair.b.tensors(of: id), status: status)
      all.append(piece)
      if status == .equal || status == .neutral {
        equal += 1
        continue
      }
      pieces.append(piece)
      if case .cast(let from, let to) = status {
        // Widening changes no value. What should stay float32 is not cast on purpose, but from one
        // half precision to the other it no longer was.
        if to.bitWidth > from.bitWidth { continue }
        let kind =
          id.sublayer.flatMap { vocabulary.kinds[pair.a.draft.spec.sublayers[$0].kind] }
          ?? vocabulary.model
        if kind.piece(id.role)?.keepsFloat32 != true || from.bitWidth == to.bitWidth {
          deliberate.insert(id)
          continue
        }
      }
      differing.insert(id)
    }
  }
}
