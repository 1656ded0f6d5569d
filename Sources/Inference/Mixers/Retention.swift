public import Hub
import Tensors

extension MixerKind {
  /// Multi-scale retention (Sun et al. 2023, arXiv 2307.08621; `fla/layers/multiscale_retention.py`,
  /// `torchscale/component/multiscale_retention.py`).
  public static let retention = MixerKind(
    name: "retention",
    summary: "multi-scale retention",
    source: "Sun et al. 2023, arXiv 2307.08621; fla/layers/multiscale_retention.py, "
      + "torchscale/component/multiscale_retention.py",
    attributes: [
      Attribute("n_heads", .size, "query heads"),
      Attribute("n_kv_heads", .size, "key and value heads"),
      Attribute("head_k_dim", .size, "key channels of a head"),
      Attribute("head_v_dim", .size, "value channels of a head"),
      Attribute(
        "feature_map", .text, default: JSONValue.null, "feature map of q and k; null for none"),
      Attribute("output_gate", .flag, default: true, "whether SiLU(g) gates the output"),
      Attribute("group_norm_eps", .notNegative, "epsilon of the RMSNorm of each head's output"),
      Attribute(
        "score_norm", .flag, default: false,
        "torchscale's normalisation of the scores before the group norm"),
    ],
    pieces: [
      Piece(
        "q.weight", ["n_heads * head_k_dim", "d_model"],
        "query projection; rotary pairs are (i, i + head_k_dim / 2)"),
      Piece("k.weight", ["n_kv_heads * head_k_dim", "d_model"], "key projection"),
      Piece("v.weight", ["n_kv_heads * head_v_dim", "d_model"], "value projection"),
      Piece("g.weight", ["n_heads * head_v_dim", "d_model"], "output gate"),
      Piece(
        "g_norm.weight", ["head_v_dim"], identity: .one, "weight of the norm of each head's output"),
      Piece("o.weight", ["d_model", "n_heads * head_v_dim"], "output projection"),
    ],
    rules: [Rule("n_heads % n_kv_heads == 0", "n_kv_heads", "a divisor of n_heads")])
}

/// Runs multi-scale retention; equations of `fla/layers/multiscale_retention.py`,
/// `fla/ops/retention/naive.py`, and torchscale's `MultiScaleRetention.parallel_forward`.
struct RetentionMixer<T: Real>: Mixer {
  final class State: MixerState<T> {
    let memory: Buffer<T>  // [batch, n_heads, head_k_dim, head_v_dim]
    let keys: KeyValueCache<T>?  // every key so far, for the score norm

    init(memory: Buffer<T>, keys: KeyValueCache<T>?) {
      self.memory = memory
      self.keys = keys
    }
  }

  let heads: Int
  let groups: Int
  let dk: Int
  let dv: Int
  let q: Projection<T>
  let k: Projection<T>
  let v: Projection<T>
  let feature: Activation?
  let rope: RotaryKind
  let logDecay: [Double]
  let normalizesScores: Bool
  let output: GatedOutput<T>

  init(_ loader: PieceLoader<T>) {
    heads = loader.size("n_heads")
    groups = loader.size("n_kv_heads")
    dk = loader.size("head_k_dim")
    dv = loader.size("head_v_dim")
    loader.requireMultiple("n_heads", heads, of: "n_kv_heads", groups)
    loader.requireMultiple("head_k_dim", dk, of: "pairs of", 2)
    let d = loader.dModel
    q = loader.projection("q", heads * dk, d)
    k = loader.projection("k", groups * dk, d)
    v = loader.projection("v", groups * dv, d)
    feature = loader.featureMap()
    normalizesScores = loader.flag("score_norm")
    var decays = (0..<heads).map { h in logOneMinus(power: -5 - h) }
    // torchscale keeps both in the file.
    let kept = loader.optionalValues("rotary.frequencies", [dk / 2], ofModel: true)
    rope =
      kept.map { RotaryKind(frequencies: $0.map(Double.init)) } ?? RotaryKind(base: 10000, dim: dk)
    if let kept = loader.optionalValues("rotary.log_decay", [heads], ofModel: true), !kept.isEmpty {
      decays = kept.map(Double.init)
    }
    logDecay = decays
    output = GatedOutput(loader, heads: heads, dv: dv, removesMean: false)
  }

  func makeState(batch: Int, workspace: Workspace) -> MixerState<T> {
    State(
      memory: workspace.zeros(batch * heads * dk * dv),
      keys: normalizesScores
        ? KeyValueCache(batch: batch, widths: [groups * dk], window: nil, workspace: workspace)
        : nil)
  }

