import Hub

/// x[i] = e^x[i] / Σ e^x[j], i in 0..<n; the sum in float64
@inline(__always)
package func softmax<T: Real>(_ x: UnsafeMutablePointer<T>, _ n: Int) { T.kernels.softmax(x, n) }
