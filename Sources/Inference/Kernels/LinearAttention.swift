import Hub

/// The rows of one sequence that a head of linear attention reads and writes: row t of q starts at
/// `q + t * qStride`, and so on. `queries` heads that share k and v lie side by side in q and o.
package struct LinearHead<T: Real> {
  var q: UnsafePointer<T>
  var qStride: Int
  var k: UnsafePointer<T>
  var kStride: Int
  var v: UnsafePointer<T>
  var vStride: Int
  var o: UnsafeMutablePointer<T>
  var oStride: Int
  /// Channels of a key.
  var dk: Int
  /// Channels of a value.
  var dv: Int
  /// Heads of q that share this k and v.
  var queries: Int
  /// Factor on q.
  var scale: T

  /// A head; strides count elements.
  package init(
    q: UnsafePointer<T>, qStride: Int, k: UnsafePointer<T>, kStride: Int, v: UnsafePointer<T>,
    vStride: Int, o: UnsafeMutablePointer<T>, oStride: Int, dk: Int, dv: Int, queries: Int = 1,
    scale: T
  ) {
    (self.q, self.qStride, self.k, self.kStride) = (q, qStride, k, kStride)
    (self.v, self.vStride, self.o, self.oStride) = (v, vStride, o, oStride)
    (self.dk, self.dv, self.queries, self.scale) = (dk, dv, queries, scale)
  }
}

/// Linear attention with a decay that is one number for each token (retention; Mamba-2):
///
///     S [dk, dv] = e^decay [t] S + k_t ⊗ v_t,   o_t = scale q_tᵀ S
///
/// in chunks, so that it becomes matrix products (Sun et al. 2023, arXiv 2307.08621, eq. 7; Dao and
/// Gu 2024, arXiv 2405.21060, section 6). `decay` [tokens] holds logarithms, none above 0; `scratch`
/// has `scalarDecayScratch(chunk, dk)` values. The state goes in and out.
@specialized(where T == Float)
@specialized(where T == Double)
package func scalarDecay<T: Real>(
  _ head: LinearHead<T>, decay: UnsafePointer<Double>, tokens: Int, chunk: Int,
  scratch: UnsafeMutablePointer<T>, state: UnsafeMutablePointer<T>
) {
  let (dk, dv) = (head.dk, head.dv)
  let scores = scratch
  let queries = scores + chunk * chunk
  let keys = queries + chunk * dk
  // Decay from behind token j up to the row being worked on: kept by adding, never as a difference
  // of two running sums, which would cancel after a strong decay.
  var since = [Double](repeating: 0, count: chunk)
  for t0 in stride(from: 0, to: tokens, by: chunk) {
    let c = min(chunk, tokens - t0)
    let (q, k) = (head.q + t0 * head.qStride, head.k + t0 * head.kStride)
    let (v, o) = (head.v + t0 * head.vStride, head.o + t0 * head.oStride)
    // Inside the chunk: (q kᵀ * e^since_ij) v, j <= i.
    T.gemm(
      transposeA: false, transposeB: true, m: c, n: c, k: dk, alpha: head.scale, a: q,
      lda: head.qStride, b: k, ldb: head.kStride, beta: 0, c: scores, ldc: chunk)
    for i in 0..<c {
      let row = scores + i * chunk
      let step = decay[t0 + i]
      for j in 0..<i { since[j] += step }
      since[i] = 0
      for j in 0...i { row[j] *= T.exp(T(since[j])) }
      for j in i + 1..<max(c, i + 1) { row[j] = 0 }
    }
    T.gemm(
      transposeA: false, transposeB: false, m: c, n: dv, k: c, alpha: 1, a: scores, lda: chunk,
      b: v, ldb: head.vStride, beta: 0, c: o, ldc: head.oStride)
    // From before the chunk: e^sum q S, the sum from the chunk's first token up to the row.
    var sum = 0.0
    for i in 0..<c {
      sum += decay[t0 + i]
      let (factor, rest) = (head.scale * T(Double.exp(sum)), T(Double.exp(since[i])))
      let (qi, ki) = (q + i * head.qStride, k + i * head.kStride)
      for x in 0..<dk { queries[i * dk + x] = qi[x] * factor }
      for x in 0..<dk { keys[i * dk + x] = ki[x] * rest }
    }
    T.gemm(
      transposeA: false, transposeB: false, m: c, n: dv, k: dk, alpha: 1, a: queries, lda: dk,
      b: state, ldb: dv, beta: 1, c: o, ldc: head.oStride)
    // The state behind it.
    let whole = T(Double.exp(sum))
    for x in 0..<dk * dv { state[x] *= whole }
    T.gemm(
      transposeA: true, transposeB: false, m: dk, n: dv, k: c, alpha: 1, a: keys, lda: dk,
      b: v, ldb: head.vStride, beta: 1, c: state, ldc: dv)
  }
}

