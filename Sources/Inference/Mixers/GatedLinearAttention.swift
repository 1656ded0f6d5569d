public import Layouts
import Tensors

extension MixerKind {
  /// Gated linear attention (Yang et al. 2023, arXiv 2312.06635; `fla/layers/gla.py`).
  public static let gla = MixerKind(
    name: "gla",
    summary: "gated linear attention",
    attributes: [
      Attribute("n_heads", "query heads"),
      Attribute("n_kv_heads", "key, value and gate heads"),
      Attribute("head_k_dim", "key channels of a head"),
      Attribute("head_v_dim", "value channels of a head"),
      Attribute("gate_rank", default: 16, "rank of the forget gate's projection"),
      Attribute("gate_normalizer", default: 16.0, "the log-sigmoid of the gate is divided by it"),
      Attribute("gate_min", default: JSONValue.null, "lower limit of the log gate (clamp_min); null for none"),
      Attribute("feature_map", default: JSONValue.null, "feature map of q and k; null for none"),
      Attribute("d_conv", default: JSONValue.null, "width of the short convolutions on q, k and v; null for none"),
      Attribute("output_gate", default: true, "whether SiLU(g) gates the output"),
      Attribute("group_norm", default: "rms", "norm of each head's output: rms, or layer (mean removed)"),
      Attribute("group_norm_eps", "its epsilon"),
      Attribute("k_scale", default: 1.0, "factor on the keys besides head_k_dim^-0.5 on the queries"),
    ],
    pieces: [
      Piece("q.weight", ["n_heads * head_k_dim", "d_model"], "query projection"),
      Piece("k.weight", ["n_kv_heads * head_k_dim", "d_model"], "key projection"),
      Piece("v.weight", ["n_kv_heads * head_v_dim", "d_model"], "value projection"),
      Piece("q_conv.weight", ["n_heads * head_k_dim", "d_conv"], "short causal convolution of q"),
      Piece("k_conv.weight", ["n_kv_heads * head_k_dim", "d_conv"], "short causal convolution of k"),
      Piece("v_conv.weight", ["n_kv_heads * head_v_dim", "d_conv"], "short causal convolution of v"),
      Piece("gk_a.weight", ["gate_rank", "d_model"], "forget gate, first factor"),
      Piece("gk_b.weight", ["n_kv_heads * head_k_dim", "gate_rank"], "forget gate, second factor"),
      Piece("gk_b.bias", ["n_kv_heads * head_k_dim"], neutral: .zero, "its bias"),
      Piece("g.weight", ["n_heads * head_v_dim", "d_model"], "output gate"),
      Piece("g.bias", ["n_heads * head_v_dim"], neutral: .zero, "its bias"),
      Piece("g_norm.weight", ["head_v_dim"], neutral: .one, "weight of the norm of each head's output"),
      Piece("o.weight", ["d_model", "n_heads * head_v_dim"], "output projection"),
    ])
}
