import Conversion
package import Hub
import Layouts
public import Parity
import Remote
package import Tensors

extension Weighbridge {
  /// Runs a checkpoint beside a framework's own trace of it.
  ///
  /// - Throws: `Problems`, `Diagnostic` for what cannot be read or run.
  public func parity(
    _ a: CheckpointInput, trace path: String, _ request: ParityRequest
  ) throws -> ParityResult {
    try parity(load(a), trace: trace(at: path), request)
  }

  /// The trace in a file.
  ///
  /// - Throws: `trace.tokens` for a file that is none; what reading throws.
  package func trace(at path: String) throws -> any TraceSource {
    try TraceFile(path: Remote.isURL(path) ? Remote.open(path).path : path)
  }

  /// Runs a checkpoint that is open beside a trace.
  ///
  /// - Throws: `Problems`, `Diagnostic` for what cannot be read or run.
  package func parity(
    _ loaded: LoadedCheckpoint, trace: any TraceSource, _ request: ParityRequest
  ) throws -> ParityResult {
    var model = try loaded.hubModel()
    let meter = Meter(total: 3 * model.byteCount, progress)
    if let meter { model.observers.append(meter) }
    defer { meter?.end() }
    let problems = loaded.problems.filter { $0.severity != .error }
    var result = try TraceCheck(model, trace, request, problems: problems).result()
    // Frameworks disagree on the floor of the step sizes: no verdict before both are tried.
    guard let floored = loaded.bound?.spec, floored.stepFloor != nil else { return result }
    var isOff = model.spec.stepFloor == nil
    let fails = !result.passes
    if fails, let other = isOff ? floored : model.spec.withoutStepFloor {
      model.spec = other
      let second = try TraceCheck(model, trace, request, problems: problems).result()
      if second.passes { (result, isOff) = (second, !isOff) }
    }
    result.problems += [
      floored.stepFloorNote(loaded.location.path, isOff: isOff, triedBoth: fails)
    ].compactMap(\.self)
    return result
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

  /// Runs two checkpoints that are open side by side.
  ///
  /// - Throws: `Problems`, `Diagnostic` for what cannot be read, run or compared.
  package func parity(
    _ a: LoadedCheckpoint, _ b: LoadedCheckpoint, tokens: TokenInput, _ request: ParityRequest
  ) throws -> ParityResult {
    var pair = try aligned(a, b)
    // The weights are compared once; the reference runs in two precisions, the other in one.
    let meter = Meter(total: 3 * pair.a.byteCount + pair.b.byteCount, progress)
    if let meter {
      pair.a.observers.append(meter)
      pair.b.observers.append(meter)
    }
    defer { meter?.end() }
    let check = try PairCheck(
      pair, request, plans: LayoutPlanner(a: a.model(), b: b.model(), pair, vocabulary),
      progress: { meter?.add($0, $1) })
    var result = try check.result(tokens: tokens.tokens(for: check.spec))
    result.problems += ConfigDifference.notes(
      try a.model(), try b.model(),
      result.attributes.filter { !$0.isRounding }.map { ($0.kind, $0.name) }, vocabulary)
    let (own, other) = (pair.a.spec.stepFloor, pair.b.spec.stepFloor)
    guard own != nil || other != nil || a.bound?.spec.stepFloor != nil else { return result }
    // Frameworks disagree on the floor: where one side has it, both are tried without.
    let tries = !result.passes && (own == nil) != (other == nil)
    if tries {
      var (freeA, freeB) = (a, b)
      (freeA.stepFloor, freeB.stepFloor) = (.none, .none)
      let second = try parity(freeA, freeB, tokens: tokens, request)
      if second.passes { return second }
    }
    let holder = own != nil || a.bound?.spec.stepFloor != nil ? a : b
    result.problems += [
      holder.bound?.spec.stepFloorNote(
        holder.location.path, isOff: own == nil && other == nil, triedBoth: tries)
    ].compactMap(\.self)
    return result
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
  /// The same layout over other bytes and another config.
  ///
  /// - Throws: `layout.name-clash` for tensors that no layout can tell apart.
  package func replacing(
    source: any TensorSource, config: JSONObject, _ vocabulary: Vocabulary
  ) throws -> LoadedCheckpoint {
    var changed = self
    let reader = PieceReader(source: source)
    let inventory = try Inventory(
      infos: source.tensors, values: { SourceFacts.values($0, reader) },
      sameBytes: { SourceFacts.isSame($0, $1, source) })
    let bound = try model().layout.bind(
      inventory, config: config, vocabulary: vocabulary, inertKeys: Set(inertKeys))
    (changed.source, changed.config, changed.bound) = (source, config, bound)
    changed.problems = bound.problems
    return changed
  }

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
  private let a: MatchedLayout
  private let b: MatchedLayout
  private let pair: AlignedPair
  private let vocabulary: Vocabulary

  init(a: MatchedLayout, b: MatchedLayout, _ pair: AlignedPair, _ vocabulary: Vocabulary) {
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
