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
    (model, context) throws(Diagnostic) in
    let target = context.target
    guard target.sublayers.count == model.spec.sublayers.count else { return false }
    var changed = false
    for i in model.spec.sublayers.indices
    where model.spec.sublayers[i]["group_norm"] != .null {
      let own = model.spec.sublayers[i]["group_norm"].string ?? "rms"
      let wanted = target.sublayers[i]["group_norm"].string ?? "rms"
      let id = PieceID(i, "v.weight")
      guard target.sublayers[i].kind == model.spec.sublayers[i].kind, own != wanted,
        let value = model.pieces[id],
        let width = model.spec.sublayers[i]["head_v_dim"].int,
        model.spec.sublayers[i]["d_conv"] == .null
      else { continue }
      if own == "layer" {
        model.pieces[id] = .centeredRows(value, group: width)
        model.note(.exact, "the mean over each head's value channels is taken out of v_proj")
      } else if try isCentered(value, width, model.reader) {
        model.note(.exact, "v_proj is centred in each head, so that LayerNorm and RMSNorm agree")
      } else {
        continue
      }
      model.spec.sublayers[i].attributes["group_norm"] = .string(wanted)
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
