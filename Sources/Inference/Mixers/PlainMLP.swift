public import Hub
import Tensors

extension MixerKind {
  /// An MLP without a gate: `down(activation(up x))`, with the squared ReLU of Nemotron (So et al. 2021,
  /// arXiv 2109.08668).
  public static let ffn = MixerKind(
    name: "ffn",
    summary: "MLP without a gate, with a squared ReLU",
    source:
      "So et al. 2021, arXiv 2109.08668; transformers/models/nemotron_h/modeling_nemotron_h.py",
    attributes: [
      Attribute("d_ff", .size, "inner width"),
      Attribute(
        "activation", .words("silu", "gelu", "gelu_tanh", "relu", "relu2"), default: "relu2",
        "relu2 (the square of ReLU), relu, silu, gelu (the exact one, with erf) or gelu_tanh"),
    ],
    pieces: [
      Piece("up.weight", ["d_ff", "d_model"], "the activated projection"),
      Piece("up.bias", ["d_ff"], identity: .zero, "its bias"),
      Piece("down.weight", ["d_model", "d_ff"], "output projection"),
      Piece("down.bias", ["d_model"], identity: .zero, "its bias"),
    ],
    outputPieces: ["down.weight", "down.bias"])
}

/// Runs an MLP without a gate.
struct PlainMLPMixer<T: Real>: Mixer {
  let activation: Activation
  let up: Projection<T>
  let down: Projection<T>

  init(_ loader: PieceLoader<T>) {
    let (d, f) = (loader.dModel, loader.size("d_ff"))
    activation = loader.activation("activation")
    up = loader.projection("up", f, d)
    down = loader.projection("down", d, f)
  }

  func makeState(batch: Int, workspace: Workspace) -> MixerState<T> { MixerState() }

  func callAsFunction(
    _ input: MixerInput<T>, _ run: Run<T>, _ state: MixerState<T>?
  ) -> Buffer<T> {
    let inner = up(input.normed, run)
    run.activate(inner.pointer, inner.count, activation)
    return down(inner.read, run)
  }
}
