public import Hub
import Tensors

extension MixerKind {
  /// Softmax attention with rotary positions, grouped heads and a sliding window
  /// (`lit_gpt/model.py`, `fla/layers/attn.py`, transformers' Llama and Mistral).
  public static let attention = MixerKind(
    name: "attention",
    summary: "causal softmax attention",
    source: "lit_gpt/model.py, fla/layers/attn.py, transformers/models/llama/modeling_llama.py",
    attributes: [
      Attribute("n_heads", "query heads"),
      Attribute("n_kv_heads", "key and value heads"),
      Attribute("head_dim", "channels of a head"),
      Attribute(
        "window", default: JSONValue.null, "keys that a query sees, itself included; null for all"),
      Attribute(
        "rope_base", default: JSONValue.null, "base of the rotary frequencies; null for no rotation"
      ),
      Attribute(
        "rope_factor", default: 1.0, "positions are divided by it (linear scaling, condense_ratio)"),
      Attribute(
        "rope_scaling", default: JSONValue.null,
        "any other scaling of the frequencies, as the config has it"),
      Attribute(
        "rope_dim", default: JSONValue.null, "channels that rotate; null for all of a head"),
      Attribute(
        "rope_table", default: "float32",
        "precision of the cosine and sine tables: float32 or bfloat16"),
      Attribute(
        "qk_norm_eps", default: JSONValue.null, "epsilon of the RMSNorm on q and k; null for none"),
      Attribute(
        "d_conv", default: JSONValue.null,
        "width of the short convolutions on q, k and v; null for none"),
    ],
    pieces: [
      Piece(
        "q.weight", ["n_heads * head_dim", "d_model"],
        "query projection; rotary pairs are (i, i + head_dim / 2)"),
      Piece("q.bias", ["n_heads * head_dim"], identity: .zero, "its bias"),
      Piece("k.weight", ["n_kv_heads * head_dim", "d_model"], "key projection"),
      Piece("k.bias", ["n_kv_heads * head_dim"], identity: .zero, "its bias"),
      Piece("v.weight", ["n_kv_heads * head_dim", "d_model"], "value projection"),
      Piece("v.bias", ["n_kv_heads * head_dim"], identity: .zero, "its bias"),
      Piece("q_conv.weight", ["n_heads * head_dim", "d_conv"], "short causal convolution of q"),
      Piece("k_conv.weight", ["n_kv_heads * head_dim", "d_conv"], "short causal convolution of k"),
      Piece("v_conv.weight", ["n_kv_heads * head_dim", "d_conv"], "short causal convolution of v"),
      Piece("q_norm.weight", ["head_dim"], identity: .one, "weight of the norm of q"),
      Piece("k_norm.weight", ["head_dim"], identity: .one, "weight of the norm of k"),
      Piece("o.weight", ["d_model", "n_heads * head_dim"], "output projection"),
      Piece("o.bias", ["d_model"], identity: .zero, "its bias"),
    ])
}

/// Runs softmax attention; equations of `fla/layers/attn.py`, `lit_gpt/model.py`
/// (`CausalSelfAttention`, with `sc_attn`'s short convolutions before the rotation).
struct AttentionMixer<T: Real>: Mixer {
  final class State: MixerState<T> {
    let tails: [Buffer<T>]
    let cache: KeyValueCache<T>

    init(tails: [Buffer<T>], cache: KeyValueCache<T>) {
      self.tails = tails
      self.cache = cache
    }
  }

  let heads: Int
  let groups: Int
  let dim: Int
  let window: Int?
  let rope: RotaryKind?
  let q: Projection<T>
  let k: Projection<T>
  let v: Projection<T>
  let out: Projection<T>
  let convolutions: [Convolution<T>]
  let norms: (eps: Double, q: [T]?, k: [T]?)?
  let selfExtend: SelfExtend?

