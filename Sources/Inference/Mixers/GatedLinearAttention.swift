public import Hub
import Tensors

extension MixerKind {
  /// Gated linear attention (Yang et al. 2023, arXiv 2312.06635; `fla/layers/gla.py`).
  public static let gla = MixerKind(
    name: "gla",
    summary: "gated linear attention",
    source: "Yang et al. 2023, arXiv 2312.06635; fla/layers/gla.py",
    attributes: [
      Attribute("n_heads", .size, "query heads"),
      Attribute("n_kv_heads", .size, "key, value and gate heads"),
      Attribute("head_k_dim", .size, "key channels of a head"),
      Attribute("head_v_dim", .size, "value channels of a head"),
      Attribute("gate_rank", .size, default: 16, "rank of the forget gate's projection"),
      Attribute(
        "gate_normalizer", .finite, default: 16.0, "the log-sigmoid of the gate is divided by it"),
      Attribute(
        "gate_min", .finite, default: JSONValue.null,
        "lower limit of the log gate (clamp_min); null for none"),
      Attribute(
        "feature_map", .text, default: JSONValue.null, "feature map of q and k; null for none"),
      Attribute(
        "d_conv", .size, default: JSONValue.null,
        "width of the short convolutions on q, k and v; null for none"),
      Attribute("output_gate", .flag, default: true, "whether SiLU(g) gates the output"),
      Attribute(
        "group_norm", .words("rms", "layer"), default: "rms",
        "norm of each head's output: rms, or layer (mean removed)"),
      Attribute("group_norm_eps", .notNegative, "its epsilon"),
      Attribute(
        "k_scale", .finite, default: 1.0,
        "factor on the keys besides head_k_dim^-0.5 on the queries"),
    ],
    pieces: [
      Piece("q.weight", ["n_heads * head_k_dim", "d_model"], "query projection"),
      Piece("k.weight", ["n_kv_heads * head_k_dim", "d_model"], "key projection"),
      Piece("v.weight", ["n_kv_heads * head_v_dim", "d_model"], "value projection"),
      Piece("q_conv.weight", ["n_heads * head_k_dim", "d_conv"], "short causal convolution of q"),
      Piece(
        "k_conv.weight", ["n_kv_heads * head_k_dim", "d_conv"], "short causal convolution of k"),
      Piece(
        "v_conv.weight", ["n_kv_heads * head_v_dim", "d_conv"], "short causal convolution of v"),
      Piece("gk_a.weight", ["gate_rank", "d_model"], "forget gate, first factor"),
      Piece("gk_b.weight", ["n_kv_heads * head_k_dim", "gate_rank"], "forget gate, second factor"),
      Piece("gk_b.bias", ["n_kv_heads * head_k_dim"], identity: .zero, "its bias"),
      Piece("g.weight", ["n_heads * head_v_dim", "d_model"], "output gate"),
      Piece("g.bias", ["n_heads * head_v_dim"], identity: .zero, "its bias"),
      Piece(
        "g_norm.weight", ["head_v_dim"], identity: .one, "weight of the norm of each head's output"),
      Piece("o.weight", ["d_model", "n_heads * head_v_dim"], "output projection"),
    ],
    rules: [Rule("n_heads % n_kv_heads == 0", "n_kv_heads", "a divisor of n_heads")])
}

/// Runs gated linear attention; equations of `fla/layers/gla.py` and `fla/ops/gla/naive.py`.
struct GLAMixer<T: Real>: Mixer {
  final class State: MixerState<T> {
    let tails: [Buffer<T>]
    let memory: Buffer<T>  // [batch, n_kv_heads, head_k_dim, head_v_dim]

    init(tails: [Buffer<T>], memory: Buffer<T>) {
      self.tails = tails
      self.memory = memory
    }
  }

  let heads: Int
  let groups: Int
  let dk: Int
  let dv: Int
  let q: Projection<T>
  let k: Projection<T>
  let v: Projection<T>
  let gateA: Projection<T>
  let gateB: Projection<T>
  let normalizer: Double
  let lowest: Double
  let keyScale: Double
  let feature: Activation?
  let convolutions: [Convolution<T>]
  let output: GatedOutput<T>

