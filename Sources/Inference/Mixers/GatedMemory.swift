public import Hub
import Tensors

extension MixerKind {
  /// A gated memory unit: an earlier sub-layer's values, gated by this one's input (SambaY: Ren et al.
  /// 2025, arXiv 2507.06607).
  public static let gmu = MixerKind(
    name: "gmu",
    summary: "gated memory unit over the values that an earlier sub-layer saves",
    attributes: [
      Attribute("d_memory", .size, "channels of the memory"),
      Attribute(
        "memory_norm_eps", .notNegative, default: JSONValue.null,
        "epsilon of the RMSNorm of the gated memory; null for none"),
    ],
    pieces: [
      Piece("in.weight", ["d_memory", "d_model"], "projection to the gate"),
      Piece("in.bias", ["d_memory"], identity: .zero, "its bias"),
      Piece(
        "memory_norm.weight", ["d_memory"], identity: .one, "weight of the norm of the gated memory"
      ),
      Piece("out.weight", ["d_model", "d_memory"], "output projection"),
      Piece("out.bias", ["d_model"], identity: .zero, "its bias"),
    ])
}

/// Runs a gated memory unit: out(SiLU(in x) * m), normed before `out` where the model has it so;
/// equations of ArchScale's `GMU` and of `modeling_phi4flash.py`.
struct GatedMemoryMixer<T: Real>: Mixer {
  let gate: Projection<T>
  let norm: (eps: Double, weight: [T]?)?
  let out: Projection<T>

  init(_ loader: PieceLoader<T>) {
    let (d, m) = (loader.dModel, loader.size("d_memory"))
    gate = loader.projection("in", m, d)
    norm = loader.optionalNumber("memory_norm_eps").map { eps in
      (eps, loader.optionalValues("memory_norm.weight", [m]))
    }
    out = loader.projection("out", d, m)
    loader.requireMemory(width: m)
  }

  func makeState(batch: Int, workspace: Workspace) -> MixerState<T> { MixerState() }

  func callAsFunction(
    _ input: MixerInput<T>, _ run: Run<T>, _ state: MixerState<T>?
  ) -> Buffer<T> {
    let g = gate(input.normed, run)
    let y = run.copy(run.crossing.required(\.memory))
    run.gate(g.read, g.count, .silu, times: y.pointer)
    if let norm {
      run.rmsNorm(y.read, run.rows, gate.weight.rows, norm.weight, norm.eps, into: y.pointer)
    }
    return out(y.read, run)
  }
}
