public import Hub
import Tensors

extension MixerKind {
  /// Attention over the keys and values of an earlier sub-layer (YOCO: Sun et al. 2024,
  /// arXiv 2405.05254; SambaY: Ren et al. 2025, arXiv 2507.06607).
  public static let crossAttention = MixerKind(
    name: "cross_attention",
    summary: "causal softmax attention over the keys and values that an earlier attention shares",
    attributes: MixerKind.scoreAttributes + MixerKind.headAttributes + [
      Attribute(
        "unused_conv", .size, default: JSONValue.null,
        "width of convolutions that the file holds and nothing applies; null for none")
    ],
    pieces: [
      Piece("q.weight", ["n_heads * head_dim", "d_model"], "query projection"),
      Piece("q.bias", ["n_heads * head_dim"], identity: .zero, "its bias"),
    ] + MixerKind.headPieces + [
      Piece("o.weight", ["d_model", "n_heads * head_dim"], "output projection"),
      Piece("o.bias", ["d_model"], identity: .zero, "its bias"),
      Piece("unused_q_norm.weight", ["head_dim"], "a norm that is in the file and is not applied"),
      Piece("unused_k_norm.weight", ["head_dim"], "a norm that is in the file and is not applied"),
      Piece(
        "unused_q_conv.weight", ["n_heads * head_dim", "unused_conv"],
        "a convolution that is in the file and is not applied"),
      Piece(
        "unused_k_conv.weight", ["n_kv_heads * head_dim", "unused_conv"],
        "a convolution that is in the file and is not applied"),
      Piece(
        "unused_v_conv.weight", ["n_kv_heads * head_dim", "unused_conv"],
        "a convolution that is in the file and is not applied"),
      Piece(
        "unused_out_norm.weight", ["n_heads * head_dim"],
        "a norm that is in the file and is not applied"),
      Piece(
        "unused_out_norm.bias", ["n_heads * head_dim"],
        "a bias that is in the file and is not applied"),
    ],
    rules: [Rule("n_heads % n_kv_heads == 0", "n_kv_heads", "a divisor of n_heads")])
}

/// Runs YOCO's cross attention; equations of ArchScale's `CausalSelfAttention` with `yoco_cross` and
/// of `modeling_phi4flash.py`.
struct CrossAttentionMixer<T: Real>: Mixer {
  let attention: SoftmaxAttention<T>
  let rope: RotaryKind?
  let q: Projection<T>
  let output: AttentionOutput<T>

  init(_ loader: PieceLoader<T>) {
    attention = SoftmaxAttention(loader)
    let (heads, groups, dim) = (attention.heads, attention.groups, attention.dim)
    rope = loader.rotary(dim)
    q = loader.projection("q", heads * dim, loader.dModel)
    output = AttentionOutput(loader, heads: heads, dim: dim, isCross: true)
    loader.requireSharedKeys(groups: groups, dim: dim)
  }

  func makeState(batch: Int, workspace: Workspace) -> MixerState<T> { MixerState() }

  func callAsFunction(
    _ input: MixerInput<T>, _ run: Run<T>, _ state: MixerState<T>?
  ) -> Buffer<T> {
    let keys = run.crossing.required(\.keys)
    let q = q(input.normed, run)
    let far = run.turn(q, attention.heads, attention.dim, rope, isQuery: true)
    return output(attention(q, far, keys, run), input.normed, run)
  }
}
