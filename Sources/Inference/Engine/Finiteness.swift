import Hub
import Tensors

extension ForwardPass {
  /// Whether every value of the stream is finite.
  package var isStreamFinite: Bool {
    withStream { stream in
      // A value less itself is 0 where it is finite, NaN where it is not; the sum stays in vectors.
      var sum = Scalar(0)
      for value in stream { sum += value - value }
      return sum == 0
    }
  }
}

/// Logits of which some are NaN or infinite: no token follows from them.
public enum NotFiniteLogits {
  /// The code of the diagnostic.
  public static let code = "generate.not-finite"

  /// The diagnostic for the logits behind position `position`, of which `count` of `total` are not
  /// finite.
  static func problem(_ position: Int, _ count: Int, of total: Int) -> Diagnostic {
    Diagnostic(
      code: code, subject: "position \(position)",
      message: "\(count) of \(total) logits are NaN or infinite: no token follows from them")
  }
}
