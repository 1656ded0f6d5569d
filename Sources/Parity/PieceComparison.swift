import Dispatch
package import Hub
import Synchronization
package import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// How a piece of A and the same piece of B compare.
package struct PieceComparison: Sendable {
  /// The piece.
  package var id: PieceID
  /// How the two compare.
  package var status: CheckpointDiff.Status
  /// Values of A's that are NaN or infinite.
  package var notFiniteA = 0
  /// Values of B's that are NaN or infinite.
  package var notFiniteB = 0
}

extension AlignedPair {
  /// How each piece compares, in order; on all cores. Every byte is read once.
  ///
  /// - Parameter progress: told of A's bytes as they are worked through.
  /// - Throws: what reading throws.
  package func comparisons(
    _ progress: (@Sendable (_ bytes: Int, _ piece: String) -> Void)? = nil
  ) throws(Diagnostic) -> [PieceComparison] {
    try each(pieceIDs) { id throws(Diagnostic) in
      defer { progress?(a.byteCount(of: id), id.description) }
      return try comparison(of: id)
    }
  }

  /// What `body` gives for each, in order; on all cores.
  private func each<Element: Sendable, Result: Sendable>(
    _ elements: [Element], _ body: @Sendable (Element) throws(Diagnostic) -> Result
  ) throws(Diagnostic) -> [Result] {
    let found = Mutex([Int: Swift.Result<Result, Diagnostic>]())
    DispatchQueue.concurrentPerform(iterations: elements.count) { i in
      let result = Swift.Result { () throws(Diagnostic) in try body(elements[i]) }
      found.withLock { $0[i] = result }
    }
    var results: [Result] = []
    for (_, result) in found.withLock({ $0 }).sorted(by: { $0.key < $1.key }) {
      results.append(try result.get())
    }
    return results
  }

  /// Of `ids`, the pieces of A that are B's rounded to a narrower type: a cast the other way round.
  ///
  /// - Throws: what reading throws.
  package func reversedCasts(_ ids: Set<PieceID>) throws(Diagnostic) -> [(id: PieceID, type: DType)]
  {
    var swapped = self
    (swapped.a, swapped.b) = (b, a)
    var found: [(id: PieceID, type: DType)] = []
    for id in ids.sorted() {
      switch try swapped.comparison(of: id).status {
      case .cast(let from, let to) where to.bitWidth < from.bitWidth: found.append((id, to))
      case .rounded(let to): found.append((id, to))
      default: break
      }
    }
    return found
  }

  /// Compares two pieces that lie in files as they are used, and counts what is not finite where they are
  /// equal; `nil` when they do not lie so, or differ.
  private func sameStretch(
    _ x: PieceValue, _ y: PieceValue
  ) throws(Diagnostic) -> Int? {
    guard x.dtype == y.dtype, case .stored(let p) = x, case .stored(let q) = y,
      let (fileA, rangeA) = a.reader.source.stretch(p),
      let (fileB, rangeB) = b.reader.source.stretch(q), rangeA.count == rangeB.count,
      let (bytesA, bytesB) = fileA.mapped().flatMap({ p in fileB.mapped().map { (p, $0) } })
    else { return nil }
    try fileA.checkUnchanged()
    try fileB.checkUnchanged()
    defer {
      fileA.unload(rangeA)
      fileB.unload(rangeB)
    }
    let left = UnsafeRawBufferPointer(rebasing: bytesA[rangeA])
    let right = UnsafeRawBufferPointer(rebasing: bytesB[rangeB])
    var odd = 0
    // By blocks, which are still in the cache when they are counted.
    for start in stride(from: 0, to: left.count, by: 1 << 20) {
      let block = start..<min(start + 1 << 20, left.count)
      let own = UnsafeRawBufferPointer(rebasing: left[block])
      guard let p = own.baseAddress, let q = right.baseAddress.map({ $0 + start }),
        memcmp(p, q, own.count) == 0
      else { return nil }
      odd += x.dtype.countNotFinite(own)
    }
    return odd
  }

