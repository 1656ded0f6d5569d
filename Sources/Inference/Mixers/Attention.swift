public import Layouts
import Tensors

extension MixerKind {
  /// Softmax attention with rotary positions, grouped heads and a sliding window
  /// (`lit_gpt/model.py`, `fla/layers/attn.py`, transformers' Llama and Mistral).
  public static let attention = MixerKind(
    name: "attention",
    summary: "causal softmax attention",
    attributes: [
      Attribute("n_heads", "query heads"),
      Attribute("n_kv_heads", "key and value heads"),
      Attribute("head_dim", "channels of a head"),
      Attribute("window", default: JSONValue.null, "keys that a query sees, itself included; null for all"),
      Attribute("rope_base", default: JSONValue.null, "base of the rotary frequencies; null for no rotation"),
      Attribute("rope_factor", default: 1.0, "positions are divided by it (linear scaling, condense_ratio)"),
      Attribute("rope_scaling", default: JSONValue.null, "any other scaling of the frequencies, as the config has it"),
      Attribute("rope_dim", default: JSONValue.null, "channels that rotate; null for all of a head"),
      Attribute("rope_table", default: "float32", "precision of the cosine and sine tables: float32 or bfloat16"),
      Attribute("qk_norm_eps", default: JSONValue.null, "epsilon of the RMSNorm on q and k; null for none"),
      Attribute("d_conv", default: JSONValue.null, "width of the short convolutions on q, k and v; null for none"),
    ],
    pieces: [
      Piece("q.weight", ["n_heads * head_dim", "d_model"], "query projection; rotary pairs are (i, i + head_dim / 2)"),
      Piece("q.bias", ["n_heads * head_dim"], neutral: .zero, "its bias"),
      Piece("k.weight", ["n_kv_heads * head_dim", "d_model"], "key projection"),
      Piece("k.bias", ["n_kv_heads * head_dim"], neutral: .zero, "its bias"),
      Piece("v.weight", ["n_kv_heads * head_dim", "d_model"], "value projection"),
      Piece("v.bias", ["n_kv_heads * head_dim"], neutral: .zero, "its bias"),
      Piece("q_conv.weight", ["n_heads * head_dim", "d_conv"], "short causal convolution of q"),
      Piece("k_conv.weight", ["n_kv_heads * head_dim", "d_conv"], "short causal convolution of k"),
      Piece("v_conv.weight", ["n_kv_heads * head_dim", "d_conv"], "short causal convolution of v"),
      Piece("q_norm.weight", ["head_dim"], neutral: .one, "weight of the norm of q"),
      Piece("k_norm.weight", ["head_dim"], neutral: .one, "weight of the norm of k"),
      Piece("o.weight", ["d_model", "n_heads * head_dim"], "output projection"),
      Piece("o.bias", ["d_model"], neutral: .zero, "its bias"),
    ])
}
