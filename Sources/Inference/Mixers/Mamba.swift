public import Layouts
import Tensors

extension MixerKind {
  /// Mamba-1: selective scan (Gu and Dao 2023, arXiv 2312.00752; `mamba_ssm/modules/mamba_simple.py`).
  public static let mamba = MixerKind(
    name: "mamba",
    summary: "Mamba-1 selective scan",
    attributes: [
      Attribute("d_inner", "width inside the mixer (expand * d_model)"),
      Attribute("d_state", "state size N of each channel"),
      Attribute("d_conv", "width of the causal convolution"),
      Attribute("dt_rank", "rank of the step-size projection"),
      Attribute("bcdt_norm_eps", default: JSONValue.null, "falcon_mamba's RMSNorm on dt, B and C: its epsilon"),
    ],
    pieces: [
      Piece("in_x.weight", ["d_inner", "d_model"], "projection to the scanned branch"),
      Piece("in_x.bias", ["d_inner"], neutral: .zero, "its bias"),
      Piece("in_z.weight", ["d_inner", "d_model"], "projection to the gate"),
      Piece("in_z.bias", ["d_inner"], neutral: .zero, "its bias"),
      Piece("conv.weight", ["d_inner", "d_conv"], "depthwise causal convolution; the last column multiplies the current token"),
      Piece("conv.bias", ["d_inner"], neutral: .zero, "its bias"),
      Piece("x_dt.weight", ["dt_rank", "d_inner"], "projection to the step size"),
      Piece("x_b.weight", ["d_state", "d_inner"], "projection to B"),
      Piece("x_c.weight", ["d_state", "d_inner"], "projection to C"),
      Piece("dt.weight", ["d_inner", "dt_rank"], "step size of each channel"),
      Piece("dt.bias", ["d_inner"], keepsFloat32: true, "its bias"),
      Piece("a_log", ["d_inner", "d_state"], keepsFloat32: true, "log of -A"),
      Piece("d", ["d_inner"], keepsFloat32: true, "skip connection"),
      Piece("out.weight", ["d_model", "d_inner"], "output projection"),
      Piece("out.bias", ["d_model"], neutral: .zero, "its bias"),
    ])
}
