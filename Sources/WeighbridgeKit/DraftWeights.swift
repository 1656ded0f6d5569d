import Conversion
import Inference
import Layouts
import Tensors

/// A draft's pieces as weights to run: also of a conversion that was not written.
struct DraftWeights: WeightSource {
  private let pieces: [PieceID: PieceValue]
  private let reader: PieceReader

  init(_ draft: Draft, reader: PieceReader) { self.init(draft.pieces, reader: reader) }

  init(_ pieces: [PieceID: PieceValue], reader: PieceReader) {
    self.pieces = pieces
    self.reader = reader
  }

  func info(_ piece: PieceID) -> (shape: Shape, dtype: DType)? {
    pieces[piece].map { ($0.shape, $0.isMove || $0.isNew ? $0.dtype : .f64) }
  }

  func read(
    _ piece: PieceID, rows: Range<Int>, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Diagnostic) {
    guard let value = pieces[piece], let dtype = info(piece)?.dtype else { return }
    try reader.read(value, rows: rows, as: dtype, into: buffer)
  }
}
