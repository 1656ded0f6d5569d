public import Tensors

/// Where a model's weights come from: the hub's pieces, by name.
///
/// Whatever can answer for pieces can be run: a bound checkpoint, a conversion before it is written,
/// or another source with some pieces exchanged. Calls may come from any thread.
public protocol WeightSource: Sendable {
  /// Shape and element type of `piece`; `nil` when the model has no such piece.
  func info(_ piece: PieceID) -> (shape: Shape, dtype: DType)?

  /// Reads rows of the first axis (elements, for a vector), dense, row-major, little-endian and in
  /// the piece's own dtype, into `buffer`, which has just their size.
  ///
  /// - Throws: when the bytes cannot be read.
  func read(
    _ piece: PieceID, rows: Range<Int>, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Diagnostic)

  /// All bytes of `piece` where they already lie in memory (a mapped file, an array) and stay there
  /// as long as the source lives; `nil` where they must be read. They may be misaligned.
  func resident(_ piece: PieceID) -> UnsafeRawBufferPointer?

  /// Called before a sub-layer's resident pieces are used.
  ///
  /// - Throws: when the bytes have changed since the source was opened.
  func checkResident() throws(Diagnostic)

  /// Called when a pass is done with a piece: resident bytes may leave memory.
  func evict(_ piece: PieceID)
}

extension WeightSource {
  /// Returns `nil`: the bytes must be read.
  public func resident(_ piece: PieceID) -> UnsafeRawBufferPointer? { nil }
  /// Checks nothing.
  public func checkResident() throws(Diagnostic) {}
  /// Does nothing.
  public func evict(_ piece: PieceID) {}
}

extension WeightSource {
  /// Rows of `piece` as float64.
  ///
  /// - Throws: what reading throws; `convert.dtype` for a type without values here.
  package func doubles(_ piece: PieceID, rows: Range<Int>) throws(Diagnostic) -> [Double] {
    guard let (shape, dtype) = info(piece) else { return [] }
    guard dtype.isFloat else {
      throw Diagnostic(
        code: "convert.dtype", subject: piece.description,
        message: "\(dtype.rawValue) cannot be computed with; F64, F32, F16 and BF16 can")
    }
    let count = rows.count * shape.rowElements
    let bytes = UnsafeMutableRawBufferPointer.allocate(
      byteCount: count * dtype.bitWidth / 8, alignment: 16)
    defer { bytes.deallocate() }
    try read(piece, rows: rows, into: bytes)
    return [Double](unsafeUninitializedCapacity: count) { buffer, initialized in
      _ = DType.convert(
        from: dtype, to: .f64, source: UnsafeRawBufferPointer(bytes),
        destination: UnsafeMutableRawBufferPointer(buffer))
      initialized = count
    }
  }
}
