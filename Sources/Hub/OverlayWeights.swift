public import Tensors

/// A model's weights with some pieces exchanged for another's.
///
/// The model that the base's pieces are made for is the one that is run: a piece of the other that is
/// narrower gets zeros behind its rows and columns, one that is wider is cut, as widths are padded.
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

  /// The other's own shape and the one it is fitted to; `nil` for a piece that is taken as it is.
  private func fit(_ piece: PieceID) -> (own: Shape, wanted: Shape, dtype: DType)? {
    guard exchanged.contains(piece), let own = other.info(piece),
      let wanted = base.info(piece)?.shape, own.shape != wanted, own.shape.rank == wanted.rank,
      (1...2).contains(wanted.rank)
    else { return nil }
    return (own.shape, wanted, own.dtype)
  }

  /// Shape and element type of `piece`, wherever it comes from.
  public func info(_ piece: PieceID) -> (shape: Shape, dtype: DType)? {
    fit(piece).map { ($0.wanted, $0.dtype) } ?? source(piece).info(piece)
  }

  /// Rows of `piece`, wherever it comes from.
  public func read(
    _ piece: PieceID, rows: Range<Int>, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Diagnostic) {
    guard let (own, wanted, dtype) = fit(piece), !rows.isEmpty else {
      try source(piece).read(piece, rows: rows, into: buffer)
      return
    }
    buffer.initializeMemory(as: UInt8.self, repeating: 0)
    let there = rows.clamped(to: 0..<own.rows)
    let narrow = own.rowElements * dtype.bitWidth / 8
    let wide = wanted.rowElements * dtype.bitWidth / 8
    guard !there.isEmpty, narrow > 0, wide > 0 else { return }
    let scratch = UnsafeMutableRawBufferPointer.allocate(
      byteCount: there.count * narrow, alignment: 16)
    defer { scratch.deallocate() }
    try other.read(piece, rows: there, into: scratch)
    let count = min(narrow, wide)
    for row in 0..<there.count {
      let place = (there.lowerBound - rows.lowerBound + row) * wide
      UnsafeMutableRawBufferPointer(rebasing: buffer[place..<place + count])
        .copyMemory(
          from: UnsafeRawBufferPointer(rebasing: scratch[row * narrow..<row * narrow + count]))
    }
  }

  /// The bytes of `piece`, where they lie in memory.
  public func resident(_ piece: PieceID) -> UnsafeRawBufferPointer? {
    fit(piece) == nil ? source(piece).resident(piece) : nil
  }

  /// Checks both sources.
  public func checkResident() throws(Diagnostic) {
    try base.checkResident()
    if !exchanged.isEmpty { try other.checkResident() }
  }

  /// Evicts it from the source it comes from.
  public func evict(_ piece: PieceID) { source(piece).evict(piece) }
}
