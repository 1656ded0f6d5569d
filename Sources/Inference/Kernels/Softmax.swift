import Hub

/// x[i] = e^x[i] / Σ e^x[j], i in 0..<n; the sum in float64
@inline(__always)
package func softmax<T: Real>(_ x: UnsafeMutablePointer<T>, _ n: Int) { T.kernels.softmax(x, n) }

/// The same with the sum in `T`, one value after another.
@inline(__always)
func roughSoftmax<T: Real>(_ x: UnsafeMutablePointer<T>, _ n: Int) {
  var top = -T.infinity
  for i in 0..<n { top = max(top, x[i]) }
  var sum = T(0)
  for i in 0..<n {
    x[i] = T.exp(x[i] - top)
    sum += x[i]
  }
  for i in 0..<n { x[i] /= sum }
}
