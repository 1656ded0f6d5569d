import Hub
import Tensors

/// A model's weights, with every byte that is read counted.
struct MeteredWeights: WeightSource {
  private let model: HubModel
  private let meter: Meter?

  init(_ model: HubModel, _ meter: Meter?) {
    self.model = model
    self.meter = meter
  }

  func info(_ piece: PieceID) -> (shape: Shape, dtype: DType)? { model.info(piece) }

  func read(
    _ piece: PieceID, rows: Range<Int>, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Diagnostic) {
    try model.read(piece, rows: rows, into: buffer)
    meter?.add(buffer.count, piece.description)
  }

  func resident(_ piece: PieceID) -> UnsafeRawBufferPointer? { model.resident(piece) }

  func checkResident() throws(Diagnostic) { try model.checkResident() }

  // What was used where it lies is counted when it goes.
  func evict(_ piece: PieceID) {
    if let bytes = model.resident(piece) { meter?.add(bytes.count, piece.description) }
    model.evict(piece)
  }
}
