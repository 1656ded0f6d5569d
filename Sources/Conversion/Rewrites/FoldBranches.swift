import Hub
import Layouts
import Tensors

extension Rewrite {
  /// Factors inside a sub-layer become part of the weights that they multiply: that on what a mixer reads
  /// goes into its first projections, those on z, x, B, C and dt into the rows that give them, that on an
  /// MLP's gate into the gate.
  static let foldBranches = Rewrite(name: "fold_branches", need: .target) {
    (model, context) throws(Diagnostic) in
    var factors: [Double] = []
    for (i, wanted) in context.counterparts(model.spec) {
      let own = model.spec.sublayers[i]
      func scale(_ role: String, _ factor: Double) {
        guard factor != 1, let value = model.pieces[PieceID(i, role)] else { return }
        model.pieces[PieceID(i, role)] = .scaled(value, factor)
        factors.append(factor)
      }
      func fold(_ name: String) -> Double {
        guard let factor = own[name].double, wanted[name] == .null else { return 1 }
        model.spec.sublayers[i].attributes[name] = .null
        return factor
      }
      switch own.kind {
      case "mamba2":
        let input = fold("input_scale")
        var parts = [1.0, 1, 1, 1, 1]
        if let own = own["in_scales"].array?.compactMap(\.double), own.count == 5,
          wanted["in_scales"] == .null
        {
          parts = own
          model.spec.sublayers[i].attributes["in_scales"] = .null
        }
        for (name, factor) in zip(["in_z", "in_x", "in_b", "in_c", "in_dt"], parts) {
          scale("\(name).weight", factor * input)
          scale("\(name).bias", factor)
        }
      case "attention":
        let input = fold("input_scale")
        for name in ["q", "k", "v"] { scale("\(name).weight", input) }
      case "mlp":
        let factor = fold("gate_scale")
        scale("gate.weight", factor)
        scale("gate.bias", factor)
      default: continue
      }
    }
    guard !factors.isEmpty else { return nil }
    let arePowers = factors.allSatisfy { abs($0.significand) == 1 }
    return [
      Reason(
        arePowers ? .exact : .rounding,
        "the factors inside the branches are folded into their first projections"
          + (arePowers ? ", exactly, since they are powers of two" : ", whose values are rounded"))
    ]
  }
}
