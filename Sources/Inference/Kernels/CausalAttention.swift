import Hub

/// What one head of softmax attention reads: rows of keys and values of one sequence, the first of
/// which is number `firstKey` of the sequence.
struct AttentionHead<T: Real> {
  var k: UnsafePointer<T>
  var kStride: Int
  var v: UnsafePointer<T>
  var vStride: Int
  var firstKey: Int
  /// Keys that a query sees, itself included; `nil` for all.
  var window: Int?
  var dim: Int
  var dv: Int
  var scale: T
  /// Whether the sum of the softmax is in `T`.
  var isRough = false
  /// Bias by distance, added to the scores: [distances]; `nil` for none.
  var bias: UnsafePointer<T>?
  /// For Self-Extend: keys as they are seen from beyond the neighbourhood, and where it ends.
  var farK: UnsafePointer<T>?
  var neighbours: Int = .max
}

/// Causal attention of a tile of queries (a few dozen rows), the first of which is number `first` of
/// the sequence:
///
///     o_i = Σ_j softmax_j(scale q_i k_j + bias [i - j]) v_j,  max(0, i - window + 1) <= j <= i
///
/// q and o have rows `qStride` and `oStride` apart; `scores` has room for rows * (the keys that the
/// tile sees), twice that with `farK`. Only those keys are touched, so that a window costs what it
/// covers.
@specialized(where T == Float)
@specialized(where T == Double)
func causalAttention<T: Real>(
  _ head: AttentionHead<T>, q: UnsafePointer<T>, farQ: UnsafePointer<T>?, qStride: Int, rows: Int,
  first: Int, scores: UnsafeMutablePointer<T>, into o: UnsafeMutablePointer<T>, oStride: Int
) {
  let low = max(head.firstKey, head.window.map { first - $0 + 1 } ?? 0)
  let keys = first + rows - low
  let offset = low - head.firstKey
  T.gemm(
    transposeA: false, transposeB: true, m: rows, n: keys, k: head.dim, alpha: head.scale, a: q,
    lda: qStride, b: head.k + offset * head.kStride, ldb: head.kStride, beta: 0, c: scores,
    ldc: keys)
  if let farQ, let farK = head.farK {
    let far = scores + rows * keys
    T.gemm(
      transposeA: false, transposeB: true, m: rows, n: keys, k: head.dim, alpha: head.scale,
      a: farQ, lda: qStride, b: farK + offset * head.kStride, ldb: head.kStride, beta: 0, c: far,
      ldc: keys)
    for i in 0..<rows {
      let end = first + i - head.neighbours + 1 - low
      for j in 0..<max(0, end) { scores[i * keys + j] = far[i * keys + j] }
    }
  }
  for i in 0..<rows {
    let row = scores + i * keys
    let start = max(0, head.window.map { first + i - $0 + 1 - low } ?? 0)
    let end = first + i - low + 1
    if let bias = head.bias {
      for j in start..<end { row[j] += bias[end - 1 - j] }
    }
    for j in 0..<start { row[j] = 0 }
    if head.isRough {
      roughSoftmax(row + start, end - start)
    } else {
      softmax(row + start, end - start)
    }
    for j in end..<max(keys, end) { row[j] = 0 }
  }
  T.gemm(
    transposeA: false, transposeB: false, m: rows, n: head.dv, k: keys, alpha: 1, a: scores,
    lda: keys, b: head.v + offset * head.vStride, ldb: head.vStride, beta: 0, c: o, ldc: oStride)
}

/// Attention of one query in each of `queries` heads that share keys and values, over the first
/// `keys` rows whatever their order (a ring): q and o [queries, dim], rows dim and dv apart.
/// `far` says which rows are seen by `farQ` and `farK` instead.
@specialized(where T == Float)
@specialized(where T == Double)
func attendOnce<T: Real>(
  _ head: AttentionHead<T>, q: UnsafePointer<T>, farQ: UnsafePointer<T>?, queries: Int, keys: Int,
  scores: UnsafeMutablePointer<T>, into o: UnsafeMutablePointer<T>
) {
  for query in 0..<queries {
    let row = scores
    let isFar = farQ == nil ? 0 : max(0, keys - head.neighbours)
    for j in 0..<keys {
      if j < isFar, let farQ, let farK = head.farK {
        row[j] = head.scale * dot(farQ + query * head.dim, farK + j * head.kStride, head.dim)
      } else {
        row[j] = head.scale * dot(q + query * head.dim, head.k + j * head.kStride, head.dim)
      }
    }
    if let bias = head.bias { for j in 0..<keys { row[j] += bias[keys - 1 - j] } }
    softmax(row, keys)
    let out = o + query * head.dv
    for x in 0..<head.dv { out[x] = 0 }
    for j in 0..<keys {
      let (weight, value) = (row[j], head.v + j * head.vStride)
      for x in 0..<head.dv { out[x] += weight * value[x] }
    }
  }
}
