import Hub
import Layouts
import Tensors

extension Rewrite {
  /// An embedding scale becomes part of the embedding; a tied head keeps the unscaled rows, and is
  /// tied no more.
  static let foldEmbedScale = Rewrite(name: "fold_embed_scale", need: .target) {
    (model, context) throws(Diagnostic) in
    let scale = model.spec["embed_scale"].double ?? 1
    let wanted = context.target?["embed_scale"].double ?? 1
    let embed = PieceID(nil, "embed.weight")
    guard scale != wanted, let value = model.pieces[embed] else { return nil }
    var reasons: [Reason] = []
    if model.spec["tied"].bool == true {
      model.pieces[PieceID(nil, "head.weight")] = value
      model.spec.attributes["tied"] = false
      reasons.append(
        Reason(.exact, "the head is untied from the embedding, which takes the embedding scale"))
    }
    model.pieces[embed] = .scaled(value, scale / wanted)
    model.spec.attributes["embed_scale"] = .double(wanted)
    let isPower = abs((scale / wanted).significand) == 1
    reasons.append(
      Reason(
        isPower ? .exact : .rounding,
        "the embedding is multiplied by its scale \(scale / wanted)"))
    return reasons
  }
}
