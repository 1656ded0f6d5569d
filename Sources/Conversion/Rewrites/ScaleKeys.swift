import Hub
import Layouts
import Tensors

extension Rewrite {
  /// A factor on the keys becomes part of the key projection (berlino's second scale of k).
  static let scaleKeys = Rewrite(name: "scale_keys") { (model, context) throws(Diagnostic) in
    let target = context.target
    guard target.sublayers.count == model.spec.sublayers.count else { return false }
    var changed = false
    for (i, own) in model.spec.sublayers.enumerated() where own["k_scale"] != .null {
      let scale = own["k_scale"].double ?? 1
      let wanted = target.sublayers[i]["k_scale"].double ?? 1
      let id = PieceID(i, "k.weight")
      // Behind a convolution with its SiLU, or a feature map, a factor cannot move.
      guard target.sublayers[i].kind == own.kind, scale != wanted, let value = model.pieces[id],
        own["d_conv"] == .null,
        own["feature_map"] == .null
      else { continue }
      model.pieces[id] = .scaled(value, scale / wanted)
      model.spec.sublayers[i].attributes["k_scale"] = .double(wanted)
      model.note(.exact, "the keys' factor \(scale / wanted) is folded into k_proj")
      changed = true
    }
    return changed
  }
}
