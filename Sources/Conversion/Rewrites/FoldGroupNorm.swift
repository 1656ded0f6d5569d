import Hub
import Layouts
import Tensors

extension Rewrite {
  /// The weight of the norm of each head's output becomes part of the output projection, whose
  /// columns it multiplies: the gate between them is elementwise.
  static let foldGroupNorm = Rewrite(name: "fold_group_norm") { (draft, _) throws(Diagnostic) in
    var changed = false
    for i in draft.spec.sublayers.indices {
      guard let weight = draft.pieces[PieceID(i, "g_norm.weight")],
        let projection = draft.pieces[PieceID(i, "o.weight")]
      else { continue }
      draft.pieces[PieceID(i, "o.weight")] = .scaledColumns(projection, by: weight)
      draft.pieces[PieceID(i, "g_norm.weight")] = nil
      changed = true
    }
    if changed {
      draft.note(.exact, "the weights of the heads' norms are folded into the output projections")
    }
    return changed
  }
}