  init(_ loader: PieceLoader<T>) {
    heads = loader.size("n_heads")
    groups = loader.size("n_kv_heads")
    dim = loader.size("head_dim")
    window = loader.optionalSize("window")
    loader.requireMultiple("n_heads", heads, of: "n_kv_heads", groups)
    rope = AttentionMixer.rotary(loader, dim)
    let (d, wide, narrow) = (loader.dModel, heads * dim, groups * dim)
    q = loader.projection("q", wide, d)
    k = loader.projection("k", narrow, d)
    v = loader.projection("v", narrow, d)
    out = loader.projection("o", d, wide)
    if let width = loader.optionalSize("d_conv") {
      convolutions = [
        loader.convolution("q_conv", wide, width), loader.convolution("k_conv", narrow, width),
        loader.convolution("v_conv", narrow, width),
      ]
    } else {
      convolutions = []
    }
    norms = loader.optionalNumber("qk_norm_eps").map { eps in
      (
        eps, loader.optionalValues("q_norm.weight", [loader.size("head_dim")]),
        loader.optionalValues("k_norm.weight", [loader.size("head_dim")])
      )
    }
    selfExtend = loader.selfExtend
    if selfExtend != nil, let window {
      loader.refuse(
        "model.self_extend",
        "Self-Extend needs full attention; this layer has a window of \(window)")
    } else if let selfExtend,
      selfExtend.group < 1 || selfExtend.window < 1
        || selfExtend.window % selfExtend.group != 0
    {
      loader.refuse(
        "model.self_extend",
        "the window \(selfExtend.window) should be a multiple of the group \(selfExtend.group)")
    }
  }

  private static func rotary(_ loader: PieceLoader<T>, _ dim: Int) -> RotaryKind? {
    let factor = loader.number("rope_factor")
    let table = loader.word("rope_table", ["float32", "bfloat16"])
    let scaling = loader.attribute("rope_scaling")
    let rotating = loader.optionalSize("rope_dim") ?? dim
    guard let base = loader.optionalNumber("rope_base") else { return nil }
    if rotating > dim || rotating % 2 != 0 {
      loader.refuse("model.attribute", "rope_dim \(rotating) should be even and at most \(dim)")
      return nil
    }
    if base <= 0 || factor <= 0 {
      loader.refuse(
        "model.attribute", "rope_base \(base) and rope_factor \(factor) should be above 0")
    }
    var kind = RotaryKind(
      // Self-Extend counts positions that lit_gpt's rounded tables do not have.
      base: base, dim: rotating, positionFactor: factor,
      table: table == "bfloat16" && loader.selfExtend == nil ? .bfloat16 : .exact)
    if scaling != .null {
      if table == "bfloat16" {
        loader.refuse(
          "model.attribute", "rope_scaling \(scaling.text()) with a bfloat16 rope_table")
      } else if let problem = kind.apply(scaling, base: base) {
        loader.refuse("model.attribute", "rope_scaling: \(problem)")
      }
    }
    return kind
  }

  func makeState(batch: Int, workspace: Workspace) -> MixerState<T> {
    let row = groups * dim
    return State(
      tails: makeTails(batch: batch, workspace: workspace),
      cache: KeyValueCache(
        batch: batch, widths: isExtended ? [row, row, row] : [row, row], window: window,
        workspace: workspace))
  }

  private func makeTails(batch: Int, workspace: Workspace) -> [Buffer<T>] {
    convolutions.map { $0.makeTail(batch: batch, workspace: workspace) }
  }

  private var isExtended: Bool { selfExtend != nil && rope != nil }

  func callAsFunction(
    _ input: MixerInput<T>, _ run: Run<T>, _ state: MixerState<T>?
  ) -> Buffer<T> {
    let state = state as? State
    var (q, k, v) = (q(input.normed, run), k(input.normed, run), v(input.normed, run))
    if !convolutions.isEmpty {
      let tails = state?.tails ?? makeTails(batch: run.batch, workspace: run.workspace)
      q = convolutions[0](q.read, run, tail: tails[0])
      k = convolutions[1](k.read, run, tail: tails[1])
      v = convolutions[2](v.read, run, tail: tails[2])
    }
    if let norms {
      run.rmsNorm(q.read, run.rows * heads, dim, norms.q, norms.eps, into: q.pointer)
      run.rmsNorm(k.read, run.rows * groups, dim, norms.k, norms.eps, into: k.pointer)
    }
    var (farQ, farK): (Buffer<T>?, Buffer<T>?) = (nil, nil)
    if let rope {
      if let extend = selfExtend {
        let (a, b) = (run.activation(heads * dim), run.activation(groups * dim))
        run.rotate(
          q.read, heads, dim, rope, group: extend.group,
          shift: extend.window - extend.window / extend.group, into: a.pointer)
        run.rotate(k.read, groups, dim, rope, group: extend.group, into: b.pointer)
        (farQ, farK) = (a, b)
      }
      run.rotate(q.read, heads, dim, rope, into: q.pointer)
      run.rotate(k.read, groups, dim, rope, into: k.pointer)
    }
    let o: Buffer<T>
    if let state, run.tokens == 1 {
      o = step(q, farQ, [k.read, v.read] + (farK.map { [$0.read] } ?? []), state.cache, run)
    } else {
      o = tiles(q, farQ, [k.read, v.read] + (farK.map { [$0.read] } ?? []), state?.cache, run)
    }
    return out(o.read, run)
  }

