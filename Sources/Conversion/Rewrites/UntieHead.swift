import Hub
import Layouts
import Tensors

extension Rewrite {
  /// A head that is the embedding becomes a copy of it, for a framework that keeps the two apart.
  static let untieHead = Rewrite(name: "untie_head", need: .target, isNamed: false) {
    (model, context) throws(Diagnostic) in
    guard model.spec["tied"].bool == true, context.target?["tied"].bool == false,
      let value = model.pieces[PieceID(nil, "embed.weight")]
    else { return nil }
    model.pieces[PieceID(nil, "head.weight")] = value
    model.spec.attributes["tied"] = false
    return [
      Reason(.bitwise, "the head, which was the embedding, is written as a copy of it")
    ]
  }
}
