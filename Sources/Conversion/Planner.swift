import Checkpoints
public import Hub
public import Layouts
import OrderedCollections
import Tensors

/// Decides how a model is expressed in another layout.
///
/// The target's config is written from the model and then read back by the target's own rules; what
/// reads back differently is what the target cannot express. So no refusal is a special case.
public struct Planner: Sendable {
  /// The mixers' declarations.
  public let vocabulary: Vocabulary

  /// A planner.
  public init(vocabulary: Vocabulary) { self.vocabulary = vocabulary }

  /// A plan to express `bound` in one of `targets`: the most exact, and of equals the first.
  ///
  /// - Parameters:
  ///   - bound: the model and where its pieces lie.
  ///   - targets: layouts, the preferred first.
  ///   - options: what is asked for besides the layout.
  ///   - reader: the source's bytes, for the few facts that depend on them (a bias of zeros).
  /// - Throws: `Refusal` of the closest target; `Diagnostic` when reading fails.
  public func plan(
    _ bound: MatchedLayout, to targets: [Layout], options: ConversionOptions, reader: PieceReader
  ) throws -> ConversionPlan {
    var model = HubModel(bound, source: reader.source)
    let request = RewriteContext(vocabulary: vocabulary, options: options)
    for rewrite in Rewrite.list(.request, for: nil) {
      _ = try rewrite.apply(to: &model, request)
    }
    try checkImages(model)

    var widened = model
    widened.noteBlocks(bound.inventory.infos.compactMap { $0.stored?.type })
    var closest: Refusal?
    // Attempts that a rewrite of the last resort may still save. They come after all targets: the model
    // is rather written in another layout of the framework than with such a rewrite.
    var refused: [Attempt] = []
    // Attempts with sub-layers of zeros, which another layout may not need.
    var filled: [Attempt] = []
    func plan(_ attempt: Attempt) throws -> ConversionPlan? {
      do {
        var plan = try self.plan(attempt, bound, options)
        plan.warnings += notCast(plan, options)
        return plan
      } catch let refusal as Refusal {
        if refusal.isCloser(than: closest) { closest = refusal }
        if attempt.canTryLastResort { refused.append(attempt) }
        return nil
      }
    }
    var best: ConversionPlan?
    targets: for target in ordered(targets, for: bound) {
      if target.name == bound.layout.name, !bound.isLegacy {
        // Blocks may go along as they are there.
        var plan = SameLayoutPlan.make(bound, model, vocabulary, options: options)
        plan.warnings += notCast(plan, options)
        return plan
      }
      for model in try variants(widened, bound, target) {
        var isHeld = false
        for pattern in target.write?.patterns ?? [] {
          var attempt = Attempt(target: target, model: model, pattern: pattern)
          guard try attempt.fit(vocabulary) else { continue }
          isHeld = true
          if attempt.model.spec.sublayers.count > model.spec.sublayers.count {
            filled.append(attempt)
            continue
          }
          guard let plan = try plan(attempt) else { continue }
          if plan.exactness == .bitwise { return plan }
          if best.map({ plan.exactness < $0.exactness }) ?? true { best = plan }
          continue targets
        }
        // No pattern is needed, or none holds it and the attempt tells why.
        if !isHeld, let plan = try plan(Attempt(target: target, model: model)) {
          if plan.exactness == .bitwise { return plan }
          if best.map({ plan.exactness < $0.exactness }) ?? true { best = plan }
          continue targets
        }
      }
    }
    if let best { return best }
    for attempt in filled {
      if let plan = try plan(attempt) { return plan }
    }
    for var attempt in refused {
      attempt.isLastResort = true
      if let plan = try plan(attempt) { return plan }
    }
    throw closest
      ?? Refusal(
        layout: bound.layout,
        problems: [
          Diagnostic(
            code: "convert.no-target", subject: bound.layout.name,
            message: "no layout of this framework can be written")
        ])
  }

