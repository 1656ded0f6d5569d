import Hub
import Layouts
import Tensors

extension Rewrite {
  /// muP's multipliers become part of the weights that they multiply: the factor on the scores goes
  /// into the query projection (into the norm of q, where there is one), that on a sub-layer's output
  /// into its output projection, that before the head into the final norm.
  static let foldMultipliers = Rewrite(name: "fold_multipliers", need: .target) {
    (model, context) throws(Diagnostic) in
    guard let target = context.target, target.sublayers.count == model.spec.sublayers.count else {
      return nil
    }
    var folding = MultiplierFolding(model: model, vocabulary: context.vocabulary)
    for (i, wanted) in context.counterparts(model.spec) {
      folding.foldScale(i, towards: wanted)
      folding.foldResidual(i, towards: wanted)
    }
    folding.foldLogits(towards: target)
    guard folding.isChanged else { return nil }
    model = folding.model
    return folding.reasons
  }
}

/// The work of `fold_multipliers`.
private struct MultiplierFolding {
  var model: HubModel
  let vocabulary: Vocabulary
  var reasons: [Reason] = []
  var isChanged = false

  /// Scales the pieces that are there.
  private mutating func scale(_ i: Int?, _ roles: [String], by factor: Double, _ what: String) {
    for role in roles {
      let id = PieceID(i, role)
      if let value = model.pieces[id] { model.pieces[id] = .scaled(value, factor) }
    }
    isChanged = true
    let isPower = abs(factor.significand) == 1
    reasons.append(
      Reason(
        isPower ? .exact : .rounding,
        "\(what) \(factor) is folded into the weights"
          + (isPower ? ", exactly, since it is a power of two" : ", whose values are rounded")))
  }

  /// A power of two without the last digits that a quotient of roots may have lost.
  private static func cleared(_ factor: Double) -> Double {
    guard factor.isNormal else { return factor }
    let power = Double(sign: factor.sign, exponent: factor.exponent, significand: 1)
    return [power, 2 * power].first { abs(factor - $0) <= 4 * abs($0).ulp } ?? factor
  }

  /// The factor on the scores.
  mutating func foldScale(_ i: Int, towards wanted: ModelSpec.Sublayer) {
    let own = model.spec.sublayers[i]
    guard own["scale"] != wanted["scale"], let dim = own["head_dim"].int, dim > 0 else { return }
    let plain = 1 / Double(dim).squareRoot()
    let factor = Self.cleared((own["scale"].double ?? plain) / (wanted["scale"].double ?? plain))
    guard factor != 1 else {
      isChanged = true
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
    let roles = vocabulary.kinds[own.kind]?.outputPieces ?? []
    guard own["residual_scale"] != wanted["residual_scale"], target != 0 else { return }
    guard factor != target else {
      isChanged = true
      model.spec.sublayers[i].attributes["residual_scale"] = wanted["residual_scale"]
      return
    }
    guard roles.contains(where: { model.pieces[PieceID(i, $0)] != nil }) else { return }
    scale(i, roles, by: factor / target, "the factor on what each sub-layer adds,")
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
      isChanged = true
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
