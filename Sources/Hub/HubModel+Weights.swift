public import Tensors

// A model is itself a source of weights, also one that was not written yet.
extension HubModel: WeightSource {
  /// Shape and element type of `piece`; float64 for what is computed.
  public func info(_ piece: PieceID) -> (shape: Shape, dtype: DType)? {
    if let overlay { return overlay.info(piece) }
    return pieces[piece].map {
      ($0.shape, $0.isMove || $0.isNew && !hasExactConstants ? $0.dtype : .f64)
    }
  }

  /// Computes rows of `piece`.
  ///
  /// - Throws: what reading throws.
  public func read(
    _ piece: PieceID, rows: Range<Int>, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Diagnostic) {
    if let overlay { return try overlay.read(piece, rows: rows, into: buffer) }
    guard let value = pieces[piece], let dtype = info(piece)?.dtype else { return }
    try reader.read(value, rows: rows, as: dtype, into: buffer)
    for observer in observers {
      observer.didRead(piece, rows: rows, UnsafeRawBufferPointer(buffer), dtype)
    }
  }

  /// The bytes of a piece that is one stretch of a file, where they lie.
  public func resident(_ piece: PieceID) -> UnsafeRawBufferPointer? {
    if let overlay { return overlay.resident(piece) }
    guard let (file, range) = place(piece), let bytes = file.mapped() else { return nil }
    return UnsafeRawBufferPointer(rebasing: bytes[range])
  }

  /// Whether the source's files are still as they were when they were opened.
  ///
  /// - Throws: `io.changed`.
  public func checkResident() throws(Diagnostic) {
    if let overlay { return try overlay.checkResident() }
    for file in reader.source.files { try file.checkUnchanged() }
  }

  /// Lets the bytes of a piece leave memory.
  public func evict(_ piece: PieceID) {
    if let overlay { return overlay.evict(piece) }
    guard let (file, range) = place(piece) else { return }
    // What was used where it lies is told when it goes.
    if !observers.isEmpty, let value = pieces[piece], let bytes = file.mapped() {
      for observer in observers {
        observer.didRead(
          piece, rows: 0..<value.shape.rows, UnsafeRawBufferPointer(rebasing: bytes[range]),
          value.dtype)
      }
    }
    file.unload(range)
  }

  private func place(_ piece: PieceID) -> (file: RandomAccessFile, bytes: Range<Int>)? {
    guard case .stored(let location)? = pieces[piece] else { return nil }
    return reader.source.stretch(location)
  }

  /// Bytes of all pieces as they are read once.
  public var byteCount: Int { pieces.keys.reduce(0) { $0 + byteCount(of: $1) } }

  /// Bytes of one piece; none if it is not there.
  public func byteCount(of piece: PieceID) -> Int {
    pieces[piece].flatMap { $0.shape.byteCount(of: $0.dtype) } ?? 0
  }
}

/// Looks at the bytes that a model's weights are read as.
package protocol ReadObserver: Sendable {
  /// Told of rows of a piece; pieces that are used where they lie in memory are told as a whole when
  /// they are let go.
  func didRead(
    _ piece: PieceID, rows: Range<Int>, _ bytes: UnsafeRawBufferPointer, _ dtype: DType)
}

extension HubModel {
  /// The tensors that hold a piece, as the file names them.
  package func tensors(of id: PieceID) -> [String] {
    guard let location = pieces[id]?.origin else { return [] }
    var names: [String] = []
    for run in location.runs {
      let name = reader.source.tensors[run.tensor].name.string
      if !names.contains(name) { names.append(name) }
    }
    return names
  }

  /// The tensors that a fault in a piece is to be looked for in: where the head is the embedding, its
  /// copy in the file, else the embedding.
  package func holders(of id: PieceID) -> [String] {
    guard pieces[id] == nil, id == PieceID(nil, "head.weight") else { return tensors(of: id) }
    guard let copy = copies[id] else { return tensors(of: PieceID(nil, "embed.weight")) }
    return [reader.source.tensors[copy].name.string]
  }
}

extension TensorSource {
  /// Where a piece's bytes lie, when they lie together in a file and as they are used.
  package func stretch(
    _ location: PieceLocation
  ) -> (file: RandomAccessFile, bytes: Range<Int>)? {
    guard location.runs.count == 1, let run = location.runs.first,
      let extent = tensors[run.tensor].extent
    else { return nil }
    let start = extent.offset + run.tensorRow * location.rowBytes
    let end = start + run.count * location.rowBytes
    guard run.pieceRow == 0, run.count == location.shape.rows, end <= files[extent.file].byteCount
    else { return nil }
    return (files[extent.file], start..<end)
  }
}
