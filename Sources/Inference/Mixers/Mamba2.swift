public import Hub
import Tensors

extension MixerKind {
  /// Mamba-2: state space duality (Dao and Gu 2024, arXiv 2405.21060; `mamba_ssm/modules/mamba2.py`).
  public static let mamba2 = MixerKind(
    name: "mamba2",
    summary: "Mamba-2 scan with scalar decay per head",
    source: "Dao and Gu 2024, arXiv 2405.21060; mamba_ssm/modules/mamba2.py",
    attributes: [
      Attribute("d_inner", .size, "width inside the mixer (n_heads * head_dim)"),
      Attribute("d_state", .size, "state size N"),
      Attribute("d_conv", .size, "width of the causal convolution"),
      Attribute("n_heads", .size, "number of heads"),
      Attribute("head_dim", .size, "channels of a head"),
      Attribute("n_groups", .size, "groups of heads that share B and C"),
      Attribute(
        "gated_norm", .words("rms", "none"), default: "rms", "norm behind the gate: rms or none"),
      Attribute(
        "norm_before_gate", .flag, default: false, "whether the norm comes before the gate"),
      Attribute(
        "d_has_hdim", .flag, default: false, "whether D has a value for each channel, not each head"
      ),
      Attribute("dt_min", .notNegative, default: 0.0, "lower limit of the step size"),
      Attribute(
        "dt_max", .positive, default: JSONValue.null, "upper limit of the step size; null for none"),
      Attribute(
        "dt_floor", .notNegative, default: JSONValue.null,
        "lower limit of the step size that transformers' class applies and the model's own code, llama.cpp, vLLM and mlx-lm do not; null for none"
      ),
      Attribute("gated_norm_eps", .notNegative, "epsilon of the gated norm"),
      Attribute(
        "input_scale", .finite, default: JSONValue.null,
        "factor on what the mixer reads; null for 1"),
      Attribute(
        "in_scales", default: JSONValue.null,
        "factors on z, x, B, C and dt as the input projection gives them; null for ones"),
    ],
    pieces: [
      Piece("in_z.weight", ["d_inner", "d_model"], "projection to the gate"),
      Piece("in_z.bias", ["d_inner"], identity: .zero, "its bias"),
      Piece("in_x.weight", ["d_inner", "d_model"], "projection to the scanned branch"),
      Piece("in_x.bias", ["d_inner"], identity: .zero, "its bias"),
      Piece("in_b.weight", ["n_groups * d_state", "d_model"], "projection to B"),
      Piece("in_b.bias", ["n_groups * d_state"], identity: .zero, "its bias"),
      Piece("in_c.weight", ["n_groups * d_state", "d_model"], "projection to C"),
      Piece("in_c.bias", ["n_groups * d_state"], identity: .zero, "its bias"),
      Piece("in_dt.weight", ["n_heads", "d_model"], "projection to the step sizes"),
      Piece("in_dt.bias", ["n_heads"], identity: .zero, "its bias"),
      Piece("conv_x.weight", ["d_inner", "d_conv"], "causal convolution of x"),
      Piece("conv_x.bias", ["d_inner"], identity: .zero, "its bias"),
      Piece("conv_b.weight", ["n_groups * d_state", "d_conv"], "causal convolution of B"),
      Piece("conv_b.bias", ["n_groups * d_state"], identity: .zero, "its bias"),
      Piece("conv_c.weight", ["n_groups * d_state", "d_conv"], "causal convolution of C"),
      Piece("conv_c.bias", ["n_groups * d_state"], identity: .zero, "its bias"),
      Piece("dt.bias", ["n_heads"], keepsFloat32: true, "bias of the step sizes"),
      Piece("a_log", ["n_heads"], keepsFloat32: true, "log of -A"),
      Piece(
        "a", ["n_heads"], keepsFloat32: true, image: .init(of: "a_log", by: .negExp),
        "A itself, -exp(a_log), in files that hold it in place of a_log"),
      Piece("d", ["d_has_hdim ? d_inner : n_heads"], keepsFloat32: true, "skip connection"),
      Piece("gated_norm.weight", ["d_inner"], identity: .one, "weight of the gated norm"),
      Piece("out.weight", ["d_model", "d_inner"], "output projection"),
      Piece("out.bias", ["d_model"], identity: .zero, "its bias"),
    ], memory: "d_inner",
    rules: [
      Rule("d_inner == n_heads * head_dim", "n_heads", "d_inner / head_dim"),
      Rule("n_heads % n_groups == 0", "n_groups", "a divisor of n_heads"),
      Rule("dt_max == null or dt_min <= dt_max", "dt_max", "at least dt_min"),
    ])
}

