public import Hub
import Tensors

extension MixerKind {
  /// Softmax attention with rotary positions, grouped heads and a sliding window
  /// (`lit_gpt/model.py`, `fla/layers/attn.py`, transformers' Llama and Mistral).
  public static let attention = MixerKind(
    name: "attention",
    summary: "causal softmax attention",
    source: "lit_gpt/model.py, fla/layers/attn.py, transformers/models/llama/modeling_llama.py",
    attributes: MixerKind.scoreAttributes + [
      Attribute(
        "qk_norm_eps", .notNegative, default: JSONValue.null,
        "epsilon of the RMSNorm on q and k; null for none"),
      Attribute(
        "d_conv", .size, default: JSONValue.null,
        "width of the short convolutions on q, k and v; null for none"),
      Attribute(
        "conv_activation", default: JSONValue.null,
        "false where no SiLU follows these convolutions; null for SiLU"),
      Attribute(
        "k_scale", default: JSONValue.null, "factor on the keys before the rotation; null for 1"),
      Attribute(
        "input_scale", default: JSONValue.null, "factor on what the mixer reads; null for 1"),
    ] + MixerKind.headAttributes + [
      Attribute(
        "out_norm", .words("rms", "layer", "scale"), default: JSONValue.null,
        "norm of all heads before the output projection: rms, layer or scale; null for none"),
      Attribute("out_norm_eps", .notNegative, default: JSONValue.null, "epsilon of that norm"),
      Attribute(
        "shares_kv", .flag, default: JSONValue.null,
        "true where cross attention behind it reads its keys and values"),
    ],
    pieces: [
      Piece(
        "q.weight", ["n_heads * head_dim", "d_model"],
        "query projection; rotary pairs are (i, i + head_dim / 2)"),
      Piece("q.bias", ["n_heads * head_dim"], identity: .zero, "its bias"),
      Piece("k.weight", ["n_kv_heads * head_dim", "d_model"], "key projection"),
      Piece(
        "k.bias", ["n_kv_heads * head_dim"], identity: .zero,
        idle: Idle(
          when: "rope_base == null and qk_norm_eps == null and d_conv == null",
          because:
            "the keys' biases are dropped: without rotation they shift all scores of a query alike, which the softmax does not see"
        ), "its bias"),
      Piece("v.weight", ["n_kv_heads * head_dim", "d_model"], "value projection"),
      Piece("v.bias", ["n_kv_heads * head_dim"], identity: .zero, "its bias"),
      Piece("q_conv.weight", ["n_heads * head_dim", "d_conv"], "short causal convolution of q"),
      Piece("q_conv.bias", ["n_heads * head_dim"], identity: .zero, "its bias"),
      Piece("k_conv.weight", ["n_kv_heads * head_dim", "d_conv"], "short causal convolution of k"),
      Piece("k_conv.bias", ["n_kv_heads * head_dim"], identity: .zero, "its bias"),
      Piece("v_conv.weight", ["n_kv_heads * head_dim", "d_conv"], "short causal convolution of v"),
      Piece("v_conv.bias", ["n_kv_heads * head_dim"], identity: .zero, "its bias"),
      Piece("q_norm.weight", ["head_dim"], identity: .one, "weight of the norm of q"),
      Piece("k_norm.weight", ["head_dim"], identity: .one, "weight of the norm of k"),
    ] + MixerKind.headPieces + [
      Piece(
        "out_norm.weight", ["n_heads * head_dim"], identity: .one, "weight of the norm of all heads"
      ),
      Piece("out_norm.bias", ["n_heads * head_dim"], identity: .zero, "its bias (LayerNorm)"),
      Piece("o.weight", ["d_model", "n_heads * head_dim"], "output projection"),
      Piece("o.bias", ["d_model"], identity: .zero, "its bias"),
    ], memory: "n_heads * head_dim",
    rules: [
      Rule("n_heads % n_kv_heads == 0", "n_kv_heads", "a divisor of n_heads"),
      Rule(
        "rope_base == null or (rope_dim ?? head_dim) % 2 == 0", "head_dim",
        "an even number: channels rotate in pairs"),
      Rule(
        "rope_base == null or (rope_dim ?? head_dim) <= head_dim", "rope_dim",
        "at most a head's channels"),
    ])

  /// What decides the scores of self-attention and of cross attention.
  static let scoreAttributes: [Attribute] = [
    Attribute("n_heads", .size, "query heads"),
    Attribute("n_kv_heads", .size, "key and value heads"),
    Attribute("head_dim", .size, "channels of a head"),
    Attribute(
      "scale", .finite, default: JSONValue.null, "factor on the scores; null for 1 / sqrt(head_dim)"
    ),
    Attribute(
      "window", .size, default: JSONValue.null,
      "keys that a query sees, itself included; null for all"),
    Attribute(
      "rope_base", .positive, default: JSONValue.null,
      "base of the rotary frequencies; null for no rotation"
    ),
    Attribute(
      "rope_factor", .positive, default: 1.0,
      "positions are divided by it (linear scaling, condense_ratio)"),
    Attribute(
      "rope_scaling", .rotaryScaling, default: JSONValue.null,
      "any other scaling of the frequencies, as the config has it"),
    Attribute(
      "rope_dim", .size, default: JSONValue.null, "channels that rotate; null for all of a head"),
    Attribute(
      "rope_table", .words("float32", "bfloat16"), default: "float32",
      "precision of the cosine and sine tables: float32 or bfloat16"),
  ]

  /// What else the two have in common.
  static let headAttributes: [Attribute] = [
    Attribute(
      "lambda_init", .finite, default: JSONValue.null,
      "differential attention over pairs of neighbouring heads: its initial lambda; null for plain attention"
    ),
    Attribute(
      "pair_norm_eps", .notNegative, default: JSONValue.null,
      "epsilon of the norm of each differential pair; null for 1e-5"),
    Attribute(
      "head_gate", .flag, default: JSONValue.null,
      "true where a sigmoid gates the output of each head"),
  ]

