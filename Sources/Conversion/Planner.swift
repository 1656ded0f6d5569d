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

  /// A plan to express `bound` in one of `targets`, the first that can.
  ///
  /// - Parameters:
  ///   - bound: the model and where its pieces lie.
  ///   - targets: layouts, the preferred first.
  ///   - options: what is asked for besides the layout.
  ///   - reader: the source's bytes, for the few facts that depend on them (a bias of zeros).
  /// - Throws: `Refusal` of the closest target; `Diagnostic` when reading fails.
  public func plan(
    _ bound: BoundModel, to targets: [Layout], options: ConversionOptions, reader: PieceReader
  ) throws -> ConversionPlan {
    var closest: Refusal?
    // First without the rewrites that change more than another layout of the framework would.
    for isLastResort in [false, true] {
      for target in ordered(targets, for: bound)
      where !isLastResort || target.write.map(usesLastResort) ?? false {
        do {
          return try plan(
            bound, to: target, options: options, reader: reader, isLastResort: isLastResort)
        } catch let refusal as Refusal {
          if refusal.isCloser(than: closest) { closest = refusal }
        }
      }
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

  private func usesLastResort(_ write: Layout.Write) -> Bool {
    write.rewrites.contains { Rewrite.all[$0]?.isLastResort ?? false }
  }

  /// The source's own layout first, then those of its family.
  private func ordered(_ targets: [Layout], for bound: BoundModel) -> [Layout] {
    func rank(_ layout: Layout) -> Int {
      if layout.name == bound.layout.name { return 0 }
      // Most layouts are of one family, whatever the config says.
      let family = (try? layout.family.value(in: Scope()))?.string
      return family == bound.spec.family ? 1 : 2
    }
    return targets.enumerated().sorted { (rank($0.1), $0.0) < (rank($1.1), $1.0) }.map(\.1)
  }

  private func plan(
    _ bound: BoundModel, to target: Layout, options: ConversionOptions, reader: PieceReader,
    isLastResort: Bool
  ) throws -> ConversionPlan {
    var model = HubModel(bound)
    if let rows = options.vocabularyRows {
      try VocabularyResize.apply(&model, rows: rows, reader: reader)
    }
    if target.name == bound.layout.name, !bound.isLegacy {
      return SameLayoutPlan.make(bound, model, vocabulary, options: options)
    }
    if target.name == bound.layout.name {
      model.note(.bitwise, "an older form of the layout is written in its present one")
    }
    guard let write = target.write else {
      throw Refusal(
        layout: target,
        problems: [
          Diagnostic(
            code: "convert.read-only", subject: target.name, message: "can be read, not written")
        ])
    }
    // Zero MLPs that an earlier conversion put in come out again where that gives the target's own
    // shape of layers.
    var drafts = [model]
    if write.rewrites.contains("drop_zero_mlp"),
      let fewer = try ZeroSublayers.dropped(from: model, vocabulary, reader: reader)
    {
      drafts.insert(fewer, at: 0)
    }
    var firstRefusal: Refusal?
    for model in drafts {
      do {
        return try express(
          model, bound, target, write, options, reader, isLastResort: isLastResort)
      } catch let refusal as Refusal {
        if refusal.isCloser(than: firstRefusal) { firstRefusal = refusal }
      }
    }
    throw firstRefusal!
  }

  /// Finds a pattern that holds the draft's sub-layers, and expresses it so.
  private func express(
    _ model: HubModel, _ bound: BoundModel, _ target: Layout, _ write: Layout.Write,
    _ options: ConversionOptions, _ reader: PieceReader, isLastResort: Bool
  ) throws -> ConversionPlan {
    var refusal: Refusal?
    for pattern in write.patterns {
      guard var folded = PatternFit.arrange(model, into: pattern, vocabulary: vocabulary) else {
        continue
      }
      Padding.apply(&folded, write.paddings, vocabulary)
      do {
        return try finish(
          folded, pattern.name, bound, target, write, options, reader, isLastResort: isLastResort)
      } catch let other as Refusal {
        if other.isCloser(than: refusal) { refusal = other }
      }
    }
    throw refusal
      ?? Refusal(
        layout: target,
        problems: PatternFit.explain(model, target, write, ConfigProvenance(bound, vocabulary)))
  }

  private func finish(
    _ folded: HubModel, _ pattern: String, _ bound: BoundModel, _ target: Layout,
    _ write: Layout.Write, _ options: ConversionOptions, _ reader: PieceReader, isLastResort: Bool
  ) throws -> ConversionPlan {
    var model = folded
    let writer = ConfigWriter(layout: target, write: write, source: bound.config)
    func readBack() throws(Diagnostic) -> (JSONObject, Expansion) {
      let config = try writer.config(for: model, pattern: pattern, options: options)
      return (config, target.expand(config: config, vocabulary: vocabulary, inventory: nil))
    }
    if let when = write.when, try !writer.holds(when, for: model, pattern: pattern) {
      throw Refusal(layout: target, problems: [ConfigWriter.notOfThisKind(target, when)])
    }
    var (config, expansion) = try readBack()
    var changed = false
    for name in write.rewrites {
      guard let rewrite = Rewrite.all[name], isLastResort || !rewrite.isLastResort else { continue }
      let context = RewriteContext(
        target: expansion.spec, vocabulary: vocabulary, reader: reader)
      if try rewrite.apply(&model, context) { changed = true }
    }
    if changed { (config, expansion) = try readBack() }
    let found = expansion.problems.filter { $0.severity == .error }
    guard found.isEmpty else { throw Refusal(layout: target, problems: found, isNear: true) }

    var comparison = SpecComparison(
      target: target, write: write, vocabulary: vocabulary,
      provenance: ConfigProvenance(bound, vocabulary))
    comparison.compare(&model, expansion.spec)
    var assembler = Assembler(
      model: model, expansion: expansion, vocabulary: vocabulary, options: options, reader: reader)
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
    return ConversionPlan(
      from: bound.layout, to: target, spec: expansion.spec,
      exactness: reasons.map(\.exactness).max() ?? .bitwise, reasons: reasons, config: config,
      tensors: assembler.tensors,
      warnings: bound.problems.filter { $0.severity == .warning } + assembler.model.warnings
        + ConfigWriter.warnings(config))
  }
}