  /// How a piece compares.
  ///
  /// - Throws: what reading throws.
  func comparison(of id: PieceID) throws(Diagnostic) -> PieceComparison {
    var found = PieceComparison(id: id, status: .equal)
    guard let x = a.pieces[id], let y = b.pieces[id] else {
      let isA = a.pieces[id] != nil
      let own = isA ? a : b
      found.status = try isNeutral(id, own) ? .neutral : isA ? .onlyInA : .onlyInB
      let count = try own.countNotFinite(id)
      if isA { found.notFiniteA = count } else { found.notFiniteB = count }
      return found
    }
    var left = x
    var right = y
    if x.shape != y.shape {
      // A width padded with zeros is the same matrix.
      guard let padded = widened(x, to: y.shape) ?? widened(y, to: x.shape) else {
        found.status = .shapes(x.shape, y.shape)
        found.notFiniteA = try a.countNotFinite(id)
        found.notFiniteB = try b.countNotFinite(id)
        return found
      }
      if padded.shape == y.shape { left = padded } else { right = padded }
    }
    if let same = try sameStretch(left, right) {
      (found.notFiniteA, found.notFiniteB) = (same, same)
      return found
    }
    let width = max(left.shape.rowElements, 1)
    let step = max(1, 524_288 / width)
    // A computed value is compared unrounded.
    let isComputed = !left.isMove || !right.isMove
    var identical = left.dtype == right.dtype
    // B is a cast of A where A in B's type has B's bits: rounded where that is narrower, the very same
    // values where it is wider. A finite value that the type could not hold is no cast of it.
    var isCast = left.dtype != right.dtype && !isComputed
    var there = Set([DType.bf16, .f16].filter { $0.bitWidth < right.dtype.bitWidth })
    if left.dtype != right.dtype || isComputed { there = [] }
    var differing = 0
    var largest = 0.0
    var row = 0
    while row < left.shape.rows, left.shape.elementCount != 0 {
      let rows = row..<min(row + step, left.shape.rows)
      row = rows.upperBound
      if isComputed {
        identical = false
      } else if left.dtype == right.dtype {
        let p = try bytes(left, rows, left.dtype, a.reader)
        let q = try bytes(right, rows, right.dtype, b.reader)
        let isSame = p.count == q.count && memcmp(p, q, p.count) == 0
        if !isSame { identical = false }
        for narrow in there where !Self.isRounded(p, q, left.dtype, through: narrow) {
          there.remove(narrow)
        }
        if isSame {
          let odd = p.withUnsafeBytes { left.dtype.countNotFinite($0) }
          found.notFiniteA += odd
          found.notFiniteB += odd
          continue
        }
      } else if isCast {
        let cast = try bytes(left, rows, right.dtype, a.reader)
        let q = try bytes(right, rows, right.dtype, b.reader)
        isCast = cast == q
        let odd = q.withUnsafeBytes { right.dtype.countNotFinite($0) }
        if isCast, odd > 0 {
          isCast = try a.reader.doubles(left, rows: rows).count { !$0.isFinite } == odd
        }
        if isCast {
          found.notFiniteA += odd
          found.notFiniteB += odd
          continue
        }
      }
      let p = try a.reader.doubles(left, rows: rows)
      let q = try b.reader.doubles(right, rows: rows)
      for (u, v) in zip(p, q) {
        if !u.isFinite { found.notFiniteA += 1 }
        if !v.isFinite { found.notFiniteB += 1 }
        guard u != v, !(u.isNaN && v.isNaN) else { continue }
        differing += 1
        let distance = abs(u - v)
        largest = distance.isNaN ? .infinity : max(largest, distance)
      }
    }
    found.status =
      if identical || isComputed && differing == 0 {
        .equal
      } else if isCast {
        .cast(from: left.dtype, to: right.dtype)
      } else if let narrow = [DType.bf16, .f16].first(where: { there.contains($0) }) {
        .rounded(to: narrow)
      } else {
        .differs(maxAbs: largest, count: differing, of: left.shape.elementCount ?? 0)
      }
    return found
  }

  /// Whether `b` is `a` rounded to `narrow` and widened again, everything staying finite.
  private static func isRounded(
    _ a: [UInt8], _ b: [UInt8], _ dtype: DType, through narrow: DType
  ) -> Bool {
    guard dtype.isFloat, a.count == b.count else { return false }
    let count = a.count * 8 / dtype.bitWidth
    var half = [UInt8](repeating: 0, count: count * narrow.bitWidth / 8)
    var back = [UInt8](repeating: 0, count: a.count)
    let counts = a.withUnsafeBytes { from in
      half.withUnsafeMutableBytes {
        DType.cast(from: dtype, to: narrow, source: from, destination: $0)
      }
    }
    guard counts.overflows == 0 else { return false }
    half.withUnsafeBytes { from in
      back.withUnsafeMutableBytes {
        _ = DType.cast(from: narrow, to: dtype, source: from, destination: $0)
      }
    }
    return back == b
  }

  private func bytes(
    _ value: PieceValue, _ rows: Range<Int>, _ dtype: DType, _ reader: PieceReader
  ) throws(Diagnostic) -> [UInt8] {
    var failure: Diagnostic?
    let count = rows.count * value.shape.rowElements * dtype.bitWidth / 8
    let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
      do throws(Diagnostic) {
        try reader.read(value, rows: rows, as: dtype, into: UnsafeMutableRawBufferPointer(buffer))
        initialized = count
      } catch { failure = error }
    }
    if let failure { throw failure }
    return bytes
  }

  private func widened(_ value: PieceValue, to shape: Shape) -> PieceValue? {
    guard value.shape.rank == shape.rank, shape.rank <= 2, shape.rank > 0 else { return nil }
    var value = value
    if shape.rank == 2, value.shape[1] < shape[1] {
      value = .paddedColumns(value, columns: shape[1])
    }
    if value.shape[0] < shape[0] { value = .paddedRows(value, rows: shape[0]) }
    return value.shape == shape ? value : nil
  }

  private func isNeutral(_ id: PieceID, _ side: HubModel) throws(Diagnostic) -> Bool {
    // A head written beside the embedding that it is.
    if id == PieceID(nil, "head.weight") { return false }
    let kind =
      id.sublayer.flatMap { vocabulary.kinds[side.spec.sublayers[$0].kind] }
      ?? vocabulary.model
    if let computed = kind.piece(id.role)?.computed {
      // A table in the file where the other side computes it.
      guard let value = side.pieces[id], let table = computed(side.spec) else {
        return false
      }
      return value.shape.elementCount == table.count
        ? try side.reader.all(value) { MixerKind.Piece.isSame($1, computed: table[$0]) } : false
    }
    guard let value = side.pieces[id] else { return false }
    switch kind.piece(id.role)?.identity {
    case .zero: return try side.reader.all(value) { $1 == 0 }
    case .one: return try side.reader.all(value) { $1 == 1 }
    case nil: return false
    }
  }
}
