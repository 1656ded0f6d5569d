public import Hub
import Tensors

extension MixerKind {
  /// A gated MLP: `down(activation(gate x) * up x)` (Shazeer 2020, arXiv 2002.05202).
  public static let mlp = MixerKind(
    name: "mlp",
    summary: "gated MLP (SwiGLU)",
    source: "Shazeer 2020, arXiv 2002.05202",
    attributes: [
      Attribute("d_ff", .size, "inner width"),
      Attribute(
        "activation", .words("silu", "gelu", "gelu_tanh", "relu", "relu2"), default: "silu",
        "silu, gelu (the exact one, with erf), gelu_tanh, relu or relu2 (its square)"),
      Attribute(
        "gate_scale", .finite, default: JSONValue.null,
        "factor on the gate before its activation; null for 1"),
      Attribute(
        "inner_norm", .words("rms", "layer", "scale"), default: JSONValue.null,
        "norm before the output projection: rms, layer or scale; null for none"),
      Attribute("inner_norm_eps", .notNegative, default: JSONValue.null, "epsilon of that norm"),
    ],
    pieces: [
      Piece("gate.weight", ["d_ff", "d_model"], "the activated projection"),
      Piece("gate.bias", ["d_ff"], identity: .zero, "its bias"),
      Piece("up.weight", ["d_ff", "d_model"], "the linear projection"),
      Piece("up.bias", ["d_ff"], identity: .zero, "its bias"),
      Piece("inner_norm.weight", ["d_ff"], identity: .one, "weight of the inner norm"),
      Piece("inner_norm.bias", ["d_ff"], identity: .zero, "its bias (LayerNorm)"),
      Piece("down.weight", ["d_model", "d_ff"], "output projection"),
      Piece("down.bias", ["d_model"], identity: .zero, "its bias"),
    ],
    blank: ["d_ff": 256, "activation": "silu"], memory: "d_ff")
}

/// Runs a gated MLP.
struct GatedMLPMixer<T: Real>: Mixer {
  let activation: Activation
  let gateScale: T
  let gate: Projection<T>
  let up: Projection<T>
  let down: Projection<T>
  let norm: InnerNorm<T>?
  let savesMemory: Bool

  init(_ loader: PieceLoader<T>) {
    let (d, f) = (loader.dModel, loader.size("d_ff"))
    activation = loader.activation("activation")
    gateScale = T(loader.optionalNumber("gate_scale") ?? 1)
    gate = loader.projection("gate", f, d)
    up = loader.projection("up", f, d)
    down = loader.projection("down", d, f)
    norm = InnerNorm(loader, "inner_norm", width: f)
    savesMemory = loader.isOn("saves_memory")
  }

  func makeState(batch: Int, workspace: Workspace) -> MixerState<T> { MixerState() }

  func callAsFunction(
    _ input: MixerInput<T>, _ run: Run<T>, _ state: MixerState<T>?
  ) -> Buffer<T> {
    let gated = gate(input.normed, run)
    let inner = up(input.normed, run)
    if gateScale != 1 { scale(gated.pointer, gated.count, by: gateScale) }
    if savesMemory { run.crossing.memory = run.copy(inner) }
    run.gate(gated.read, inner.count, activation, times: inner.pointer)
    norm?(inner.read, run, into: inner.pointer)
    return down(inner.read, run)
  }
}
