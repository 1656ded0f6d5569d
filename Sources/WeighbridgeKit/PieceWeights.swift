import Checkpoints
import Conversion
import Hub
import Inference
import Layouts
import Tensors

/// A draft's pieces as weights to run: also of a conversion that was not written.
struct PieceWeights: WeightSource {
  private let pieces: [PieceID: PieceValue]
  private let reader: PieceReader
  private let meter: Meter?
  /// Whether what is new is read in float64, as what is computed is.
  private let isExact: Bool

  init(_ model: HubModel, reader: PieceReader, meter: Meter? = nil) {
    self.init(model.pieces, reader: reader, meter: meter)
  }

  init(
    _ pieces: [PieceID: PieceValue], reader: PieceReader, meter: Meter? = nil,
    isExact: Bool = false
  ) {
    self.pieces = pieces
    self.isExact = isExact
    self.reader = reader
    self.meter = meter
  }

  func info(_ piece: PieceID) -> (shape: Shape, dtype: DType)? {
    pieces[piece].map { ($0.shape, $0.isMove || $0.isNew && !isExact ? $0.dtype : .f64) }
  }

  func read(
    _ piece: PieceID, rows: Range<Int>, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Diagnostic) {
    guard let value = pieces[piece], let dtype = info(piece)?.dtype else { return }
    try reader.read(value, rows: rows, as: dtype, into: buffer)
    meter?.add(buffer.count, piece.description)
  }

  // A piece that is one stretch of a file is used where it lies.
  func resident(_ piece: PieceID) -> UnsafeRawBufferPointer? {
    guard let (file, range) = place(piece), let bytes = file.mapped() else { return nil }
    return UnsafeRawBufferPointer(rebasing: bytes[range])
  }

  func checkResident() throws(Diagnostic) {
    for file in reader.source.files { try file.checkUnchanged() }
  }

  func evict(_ piece: PieceID) {
    guard let (file, range) = place(piece) else { return }
    file.unload(range)
    meter?.add(range.count, piece.description)
  }

  private func place(_ piece: PieceID) -> (file: RandomAccessFile, bytes: Range<Int>)? {
    guard case .stored(let location)? = pieces[piece] else { return nil }
    return reader.source.stretch(location)
  }
}

extension HubModel {
  /// Bytes of all pieces as they are read once.
  var byteCount: Int { pieces.keys.reduce(0) { $0 + byteCount(of: $1) } }

  /// Bytes of one piece; none if it is not there.
  func byteCount(of piece: PieceID) -> Int {
    pieces[piece].flatMap { $0.shape.byteCount(of: $0.dtype) } ?? 0
  }
}

extension TensorSource {
  /// Where a piece's bytes lie, when they lie together in a file and as they are used.
  func stretch(
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