  func callAsFunction(
    _ input: MixerInput<T>, _ run: Run<T>, _ state: MixerState<T>?
  ) -> Buffer<T> {
    let kept = state ?? makeState(batch: run.batch, workspace: run.workspace)
    guard let state = kept as? State else { preconditionFailure("a state of another mixer") }
    let (q, k, v) = (q(input.normed, run), k(input.normed, run), v(input.normed, run))
    if let feature {
      run.activate(q.pointer, q.count, feature)
      run.activate(k.pointer, k.count, feature)
    }
    run.rotate(q.read, heads, dk, rope, into: q.pointer)
    run.rotate(k.read, groups, dk, rope, into: k.pointer)
    let o = run.activation(heads * dv)
    let chunk = min(64, run.tokens)
    let room = scalarDecayScratch(chunk: chunk, dk: dk)
    let decays = logDecay.map { [Double](repeating: $0, count: run.tokens) }
    run.workspace.withScratch(run.workers.count * room, of: T.self) { scratch in
      run.workers.forEach(run.batch * heads) { piece, lane in
        let (sequence, h) = (piece / heads, piece % heads)
        let head = head(q, k, v, o, sequence, h, run)
        let memory = state.memory.pointer + piece * dk * dv
        if run.tokens < 4 {
          recurrentDecay(
            head, g: nil, gStride: 0, decay: decays[h], tokens: run.tokens, state: memory)
        } else {
          scalarDecay(
            head, decay: decays[h], tokens: run.tokens, chunk: chunk,
            scratch: scratch + lane * room, state: memory)
        }
      }
    }
    if let keys = state.keys {
      keys.append([k.read], tokens: run.tokens, position: run.position)
      normalizeScores(q, keys, o, run)
    }
    return output(o, input.normed, run)
  }

  private func head(
    _ q: Buffer<T>, _ k: Buffer<T>, _ v: Buffer<T>, _ o: Buffer<T>, _ sequence: Int, _ h: Int,
    _ run: Run<T>
  ) -> LinearHead<T> {
    let (row, group) = (sequence * run.tokens, h / (heads / groups))
    return LinearHead(
      q: q.read + (row * heads + h) * dk, qStride: heads * dk,
      k: k.read + (row * groups + group) * dk, kStride: groups * dk,
      v: v.read + (row * groups + group) * dv, vStride: groups * dv,
      o: o.pointer + (row * heads + h) * dv, oStride: heads * dv, dk: dk, dv: dv,
      scale: T(1 / Double(dk).squareRoot()))
  }

  // torchscale divides scores by sqrt(Σ_j γ^(i-j)), then by their absolute sum, clamped. Only the
  // epsilon of the group norm sees it, but at small activations that shows.
  private func normalizeScores(
    _ q: Buffer<T>, _ keys: KeyValueCache<T>, _ o: Buffer<T>, _ run: Run<T>
  ) {
    let grain = 16
    let across = (run.tokens + grain - 1) / grain
    let room = grain * (run.position + run.tokens)
    run.workspace.withScratch(run.workers.count * room, of: T.self) { scores in
      run.workers.forEach(run.batch * heads * across) { piece, lane in
        let (sequence, rest) = (piece / (heads * across), piece % (heads * across))
        let (h, t0) = (rest / across, rest % across * grain)
        let at = (sequence * run.tokens + t0) * heads + h
        divideByScores(
          q.read + at * dk, heads * dk,
          UnsafePointer(keys.rows(0, sequence)) + h / (heads / groups) * dk,
          groups * dk, dk, rows: min(grain, run.tokens - t0), first: run.position + t0,
          logDecay: logDecay[h], scale: T(1 / Double(dk).squareRoot()),
          scores: scores + lane * room, into: o.pointer + at * dv, heads * dv, dv)
      }
    }
  }
}

/// o_i /= s_i clamp(Σ_j |scale q_i k_j| γ^(i-j) / s_i, 1, 5e4), s_i = sqrt(Σ_j γ^(i-j)), j <= i
/// (torchscale's `RetNetRelPos` and `parallel_forward`)
@specialized(where T == Float)
@specialized(where T == Double)
private func divideByScores<T: Real>(
  _ q: UnsafePointer<T>, _ qStride: Int, _ k: UnsafePointer<T>, _ kStride: Int, _ dk: Int,
  rows: Int, first: Int, logDecay: Double, scale: T, scores: UnsafeMutablePointer<T>,
  into o: UnsafeMutablePointer<T>, _ oStride: Int, _ dv: Int
) {
  let keys = first + rows
  T.gemm(
    transposeA: false, transposeB: true, m: rows, n: keys, k: dk, alpha: scale, a: q, lda: qStride,
    b: k, ldb: kStride, beta: 0, c: scores, ldc: keys)
  for i in 0..<rows {
    var (sum, weights) = (0.0, 0.0)
    for j in 0...first + i {
      let weight = Double.exp(Double(first + i - j) * logDecay)
      weights += weight
      sum += weight * Double(scores[i * keys + j].magnitude)
    }
    let spread = weights.squareRoot()
    let divisor = T(spread * min(max(sum / spread, 1), 5e4))
    for x in 0..<dv { o[i * oStride + x] /= divisor }
  }
}
