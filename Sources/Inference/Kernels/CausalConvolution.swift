import Hub

/// Depthwise causal convolution along time:
/// y [t, c] = bias [c] + Σ_k w [k, c] x [t - (width-1) + k, c], then SiLU if it is activated.
///
/// w is transposed here ([width, c]; the piece is [c, width]). The rows before the first are `tail`
/// [width-1, c], zeros at the start of a sequence; it is left holding the last rows of x.
@specialized(where T == Float)
@specialized(where T == Double)
package func causalConvolution<T: Real>(
  _ x: UnsafePointer<T>, _ tokens: Int, _ channels: Range<Int>, _ stride: Int,
  _ w: UnsafePointer<T>, _ bias: UnsafePointer<T>?, _ width: Int, isActivated: Bool = true,
  tail: UnsafeMutablePointer<T>, into y: UnsafeMutablePointer<T>
) {
  let (c0, n) = (channels.lowerBound, channels.count)
  if isActivated {
    T.kernels.convolve(
      x + c0, tokens, n, stride, w + c0, bias.map { $0 + c0 }, width, tail + c0, y + c0)
  } else {
    for t in 0..<tokens {
      let out = y + t * stride
      for c in channels { out[c] = bias?[c] ?? 0 }
      for k in 0..<width {
        let from = t - (width - 1) + k
        let row = from < 0 ? UnsafePointer(tail) + (from + width - 1) * stride : x + from * stride
        for c in channels { out[c] += w[k * stride + c] * row[c] }
      }
    }
  }
  // The tail for what follows: the last width-1 rows of tail and x together.
  for k in 0..<max(0, width - 1) {
    let from = tokens - (width - 1) + k
    let row = from < 0 ? UnsafePointer(tail) + (from + width - 1) * stride : x + from * stride
    for c in 0..<n { tail[k * stride + c0 + c] = row[c0 + c] }
  }
}

/// [rows, columns] to [columns, rows]
package func transposed<T>(_ values: [T], _ rows: Int, _ columns: Int) -> [T] {
  guard values.count == rows * columns else { return [] }
  return [T](unsafeUninitializedCapacity: values.count) { out, initialized in
    for i in 0..<rows { for j in 0..<columns { out[j * rows + i] = values[i * columns + j] } }
    initialized = values.count
  }
}