  /// The pieces of these.
  static let headPieces: [Piece] = [
    Piece(
      "lambda_q1", ["head_dim"], keepsFloat32: true, "first vector of the first exponent of lambda"),
    Piece("lambda_k1", ["head_dim"], keepsFloat32: true, "second vector of the first exponent"),
    Piece("lambda_q2", ["head_dim"], keepsFloat32: true, "first vector of the second exponent"),
    Piece("lambda_k2", ["head_dim"], keepsFloat32: true, "second vector of the second exponent"),
    Piece(
      "pair_norm.weight", ["2 * head_dim"], identity: .one,
      "weight of the norm of each differential pair"),
    Piece("gate.weight", ["n_heads", "d_model"], "projection to the heads' gates"),
    Piece("gate.bias", ["n_heads"], identity: .zero, "its bias"),
  ]
}

/// Runs softmax attention; equations of `fla/layers/attn.py`, `lit_gpt/model.py`
/// (`CausalSelfAttention`, with `sc_attn`'s short convolutions before the rotation) and of
/// ArchScale's `CausalSelfAttention`.
struct AttentionMixer<T: Real>: Mixer {
  final class State: MixerState<T> {
    let tails: [Buffer<T>]
    let cache: KeyValueCache<T>

    init(tails: [Buffer<T>], cache: KeyValueCache<T>) {
      self.tails = tails
      self.cache = cache
    }
  }

  let attention: SoftmaxAttention<T>
  let rope: RotaryKind?
  let q: Projection<T>
  let k: Projection<T>
  let v: Projection<T>
  let output: AttentionOutput<T>
  let convolutions: [Convolution<T>]
  let norms: (eps: Double, q: [T]?, k: [T]?)?
  /// How many keys the cache keeps; more than the window where others read it.
  let kept: Int?
  let sharesKeys: Bool
  let keyScale: T

  init(_ loader: PieceLoader<T>) {
    attention = SoftmaxAttention(loader)
    let (heads, groups, dim) = (attention.heads, attention.groups, attention.dim)
    rope = loader.rotary(dim)
    let (d, wide, narrow) = (loader.dModel, heads * dim, groups * dim)
    q = loader.projection("q", wide, d)
    k = loader.projection("k", narrow, d)
    v = loader.projection("v", narrow, d)
    output = AttentionOutput(loader, heads: heads, dim: dim, isCross: false)
    if let width = loader.optionalSize("d_conv") {
      let isActivated = loader.attribute("conv_activation") == .null
      if !isActivated, loader.flag("conv_activation") {
        loader.refuse("model.attribute", "conv_activation should be null or false")
      }
      convolutions = [("q_conv", wide), ("k_conv", narrow), ("v_conv", narrow)].map {
        loader.convolution($0.0, $0.1, width, isActivated: isActivated)
      }
    } else {
      convolutions = []
    }
    norms = loader.optionalNumber("qk_norm_eps").map { eps in
      (
        eps, loader.optionalValues("q_norm.weight", [dim]),
        loader.optionalValues("k_norm.weight", [dim])
      )
    }
    keyScale = T(loader.optionalNumber("k_scale") ?? 1)
    sharesKeys = loader.isOn("shares_kv")
    kept = loader.keptKeys(own: attention.window)
  }

  func makeState(batch: Int, workspace: Workspace) -> MixerState<T> {
    let row = attention.groups * attention.dim
    return State(
      tails: makeTails(batch: batch, workspace: workspace),
      cache: KeyValueCache(
        batch: batch, widths: isExtended ? [row, row, row] : [row, row], window: kept,
        workspace: workspace))
  }

  private func makeTails(batch: Int, workspace: Workspace) -> [Buffer<T>] {
    convolutions.map { $0.makeTail(batch: batch, workspace: workspace) }
  }

  private var isExtended: Bool { attention.selfExtend != nil && rope != nil }

  func callAsFunction(
    _ input: MixerInput<T>, _ run: Run<T>, _ state: MixerState<T>?
  ) -> Buffer<T> {
    let state = state as? State
    let (heads, groups, dim) = (attention.heads, attention.groups, attention.dim)
    var (q, k, v) = (q(input.normed, run), k(input.normed, run), v(input.normed, run))
    if keyScale != 1 { scale(k.pointer, k.count, by: keyScale) }
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
    let farQ = run.turn(q, heads, dim, rope, isQuery: true)
    let farK = run.turn(k, groups, dim, rope, isQuery: false)
    let keys = KeySource(
      [k, v] + (farK.map { [$0] } ?? []), width: groups * dim, cache: state?.cache, kept: kept, run)
    if sharesKeys { run.crossing.keys = keys }
    return output(attention(q, farQ, keys, run), input.normed, run)
  }
}

extension Run {
  /// Turns x [batch, tokens, heads, dim] by its positions, in place.
  ///
  /// - Returns: for Self-Extend, x as it is seen from afar.
  func turn(
    _ x: Buffer<T>, _ heads: Int, _ dim: Int, _ rope: RotaryKind?, isQuery: Bool
  ) -> Buffer<T>? {
    guard let rope else { return nil }
    var far: Buffer<T>?
    if let extend = selfExtend {
      let seen = activation(heads * dim)
      rotate(
        x.read, heads, dim, rope, group: extend.group,
        shift: isQuery ? extend.window - extend.window / extend.group : 0, into: seen.pointer)
      far = seen
    }
    rotate(x.read, heads, dim, rope, into: x.pointer)
    return far
  }
}