/// Runs a Mamba-2 sub-layer; equations of `mamba_ssm/modules/mamba2.py` and transformers'
/// `modeling_mamba2.py`. Head h reads group h / (heads / groups) of B and C.
struct Mamba2Mixer<T: Real>: Mixer {
  final class State: MixerState<T> {
    let tails: [Buffer<T>]
    let memory: Buffer<T>  // [batch, n_heads, d_state, head_dim]

    init(tails: [Buffer<T>], memory: Buffer<T>) {
      self.tails = tails
      self.memory = memory
    }
  }

  let heads: Int
  let dim: Int
  let groups: Int
  let n: Int
  let inZ: Projection<T>
  let inputs: [Projection<T>]  // x, B, C
  let inStep: Projection<T>
  let convolutions: [Convolution<T>]
  let stepBias: [T]
  let stepLimits: (lower: T, upper: T)
  let rates: [T]  // -e^a_log
  let skip: [T]  // for each channel
  let norm: (eps: Double, weight: [T]?)?
  let normsFirst: Bool
  let out: Projection<T>
  let savesMemory: Bool
  let scales: [T]?  // of z, x, B, C and dt

  init(_ loader: PieceLoader<T>) {
    let (d, e) = (loader.dModel, loader.size("d_inner"))
    let (heads, dim, groups) = (
      loader.size("n_heads"), loader.size("head_dim"), loader.size("n_groups")
    )
    n = loader.size("d_state")
    if heads * dim != e {
      loader.refuse("model.attribute", "d_inner \(e) is not n_heads \(heads) times head_dim \(dim)")
    }
    loader.requireMultiple("n_heads", heads, of: "n_groups", groups)
    inZ = loader.projection("in_z", e, d)
    let width = loader.size("d_conv")
    inputs = [
      loader.projection("in_x", e, d), loader.projection("in_b", groups * n, d),
      loader.projection("in_c", groups * n, d),
    ]
    inStep = loader.projection("in_dt", heads, d)
    convolutions = [
      loader.convolution("conv_x", e, width), loader.convolution("conv_b", groups * n, width),
      loader.convolution("conv_c", groups * n, width),
    ]
    stepBias = loader.values("dt.bias", [heads])
    stepLimits = (
      T(max(loader.number("dt_min"), loader.optionalNumber("dt_floor") ?? 0)),
      loader.optionalNumber("dt_max").map(T.init) ?? .infinity
    )
    rates = loader.rates([heads])
    if loader.flag("d_has_hdim") {
      skip = loader.values("d", [e])
    } else {
      skip = loader.values("d", [heads]).flatMap { [T](repeating: $0, count: dim) }
    }
    let eps = loader.number("gated_norm_eps")
    norm =
      loader.word("gated_norm", ["rms", "none"]) == "rms"
      ? (eps, loader.optionalValues("gated_norm.weight", [e])) : nil
    normsFirst = loader.flag("norm_before_gate")
    out = loader.projection("out", d, e)
    savesMemory = loader.isOn("saves_memory")
    scales = loader.factors("in_scales", 5)
    (self.heads, self.dim, self.groups) = (heads, dim, groups)
  }

  func makeState(batch: Int, workspace: Workspace) -> MixerState<T> {
    State(
      tails: convolutions.map { $0.makeTail(batch: batch, workspace: workspace) },
      memory: workspace.zeros(batch * heads * n * dim))
  }

