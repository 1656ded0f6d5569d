import Hub
import Layouts
import Tensors

extension Rewrite {
  /// Grouped key and value heads are repeated where the target has one for each query head.
  static let expandKVHeads = Rewrite(name: "expand_kv_heads") {
    (draft, target, _) throws(Diagnostic) in
    let grouped: [String: [(role: String, width: String)]] = [
      "attention": [
        ("k", "head_dim"), ("v", "head_dim"), ("k_conv", "head_dim"), ("v_conv", "head_dim"),
      ],
      "gla": [
        ("k", "head_k_dim"), ("v", "head_v_dim"), ("k_conv", "head_k_dim"),
        ("v_conv", "head_v_dim"), ("gk_b", "head_k_dim"),
      ],
      "retention": [("k", "head_k_dim"), ("v", "head_v_dim")],
    ]
    guard target.sublayers.count == draft.spec.sublayers.count else { return false }
    var changed = false
    for (i, wanted) in target.sublayers.enumerated() {
      let sublayer = draft.spec.sublayers[i]
      guard sublayer.kind == wanted.kind, let roles = grouped[sublayer.kind],
        let groups = sublayer["n_kv_heads"].int, let heads = sublayer["n_heads"].int,
        wanted["n_heads"].int == heads, wanted["n_kv_heads"].int == heads, groups < heads,
        groups > 0, heads % groups == 0
      else { continue }
      for (role, width) in roles {
        for part in ["weight", "bias"] {
          let id = PieceID(i, "\(role).\(part)")
          if let value = draft.pieces[id], let block = sublayer[width].int {
            draft.pieces[id] = .repeatedRows(value, block: block, times: heads / groups)
          }
        }
      }
      draft.spec.sublayers[i].attributes["n_kv_heads"] = .int(heads)
      changed = true
    }
    if changed {
      draft.note(.exact, "each key and value head is repeated for the query heads that share it")
    }
    return changed
  }
}
