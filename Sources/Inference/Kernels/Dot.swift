import Hub
import Tensors

/// Σ_i a[i] b[i], i in 0..<n; sums run in lanes of 64 bytes, in a fixed order
@inline(__always)
package func dot<T: Real>(_ a: UnsafePointer<T>, _ b: UnsafePointer<T>, _ n: Int) -> T {
  T.kernels.dot(a, T.dtype.element, b, n)
}
