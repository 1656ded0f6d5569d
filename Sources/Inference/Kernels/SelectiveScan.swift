/// The selective scan of Mamba (Gu and Dao 2023, arXiv 2312.00752), for channels of one sequence:
///
///     h [n, e] = e^(dt [t, e] a [n, e]) h [n, e] + dt [t, e] u [t, e] b [t, n]
///     y [t, e] = Σ_n h [n, e] c [t, n] + d [e] u [t, e]
///
/// u, dt and y have rows of `width` channels; a (negative; transposed to [n, width]), d [width] and
/// the state h [n, width] as well; b and c have rows of n. Only `channels` are touched: no
/// intermediate is larger than a row of them. y may be dt, which is then overwritten.
@specialized(where T == Float)
@specialized(where T == Double)
func selectiveScan<T: Real>(
  _ u: UnsafePointer<T>, _ dt: UnsafePointer<T>, _ a: UnsafePointer<T>, _ b: UnsafePointer<T>,
  _ c: UnsafePointer<T>, _ d: UnsafePointer<T>, tokens: Int, width: Int, n: Int,
  channels: Range<Int>, state h: UnsafeMutablePointer<T>, into y: UnsafeMutablePointer<T>
) {
  let count = channels.count
  withUnsafeTemporaryAllocation(of: T.self, capacity: 3 * count) { scratch in
    guard let step = scratch.baseAddress else { return }
    let input = step + count
    let sum = input + count
    for t in 0..<tokens {
      let row = t * width + channels.lowerBound
      for e in 0..<count {
        step[e] = dt[row + e]
        input[e] = step[e] * u[row + e]
        sum[e] = d[channels.lowerBound + e] * u[row + e]
      }
      for k in 0..<n {
        let rates = a + k * width + channels.lowerBound
        let states = h + k * width + channels.lowerBound
        let (bk, ck) = (b[t * n + k], c[t * n + k])
        for e in 0..<count {
          let value = T.exp(step[e] * rates[e]) * states[e] + input[e] * bk
          states[e] = value
          sum[e] += value * ck
        }
      }
      for e in 0..<count { y[row + e] = sum[e] }
    }
  }
}

/// The same, as the equations are written, one channel after another: the plain twin for tests.
func selectiveScanPlainly(
  _ u: [Double], _ dt: [Double], _ a: [Double], _ b: [Double], _ c: [Double], _ d: [Double],
  tokens: Int, width: Int, n: Int
) -> [Double] {
  var y = [Double](repeating: 0, count: tokens * width)
  for e in 0..<width {
    var h = [Double](repeating: 0, count: n)
    for t in 0..<tokens {
      let i = t * width + e
      y[i] = d[e] * u[i]
      for k in 0..<n {
        h[k] = Double.exp(dt[i] * a[k * width + e]) * h[k] + dt[i] * u[i] * b[t * n + k]
        y[i] += h[k] * c[t * n + k]
      }
    }
  }
  return y
}
