public import Tensors

/// Computes rows of pieces from a source's bytes.
///
/// Scratch memory is aligned as `malloc` aligns it: glibc before 2.38 leaves holes behind freed
/// blocks of a larger alignment, and memory would grow with the checkpoint.
public struct PieceReader: Sendable {
  /// The checkpoint that the stored pieces lie in.
  public let source: any TensorSource

  /// A reader over `source`.
  public init(source: any TensorSource) { self.source = source }

  /// Writes the rows `rows` of `value`, as elements of `dtype`, to `buffer`.
  ///
  /// Moves copy bytes; arithmetic is done in float64 and rounded once, to `dtype`.
  ///
  /// - Returns: what the cast did to values; nothing for moves, which are not looked at.
  /// - Throws: what reading throws.
  @discardableResult
  public func read(
    _ value: PieceValue, rows: Range<Int>, as dtype: DType,
    into buffer: UnsafeMutableRawBufferPointer
  ) throws(Diagnostic) -> CastCounts {
    guard !rows.isEmpty, buffer.count > 0 else { return CastCounts() }
    if value.isMove {
      let natural = value.dtype
      if natural == dtype {
        try move(value, rows, into: buffer)
        return CastCounts()
      }
      try Self.checkFloat(natural)
      let elements = rows.count * value.shape.rowElements
      let scratch = UnsafeMutableRawBufferPointer.allocate(
        byteCount: elements * natural.bitWidth / 8, alignment: 16)
      defer { scratch.deallocate() }
      try move(value, rows, into: scratch)
      return DType.cast(
        from: natural, to: dtype, source: UnsafeRawBufferPointer(scratch), destination: buffer)
    }
    let numbers = try doubles(value, rows: rows)
    return numbers.withUnsafeBytes {
      guard dtype != .f64 else {
        buffer.copyMemory(from: $0)
        return CastCounts(notFinite: numbers.count { !$0.isFinite })
      }
      return DType.cast(from: .f64, to: dtype, source: $0, destination: buffer)
    }
  }

  /// Values are only taken from types that are known to hold them: whole numbers may be the bits of
  /// another type or want a scale.
  private static func checkFloat(_ dtype: DType) throws(Diagnostic) {
    guard !dtype.isFloat else { return }
    throw Diagnostic(
      code: "convert.dtype", subject: dtype.rawValue,
      message: "weights of this type cannot be computed with; F64, F32, F16 and BF16 can",
      help: "store the weights as one of these")
  }

  /// The rows `rows` of `value` as float64.
  ///
  /// - Throws: what reading throws.
  public func doubles(_ value: PieceValue, rows: Range<Int>) throws(Diagnostic) -> [Double] {
    let width = value.shape.rowElements
    switch value {
    case .stored, .paddedRows, .firstRows, .paddedColumns, .repeatedRows:
      if !value.isMove { return try moved(value, rows) }
      let natural = value.dtype
      try Self.checkFloat(natural)
      let bytes = UnsafeMutableRawBufferPointer.allocate(
        byteCount: rows.count * width * natural.bitWidth / 8, alignment: 16)
      defer { bytes.deallocate() }
      try move(value, rows, into: bytes)
      return [Double](unsafeUninitializedCapacity: rows.count * width) { buffer, count in
        let target = UnsafeMutableRawBufferPointer(buffer)
        if natural == .f64 {
          target.copyMemory(from: UnsafeRawBufferPointer(bytes))
        } else {
          _ = DType.convert(
            from: natural, to: .f64, source: UnsafeRawBufferPointer(bytes), destination: target)
        }
        count = rows.count * width
      }
    case .constant(let number, _):
      return [Double](repeating: number, count: rows.count * width)
    case .table(let numbers, _):
      return Array(numbers[rows.lowerBound * width..<rows.upperBound * width])
    case .mapped(let base, let function):
      return try doubles(base, rows: rows).map { function($0) }
    case .scaled(let base, let factor):
      return try doubles(base, rows: rows).map { $0 * factor }
    case .scaledColumns(let base, let vector):
      let factors = try doubles(vector, rows: 0..<vector.shape.rows)
      var numbers = try doubles(base, rows: rows)
      for i in numbers.indices { numbers[i] *= factors[i % width % factors.count] }
      return numbers
    case .centeredRows(let base, let group):
      let first = rows.lowerBound / group
      let last = (rows.upperBound - 1) / group
      var result: [Double] = []
      result.reserveCapacity(rows.count * width)
      for g in first...last {
        let numbers = try doubles(base, rows: g * group..<(g + 1) * group)
        var mean = [Double](repeating: 0, count: width)
        for row in 0..<group {
          for j in 0..<width { mean[j] += numbers[row * width + j] }
        }
        for j in 0..<width { mean[j] /= Double(group) }
        for row in max(rows.lowerBound - g * group, 0)..<min(rows.upperBound - g * group, group) {
          for j in 0..<width { result.append(numbers[row * width + j] - mean[j]) }
        }
      }
      return result
    }
  }

