public import Tensors

/// A model's weights with some pieces exchanged for another's.
public struct OverlayWeights: WeightSource {
  private let base: any WeightSource
  private let other: any WeightSource
  private let exchanged: Set<PieceID>

  /// `base` with `exchanged` taken from `other`.
  public init(_ base: any WeightSource, with other: any WeightSource, exchanged: Set<PieceID>) {
    self.base = base
    self.other = other
    self.exchanged = exchanged
  }

  private func source(_ piece: PieceID) -> any WeightSource {
    exchanged.contains(piece) ? other : base
  }

  /// Shape and element type of `piece`, wherever it comes from.
  public func info(_ piece: PieceID) -> (shape: Shape, dtype: DType)? {
    source(piece).info(piece)
  }

  /// Rows of `piece`, wherever it comes from.
  public func read(
    _ piece: PieceID, rows: Range<Int>, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Diagnostic) {
    try source(piece).read(piece, rows: rows, into: buffer)
  }

  /// The bytes of `piece`, where they lie in memory.
  public func resident(_ piece: PieceID) -> UnsafeRawBufferPointer? {
    source(piece).resident(piece)
  }

  /// Looks at both.
  public func checkResident() throws(Diagnostic) {
    try base.checkResident()
    if !exchanged.isEmpty { try other.checkResident() }
  }

  /// Tells the one that has it.
  public func evict(_ piece: PieceID) { source(piece).evict(piece) }
}
