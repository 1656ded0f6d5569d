import Hub
import Layouts
import Tensors

extension Rewrite {
  /// The weight of the norm of each head's output becomes part of the output projection, whose
  /// columns it multiplies: the gate between them is elementwise.
  static let foldGroupNorm = Rewrite(name: "fold_group_norm", need: .target) {
    (model, _) throws(Diagnostic) in
    var changed = false
    for i in model.spec.sublayers.indices {
      guard let weight = model.pieces[PieceID(i, "g_norm.weight")],
        let projection = model.pieces[PieceID(i, "o.weight")]
      else { continue }
      model.pieces[PieceID(i, "o.weight")] = .scaledColumns(projection, by: weight)
      model.pieces[PieceID(i, "g_norm.weight")] = nil
      changed = true
    }
    return changed
      ? [Reason(.exact, "the weights of the heads' norms are folded into the output projections")]
      : nil
  }
}
