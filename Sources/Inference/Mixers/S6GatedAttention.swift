public import Layouts
import Tensors

extension MixerKind {
  /// S6GatedAttention: Mega's gated attention with a selective scan for its moving average
  /// (`lit_gpt/mega.py`, `lit_gpt/s6.py`). Its gate replaces the residual addition.
  public static let mega = MixerKind(
    name: "mega",
    summary: "S6 gated attention (S6-Mega)",
    attributes: [
      Attribute("d_state", "state size N of the scan"),
      Attribute("d_conv", "width of the causal convolution"),
      Attribute("dt_rank", "rank of the step-size projection"),
      Attribute("d_qk", default: 128, "width of queries and keys"),
      Attribute("chunk", default: 2048, "attention stays inside chunks of this length"),
    ],
    pieces: [
      Piece("conv.weight", ["d_model", "d_conv"], "depthwise causal convolution"),
      Piece("conv.bias", ["d_model"], neutral: .zero, "its bias"),
      Piece("x_dt.weight", ["dt_rank", "d_model"], "projection to the step size"),
      Piece("x_b.weight", ["d_state", "d_model"], "projection to B"),
      Piece("x_c.weight", ["d_state", "d_model"], "projection to C"),
      Piece("dt.weight", ["d_model", "dt_rank"], "step size of each channel"),
      Piece("dt.bias", ["d_model"], keepsFloat32: true, "its bias"),
      Piece("a_log", ["d_model", "d_state"], keepsFloat32: true, "log of -A"),
      Piece("d", ["d_model"], keepsFloat32: true, "skip connection"),
      Piece("v.weight", ["d_model", "d_model"], "values"),
      Piece("v.bias", ["d_model"], neutral: .zero, "its bias"),
      Piece("mx_u.weight", ["d_model", "d_model"], "update gate"),
      Piece("mx_u.bias", ["d_model"], neutral: .zero, "its bias"),
      Piece("mx_z.weight", ["d_qk", "d_model"], "shared queries and keys"),
      Piece("mx_z.bias", ["d_qk"], neutral: .zero, "its bias"),
      Piece("mx_r.weight", ["d_model", "d_model"], "reset gate"),
      Piece("mx_r.bias", ["d_model"], neutral: .zero, "its bias"),
      Piece("mx_h.weight", ["d_model", "d_model"], "candidate"),
      Piece("mx_h.bias", ["d_model"], neutral: .zero, "its bias"),
      Piece("h.weight", ["d_model", "d_model"], "attention's part of the candidate"),
      Piece("h.bias", ["d_model"], neutral: .zero, "its bias"),
      Piece("gamma", ["2", "d_qk"], "scale of queries (row 0) and keys (row 1)"),
      Piece("beta", ["2", "d_qk"], "shift of queries (row 0) and keys (row 1)"),
      Piece("bias_alpha", ["1", "d_qk"], "relative position bias, query side"),
      Piece("bias_beta", ["1", "d_qk"], "relative position bias, key side"),
    ])
}
