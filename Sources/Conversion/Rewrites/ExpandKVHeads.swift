import Hub
import Layouts
import Tensors

extension Rewrite {
  /// Grouped key and value heads are repeated where the target has one for each query head.
  ///
  /// Which pieces are grouped is read from the shapes that their kind declares: the first extent is a
  /// product with `n_kv_heads`.
  static let expandKVHeads = Rewrite(name: "expand_kv_heads", need: .target) {
    (model, context) throws(Diagnostic) in
    var changed = false
    for (i, wanted) in context.counterparts(model.spec) {
      let sublayer = model.spec.sublayers[i]
      guard let kind = context.vocabulary.kinds[sublayer.kind],
        let groups = sublayer["n_kv_heads"].int, let heads = sublayer["n_heads"].int,
        wanted["n_heads"].int == heads, wanted["n_kv_heads"].int == heads, groups < heads,
        groups > 0, heads % groups == 0
      else { continue }
      for piece in kind.pieces {
        let id = PieceID(i, piece.role)
        guard let value = model.pieces[id],
          let block = try rowsOfAGroup(piece, sublayer, model.spec)
        else { continue }
        // Under differential attention a pair of heads is what queries share.
        let pair = sublayer["lambda_init"] == .null ? 1 : 2
        model.pieces[id] = .repeatedRows(value, block: pair * block, times: heads / groups)
      }
      model.spec.sublayers[i].attributes["n_kv_heads"] = .int(heads)
      changed = true
    }
    return changed
      ? [Reason(.exact, "each key and value head is repeated for the query heads that share it")]
      : nil
  }

  /// Rows of one key and value head in a piece; `nil` for a piece that has none.
  private static func rowsOfAGroup(
    _ piece: MixerKind.Piece, _ sublayer: ModelSpec.Sublayer, _ spec: ModelSpec
  ) throws(Diagnostic) -> Int? {
    guard let rows = piece.shape.first, rows.names.contains("n_kv_heads") else { return nil }
    var scope = Scope(spec.attributes, sublayer.attributes)
    scope.values["n_kv_heads"] = 1
    return try rows.int(in: scope)
  }
}
