import Hub

/// An elementwise function, by the name that configs give it.
package enum Activation: String, Sendable, CaseIterable {
  /// x σ(x).
  case silu
  /// x Φ(x), with erf.
  case gelu
  /// max(x, 0).
  case relu
  /// max(x, 0)².
  case squaredReLU = "sqrelu"
  /// σ(x) = 1 / (1 + e^-x).
  case sigmoid
  /// log σ(x).
  case logSigmoid = "logsigmoid"
  /// gelu with tanh and fla's rounded constants (`fla/modules/activations.py`, `gelu_fwd`).
  case tanhGELU = "gelu_tanh"
  /// gelu with tanh and √(2/π) in full, as PyTorch has it.
  case exactTanhGELU = "gelu_new"
}

/// 1 / (1 + e^-x); right at both ends.
@inline(__always)
package func sigmoid<T: Real>(_ x: T) -> T { 1 / (1 + T.exp(-x)) }

/// x σ(x); -0 at minus infinity's end.
@inline(__always)
package func silu<T: Real>(_ x: T) -> T { x / (1 + T.exp(-x)) }

/// log(1 + e^x); x itself above 20, as PyTorch has it.
@inline(__always)
package func softplus<T: Real>(_ x: T) -> T {
  let small = x > 20 ? 0 : x
  return x > 20 ? x : T.log1p(T.exp(small))
}

/// log σ(x), without loss at either end.
@inline(__always)
package func logSigmoid<T: Real>(_ x: T) -> T {
  let below: T = x < 0 ? x : 0
  let magnitude: T = x < 0 ? -x : x
  return below - T.log1p(T.exp(-magnitude))
}

/// x Φ(x) = x (1 + erf(x / √2)) / 2 (Hendrycks and Gimpel 2016, arXiv 1606.08415).
@inline(__always)
package func gelu<T: Real>(_ x: T) -> T { x * 0.5 * (1 + T.erf(x * T(0.5.squareRoot()))) }

/// fla's gelu: 0.79788456 for √(2/π).
@inline(__always)
package func tanhGELU<T: Real>(_ x: T) -> T {
  x * 0.5 * (1 + T.tanh(0.797_884_56 * x * (1 + 0.044715 * x * x)))
}

/// gelu with tanh: x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2.
@inline(__always)
package func exactTanhGELU<T: Real>(_ x: T) -> T {
  x * 0.5 * (1 + T.tanh(T((2 / Double.pi).squareRoot()) * (x + 0.044715 * x * x * x)))
}

/// x[i] = f(x[i]), i in 0..<n
@specialized(where T == Float)
@specialized(where T == Double)
package func activate<T: Real>(_ x: UnsafeMutablePointer<T>, _ n: Int, _ f: Activation) {
  switch f {
  case .silu: T.kernels.silu(x, n, x)
  case .gelu: for i in 0..<n { x[i] = gelu(x[i]) }
  case .relu: for i in 0..<n { x[i] = x[i] < 0 ? 0 : x[i] }
  case .squaredReLU: for i in 0..<n { x[i] = x[i] < 0 ? 0 : x[i] * x[i] }
  case .sigmoid: for i in 0..<n { x[i] = sigmoid(x[i]) }
  case .logSigmoid: for i in 0..<n { x[i] = logSigmoid(x[i]) }
  case .tanhGELU: for i in 0..<n { x[i] = tanhGELU(x[i]) }
  case .exactTanhGELU: for i in 0..<n { x[i] = exactTanhGELU(x[i]) }
  }
}

/// y[i] = f(x[i]) * y[i], i in 0..<n: a gate
@specialized(where T == Float)
@specialized(where T == Double)
package func gate<T: Real>(
  _ x: UnsafePointer<T>, _ n: Int, _ f: Activation, times y: UnsafeMutablePointer<T>
) {
  switch f {
  case .silu: T.kernels.gate(x, n, y)
  case .gelu: for i in 0..<n { y[i] = gelu(x[i]) * y[i] }
  case .relu: for i in 0..<n { y[i] = x[i] < 0 ? 0 : x[i] * y[i] }
  case .squaredReLU: for i in 0..<n { y[i] = x[i] < 0 ? 0 : x[i] * x[i] * y[i] }
  case .sigmoid: for i in 0..<n { y[i] = sigmoid(x[i]) * y[i] }
  case .logSigmoid: for i in 0..<n { y[i] = logSigmoid(x[i]) * y[i] }
  case .tanhGELU: for i in 0..<n { y[i] = tanhGELU(x[i]) * y[i] }
  case .exactTanhGELU: for i in 0..<n { y[i] = exactTanhGELU(x[i]) * y[i] }
  }
}

/// x[i] = max(log σ(x[i]) / divisor, lower), i in 0..<n: the log gate of gated linear attention
package func logGate<T: Real>(
  _ x: UnsafeMutablePointer<T>, _ n: Int, dividedBy divisor: T, atLeast lower: T
) {
  T.kernels.logGate(x, n, divisor, lower)
}

/// x[i] *= factor, i in 0..<n
@specialized(where T == Float)
@specialized(where T == Double)
func scale<T: Real>(_ x: UnsafeMutablePointer<T>, _ n: Int, by factor: T) {
  for i in 0..<n { x[i] *= factor }
}

/// y[i] += x[i], i in 0..<n
@specialized(where T == Float)
@specialized(where T == Double)
func add<T: Real>(_ x: UnsafePointer<T>, _ n: Int, to y: UnsafeMutablePointer<T>) {
  for i in 0..<n { y[i] += x[i] }
}
