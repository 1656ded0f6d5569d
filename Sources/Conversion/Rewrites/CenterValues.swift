import Hub
import Layouts
import Tensors

extension Rewrite {
  /// With values whose channels have the mean zero in each head, a head's output has it too, and
  /// LayerNorm without affine is RMSNorm.
  ///
  /// From LayerNorm to RMSNorm the values are centred, which LayerNorm does not see; the other way
  /// is possible only when they are centred already.
  static let centerValues = Rewrite(name: "center_values") {
    (draft, context) throws(Diagnostic) in
    let target = context.target
    guard target.sublayers.count == draft.spec.sublayers.count else { return false }
    var changed = false
    for i in draft.spec.sublayers.indices
    where draft.spec.sublayers[i]["group_norm"] != .null {
      let own = draft.spec.sublayers[i]["group_norm"].string ?? "rms"
      let wanted = target.sublayers[i]["group_norm"].string ?? "rms"
      let id = PieceID(i, "v.weight")
      guard target.sublayers[i].kind == draft.spec.sublayers[i].kind, own != wanted, let value = draft.pieces[id],
        let width = draft.spec.sublayers[i]["head_v_dim"].int,
        draft.spec.sublayers[i]["d_conv"] == .null
      else { continue }
      if own == "layer" {
        draft.pieces[id] = .centeredRows(value, group: width)
        draft.note(.exact, "the mean over each head's value channels is taken out of v_proj")
      } else if try isCentered(value, width, context.reader) {
        draft.note(.exact, "v_proj is centred in each head, so that LayerNorm and RMSNorm agree")
      } else {
        continue
      }
      draft.spec.sublayers[i].attributes["group_norm"] = .string(wanted)
      changed = true
    }
    return changed
  }

  /// Whether each head's rows sum to zero up to the rounding of float32 sums.
  private static func isCentered(
    _ value: PieceValue, _ width: Int, _ reader: PieceReader
  ) throws(Diagnostic) -> Bool {
    let columns = value.shape.rowElements
    for head in 0..<value.shape.rows / width {
      let numbers = try reader.doubles(value, rows: head * width..<(head + 1) * width)
      for j in 0..<columns {
        var sum = 0.0
        var size = 0.0
        for row in 0..<width {
          sum += numbers[row * columns + j]
          size += abs(numbers[row * columns + j])
        }
        if abs(sum) > size * 1e-6 { return false }
      }
    }
    return true
  }
}