  /// Moves of something that is computed.
  private func moved(_ value: PieceValue, _ rows: Range<Int>) throws(Diagnostic) -> [Double] {
    let width = value.shape.rowElements
    switch value {
    case .paddedRows(let base, _), .firstRows(let base, _):
      let own = rows.clamped(to: 0..<base.shape.rows)
      var numbers = try doubles(base, rows: own)
      numbers += [Double](repeating: 0, count: (rows.count - own.count) * width)
      return numbers
    case .paddedColumns(let base, _):
      let narrow = base.shape.rowElements
      let numbers = try doubles(base, rows: rows)
      var result = [Double](repeating: 0, count: rows.count * width)
      for row in 0..<rows.count {
        for j in 0..<narrow { result[row * width + j] = numbers[row * narrow + j] }
      }
      return result
    case .repeatedRows(let base, let block, let times):
      var result: [Double] = []
      for row in rows {
        let origin = row / (block * times) * block + row % block
        result += try doubles(base, rows: origin..<origin + 1)
      }
      return result
    default: return try doubles(value, rows: rows)
    }
  }

  /// Copies the bytes of rows of a piece that is a move.
  private func move(
    _ value: PieceValue, _ rows: Range<Int>, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Diagnostic) {
    let size = value.dtype.bitWidth / 8
    let rowBytes = value.shape.rowElements * size
    switch value {
    case .stored(let location):
      for run in location.runs {
        let from = max(rows.lowerBound, run.pieceRow)
        let to = min(rows.upperBound, run.pieceRow + run.count)
        guard from < to else { continue }
        let start = (run.tensorRow + from - run.pieceRow) * rowBytes
        try source.read(
          location.tensor, bytes: start..<start + (to - from) * rowBytes,
          into: UnsafeMutableRawBufferPointer(
            rebasing: buffer[
              (from - rows.lowerBound) * rowBytes..<(to - rows.lowerBound) * rowBytes]
          ))
      }
    case .paddedRows(let base, _), .firstRows(let base, _):
      let own = rows.clamped(to: 0..<base.shape.rows)
      try move(
        base, own, into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<(own.count * rowBytes)]))
      UnsafeMutableRawBufferPointer(rebasing: buffer[(own.count * rowBytes)...])
        .initializeMemory(as: UInt8.self, repeating: 0)
    case .paddedColumns(let base, _):
      let narrow = base.shape.rowElements * size
      let scratch = UnsafeMutableRawBufferPointer.allocate(
        byteCount: rows.count * narrow, alignment: 16)
      defer { scratch.deallocate() }
      try move(base, rows, into: scratch)
      buffer.initializeMemory(as: UInt8.self, repeating: 0)
      for row in 0..<rows.count {
        UnsafeMutableRawBufferPointer(rebasing: buffer[row * rowBytes..<row * rowBytes + narrow])
          .copyMemory(
            from: UnsafeRawBufferPointer(rebasing: scratch[row * narrow..<(row + 1) * narrow]))
      }
    case .repeatedRows(let base, let block, let times):
      var row = rows.lowerBound
      while row < rows.upperBound {
        // Up to the end of this copy of the block.
        let end = min((row / block + 1) * block, rows.upperBound)
        let origin = row / (block * times) * block + row % block
        try move(
          base, origin..<origin + end - row,
          into: UnsafeMutableRawBufferPointer(
            rebasing: buffer[
              (row - rows.lowerBound) * rowBytes..<(end - rows.lowerBound) * rowBytes]
          ))
        row = end
      }
    case .constant, .table, .scaled, .scaledColumns, .centeredRows, .mapped:
      preconditionFailure("is no move")
    }
  }

  /// Whether every value of `value` fulfils `test`, read in blocks of rows; stops at the first that
  /// does not.
  ///
  /// - Throws: what reading throws.
  public func all(
    _ value: PieceValue, _ test: (_ index: Int, _ number: Double) -> Bool
  ) throws(Diagnostic) -> Bool {
    let width = max(value.shape.rowElements, 1)
    let step = max(1, 262_144 / width)
    var row = 0
    while row < value.shape.rows {
      let rows = row..<min(row + step, value.shape.rows)
      let numbers = try doubles(value, rows: rows)
      for (i, number) in numbers.enumerated() where !test(row * width + i, number) { return false }
      row = rows.upperBound
    }
    return true
  }
}
