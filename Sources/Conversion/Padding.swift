import Hub
import Layouts
import OrderedCollections
import Tensors

/// Widths that a target allows only in multiples: zeros behind rows and columns, which the gate
/// multiplies to nothing.
enum Padding {
  static func apply(
    _ model: inout HubModel, _ paddings: [Layout.Write.Padding], _ vocabulary: Vocabulary
  ) {
    for padding in paddings {
      guard let kind = vocabulary.kinds[padding.kind] else { continue }
      for i in model.sublayers(padding.kind) {
        guard let width = model.spec.sublayers[i][padding.attribute].int, width > 0 else {
          continue
        }
        let wanted = (width + padding.multiple - 1) / padding.multiple * padding.multiple
        guard wanted != width else { continue }
        for piece in kind.pieces {
          let id = PieceID(i, piece.role)
          guard let value = model.pieces[id] else { continue }
          model.pieces[id] = padded(value, piece, padding.attribute, wanted)
        }
        model.spec.sublayers[i].attributes[padding.attribute] = .int(wanted)
        model.note(
          .exact,
          "\(padding.kind) is widened from \(width) to \(wanted) by zeros: only multiples of \(padding.multiple) are possible"
        )
      }
    }
  }

  private static func padded(
    _ value: PieceValue, _ piece: MixerKind.Piece, _ attribute: String, _ wanted: Int
  ) -> PieceValue {
    var value = value
    for (axis, extent) in piece.shape.enumerated() where extent.text == attribute {
      if case .constant(let number, let shape) = value {
        var dims = shape.dims
        dims[axis] = wanted
        value = .constant(number, Shape(dims))
      } else {
        value =
          axis == 0 ? .paddedRows(value, rows: wanted) : .paddedColumns(value, columns: wanted)
      }
    }
    return value
  }
}
