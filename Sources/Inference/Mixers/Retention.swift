public import Layouts
import Tensors

extension MixerKind {
  /// Multi-scale retention (Sun et al. 2023, arXiv 2307.08621; `fla/layers/multiscale_retention.py`,
  /// `torchscale/component/multiscale_retention.py`).
  public static let retention = MixerKind(
    name: "retention",
    summary: "multi-scale retention",
    attributes: [
      Attribute("n_heads", "query heads"),
      Attribute("n_kv_heads", "key and value heads"),
      Attribute("head_k_dim", "key channels of a head"),
      Attribute("head_v_dim", "value channels of a head"),
      Attribute("feature_map", default: JSONValue.null, "feature map of q and k; null for none"),
      Attribute("output_gate", default: true, "whether SiLU(g) gates the output"),
      Attribute("group_norm_eps", "epsilon of the RMSNorm of each head's output"),
      Attribute("rotary", default: "standard", "frequencies 10000^(-2i/d): standard; or kept in the file: table"),
      Attribute("score_norm", default: false, "torchscale's normalisation of the scores before the group norm"),
    ],
    pieces: [
      Piece("q.weight", ["n_heads * head_k_dim", "d_model"], "query projection; rotary pairs are (i, i + head_k_dim / 2)"),
      Piece("k.weight", ["n_kv_heads * head_k_dim", "d_model"], "key projection"),
      Piece("v.weight", ["n_kv_heads * head_v_dim", "d_model"], "value projection"),
      Piece("g.weight", ["n_heads * head_v_dim", "d_model"], "output gate"),
      Piece("g_norm.weight", ["head_v_dim"], neutral: .one, "weight of the norm of each head's output"),
      Piece("o.weight", ["d_model", "n_heads * head_v_dim"], "output projection"),
    ])
}
