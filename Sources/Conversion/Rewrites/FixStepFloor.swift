import Hub
import Layouts
import Tensors

extension Rewrite {
  /// A floor of the step sizes that only transformers' class has becomes a limit, where the target has
  /// limits; the function is the class's.
  static let fixStepFloor = Rewrite(name: "fix_step_floor", need: .target) {
    (model, context) throws(Diagnostic) in
    var reasons: [Reason] = []
    for (i, wanted) in context.counterparts(model.spec) {
      let own = model.spec.sublayers[i]
      guard let floor = own["dt_floor"].double, wanted["dt_floor"] == .null else { continue }
      model.spec.sublayers[i].attributes["dt_min"] = .double(max(floor, own["dt_min"].double ?? 0))
      model.spec.sublayers[i].attributes["dt_floor"] = .null
      reasons.append(
        Reason(
          .exact,
          "the floor of the step sizes that transformers' class has, \(floor), is written as a limit"
        ))
    }
    return reasons.isEmpty ? nil : reasons
  }
}
