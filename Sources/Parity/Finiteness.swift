import Hub
import Inference

extension ForwardPass {
  /// Rounds the stream to float32's 24 bits with any exponent, where `Scalar` is float64: the noise of
  /// float32 on a model whose values float32 cannot hold.
  func roundStreamToFloat32() {
    guard Scalar.self == Double.self else { return }
    withStream { stream in
      for i in stream.indices { stream[i] = Scalar(rounded24(Double(stream[i]))) }
    }
  }
}

/// A value rounded to 24 bits, to nearest even, whatever its exponent.
func rounded24(_ value: Double) -> Double {
  guard value.isFinite, value != 0 else { return value }
  let bits = value.bitPattern
  return Double(bitPattern: (bits &+ 0x0FFF_FFFF &+ (bits >> 29 & 1)) & ~0x1FFF_FFFF)
}
