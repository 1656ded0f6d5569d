import Hub
import Layouts
import Tensors

extension Rewrite {
  /// Pieces are dropped that change nothing under the sub-layer's attributes, as their kind declares
  /// it: a bias of the keys shifts all scores of a query alike.
  static let dropIdlePieces = Rewrite(
    name: "drop_idle_pieces", need: .target, isLastResort: true
  ) { (model, context) throws(Diagnostic) in
    var reasons: [Reason] = []
    for i in model.spec.sublayers.indices {
      let sublayer = model.spec.sublayers[i]
      let scope = Scope(model.spec.attributes, sublayer.attributes)
      for piece in context.vocabulary.kinds[sublayer.kind]?.pieces ?? [] {
        let id = PieceID(i, piece.role)
        guard let idle = piece.idle, model.pieces[id] != nil, try idle.when.bool(in: scope) else {
          continue
        }
        model.pieces[id] = nil
        reasons.append(Reason(.exact, idle.reason))
      }
    }
    return reasons.isEmpty ? nil : reasons
  }
}
