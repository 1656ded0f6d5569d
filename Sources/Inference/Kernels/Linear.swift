import Tensors

/// y [m, o] = x [m, i] wᵀ + bias [o], with w [o, i] in its file's element type.
///
/// w is widened in blocks of rows, which are also the pieces of work of the threads; from 8 rows of
/// x on each block is one matrix product, below it a dot product a value, which reads w just once.
func linear<T: Real>(
  _ x: UnsafePointer<T>, _ m: Int, _ w: Weight, _ bias: [T]? = nil, _ run: Run<T>,
  into y: UnsafeMutablePointer<T>
) {
  if m < 8 {
    linearRows(x, m, w, bias, run, into: y)
  } else {
    linearBlocks(x, m, w, bias, run, into: y)
  }
}

// One product for each block of the result.
private func linearBlocks<T: Real>(
  _ x: UnsafePointer<T>, _ m: Int, _ w: Weight, _ bias: [T]?, _ run: Run<T>,
  into y: UnsafeMutablePointer<T>
) {
  let (o, i) = (w.rows, w.columns)
  let rows = 256  // of w, a block
  let across = (o + rows - 1) / rows
  // Narrow results are cut along m as well, so that there is something for every thread.
  let down = across >= 8 ? 1 : min((m + 63) / 64, (8 + across - 1) / across)
  let height = (m + down - 1) / down
  let direct = w.direct(as: T.self)
  let lanes = min(run.workers.count, across * down)
  run.workspace.withScratch(direct == nil ? lanes * rows * i : 0, of: T.self) { scratch in
    run.workers.forEach(across * down) { piece, lane in
      let o0 = piece / down * rows
      let o1 = min(o, o0 + rows)
      let m0 = piece % down * height
      let m1 = min(m, m0 + height)
      guard m0 < m1 else { return }
      var block = UnsafePointer(scratch) + lane * rows * i
      if let direct {
        block = direct + o0 * i
      } else {
        w.widen(rows: o0..<o1, into: scratch + lane * rows * i)
      }
      let out = y + m0 * o + o0
      if let bias { spread(bias, o0..<o1, m1 - m0, into: out, o) }
      T.gemm(
        transposeA: false, transposeB: true, m: m1 - m0, n: o1 - o0, k: i, alpha: 1,
        a: x + m0 * i, lda: i, b: block, ldb: i, beta: bias == nil ? 0 : 1, c: out, ldc: o)
    }
  }
}

/// out [m, range.count] (rows `stride` apart) = values[range] in each row
@specialized(where T == Float)
@specialized(where T == Double)
private func spread<T: Real>(
  _ values: [T], _ range: Range<Int>, _ m: Int, into out: UnsafeMutablePointer<T>, _ stride: Int
) {
  for row in 0..<m {
    for i in 0..<range.count { out[row * stride + i] = values[range.lowerBound + i] }
  }
}

// A dot product for each value: few rows of x.
@specialized(where T == Float)
@specialized(where T == Double)
private func linearRows<T: Real>(
  _ x: UnsafePointer<T>, _ m: Int, _ w: Weight, _ bias: [T]?, _ run: Run<T>,
  into y: UnsafeMutablePointer<T>
) {
  let (o, i) = (w.rows, w.columns)
  // About 64 KB of weights a piece of work; the result does not depend on it.
  let rows = max(8, 65536 / max(1, i * w.dtype.bitWidth / 8))
  let direct = w.direct(as: T.self)
  let pieces = (o + rows - 1) / rows
  let isBF16 = w.dtype == .bf16 && T.self == Float.self
  let lanes = min(run.workers.count, pieces)
  run.workspace.withScratch(direct == nil && !isBF16 ? lanes * i : 0, of: T.self) { scratch in
    run.workers.forEach(pieces) { piece, lane in
      for row in piece * rows..<min(o, (piece + 1) * rows) {
        let start = bias.map { $0[row] } ?? 0
        if isBF16 {
          let values = w.bytes + 2 * row * i
          for j in 0..<m {
            let b = UnsafeRawPointer(x + j * i).assumingMemoryBound(to: Float.self)
            y[j * o + row] = start + T(Float.dotBF16(values, b, i))
          }
          continue
        }
        var values = UnsafePointer(scratch) + lane * i
        if let direct {
          values = direct + row * i
        } else {
          w.widen(rows: row..<row + 1, into: scratch + lane * i)
        }
        for j in 0..<m { y[j * o + row] = start + dot(values, x + j * i, i) }
      }
    }
  }
}
