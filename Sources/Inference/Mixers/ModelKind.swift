public import Hub
import Tensors

extension MixerKind {
  /// The model as a whole: embedding, final norm, head.
  public static let model = MixerKind(
    name: "model",
    summary: "embedding, final norm and language-model head",
    attributes: [
      Attribute("d_model", .size, "width of the residual stream"),
      Attribute("vocab_rows", .size, "rows of the embedding, padding included"),
      Attribute("vocab_size", .size, "tokens that have a meaning; the rows after them are padding"),
      Attribute("tied", "whether the head is the embedding"),
      Attribute("embed_scale", .finite, default: 1.0, "factor on the embedding's output"),
      Attribute(
        "embed_norm", .words("none", "rms", "layer"), default: "none",
        "norm of the embedding's output: none, rms or layer"),
      Attribute(
        "embed_norm_eps", .notNegative, default: JSONValue.null,
        "epsilon of that norm; null for the final norm's"
      ),
      Attribute(
        "final_norm", .words("rms", "layer", "scale", "none"), default: "rms",
        "norm before the head: rms, layer, scale or none"),
      Attribute("final_norm_eps", .notNegative, "epsilon of that norm"),
      Attribute(
        "logit_scale", .finite, default: JSONValue.null,
        "factor on the final norm's output, before the head (muP); null for 1"),
      Attribute(
        "parallel_residual", .flag, default: false, "mixer and MLP read the same residual stream"),
    ],
    pieces: [
      Piece("embed.weight", ["vocab_rows", "d_model"], "token embedding"),
      Piece(
        "embed_norm.weight", ["d_model"], identity: .one, "weight of the norm behind the embedding"),
      Piece("embed_norm.bias", ["d_model"], identity: .zero, "its bias"),
      Piece("final_norm.weight", ["d_model"], identity: .one, "weight of the norm before the head"),
      Piece("final_norm.bias", ["d_model"], identity: .zero, "its bias"),
      Piece("head.weight", ["vocab_rows", "d_model"], "language-model head"),
      Piece("head.bias", ["vocab_rows"], identity: .zero, "bias of the head"),
      Piece(
        "rotary.frequencies", ["head_k_dim // 2"], computed: RetentionTables.frequencies,
        "rotary frequencies kept in the file (torchscale's angle)"),
      Piece(
        "rotary.log_decay", ["n_heads"], computed: RetentionTables.logDecay,
        "log of the decay of each head kept in the file (torchscale)"),
    ], hasNorm: false,
    rules: [Rule("vocab_size <= vocab_rows", "vocab_size", "at most the embedding's rows")])
}
