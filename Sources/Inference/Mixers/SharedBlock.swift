public import Hub
import Tensors

extension MixerKind {
  /// Zamba2's shared transformer block: attention and MLP over the stream beside the embeddings, with
  /// low-rank updates that each use has for itself (Glorioso et al. 2024, arXiv 2411.15242).
  ///
  /// A block serves several sub-layers, whose pieces then lie in the same tensors.
  public static let sharedBlock = MixerKind(
    name: "shared_block",
    summary:
      "transformer block shared by several layers, over the stream and the embeddings, read by the next norm alone",
    source: "Glorioso et al. 2024, arXiv 2411.15242; transformers/models/zamba2/modeling_zamba2.py",
    attributes: [
      Attribute("norm", .words("none"), default: "none", "none: the norm before it is in_norm"),
      Attribute("norm_eps", .notNegative, "epsilon of its norms"),
      Attribute("n_heads", .size, "query heads"),
      Attribute("n_kv_heads", .size, "key and value heads"),
      Attribute("head_dim", .size, "channels of a head"),
      Attribute(
        "scale", .finite, default: JSONValue.null,
        "factor on the scores; null for 1 / sqrt(head_dim)"),
      Attribute(
        "rope_base", .positive, default: JSONValue.null,
        "base of the rotary frequencies; null for no rotation"
      ),
      Attribute("rope_factor", .positive, default: 1.0, "positions are divided by it"),
      Attribute(
        "rope_scaling", .rotaryScaling, default: JSONValue.null,
        "any other scaling of the frequencies, as the config has it"),
      Attribute(
        "rope_dim", .size, default: JSONValue.null, "channels that rotate; null for all of a head"),
      Attribute(
        "rope_table", .words("float32", "bfloat16"), default: "float32",
        "precision of the cosine and sine tables: float32 or bfloat16"),
      Attribute("d_ff", .size, "inner width of the MLP"),
      Attribute(
        "activation", .words("silu", "gelu", "gelu_tanh", "relu", "relu2"), default: "gelu",
        "silu, gelu (with erf), gelu_tanh, relu or relu2 (its square)"
      ),
      Attribute("adapter_rank", .size, "rank of the updates"),
      Attribute(
        "block", .index, default: 0,
        "which of the shared blocks it is; what shares one has its pieces"),
      Attribute("attention_adapters", .flag, default: false, "whether q, k and v are updated too"),
    ],
    pieces: [
      Piece(
        "in_norm.weight", ["2 * d_model"], identity: .one,
        "weight of the norm of the stream and, behind it, the embeddings"),
      Piece("q.weight", ["n_heads * head_dim", "2 * d_model"], "query projection"),
      Piece("k.weight", ["n_kv_heads * head_dim", "2 * d_model"], "key projection"),
      Piece("v.weight", ["n_kv_heads * head_dim", "2 * d_model"], "value projection"),
      Piece("q_low.in.weight", ["adapter_rank", "2 * d_model"], "first factor of the update of q"),
      Piece("q_low.out.weight", ["n_heads * head_dim", "adapter_rank"], "second factor"),
      Piece("k_low.in.weight", ["adapter_rank", "2 * d_model"], "first factor of the update of k"),
      Piece("k_low.out.weight", ["n_kv_heads * head_dim", "adapter_rank"], "second factor"),
      Piece("v_low.in.weight", ["adapter_rank", "2 * d_model"], "first factor of the update of v"),
      Piece("v_low.out.weight", ["n_kv_heads * head_dim", "adapter_rank"], "second factor"),
      Piece("o.weight", ["d_model", "n_heads * head_dim"], "output projection of the attention"),
      Piece("mid_norm.weight", ["d_model"], identity: .one, "weight of the norm before the MLP"),
      Piece("gate.weight", ["d_ff", "d_model"], "the MLP's activated projection"),
      Piece("gate.bias", ["d_ff"], identity: .zero, "its bias"),
      Piece("up.weight", ["d_ff", "d_model"], "the MLP's linear projection"),
      Piece("up.bias", ["d_ff"], identity: .zero, "its bias"),
      Piece(
        "mlp_low.in.weight", ["adapter_rank", "d_model"],
        "first factor of the updates of gate and up"),
      Piece("gate_low.out.weight", ["d_ff", "adapter_rank"], "second factor of the gate's"),
      Piece("up_low.out.weight", ["d_ff", "adapter_rank"], "second factor of up's"),
      Piece("down.weight", ["d_model", "d_ff"], "the MLP's output projection"),
      Piece("down.bias", ["d_model"], identity: .zero, "its bias"),
      Piece("linear.weight", ["d_model", "d_model"], "projection of this use of the block"),
    ], hasNorm: false)
}