/// Values of scratch that `scalarDecay` needs.
package func scalarDecayScratch(chunk: Int, dk: Int) -> Int { chunk * (chunk + 2 * dk) }

/// Linear attention with a decay for each channel of the key (gated linear attention):
///
///     S [dk, dv] = diag(e^g_t) S + k_t ⊗ v_t,   o_t = scale q_tᵀ S
///
/// in chunks of at most `chunk` and blocks of 16 tokens (Yang et al. 2023, arXiv 2312.06635, section
/// 4). g [tokens, dk] holds logarithms, none above 0, its rows `gStride` apart. Decay between two
/// tokens is always a product of the steps between them, never a quotient, so that none can overflow
/// or cancel: keys are decayed forward, block by block, to where the queries stand. `scratch` has
/// `channelDecayScratch(chunk, dk)` values.
@specialized(where T == Float)
@specialized(where T == Double)
package func channelDecay<T: Real>(
  _ head: LinearHead<T>, g: UnsafePointer<T>, gStride: Int, tokens: Int, chunk: Int,
  scratch: UnsafeMutablePointer<T>, state: UnsafeMutablePointer<T>
) {
  let (dk, dv) = (head.dk, head.dv)
  let scores = scratch  // [16, chunk]
  let keys = scores + channelBlock * chunk  // [chunk, dk], decayed to the current block's start
  let queries = keys + chunk * dk  // [16, dk]
  let near = queries + channelBlock * dk  // [16, dk], keys of the block, decayed to the row
  let steps = near + channelBlock * dk  // [16, dk], e^g
  let decays = steps + channelBlock * dk  // [16, dk], steps multiplied from the block's start on
  let before = decays + channelBlock * dk  // [dk], decay from the chunk's to the block's start
  let across = before + dk  // [dk], decay of the whole block
  for t0 in stride(from: 0, to: tokens, by: chunk) {
    let c = min(chunk, tokens - t0)
    for x in 0..<dk { before[x] = 1 }
    for b0 in stride(from: 0, to: c, by: channelBlock) {
      let rows = min(channelBlock, c - b0)
      for i in 0..<rows {
        let gate = g + (t0 + b0 + i) * gStride
        for x in 0..<dk { steps[i * dk + x] = T.exp(gate[x]) }
      }
      for x in 0..<dk { decays[x] = steps[x] }
      for x in dk..<rows * dk { decays[x] = decays[x - dk] * steps[x] }
      // Keys of the block, decayed to its end, for the blocks behind it.
      for x in 0..<dk { across[x] = 1 }
      for j in (0..<rows).reversed() {
        let key = head.k + (t0 + b0 + j) * head.kStride
        let (out, step) = (keys + (b0 + j) * dk, steps + j * dk)
        for x in 0..<dk { out[x] = key[x] * across[x] }
        for x in 0..<dk { across[x] *= step[x] }
      }
      for query in 0..<head.queries {
        let q = head.q + (t0 + b0) * head.qStride + query * dk
        let o = head.o + (t0 + b0) * head.oStride + query * dv
        for i in 0..<rows {
          let (qi, decay) = (q + i * head.qStride, decays + i * dk)
          for x in 0..<dk { queries[i * dk + x] = qi[x] * decay[x] * head.scale }
        }
        if b0 > 0 {
          T.gemm(
            transposeA: false, transposeB: true, m: rows, n: b0, k: dk, alpha: 1, a: queries,
            lda: dk, b: keys, ldb: dk, beta: 0, c: scores, ldc: chunk)
        }
        nearScores(head, q, steps, t0 + b0, rows, near, into: scores + b0, chunk)
        T.gemm(
          transposeA: false, transposeB: false, m: rows, n: dv, k: b0 + rows, alpha: 1, a: scores,
          lda: chunk, b: head.v + t0 * head.vStride, ldb: head.vStride, beta: 0, c: o,
          ldc: head.oStride)
        for i in 0..<rows { for x in 0..<dk { queries[i * dk + x] *= before[x] } }
        T.gemm(
          transposeA: false, transposeB: false, m: rows, n: dv, k: dk, alpha: 1, a: queries,
          lda: dk, b: state, ldb: dv, beta: 1, c: o, ldc: head.oStride)
      }
      for j in 0..<b0 { for x in 0..<dk { keys[j * dk + x] *= across[x] } }
      for x in 0..<dk { before[x] *= across[x] }
    }
    for x in 0..<dk {
      let row = state + x * dv
      let factor = before[x]
      for y in 0..<dv { row[y] *= factor }
    }
    T.gemm(
      transposeA: true, transposeB: false, m: dk, n: dv, k: c, alpha: 1, a: keys, lda: dk,
      b: head.v + t0 * head.vStride, ldb: head.vStride, beta: 1, c: state, ldc: dv)
  }
}

