import Hub
import Layouts
import Tensors

extension Rewrite {
  /// A factor on the keys becomes part of the key projection (berlino's second scale of k).
  static let scaleKeys = Rewrite(name: "scale_keys", need: .target) {
    (model, context) throws(Diagnostic) in
    var reasons: [Reason] = []
    for (i, other) in context.counterparts(model.spec) {
      let own = model.spec.sublayers[i]
      let scale = own["k_scale"].double ?? 1
      let wanted = other["k_scale"].double ?? 1
      let id = PieceID(i, "k.weight")
      // Behind a convolution with its SiLU, or a feature map, a factor cannot move.
      guard own["k_scale"] != .null, scale != wanted, let value = model.pieces[id],
        own["d_conv"] == .null, own["feature_map"] == .null
      else { continue }
      model.pieces[id] = .scaled(value, scale / wanted)
      let bias = PieceID(i, "k.bias")
      if let value = model.pieces[bias] { model.pieces[bias] = .scaled(value, scale / wanted) }
      model.spec.sublayers[i].attributes["k_scale"] = other["k_scale"]
      reasons.append(Reason(.exact, "the keys' factor \(scale / wanted) is folded into k_proj"))
    }
    return reasons.isEmpty ? nil : reasons
  }
}
