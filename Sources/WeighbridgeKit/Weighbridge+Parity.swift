import Conversion
import Hub
import Layouts
public import Parity
import Tensors

extension Weighbridge {
  /// Runs a checkpoint beside a framework's own trace of it.
  ///
  /// - Throws: `Problems`, `Diagnostic` for what cannot be read or run.
  public func parity(
    _ a: CheckpointInput, trace path: String, _ request: ParityRequest
  ) throws -> ParityResult {
    let loaded = try load(a)
    var model = try loaded.hubModel()
    let trace = try TraceFile(path: path)
    if let meter = Meter(total: 2 * model.byteCount, progress) { model.observers.append(meter) }
    return try TraceCheck(
      model, trace, request, problems: loaded.problems.filter { $0.severity != .error }
    ).result()
  }

  /// Runs two checkpoints of any layouts side by side, a sub-layer at a time.
  ///
  /// - Throws: `Problems`, `Diagnostic` for what cannot be read, run or compared.
  public func parity(
    _ a: CheckpointInput, _ b: CheckpointInput, tokens: TokenInput, _ request: ParityRequest
  ) throws -> ParityResult {
    let (first, second) = try loadPair(a, b)
    return try parity(first, second, tokens: tokens, request)
  }

  func parity(
    _ a: LoadedCheckpoint, _ b: LoadedCheckpoint, tokens: TokenInput, _ request: ParityRequest
  ) throws -> ParityResult {
    var pair = try aligned(a, b)
    // The weights are compared once; the reference runs in two precisions, the other in one.
    let meter = Meter(total: 3 * pair.a.byteCount + pair.b.byteCount, progress)
    if let meter {
      pair.a.observers.append(meter)
      pair.b.observers.append(meter)
    }
    let check = try PairCheck(
      pair, request, plans: LayoutPlanner(a: a.model(), b: b.model(), pair, vocabulary),
      progress: { meter?.add($0, $1) })
    return try check.result(tokens: tokens.tokens(for: check.spec))
  }

  /// Two checkpoints, piece beside piece.
  ///
  /// - Throws: `Problems` for a checkpoint that cannot be used; `diff.stacks` for two models that have
  ///   nothing to compare.
  func aligned(_ a: LoadedCheckpoint, _ b: LoadedCheckpoint) throws -> AlignedPair {
    let accepts = [try a.model(), try b.model()].flatMap { $0.layout.write?.accepts ?? [] }
    var pair = try AlignedPair(
      a.hubModel(), b.hubModel(),
      roundings: Set(accepts.map { AttributeName(kind: $0.kind, name: $0.attribute) }), vocabulary)
    pair.problems = (a.problems + b.problems).filter { $0.severity != .error }
    return pair
  }
}

extension LoadedCheckpoint {
  /// The checkpoint as a model with its weights.
  ///
  /// - Throws: every problem when no layout fits or something is missing.
  func hubModel() throws(Problems) -> HubModel {
    let bound = try model()
    var model = HubModel(bound, source: source)
    model.name = location.path
    model.layout = bound.layout.name
    if let copy = bound.tensors.first(where: { $0.expected.tied != nil }) {
      model.copies[PieceID(nil, "head.weight")] = copy.number
    }
    return model
  }
}

/// Plans the conversion of one of a pair to the other's layout.
struct LayoutPlanner: RewritePlanner {
  private let a: BoundModel
  private let b: BoundModel
  private let pair: AlignedPair
  private let vocabulary: Vocabulary

  init(a: BoundModel, b: BoundModel, _ pair: AlignedPair, _ vocabulary: Vocabulary) {
    (self.a, self.b) = (a, b)
    self.pair = pair
    self.vocabulary = vocabulary
  }

  func rewritten(_ side: PairSide, rows: Int?) throws -> HubModel? {
    let (from, to) = side == .a ? (a, b) : (b, a)
    // The same layout moves bytes and computes nothing.
    guard from.layout.name != to.layout.name || from.isLegacy else { return nil }
    var model = side == .a ? pair.a : pair.b
    do {
      let own = from.spec["vocab_rows"].int
      let plan = try Planner(vocabulary: vocabulary).plan(
        from, to: [to.layout],
        options: ConversionOptions(vocabularyRows: rows == own ? nil : rows), reader: model.reader)
      model.spec = plan.spec
      model.pieces = plan.pieces
      return model
    } catch is Refusal {
      return nil
    }
  }
}