  private func head(_ planes: [UnsafePointer<T>], group: Int, firstKey: Int) -> AttentionHead<T> {
    let stride = groups * dim
    return AttentionHead(
      k: planes[0] + group * dim, kStride: stride, v: planes[1] + group * dim, vStride: stride,
      firstKey: firstKey, window: window, dim: dim, dv: dim, scale: T(1 / Double(dim).squareRoot()),
      bias: nil, farK: planes.count > 2 ? planes[2] + group * dim : nil,
      neighbours: selfExtend?.window ?? .max)
  }

  // Decoding: the new token's row joins the cache, then one query a head.
  private func step(
    _ q: Buffer<T>, _ farQ: Buffer<T>?, _ planes: [UnsafePointer<T>], _ cache: KeyValueCache<T>,
    _ run: Run<T>
  ) -> Buffer<T> {
    cache.append(planes, tokens: 1, position: run.position)
    let keys = cache.filled(run.position + 1)
    let o = run.activation(heads * dim)
    let shared = heads / groups
    run.workspace.withScratch(run.workers.count * keys, of: T.self) { scores in
      run.workers.forEach(run.batch * groups) { piece, lane in
        let (sequence, group) = (piece / groups, piece % groups)
        let rows = planes.indices.map { UnsafePointer(cache.rows($0, sequence)) }
        let at = (sequence * heads + group * shared) * dim
        attendOnce(
          head(rows, group: group, firstKey: 0), q: q.read + at, farQ: farQ.map { $0.read + at },
          queries: shared, keys: keys, scores: scores + lane * keys, into: o.pointer + at)
      }
    }
    return o
  }

  // Prefill: tiles of queries, each against the keys that it sees.
  private func tiles(
    _ q: Buffer<T>, _ farQ: Buffer<T>?, _ planes: [UnsafePointer<T>], _ cache: KeyValueCache<T>?,
    _ run: Run<T>
  ) -> Buffer<T> {
    let (tokens, width) = (run.tokens, groups * dim)
    // What the cache still holds goes before the new rows.
    let old = cache == nil ? 0 : min(run.position, window.map { $0 - 1 } ?? run.position)
    let total = old + tokens
    var joined: [Buffer<T>] = []
    if let cache, old > 0 {
      for (plane, rows) in planes.enumerated() {
        let room: Buffer<T> = run.workspace.buffer(run.batch * total * width)
        for sequence in 0..<run.batch {
          let out = room.pointer + sequence * total * width
          cache.copyLast(old, position: run.position, plane: plane, sequence: sequence, into: out)
          (out + old * width).update(
            from: rows + sequence * tokens * width, count: tokens * width)
        }
        joined.append(room)
      }
    }
    cache?.append(planes, tokens: tokens, position: run.position)
    let sources = joined.isEmpty ? planes : joined.map(\.read)
    let grain = 64
    let across = (tokens + grain - 1) / grain
    let room = grain * min(total, (window ?? total) + grain) * (farQ == nil ? 1 : 2)
    let o = run.activation(heads * dim)
    let first = cache == nil ? 0 : run.position
    run.workspace.withScratch(run.workers.count * room, of: T.self) { scores in
      run.workers.forEach(run.batch * heads * across) { piece, lane in
        let (sequence, rest) = (piece / (heads * across), piece % (heads * across))
        let (h, t0) = (rest / across, rest % across * grain)
        let at = (sequence * tokens + t0) * heads * dim + h * dim
        causalAttention(
          head(
            sources.map { $0 + sequence * total * width }, group: h / (heads / groups),
            firstKey: first - old), q: q.read + at, farQ: farQ.map { $0.read + at },
          qStride: heads * dim, rows: min(grain, tokens - t0), first: first + t0,
          scores: scores + lane * room, into: o.pointer + at, oStride: heads * dim)
      }
    }
    return o
  }
}
