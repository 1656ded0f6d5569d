import Hub
import Layouts
import Tensors

extension Rewrite {
  /// With values whose channels have the mean zero in each head, a head's output has it too, and
  /// LayerNorm without affine is RMSNorm.
  ///
  /// From LayerNorm to RMSNorm the values are centred, which LayerNorm does not see; the other way
  /// is possible only when they are centred already.
  static let centerValues = Rewrite(name: "center_values", need: .target) {
    (model, context) throws(Diagnostic) in
    var reasons: [Reason] = []
    for (i, wanted) in context.counterparts(model.spec) {
      let own = model.spec.sublayers[i]
      let id = PieceID(i, "v.weight")
      let norm = own["group_norm"].string ?? "rms"
      guard own["group_norm"] != .null, norm != wanted["group_norm"].string ?? "rms",
        let value = model.pieces[id], let width = own["head_v_dim"].int, own["d_conv"] == .null
      else { continue }
      if norm == "layer" {
        model.pieces[id] = .centeredRows(value, group: width)
        reasons.append(
          Reason(.exact, "the mean over each head's value channels is taken out of v_proj"))
      } else if try isCentered(value, width, model.reader) {
        reasons.append(
          Reason(.exact, "v_proj is centred in each head, so that LayerNorm and RMSNorm agree"))
      } else {
        continue
      }
      model.spec.sublayers[i].attributes["group_norm"] = .string(
        wanted["group_norm"].string ?? "rms")
    }
    return reasons.isEmpty ? nil : reasons
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
