import Hub
import Layouts
import Tensors

/// A change of a model that leaves its function as it is, so that a target can express it.
///
/// A layout names the rewrites that it needs (`write.rewrites`); a new one is a file beside this and
/// a line in `all`.
struct Rewrite: Sendable {
  /// The name, as layouts have it.
  var name: String
  /// Whether it is left to the end, when no layout of the framework expresses the model without it.
  var isLastResort = false
  /// Changes the model towards what the target's config was read back as; returns whether it did.
  var apply:
    @Sendable (_ model: inout HubModel, _ context: RewriteContext) throws(Diagnostic) -> Bool

  /// Every rewrite, by name.
  static let all: [String: Rewrite] = {
    let list = [
      foldEmbedScale, expandKVHeads, foldGroupNorm, scaleKeys, centerValues,
      foldMultipliers, dropKeyBias,
    ]
    return [String: Rewrite](uniqueKeysWithValues: list.map { ($0.name, $0) })
  }()
}

/// What a rewrite may look at.
struct RewriteContext: Sendable {
  /// The model that the target's config was read back as.
  let target: ModelSpec
  /// The mixers' declarations.
  let vocabulary: Vocabulary
}
