public import Layouts
import Tensors

extension MixerKind {
  /// Mamba-2: state space duality (Dao and Gu 2024, arXiv 2405.21060; `mamba_ssm/modules/mamba2.py`).
  public static let mamba2 = MixerKind(
    name: "mamba2",
    summary: "Mamba-2 scan with scalar decay per head",
    attributes: [
      Attribute("d_inner", "width inside the mixer (n_heads * head_dim)"),
      Attribute("d_state", "state size N"),
      Attribute("d_conv", "width of the causal convolution"),
      Attribute("n_heads", "number of heads"),
      Attribute("head_dim", "channels of a head"),
      Attribute("n_groups", "groups of heads that share B and C"),
      Attribute("gated_norm", default: "rms", "norm behind the gate: rms or none"),
      Attribute("norm_before_gate", default: false, "whether the norm comes before the gate"),
      Attribute("d_has_hdim", default: false, "whether D has a value for each channel, not each head"),
      Attribute("dt_min", default: 0.0, "lower limit of the step size"),
      Attribute("dt_max", default: JSONValue.null, "upper limit of the step size; null for none"),
      Attribute("gated_norm_eps", "epsilon of the gated norm"),
    ],
    pieces: [
      Piece("in_z.weight", ["d_inner", "d_model"], "projection to the gate"),
      Piece("in_z.bias", ["d_inner"], neutral: .zero, "its bias"),
      Piece("in_x.weight", ["d_inner", "d_model"], "projection to the scanned branch"),
      Piece("in_x.bias", ["d_inner"], neutral: .zero, "its bias"),
      Piece("in_b.weight", ["n_groups * d_state", "d_model"], "projection to B"),
      Piece("in_b.bias", ["n_groups * d_state"], neutral: .zero, "its bias"),
      Piece("in_c.weight", ["n_groups * d_state", "d_model"], "projection to C"),
      Piece("in_c.bias", ["n_groups * d_state"], neutral: .zero, "its bias"),
      Piece("in_dt.weight", ["n_heads", "d_model"], "projection to the step sizes"),
      Piece("in_dt.bias", ["n_heads"], neutral: .zero, "its bias"),
      Piece("conv_x.weight", ["d_inner", "d_conv"], "causal convolution of x"),
      Piece("conv_x.bias", ["d_inner"], neutral: .zero, "its bias"),
      Piece("conv_b.weight", ["n_groups * d_state", "d_conv"], "causal convolution of B"),
      Piece("conv_b.bias", ["n_groups * d_state"], neutral: .zero, "its bias"),
      Piece("conv_c.weight", ["n_groups * d_state", "d_conv"], "causal convolution of C"),
      Piece("conv_c.bias", ["n_groups * d_state"], neutral: .zero, "its bias"),
      Piece("dt.bias", ["n_heads"], keepsFloat32: true, "bias of the step sizes"),
      Piece("a_log", ["n_heads"], keepsFloat32: true, "log of -A"),
      Piece("d", ["d_has_hdim ? d_inner : n_heads"], keepsFloat32: true, "skip connection"),
      Piece("gated_norm.weight", ["d_inner"], neutral: .one, "weight of the gated norm"),
      Piece("out.weight", ["d_model", "d_inner"], "output projection"),
      Piece("out.bias", ["d_model"], neutral: .zero, "its bias"),
    ])
}
