import Hub

// Sums run in float64, in four chains: exact enough to be no concern, and as fast as memory.

/// y [m, d] = x [m, d] / sqrt(mean(x²) + eps) * weight [d], row by row (Zhang and Sennrich 2019,
/// arXiv 1910.07467); x and y may be the same.
@specialized(where T == Float)
@specialized(where T == Double)
package func rmsNorm<T: Real>(
  _ x: UnsafePointer<T>, _ m: Int, _ d: Int, _ weight: UnsafePointer<T>?, _ eps: Double,
  into y: UnsafeMutablePointer<T>
) {
  for row in 0..<m {
    let a = x + row * d
    let b = y + row * d
    let scale = T(1 / (sumOfSquares(a, d, less: 0) / Double(d) + eps).squareRoot())
    if let weight {
      for i in 0..<d { b[i] = a[i] * scale * weight[i] }
    } else {
      for i in 0..<d { b[i] = a[i] * scale }
    }
  }
}

/// y [m, d] = (x [m, d] - mean(x)) / sqrt(var(x) + eps) * weight [d] + bias [d], row by row (Ba et
/// al. 2016, arXiv 1607.06450); x and y may be the same.
@specialized(where T == Float)
@specialized(where T == Double)
package func layerNorm<T: Real>(
  _ x: UnsafePointer<T>, _ m: Int, _ d: Int, _ weight: UnsafePointer<T>?,
  _ bias: UnsafePointer<T>?, _ eps: Double, into y: UnsafeMutablePointer<T>
) {
  for row in 0..<m {
    let a = x + row * d
    let b = y + row * d
    var sum = 0.0
    for i in 0..<d { sum += Double(a[i]) }
    let mean = sum / Double(d)
    let scale = T(1 / (sumOfSquares(a, d, less: mean) / Double(d) + eps).squareRoot())
    let center = T(mean)
    for i in 0..<d { b[i] = (a[i] - center) * scale }
    if let weight { for i in 0..<d { b[i] *= weight[i] } }
    if let bias { for i in 0..<d { b[i] += bias[i] } }
  }
}

/// `rmsNorm` or `layerNorm` with its sums in `T`, one value after another: no better than a framework's.
@specialized(where T == Float)
@specialized(where T == Double)
func roughNorm<T: Real>(
  _ x: UnsafePointer<T>, _ m: Int, _ d: Int, _ weight: [T]?, _ bias: [T]?, _ eps: Double,
  removesMean: Bool, into y: UnsafeMutablePointer<T>
) {
  for row in 0..<m {
    let (a, b) = (x + row * d, y + row * d)
    var mean = T(0)
    if removesMean {
      for i in 0..<d { mean += a[i] }
      mean /= T(d)
    }
    var sum = T(0)
    for i in 0..<d {
      let value = a[i] - mean
      sum += value * value
    }
    let scale = 1 / (sum / T(d) + T(eps)).squareRoot()
    for i in 0..<d { b[i] = (a[i] - mean) * scale }
    if let weight { for i in 0..<d { b[i] *= weight[i] } }
    if let bias { for i in 0..<d { b[i] += bias[i] } }
  }
}

/// y [m, d] = x [m, d] weight [d], row by row; x and y may be the same.
@specialized(where T == Float)
@specialized(where T == Double)
func multiplyChannels<T: Real>(
  _ x: UnsafePointer<T>, _ m: Int, _ d: Int, _ weight: UnsafePointer<T>?,
  into y: UnsafeMutablePointer<T>
) {
  for row in 0..<m {
    let (a, b) = (x + row * d, y + row * d)
    if let weight {
      for i in 0..<d { b[i] = a[i] * weight[i] }
    } else {
      for i in 0..<d { b[i] = a[i] }
    }
  }
}

/// Σ_i (x[i] - center)², i in 0..<d
@inline(__always)
private func sumOfSquares<T: Real>(
  _ x: UnsafePointer<T>, _ d: Int, less center: Double
) -> Double {
  var (s0, s1, s2, s3) = (0.0, 0.0, 0.0, 0.0)
  var i = 0
  while i &+ 4 <= d {
    let (a, b) = (Double(x[i]) - center, Double(x[i &+ 1]) - center)
    let (c, e) = (Double(x[i &+ 2]) - center, Double(x[i &+ 3]) - center)
    s0 += a * a
    s1 += b * b
    s2 += c * c
    s3 += e * e
    i &+= 4
  }
  while i < d {
    let a = Double(x[i]) - center
    s0 += a * a
    i &+= 1
  }
  return (s0 + s1) + (s2 + s3)
}
