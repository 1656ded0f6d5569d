import Hub

/// The selective scan of Mamba (Gu and Dao 2023, arXiv 2312.00752), for channels of one sequence:
///
///     h [n, e] = e^(Δ [t, e] a [n, e]) h [n, e] + Δ [t, e] u [t, e] b [t, n],  Δ = softplus(dt)
///     y [t, e] = (Σ_n h [n, e] c [t, n] + d [e] u [t, e]) silu(z [t, e])
///
/// u, dt, z and y have rows of `width` channels; a (none above 0; transposed to [n, width]), d
/// [width] and the state h [n, width] as well; b and c have rows of n. Without z nothing is gated.
/// Only `channels` are touched, and nothing larger than a few rows of them is kept. y may be dt,
/// which is then overwritten.
@specialized(where T == Float)
@specialized(where T == Double)
package func selectiveScan<T: Real>(
  _ u: UnsafePointer<T>, _ dt: UnsafePointer<T>, _ a: UnsafePointer<T>, _ b: UnsafePointer<T>,
  _ c: UnsafePointer<T>, _ d: UnsafePointer<T>, gate z: UnsafePointer<T>?, tokens: Int, width: Int,
  n: Int, channels: Range<Int>, state h: UnsafeMutablePointer<T>, into y: UnsafeMutablePointer<T>
) {
  let block = min(scanBlock, channels.count)
  // Whole vectors, aligned as they are.
  let room = (block + 15) / 16 * 16
  withUnsafeTemporaryAllocation(
    byteCount: 2 * n * room * MemoryLayout<T>.stride, alignment: 64
  ) { bytes in
    guard let scratch = bytes.baseAddress?.assumingMemoryBound(to: T.self) else { return }
    for e in stride(from: channels.lowerBound, to: channels.upperBound, by: block) {
      T.kernels.scan(
        u + e, dt + e, a + e, b, c, d + e, z.map { $0 + e }, tokens, width, n,
        min(block, channels.upperBound - e), h + e, scratch, y + e)
    }
  }
}

/// The same, as the equations are written, one channel after another: the plain twin for tests.
package func selectiveScanPlainly(
  _ u: [Double], _ dt: [Double], _ a: [Double], _ b: [Double], _ c: [Double], _ d: [Double],
  gate z: [Double]?, tokens: Int, width: Int, n: Int
) -> [Double] {
  var y = [Double](repeating: 0, count: tokens * width)
  for e in 0..<width {
    var h = [Double](repeating: 0, count: n)
    for t in 0..<tokens {
      let i = t * width + e
      let step = softplus(dt[i])
      y[i] = d[e] * u[i]
      for k in 0..<n {
        h[k] = Double.exp(step * a[k * width + e]) * h[k] + step * u[i] * b[t * n + k]
        y[i] += h[k] * c[t * n + k]
      }
      if let z { y[i] *= silu(z[i]) }
    }
  }
  return y
}
