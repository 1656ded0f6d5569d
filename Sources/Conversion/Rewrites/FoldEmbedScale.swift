import Hub
import Layouts
import Tensors

extension Rewrite {
  /// An embedding scale becomes part of the embedding; a tied head keeps the unscaled rows, and is
  /// tied no more.
  static let foldEmbedScale = Rewrite(name: "fold_embed_scale") {
    (draft, context) throws(Diagnostic) in
    let scale = draft.spec["embed_scale"].double ?? 1
    let wanted = context.target["embed_scale"].double ?? 1
    let embed = PieceID(nil, "embed.weight")
    guard scale != wanted, let value = draft.pieces[embed] else { return false }
    if draft.spec["tied"].bool == true {
      draft.pieces[PieceID(nil, "head.weight")] = value
      draft.spec.attributes["tied"] = false
      draft.note(.exact, "the head is untied from the embedding, which takes the embedding scale")
    }
    draft.pieces[embed] = .scaled(value, scale / wanted)
    draft.spec.attributes["embed_scale"] = .double(wanted)
    draft.note(.exact, "the embedding is multiplied by its scale \(scale / wanted)")
    return true
  }
}
