import Conversion
import Inference
import Layouts
import Tensors

/// A draft's pieces as weights to run: also of a conversion that was not written.
struct DraftWeights: WeightSource {
  private let pieces: [PieceID: PieceValue]
  private let reader: PieceReader
  private let meter: Meter?

  init(_ draft: Draft, reader: PieceReader, meter: Meter? = nil) {
    pieces = draft.pieces
    self.reader = reader
    self.meter = meter
  }

  func info(_ piece: PieceID) -> (shape: Shape, dtype: DType)? {
    pieces[piece].map { ($0.shape, $0.isMove || $0.isNew ? $0.dtype : .f64) }
  }

  func read(
    _ piece: PieceID, rows: Range<Int>, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Diagnostic) {
    guard let value = pieces[piece], let dtype = info(piece)?.dtype else { return }
    try reader.read(value, rows: rows, as: dtype, into: buffer)
    meter?.add(buffer.count, piece.description)
  }
}

extension Draft {
  /// Bytes of all pieces as they are read once.
  var byteCount: Int { pieces.keys.reduce(0) { $0 + byteCount(of: $1) } }

  /// Bytes of one piece; none if it is not there.
  func byteCount(of piece: PieceID) -> Int {
    pieces[piece].flatMap { $0.shape.byteCount(of: $0.dtype) } ?? 0
  }
}
