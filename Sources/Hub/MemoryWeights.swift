public import Tensors

/// Weights kept in memory, for tests and for pieces that stand in for others.
public struct MemoryWeights: WeightSource {
  /// One piece: its shape, its element type, its bytes.
  public struct Entry: Sendable, Hashable {
    /// The shape.
    public var shape: Shape
    /// The element type.
    public var dtype: DType
    /// The dense, row-major, little-endian bytes.
    public var bytes: [UInt8]

    /// A piece.
    public init(shape: Shape, dtype: DType, bytes: [UInt8]) {
      self.shape = shape
      self.dtype = dtype
      self.bytes = bytes
    }

    /// A float64 piece with these values.
    public init(shape: Shape, _ values: [Double]) {
      self.init(
        shape: shape, dtype: .f64, bytes: values.withUnsafeBytes { [UInt8]($0) })
    }
  }

  /// The pieces.
  public var entries: [PieceID: Entry]

  /// These pieces.
  public init(_ entries: [PieceID: Entry] = [:]) { self.entries = entries }

  /// Shape and element type of `piece`.
  public func info(_ piece: PieceID) -> (shape: Shape, dtype: DType)? {
    entries[piece].map { ($0.shape, $0.dtype) }
  }

  /// Copies rows of `piece`.
  ///
  /// - Throws: `model.piece` when there is no such piece or it is shorter.
  public func read(
    _ piece: PieceID, rows: Range<Int>, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Diagnostic) {
    guard let entry = entries[piece], !rows.isEmpty else {
      throw Diagnostic(
        code: "model.piece", subject: piece.description, message: "is not among the weights")
    }
    let row = buffer.count / rows.count
    guard rows.lowerBound >= 0, rows.upperBound * row <= entry.bytes.count else {
      throw Diagnostic(
        code: "model.piece", subject: piece.description,
        message: "has \(entry.bytes.count) bytes; rows \(rows) do not fit")
    }
    entry.bytes.withUnsafeBytes { bytes in
      buffer.copyMemory(
        from: UnsafeRawBufferPointer(rebasing: bytes[rows.lowerBound * row..<rows.upperBound * row])
      )
    }
  }
}
