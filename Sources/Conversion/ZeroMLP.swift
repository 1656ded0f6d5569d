public import Hub
import Layouts
public import Tensors

/// MLPs whose down projection is zero: they add exactly nothing.
public enum ZeroMLP {
  /// The draft without its zero MLPs, or `nil` when it has none.
  public static func dropped(from draft: Draft, reader: PieceReader) throws(Diagnostic) -> Draft? {
    var zero: Set<Int> = []
    for i in draft.sublayers("mlp") {
      guard let down = draft.pieces[PieceID(i, "down.weight")] else { continue }
      if let bias = draft.pieces[PieceID(i, "down.bias")],
        try !reader.all(bias, { $1 == 0 })
      {
        continue
      }
      if try reader.all(down, { $1 == 0 }) { zero.insert(i) }
    }
    guard !zero.isEmpty else { return nil }
    var result = draft
    result.removeSublayers { zero.contains($0) }
    result.note(.exact, "\(zero.count) MLPs of zeros are left out, which add exactly nothing")
    return result
  }
}
