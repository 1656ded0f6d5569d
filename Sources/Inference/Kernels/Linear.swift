import Hub
import Tensors

/// y [m, o] = x [m, i] wᵀ + bias [o], with w [o, i] in its file's element type.
///
/// From 8 rows of x on each piece of w is one matrix product, below it a dot product a value, which
/// reads w just once.
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

// One product for each block of the result. The blocks depend on the shapes alone; only how many
// neighbours go into one call depends on the threads, and each value's sum is the same in any call.
@specialized(where T == Float)
@specialized(where T == Double)
private func linearBlocks<T: Real>(
  _ x: UnsafePointer<T>, _ m: Int, _ w: Weight, _ bias: [T]?, _ run: Run<T>,
  into y: UnsafeMutablePointer<T>
) {
  let (o, i) = (w.rows, w.columns)
  // Rows of w. Those that are widened are worth larger blocks: x is packed once for each.
  let block = w.direct(as: T.self) == nil ? 512 : 256
  let blocks = (o + block - 1) / block
  // Narrow results are cut along m as well, so that there is something for every thread; each piece
  // widens its rows of w anew.
  let least = 4
  let down = blocks >= least ? 1 : min((m + 63) / 64, (least + blocks - 1) / blocks)
  let height = (m + down - 1) / down
  let (direct, lanes) = (w.direct(as: T.self), run.workers.count)
  // x is packed anew in each call: two calls a thread cost less than one a block.
  let group = direct == nil ? 1 : max(1, blocks * down / (2 * lanes))
  let rows = block * group
  let across = (o + rows - 1) / rows
  // Weights of another type are widened for a part of the sum at a time, which stays in the cache.
  let depth = direct == nil ? max(64, (1 << 19) / (block * MemoryLayout<T>.stride)) : i
  let room = direct == nil ? block * min(depth, i) : 0
  run.workspace.withScratch(lanes * room, of: T.self) { scratch in
    run.workers.forEach(across * down) { piece, lane in
      let (o0, m0) = (piece / down * rows, piece % down * height)
      let (o1, m1) = (min(o, o0 + rows), min(m, m0 + height))
      guard m0 < m1 else { return }
      let out = y + m0 * o + o0
      if let bias { spread(bias, o0..<o1, m1 - m0, into: out, o) }
      for i0 in stride(from: 0, to: i, by: max(depth, 1)) {
        let count = min(depth, i - i0)
        var (part, width) = (UnsafePointer(scratch + lane * room), count)
        if let direct {
          (part, width) = (direct + o0 * i, i)
        } else {
          w.widen(rows: o0..<o1, columns: i0..<i0 + count, into: scratch + lane * room)
        }
        T.gemm(
          transposeA: false, transposeB: true, m: m1 - m0, n: o1 - o0, k: count, alpha: 1,
          a: x + m0 * i + i0, lda: i, b: part, ldb: width, beta: bias == nil && i0 == 0 ? 0 : 1,
          c: out, ldc: o)
      }
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
  let size = i * w.dtype.bitWidth / 8
  // Pieces of work of 64 KB of weights, and of 256 KB where there are enough for all threads, since
  // what a core reads ahead starts anew with each; the result does not depend on it.
  let rows = max(8, min(262_144, max(65_536, o * size / 64)) / max(1, size))
  let (bytes, element, dots) = (w.bytes, w.dtype.element, T.kernels.dots)
  func work(_ bias: UnsafePointer<T>?) {
    run.workers.forEach((o + rows - 1) / rows) { piece, _ in
      let row = piece * rows
      dots(
        bytes + row * size, element, min(rows, o - row), i, x, m, bias.map { $0 + row }, y + row, o)
    }
  }
  if let bias { bias.withUnsafeBufferPointer { work($0.baseAddress) } } else { work(nil) }
}
