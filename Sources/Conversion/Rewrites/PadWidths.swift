import Hub
import Layouts
import Tensors

extension Rewrite {
  /// Widths that the target allows only in multiples get zeros behind their rows and columns, which
  /// the gate multiplies to nothing.
  static let padWidths = Rewrite(name: "pad_widths", need: .rules, isNamed: false) {
    (model, context) throws(Diagnostic) in
    var reasons: [Reason] = []
    for padding in context.write?.paddings ?? [] {
      guard let kind = context.vocabulary.kinds[padding.kind] else { continue }
      for i in model.spec.sublayers.indices where model.spec.sublayers[i].kind == padding.kind {
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
        reasons.append(
          Reason(
            .exact,
            "\(padding.kind) is widened from \(width) to \(wanted) by zeros: only multiples of \(padding.multiple) are possible"
          ))
      }
    }
    return reasons.isEmpty ? nil : reasons
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
