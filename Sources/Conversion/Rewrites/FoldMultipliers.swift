import Hub
import Layouts
import Tensors

extension Rewrite {
  /// muP's multipliers become part of the weights that they multiply: the factor on the scores goes
  /// into the query projection (into the norm of q, where there is one), that on a sub-layer's output
  /// into its output projection, that before the head into the final norm.
  static let foldMultipliers = Rewrite(name: "fold_multipliers") {
    (model, context) throws(Diagnostic) in
    guard context.target.sublayers.count == model.spec.sublayers.count else { return false }
    var folding = MultiplierFolding(model: model)
    for i in model.spec.sublayers.indices
    where model.spec.sublayers[i].kind == context.target.sublayers[i].kind {
      folding.foldScale(i, towards: context.target.sublayers[i])
      folding.foldResidual(i, towards: context.target.sublayers[i])
    }
    folding.foldLogits(towards: context.target)
    model = folding.model
    return folding.changed
  }

  /// A bias of the keys shifts all scores of a query alike, which no softmax sees: it is dropped where
  /// neither a rotation nor a norm nor a convolution stands between.
  static let dropKeyBias = Rewrite(name: "drop_key_bias", isLastResort: true) {
    (model, _) throws(Diagnostic) in
    var changed = false
    for i in model.sublayers("attention") {
      let sublayer = model.spec.sublayers[i]
      let id = PieceID(i, "k.bias")
      guard model.pieces[id] != nil, sublayer["rope_base"] == .null,
        sublayer["qk_norm_eps"] == .null, sublayer["d_conv"] == .null
      else { continue }
      model.pieces[id] = nil
      changed = true
    }
    if changed {
      model.note(
        .exact,
        "the keys' biases are dropped: without rotation they shift all scores of a query alike, which the softmax does not see"
      )
    }
    return changed
  }
}

/// The work of `fold_multipliers`.
private struct MultiplierFolding {
  var model: HubModel
  var changed = false

  /// Scales the pieces that are there.
  private mutating func scale(_ i: Int?, _ roles: [String], by factor: Double, _ what: String) {
    for role in roles {
      let id = PieceID(i, role)
      if let value = model.pieces[id] { model.pieces[id] = .scaled(value, factor) }
    }
    changed = true
    let isPower = abs(factor.significand) == 1
    model.note(
      isPower ? .exact : .rounding,
      "\(what) \(factor) is folded into the weights"
        + (isPower ? ", exactly, since it is a power of two" : ", whose values are rounded"))
  }

  /// The factor on the scores.
  mutating func foldScale(_ i: Int, towards wanted: ModelSpec.Sublayer) {
    let own = model.spec.sublayers[i]
    guard own["scale"] != wanted["scale"], let dim = own["head_dim"].int, dim > 0 else { return }
    let plain = 1 / Double(dim).squareRoot()
    let factor = (own["scale"].double ?? plain) / (wanted["scale"].double ?? plain)
    guard factor != 1 else {
      changed = true
      model.spec.sublayers[i].attributes["scale"] = wanted["scale"]
      return
    }
    if own["qk_norm_eps"].double != nil {
      guard model.pieces[PieceID(i, "q_norm.weight")] != nil else { return }
      scale(i, ["q_norm.weight"], by: factor, "the factor on the scores,")
    } else {
      // Behind a convolution with its SiLU a factor cannot move.
      guard own["d_conv"] == .null else { return }
      scale(i, ["q.weight", "q.bias"], by: factor, "the factor on the scores,")
    }
    model.spec.sublayers[i].attributes["scale"] = wanted["scale"]
  }

  /// The factor on what the sub-layer adds.
  mutating func foldResidual(_ i: Int, towards wanted: ModelSpec.Sublayer) {
    let own = model.spec.sublayers[i]
    let factor = own["residual_scale"].double ?? 1
    let target = wanted["residual_scale"].double ?? 1
    guard own["residual_scale"] != wanted["residual_scale"], target != 0 else { return }
    guard factor != target else {
      changed = true
      model.spec.sublayers[i].attributes["residual_scale"] = wanted["residual_scale"]
      return
    }
    let output = [
      "mlp": "down", "attention": "o", "cross_attention": "o", "gla": "o", "retention": "o",
    ]
    let name = output[own.kind] ?? "out"
    guard model.pieces[PieceID(i, "\(name).weight")] != nil else { return }
    scale(
      i, ["\(name).weight", "\(name).bias"], by: factor / target,
      "the factor on what each sub-layer adds,")
    model.spec.sublayers[i].attributes["residual_scale"] = wanted["residual_scale"]
  }

  /// The factor before the head, which never needs an untied head.
  mutating func foldLogits(towards wanted: ModelSpec) {
    let factor = model.spec["logit_scale"].double ?? 1
    let target = wanted["logit_scale"].double ?? 1
    guard model.spec["logit_scale"] != wanted["logit_scale"], target != 0,
      model.spec["final_norm"] != "none"
    else { return }
    guard factor != target else {
      changed = true
      model.spec.attributes["logit_scale"] = wanted["logit_scale"]
      return
    }
    let weight = PieceID(nil, "final_norm.weight")
    if model.pieces[weight] == nil {
      guard let width = model.spec["d_model"].int else { return }
      model.pieces[weight] = .constant(1, Shape([width]))
    }
    scale(
      nil, ["final_norm.weight", "final_norm.bias"], by: factor / target,
      "the factor before the head,")
    model.spec.attributes["logit_scale"] = wanted["logit_scale"]
  }
}