  func callAsFunction(
    _ input: MixerInput<T>, _ run: Run<T>, _ state: MixerState<T>?
  ) -> Buffer<T> {
    let kept = state ?? makeState(batch: run.batch, workspace: run.workspace)
    guard let state = kept as? State else { preconditionFailure("a state of another mixer") }
    let parts = inputs.indices.map { i in
      convolutions[i](
        scaled(inputs[i](input.normed, run), i + 1).read, run, tail: state.tails[i])
    }
    let (x, b, c) = (parts[0], parts[1], parts[2])
    let steps = scaled(inStep(input.normed, run), 4)
    // Of each head, by time: the log decay; and the values of linear attention, dt x.
    let decay: Buffer<Double> = run.workspace.buffer(run.rows * heads)
    let values = run.activation(heads * dim)
    run.workers.forEachRun(of: run.rows, grain: 64) { rows in
      prepareSteps(
        steps.pointer, stepBias, stepLimits.lower, stepLimits.upper, rates, x.read, rows: rows,
        tokens: run.tokens, heads: heads, dim: dim, decay: decay.pointer, into: values.pointer)
    }
    let y = run.activation(heads * dim)
    let chunk = min(64, run.tokens)
    let room = scalarDecayScratch(chunk: chunk, dk: n)
    run.workspace.withScratch(run.workers.count * room, of: T.self) { scratch in
      run.workers.forEach(run.batch * heads) { piece, lane in
        let (sequence, h) = (piece / heads, piece % heads)
        let (row, group) = (sequence * run.tokens, h / (heads / groups))
        let head = LinearHead(
          q: c.read + (row * groups + group) * n, qStride: groups * n,
          k: b.read + (row * groups + group) * n, kStride: groups * n,
          v: values.read + (row * heads + h) * dim, vStride: heads * dim,
          o: y.pointer + (row * heads + h) * dim, oStride: heads * dim, dk: n, dv: dim, scale: 1)
        let memory = state.memory.pointer + piece * n * dim
        let decay = decay.read + piece * run.tokens
        if run.tokens < 4 {
          recurrentDecay(
            head, g: nil, gStride: 0, decay: decay, tokens: run.tokens, state: memory)
        } else {
          scalarDecay(
            head, decay: decay, tokens: run.tokens, chunk: chunk,
            scratch: scratch + lane * room, state: memory)
        }
      }
    }
    let z = scaled(inZ(input.normed, run), 0)
    run.workers.forEachRun(of: run.rows, grain: 64) { rows in
      addProduct(x.read, skip, rows: rows, width: heads * dim, to: y.pointer)
    }
    if savesMemory { run.crossing.memory = run.copy(y) }
    if norm == nil || !normsFirst { run.gate(z.read, z.count, .silu, times: y.pointer) }
    if let norm {
      run.rmsNorm(y.read, run.rows * groups, heads * dim / groups, nil, norm.eps, into: y.pointer)
      if let weight = norm.weight {
        run.workers.forEachRun(of: run.rows, grain: 64) { rows in
          multiply(y.pointer, weight, rows: rows, width: heads * dim)
        }
      }
      if normsFirst { run.gate(z.read, z.count, .silu, times: y.pointer) }
    }
    return out(y.read, run)
  }

  // A part of the input projection times its factor.
  private func scaled(_ part: Buffer<T>, _ number: Int) -> Buffer<T> {
    if let scales, scales[number] != 1 { scale(part.pointer, part.count, by: scales[number]) }
    return part
  }
}

/// dt = clamp(softplus(steps [row, h] + bias [h])); decay [sequence, h, t] = dt a [h];
/// values [row, h, dim] = dt x [row, h, dim]
@specialized(where T == Float)
@specialized(where T == Double)
private func prepareSteps<T: Real>(
  _ steps: UnsafePointer<T>, _ bias: UnsafePointer<T>, _ lower: T, _ upper: T,
  _ rates: UnsafePointer<T>, _ x: UnsafePointer<T>, rows: Range<Int>, tokens: Int, heads: Int,
  dim: Int, decay: UnsafeMutablePointer<Double>, into values: UnsafeMutablePointer<T>
) {
  for row in rows {
    let (sequence, t) = (row / tokens, row % tokens)
    for h in 0..<heads {
      let raised = max(softplus(steps[row * heads + h] + bias[h]), lower)
      let dt = raised > upper ? upper : raised
      decay[(sequence * heads + h) * tokens + t] = Double(dt) * Double(rates[h])
      let (input, out) = (x + (row * heads + h) * dim, values + (row * heads + h) * dim)
      for i in 0..<dim { out[i] = dt * input[i] }
    }
  }
}

/// y [row, i] += x [row, i] d [i]
@specialized(where T == Float)
@specialized(where T == Double)
private func addProduct<T: Real>(
  _ x: UnsafePointer<T>, _ d: UnsafePointer<T>, rows: Range<Int>, width: Int,
  to y: UnsafeMutablePointer<T>
) {
  for row in rows {
    for i in 0..<width { y[row * width + i] += x[row * width + i] * d[i] }
  }
}

/// y [row, i] *= w [i]
@specialized(where T == Float)
@specialized(where T == Double)
private func multiply<T: Real>(
  _ y: UnsafeMutablePointer<T>, _ w: UnsafePointer<T>, rows: Range<Int>, width: Int
) {
  for row in rows {
    for i in 0..<width { y[row * width + i] *= w[i] }
  }
}