  /// A warning about weights that are not cast to the requested type: their own cannot be read as numbers.
  private func notCast(_ plan: ConversionPlan, _ options: ConversionOptions) -> [Diagnostic] {
    guard let wanted = options.dtype else { return [] }
    var counts: OrderedDictionary<DType, Int> = [:]
    var first: String?
    for tensor in plan.tensors where !tensor.output.dtype.isFloat {
      let isWeight = tensor.parts.contains { part in
        let kind =
          part.piece.sublayer.flatMap { vocabulary.kinds[plan.spec.sublayers[$0].kind] }
          ?? vocabulary.model
        return kind.piece(part.piece.role) != nil
      }
      guard isWeight else { continue }
      counts[tensor.output.dtype, default: 0] += 1
      first = first ?? tensor.output.name.string
    }
    guard let first else { return [] }
    let found = counts.map { "\($0.value) of \($0.key.rawValue)" }.joined(separator: ", ")
    return [
      Diagnostic(
        .warning, code: "convert.not-cast", subject: first,
        message:
          "stays as it is: \(wanted.rawValue) was asked for, but weights of this type cannot be cast (\(found))",
        notes: ["F64, F32, F16 and BF16 are cast; bytes of other types are moved"],
        help: "store the weights as one of these first: others may want a scale")
    ]
  }

  /// A model in a target's layers, to be tried.
  private struct Attempt {
    var target: Layout
    var model: HubModel
    /// The layers; `nil` for a model that no pattern of the target holds.
    var pattern: Layout.Write.Pattern?
    /// Whether rewrites that are left to the end are done.
    var isLastResort = false

    /// Whether another try with the rewrites that are left to the end may succeed.
    var canTryLastResort: Bool {
      !isLastResort && pattern != nil
        && Rewrite.list(.target, for: target.write).contains(where: \.isLastResort)
    }

    /// Lays the model out in the pattern.
    ///
    /// - Returns: whether the pattern holds it.
    mutating func fit(_ vocabulary: Vocabulary) throws(Diagnostic) -> Bool {
      let context = RewriteContext(
        vocabulary: vocabulary, write: target.write, pattern: pattern)
      for rewrite in Rewrite.list(.pattern, for: target.write) {
        guard try rewrite.apply(to: &model, context) else { return false }
      }
      return true
    }
  }

  /// The models that are fitted to `target`: what its rewrites make of `model` alone, and `model`.
  private func variants(
    _ model: HubModel, _ bound: MatchedLayout, _ target: Layout
  ) throws(Diagnostic) -> [HubModel] {
    guard target.write != nil else { return [model] }
    var model = model
    if target.name == bound.layout.name {
      model.note(.bitwise, "an older form of the layout is written in its present one")
    }
    var changed = model
    let context = RewriteContext(vocabulary: vocabulary, write: target.write)
    var isChanged = false
    for rewrite in Rewrite.list(.model, for: target.write) {
      if try rewrite.apply(to: &changed, context) { isChanged = true }
    }
    return isChanged ? [changed, model] : [model]
  }

  /// The source's own layout first, then those of its family.
  private func ordered(_ targets: [Layout], for bound: MatchedLayout) -> [Layout] {
    func rank(_ layout: Layout) -> Int {
      if layout.name == bound.layout.name { return 0 }
      // Most layouts are of one family, whatever the config says.
      let family = (try? layout.family.value(in: Scope()))?.string
      return family == bound.spec.family ? 1 : 2
    }
    return targets.enumerated().sorted { (rank($0.1), $0.0) < (rank($1.1), $1.0) }.map(\.1)
  }

  /// A that is not negative has no logarithm, and no model computes with it.
  private func checkImages(_ model: HubModel) throws(Diagnostic) {
    for (id, value) in model.pieces.sorted(by: { $0.key < $1.key }) {
      guard let number = id.sublayer,
        vocabulary.kinds[model.spec.sublayers[number].kind]?.piece(id.role)?.image != nil
      else { continue }
      var found = 0.0
      let isSound = try model.reader.all(value) { _, number in
        found = number
        return number < 0 && number.isFinite
      }
      guard !isSound else { continue }
      let name = value.origin.map { model.reader.source.tensors[$0.tensor].name.string }
      throw Diagnostic(
        code: "convert.decay", subject: name ?? id.description,
        message: "holds \(found), but A = -exp(A_log) is below 0 and finite",
        help: "the file is damaged, or holds A_log where A belongs")
    }
  }