  init(_ loader: PieceLoader<T>) {
    heads = loader.size("n_heads")
    groups = loader.size("n_kv_heads")
    dk = loader.size("head_k_dim")
    dv = loader.size("head_v_dim")
    loader.requireMultiple("n_heads", heads, of: "n_kv_heads", groups)
    let (d, rank) = (loader.dModel, loader.size("gate_rank"))
    q = loader.projection("q", heads * dk, d)
    k = loader.projection("k", groups * dk, d)
    v = loader.projection("v", groups * dv, d)
    gateA = loader.projection("gk_a", rank, d)
    gateB = loader.projection("gk_b", groups * dk, rank)
    normalizer = loader.number("gate_normalizer")
    lowest = loader.optionalNumber("gate_min") ?? -.infinity
    keyScale = loader.number("k_scale")
    feature = loader.featureMap()
    if let width = loader.optionalSize("d_conv") {
      convolutions = [
        loader.convolution("q_conv", heads * dk, width),
        loader.convolution("k_conv", groups * dk, width),
        loader.convolution("v_conv", groups * dv, width),
      ]
    } else {
      convolutions = []
    }
    output = GatedOutput(
      loader, heads: heads, dv: dv,
      removesMean: loader.word("group_norm", ["rms", "layer"]) == "layer")
  }

  func makeState(batch: Int, workspace: Workspace) -> MixerState<T> {
    State(
      tails: convolutions.map { $0.makeTail(batch: batch, workspace: workspace) },
      memory: workspace.zeros(batch * groups * dk * dv))
  }

  func callAsFunction(
    _ input: MixerInput<T>, _ run: Run<T>, _ state: MixerState<T>?
  ) -> Buffer<T> {
    let kept = state ?? makeState(batch: run.batch, workspace: run.workspace)
    guard let state = kept as? State else { preconditionFailure("a state of another mixer") }
    var (q, k, v) = (q(input.normed, run), k(input.normed, run), v(input.normed, run))
    if !convolutions.isEmpty {
      q = convolutions[0](q.read, run, tail: state.tails[0])
      k = convolutions[1](k.read, run, tail: state.tails[1])
      v = convolutions[2](v.read, run, tail: state.tails[2])
    }
    let g = gateB(gateA(input.normed, run).read, run)
    run.forEachElement(of: g.count) { range in
      logGate(
        g.pointer + range.lowerBound, range.count, dividedBy: T(normalizer), atLeast: T(lowest))
    }
    if let feature {
      run.activate(q.pointer, q.count, feature)
      run.activate(k.pointer, k.count, feature)
    }
    if keyScale != 1 {
      run.forEachElement(of: k.count) { range in
        scale(k.pointer + range.lowerBound, range.count, by: T(keyScale))
      }
    }
    let o = run.activation(heads * dv)
    let chunk = min(64, run.tokens)
    let room = channelDecayScratch(chunk: chunk, dk: dk)
    let shared = heads / groups
    run.workspace.withScratch(run.workers.count * room, of: T.self) { scratch in
      run.workers.forEach(run.batch * groups) { piece, lane in
        let (sequence, group) = (piece / groups, piece % groups)
        let row = sequence * run.tokens
        let head = LinearHead(
          q: q.read + row * heads * dk + group * shared * dk, qStride: heads * dk,
          k: k.read + row * groups * dk + group * dk, kStride: groups * dk,
          v: v.read + row * groups * dv + group * dv, vStride: groups * dv,
          o: o.pointer + row * heads * dv + group * shared * dv, oStride: heads * dv, dk: dk,
          dv: dv,
          queries: shared, scale: T(1 / Double(dk).squareRoot()))
        let gates = g.read + row * groups * dk + group * dk
        let memory = state.memory.pointer + piece * dk * dv
        if run.tokens < 4 {
          recurrentDecay(
            head, g: gates, gStride: groups * dk, decay: nil, tokens: run.tokens, state: memory)
        } else {
          channelDecay(
            head, g: gates, gStride: groups * dk, tokens: run.tokens, chunk: chunk,
            scratch: scratch + lane * room, state: memory)
        }
      }
    }
    return output(o, input.normed, run)
  }
}
