public import Hub
import Tensors

extension MixerKind {
  /// Mamba-1: selective scan (Gu and Dao 2023, arXiv 2312.00752; `mamba_ssm/modules/mamba_simple.py`).
  public static let mamba = MixerKind(
    name: "mamba",
    summary: "Mamba-1 selective scan",
    source: "Gu and Dao 2023, arXiv 2312.00752; mamba_ssm/modules/mamba_simple.py",
    attributes: [
      Attribute("d_inner", .size, "width inside the mixer (expand * d_model)"),
      Attribute("d_state", .size, "state size N of each channel"),
      Attribute("d_conv", .size, "width of the causal convolution"),
      Attribute("dt_rank", .size, "rank of the step-size projection"),
      Attribute(
        "bcdt_norm_eps", .notNegative, default: JSONValue.null,
        "RMSNorm on dt, B and C (falcon_mamba, Jamba): its epsilon"),
    ],
    pieces: [
      Piece("in_x.weight", ["d_inner", "d_model"], "projection to the scanned branch"),
      Piece("in_x.bias", ["d_inner"], identity: .zero, "its bias"),
      Piece("in_z.weight", ["d_inner", "d_model"], "projection to the gate"),
      Piece("in_z.bias", ["d_inner"], identity: .zero, "its bias"),
      Piece(
        "conv.weight", ["d_inner", "d_conv"],
        "depthwise causal convolution; the last column multiplies the current token"),
      Piece("conv.bias", ["d_inner"], identity: .zero, "its bias"),
      Piece("x_dt.weight", ["dt_rank", "d_inner"], "projection to the step size"),
      Piece("x_b.weight", ["d_state", "d_inner"], "projection to B"),
      Piece("x_c.weight", ["d_state", "d_inner"], "projection to C"),
      Piece("x_dt_norm.weight", ["dt_rank"], identity: .one, "weight of the norm of dt"),
      Piece("x_b_norm.weight", ["d_state"], identity: .one, "weight of the norm of B"),
      Piece("x_c_norm.weight", ["d_state"], identity: .one, "weight of the norm of C"),
      Piece("dt.weight", ["d_inner", "dt_rank"], "step size of each channel"),
      Piece("dt.bias", ["d_inner"], keepsFloat32: true, "its bias"),
      Piece("a_log", ["d_inner", "d_state"], keepsFloat32: true, "log of -A"),
      Piece(
        "a", ["d_inner", "d_state"], keepsFloat32: true, image: .init(of: "a_log", by: .negExp),
        "A itself, -exp(a_log), in files that hold it in place of a_log"),
      Piece("d", ["d_inner"], keepsFloat32: true, "skip connection"),
      Piece("out.weight", ["d_model", "d_inner"], "output projection"),
      Piece("out.bias", ["d_model"], identity: .zero, "its bias"),
    ], memory: "d_inner")
}

/// Runs a Mamba-1 sub-layer; equations of `selective_scan_interface.py`, `selective_scan_ref`, and
/// `mamba_simple.py`, `Mamba.forward`; falcon_mamba's norms as in transformers'
/// `modeling_falcon_mamba.py`.
struct MambaMixer<T: Real>: Mixer {
  final class State: MixerState<T> {
    let tail: Buffer<T>
    let scan: Buffer<T>  // [batch, d_state, d_inner]

    init(tail: Buffer<T>, scan: Buffer<T>) {
      self.tail = tail
      self.scan = scan
    }
  }

  let inX: Projection<T>
  let inZ: Projection<T>
  let convolution: Convolution<T>
  let scan: SelectiveSSM<T>
  let out: Projection<T>
  let savesMemory: Bool

  init(_ loader: PieceLoader<T>) {
    let d = loader.dModel
    let e = loader.size("d_inner")
    inX = loader.projection("in_x", e, d)
    inZ = loader.projection("in_z", e, d)
    convolution = loader.convolution("conv", e, loader.size("d_conv"))
    scan = SelectiveSSM(loader, width: e, normEps: loader.optionalNumber("bcdt_norm_eps"))
    out = loader.projection("out", d, e)
    savesMemory = loader.isOn("saves_memory")
  }

  func makeState(batch: Int, workspace: Workspace) -> MixerState<T> {
    State(
      tail: convolution.makeTail(batch: batch, workspace: workspace),
      scan: scan.makeState(batch: batch, workspace: workspace))
  }

  func callAsFunction(
    _ input: MixerInput<T>, _ run: Run<T>, _ state: MixerState<T>?
  ) -> Buffer<T> {
    let kept = state ?? makeState(batch: run.batch, workspace: run.workspace)
    guard let state = kept as? State else { preconditionFailure("a state of another mixer") }
    let x = inX(input.normed, run)
    let u = convolution(x.read, run, tail: state.tail)
    let z = inZ(input.normed, run)
    guard savesMemory else { return out(scan(u, gate: z, run, state.scan).read, run) }
    let memory = scan(u, run, state.scan)
    run.crossing.memory = memory
    let gated = run.copy(memory)
    run.gate(z.read, z.count, .silu, times: gated.pointer)
    return out(gated.read, run)
  }
}