  /// The plan of an attempt: config, read back and compared, and the tensors.
  private func plan(
    _ attempt: Attempt, _ bound: MatchedLayout, _ options: ConversionOptions
  ) throws -> ConversionPlan {
    let target = attempt.target
    guard let write = target.write else {
      throw Refusal(
        layout: target,
        problems: [
          Diagnostic(
            code: "convert.read-only", subject: target.name, message: "can be read, not written")
        ])
    }
    var model = attempt.model
    guard let pattern = attempt.pattern?.name else {
      throw Refusal(
        layout: target,
        problems: PatternRefusal.explain(model, target, write, ConfigProvenance(bound, vocabulary)))
    }
    var context = RewriteContext(
      vocabulary: vocabulary, options: options, write: write, pattern: attempt.pattern)
    for rewrite in Rewrite.list(.rules, for: write) { _ = try rewrite.apply(to: &model, context) }
    let writer = ConfigWriter(layout: target, write: write, source: bound.config)
    func readBack() throws(Diagnostic) -> (JSONObject, Expansion) {
      let config = try writer.config(for: model, pattern: pattern, options: options)
      return (config, target.expand(config: config, vocabulary: vocabulary, inventory: nil))
    }
    if let when = write.when, try !writer.holds(when, for: model, pattern: pattern) {
      throw Refusal(layout: target, problems: [ConfigWriter.notOfThisKind(target, when)])
    }
    var (config, expansion) = try readBack()
    context.target = expansion.spec
    var changed = false
    for rewrite in Rewrite.list(.target, for: write)
    where attempt.isLastResort || !rewrite.isLastResort {
      if try rewrite.apply(to: &model, context) { changed = true }
    }
    if changed { (config, expansion) = try readBack() }
    let found = expansion.problems.filter { $0.severity == .error }
    guard found.isEmpty else { throw Refusal(layout: target, problems: found, isNear: true) }

    var comparison = SpecComparison(
      target: target, write: write, vocabulary: vocabulary,
      provenance: ConfigProvenance(bound, vocabulary))
    comparison.compare(&model, expansion.spec)
    var assembler = Assembler(
      model: model, expansion: expansion, vocabulary: vocabulary, options: options)
    try assembler.assemble()
    // A piece that is missing because the target computes something else is said by the comparison.
    let problems =
      comparison.problems
      + assembler.problems.filter {
        comparison.problems.isEmpty || $0.code != "convert.missing-piece"
      }
    guard problems.isEmpty else {
      throw Refusal(layout: target, problems: problems, isNear: true)
    }
    let reasons = assembler.model.reasons
    var spec = expansion.spec
    if spec["tied"] == .null { spec.attributes["tied"] = assembler.model.spec["tied"] }
    return ConversionPlan(
      from: bound.layout, to: target, spec: spec,
      exactness: reasons.map(\.exactness).max() ?? .bitwise, reasons: reasons, config: config,
      tensors: assembler.tensors,
      warnings: bound.problems.filter { $0.severity == .warning } + assembler.model.warnings
        + ConfigWriter.warnings(config) + leftOut(bound))
  }

  /// What is said of parameters that the source holds, does not apply, and no other layout has.
  private func leftOut(_ bound: MatchedLayout) -> [Diagnostic] {
    let names = bound.ignored.map { bound.inventory.names[$0] }
    return bound.layout.ignore.filter(\.isParameter).compactMap { ignored in
      let glob = Glob(ignored.glob)
      let own = names.filter { glob.matches($0) }
      guard let first = own.first else { return nil }
      return Diagnostic(
        .warning, code: "convert.left-out", subject: first,
        message: "is not written: \(ignored.why)",
        notes: own.count > 1 ? ["and \(own.count - 1) more like it"] : [])
    }
  }
}
