import Hub

/// What a model remembers of the tokens that it has seen: convolution tails, scan states, keys and
/// values. Of one model and a fixed number of sequences.
public final class DecodeState<Scalar: Real> {
  /// The number of sequences.
  public let batch: Int
  /// Tokens seen of each sequence.
  public private(set) var position = 0
  let mixers: [MixerState<Scalar>]

  init(batch: Int, mixers: [MixerState<Scalar>]) {
    self.batch = batch
    self.mixers = mixers
  }

  func advance(by tokens: Int) { position += tokens }
}
