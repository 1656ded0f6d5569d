import Hub
import Layouts
import Tensors

extension Rewrite {
  /// Sub-layers of zeros that an earlier conversion put in come out again, where that gives the
  /// target's own shape of layers.
  static let dropZeroSublayers = Rewrite(name: "drop_zero_mlp", need: .model) {
    (model, context) throws(Diagnostic) in
    guard let found = try ZeroSublayers.find(in: model, context.vocabulary) else { return nil }
    model = found.rest
    return found.reasons
  }
}
