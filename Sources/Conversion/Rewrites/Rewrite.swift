import Hub
import Layouts
import Tensors

/// A change of a model, and what it preserves.
///
/// A new one is a file beside this and a line in `all`. Each says what it needs to know, which also
/// decides when it is done, and returns a reason for everything that is no longer bitwise.
struct Rewrite: Sendable {
  /// What a rewrite needs to know, in the order in which a plan does them.
  enum Need: Sendable {
    /// The user's options; `context.options`.
    case request
    /// Only the model. Both the model with the change and the one without it are fitted to the target.
    case model
    /// A pattern of the target's layers; `context.pattern`. The target is left where it cannot be done.
    case pattern
    /// The target's rules for writing; `context.write`.
    case rules
    /// What the target's config, as it would be written, is read back as; `context.target`.
    case target
  }

  /// The name, as layouts have it.
  var name: String
  /// What it needs.
  var need: Need
  /// Whether it is done only for layouts that name it in `write.rewrites`.
  var isNamed = true
  /// Whether it waits until no layout of the framework expresses the model without it.
  var isLastResort = false
  /// Changes the model; returns a reason for each change, or `nil` when there is nothing to change.
  var change:
    @Sendable (_ model: inout HubModel, _ context: RewriteContext) throws(Diagnostic) -> [Reason]?

  /// Every rewrite, in the order in which those of one need are done that no layout names.
  static let all = [
    resizeVocabulary, dropZeroSublayers, fitLayers, padWidths, foldEmbedScale, expandKVHeads,
    foldGroupNorm, scaleKeys, centerValues, foldBranches, foldMultipliers, fixStepFloor,
    dropIdlePieces, untieHead,
  ]

  /// Those that a layout may name, by name.
  static let named = [String: Rewrite](
    uniqueKeysWithValues: all.filter(\.isNamed).map { ($0.name, $0) })

  /// The rewrites with a need that are done for a target: those it names, in its own order, then those
  /// that no layout has to name.
  static func list(_ need: Need, for write: Layout.Write?) -> [Rewrite] {
    ((write?.rewrites ?? []).compactMap { named[$0] } + all.filter { !$0.isNamed })
      .filter { $0.need == need }
  }

  /// Changes `model` and notes the reasons.
  ///
  /// - Returns: whether there was something to change.
  func apply(to model: inout HubModel, _ context: RewriteContext) throws(Diagnostic) -> Bool {
    guard let reasons = try change(&model, context) else { return false }
    for reason in reasons { model.note(reason) }
    return true
  }
}

/// The names of the rewrites that a layout may ask for.
package enum RewriteNames {
  /// Sorted.
  package static let all: [String] = Rewrite.named.keys.sorted()
}

/// What a rewrite may look at. What its need does not promise may be absent.
struct RewriteContext: Sendable {
  /// The mixers' declarations.
  let vocabulary: Vocabulary
  /// The user's options.
  var options = ConversionOptions()
  /// How the target is written.
  var write: Layout.Write?
  /// The layers that the model is laid out in.
  var pattern: Layout.Write.Pattern?
  /// The model that the target's config is read back as.
  var target: ModelSpec?

  /// The numbers of the sub-layers that the target has as the same kind, with what they are there;
  /// none while the two have different stacks.
  func counterparts(_ spec: ModelSpec) -> [(number: Int, wanted: ModelSpec.Sublayer)] {
    guard let target, target.sublayers.count == spec.sublayers.count else { return [] }
    return spec.sublayers.indices.compactMap { i in
      let wanted = target.sublayers[i]
      return wanted.kind == spec.sublayers[i].kind ? (i, wanted) : nil
    }
  }
}
