public import Layouts
import Tensors

extension MixerKind {
  /// A gated MLP: `down(activation(gate x) * up x)` (Shazeer 2020, arXiv 2002.05202).
  public static let mlp = MixerKind(
    name: "mlp",
    summary: "gated MLP (SwiGLU)",
    attributes: [
      Attribute("d_ff", "inner width"),
      Attribute("activation", default: "silu", "silu or gelu (the exact one, with erf)"),
    ],
    pieces: [
      Piece("gate.weight", ["d_ff", "d_model"], "the activated projection"),
      Piece("gate.bias", ["d_ff"], neutral: .zero, "its bias"),
      Piece("up.weight", ["d_ff", "d_model"], "the linear projection"),
      Piece("up.bias", ["d_ff"], neutral: .zero, "its bias"),
      Piece("down.weight", ["d_model", "d_ff"], "output projection"),
      Piece("down.bias", ["d_model"], neutral: .zero, "its bias"),
    ])
}