private let channelBlock = 16

/// Values of scratch that `channelDecay` needs.
package func channelDecayScratch(chunk: Int, dk: Int) -> Int {
  channelBlock * chunk + chunk * dk + (4 * channelBlock + 2) * dk
}

/// scores [rows, rows] = scale Σ_x q_i[x] k_j[x] (steps_(j+1) ... steps_i)[x], j <= i; 0 above
///
/// Each key is decayed once a row, as the recurrence does it.
@inline(__always)
private func nearScores<T: Real>(
  _ head: LinearHead<T>, _ q: UnsafePointer<T>, _ steps: UnsafePointer<T>, _ first: Int,
  _ rows: Int, _ near: UnsafeMutablePointer<T>, into scores: UnsafeMutablePointer<T>,
  _ stride: Int
) {
  let dk = head.dk
  for i in 0..<rows {
    let step = steps + i * dk
    for j in 0..<i {
      let key = near + j * dk
      for x in 0..<dk { key[x] *= step[x] }
    }
    let key = head.k + (first + i) * head.kStride
    for x in 0..<dk { near[i * dk + x] = key[x] }
    let qi = q + i * head.qStride
    for j in 0...i {
      scores[i * stride + j] = head.scale * dot(qi, UnsafePointer(near + j * dk), dk)
    }
    for j in i + 1..<max(rows, i + 1) { scores[i * stride + j] = 0 }
  }
}

/// One token after another, as the recurrence is written: for decoding, and the plain twin of both
/// chunked forms. `decay` gives the factor of each channel of the key: g [tokens, dk] as logarithms
/// for gated linear attention, or one logarithm a token.
@specialized(where T == Float)
@specialized(where T == Double)
package func recurrentDecay<T: Real>(
  _ head: LinearHead<T>, g: UnsafePointer<T>?, gStride: Int, decay: UnsafePointer<Double>?,
  tokens: Int, state: UnsafeMutablePointer<T>
) {
  let (dk, dv) = (head.dk, head.dv)
  for t in 0..<tokens {
    let (k, v) = (head.k + t * head.kStride, head.v + t * head.vStride)
    let all = decay.map { T(Double.exp($0[t])) } ?? 1
    for x in 0..<dk {
      let row = state + x * dv
      let factor = g.map { T.exp($0[t * gStride + x]) } ?? all
      let key = k[x]
      for y in 0..<dv { row[y] = row[y] * factor + key * v[y] }
    }
    for query in 0..<head.queries {
      let q = head.q + t * head.qStride + query * dk
      let o = head.o + t * head.oStride + query * dv
      for y in 0..<dv { o[y] = 0 }
      for x in 0..<dk {
        let row = state + x * dv
        let value = q[x] * head.scale
        for y in 0..<dv { o[y] += value * row[y] }
      }
    }
  }
}
