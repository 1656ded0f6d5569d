import Checkpoints
import Tensors

/// What `body` threw; nothing if it succeeded.
func problems(_ body: () throws(Problems) -> Void) -> [Diagnostic] {
  do throws(Problems) {
    try body()
    return []
  } catch { return error.diagnostics }
}

/// What `body` threw, if it did.
func problem(_ body: () throws(Diagnostic) -> Void) -> Diagnostic? {
  do throws(Diagnostic) {
    try body()
    return nil
  } catch { return error }
}

extension TensorSource {
  /// The place of a tensor.
  func index(_ name: TensorName) -> Int? { tensors.firstIndex { $0.name == name } }

  /// The values of an F32 tensor.
  func floats(_ name: TensorName) throws -> [Float] {
    guard let index = index(name) else { return [] }
    let bytes = try bytes(of: index)
    return stride(from: 0, to: bytes.count, by: 4).map { i in
      Float(bitPattern: (0..<4).reduce(0) { $0 | UInt32(bytes[i + $1]) << (8 * $1) })
    }
  }
}
