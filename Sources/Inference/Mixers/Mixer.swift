import Hub

/// What carries over from one token to the next in one sub-layer; each mixer has its own.
class MixerState<T: Real> {}

/// What every mixer is given: the norm's output and, for those that need it, the residual stream
/// itself, each [batch, tokens, d_model].
struct MixerInput<T: Real> {
  var normed: UnsafePointer<T>
  var residual: UnsafePointer<T>
}

/// A sub-layer that runs.
///
/// One form serves prefill and decoding: it takes any number of tokens that follow those the state
/// has seen. Several go through the parallel or chunked kernels, one through the recurrence.
protocol Mixer<Scalar> {
  associatedtype Scalar: Real

  /// Reads attributes and pieces; what is wrong or not supported goes to the loader's problems.
  init(_ loader: PieceLoader<Scalar>)

  /// The state before the first token of `batch` sequences.
  func makeState(batch: Int, workspace: Workspace) -> MixerState<Scalar>

  /// What is added to the residual stream [batch, tokens, d_model].
  ///
  /// Without a state the tokens are whole sequences from their start, and nothing is kept.
  func callAsFunction(
    _ input: MixerInput<Scalar>, _ run: Run<Scalar>, _ state: MixerState<Scalar>?
  ) -> Buffer<Scalar>
}