/// Runs a use of a shared block; equations of `Zamba2AttentionDecoderLayer` and `Zamba2HybridLayer`.
/// It adds nothing to the stream: what it gives is added for the next sub-layer's norm alone.
struct SharedBlockMixer<T: Real>: Mixer {
  final class State: MixerState<T> {
    let cache: KeyValueCache<T>

    init(cache: KeyValueCache<T>) { self.cache = cache }
  }

  /// A projection with the update of this use.
  private struct Updated {
    var base: Projection<T>
    var low: (first: Projection<T>, second: Projection<T>)?

    func callAsFunction(_ x: UnsafePointer<T>, _ run: Run<T>) -> Buffer<T> {
      let y = base(x, run)
      if let low {
        let narrow = low.first(x, run)
        let change = low.second(narrow.read, run)
        run.add(change, to: y)
        withExtendedLifetime(narrow) {}
      }
      return y
    }
  }

  let eps: Double
  let width: Int
  let inNorm: [T]?
  let midNorm: [T]?
  let attention: SoftmaxAttention<T>
  let rope: RotaryKind?
  private let q: Updated
  private let k: Updated
  private let v: Updated
  let output: AttentionOutput<T>
  let activation: Activation
  private let gate: Updated
  private let up: Updated
  let down: Projection<T>
  let linear: Projection<T>

  init(_ loader: PieceLoader<T>) {
    let (d, f, rank) = (loader.dModel, loader.size("d_ff"), loader.size("adapter_rank"))
    width = d
    eps = loader.number("norm_eps")
    inNorm = loader.optionalValues("in_norm.weight", [2 * d])
    midNorm = loader.optionalValues("mid_norm.weight", [d])
    attention = SoftmaxAttention(loader)
    let (wide, narrow) = (
      attention.heads * attention.dim, attention.groups * attention.dim
    )
    rope = loader.rotary(attention.dim)
    let updatesAttention = loader.flag("attention_adapters")
    func updated(
      _ name: String, _ rows: Int, _ columns: Int, _ first: String?, _ second: String
    ) -> Updated {
      Updated(
        base: loader.projection(name, rows, columns),
        low: first.map {
          (loader.projection($0, rank, columns), loader.projection(second, rows, rank))
        })
    }
    q = updated("q", wide, 2 * d, updatesAttention ? "q_low.in" : nil, "q_low.out")
    k = updated("k", narrow, 2 * d, updatesAttention ? "k_low.in" : nil, "k_low.out")
    v = updated("v", narrow, 2 * d, updatesAttention ? "v_low.in" : nil, "v_low.out")
    output = AttentionOutput(loader, heads: attention.heads, dim: attention.dim, isCross: true)
    activation = loader.activation("activation")
    gate = updated("gate", f, d, "mlp_low.in", "gate_low.out")
    up = updated("up", f, d, "mlp_low.in", "up_low.out")
    down = loader.projection("down", d, f)
    linear = loader.projection("linear", d, d)
    loader.requireNormBehind()
  }

  func makeState(batch: Int, workspace: Workspace) -> MixerState<T> {
    let row = attention.groups * attention.dim
    return State(
      cache: KeyValueCache(
        batch: batch,
        widths: attention.selfExtend != nil && rope != nil ? [row, row, row] : [row, row],
        window: nil, workspace: workspace))
  }

  func callAsFunction(
    _ input: MixerInput<T>, _ run: Run<T>, _ state: MixerState<T>?
  ) -> Buffer<T> {
    guard let origin = run.crossing.origin else {
      preconditionFailure("the pass keeps the embeddings where a shared block reads them")
    }
    let (heads, groups, dim) = (attention.heads, attention.groups, attention.dim)
    let both = run.activation(2 * width)
    for row in 0..<run.rows {
      let place = both.pointer + row * 2 * width
      place.update(from: input.normed + row * width, count: width)
      (place + width).update(from: origin.read + row * width, count: width)
    }
    run.rmsNorm(both.read, run.rows, 2 * width, inNorm, eps, into: both.pointer)
    let (q, k, v) = (q(both.read, run), k(both.read, run), v(both.read, run))
    let farQ = run.turn(q, heads, dim, rope, isQuery: true)
    let farK = run.turn(k, groups, dim, rope, isQuery: false)
    let keys = KeySource(
      [k, v] + (farK.map { [$0] } ?? []), width: groups * dim, cache: (state as? State)?.cache,
      kept: nil, run)
    let seen = output(attention(q, farQ, keys, run), both.read, run)
    run.rmsNorm(seen.read, run.rows, width, midNorm, eps, into: seen.pointer)
    let gated = gate(seen.read, run)
    let inner = up(seen.read, run)
    run.gate(gated.read, inner.count, activation, times: inner.pointer)
    let result = down(inner.read, run)
    run.crossing.injection = linear(result.read, run)
    withExtendedLifetime((both, seen, gated, inner, result)) {}
    return run.workspace.zeros(run.rows * width)
  }
}
