package import Hub
import Tensors

/// A floor of Mamba-2's step sizes on which frameworks disagree: transformers' classes of Nemotron-H and
/// Zamba2 raise every step to `time_step_min`, the models' own code, llama.cpp, vLLM and mlx-lm do not.
public enum StepFloor: String, Sendable, CaseIterable {
  /// As transformers' class has it, which is what the layout describes.
  case config
  /// None.
  case none
}

extension ModelSpec {
  /// The floor of the step sizes that only transformers' class applies; `nil` where there is none.
  package var stepFloor: Double? {
    sublayers.lazy.compactMap { $0["dt_floor"].double }.first { $0 > 0 }
  }

  /// The same model without it; `nil` where there is none.
  package var withoutStepFloor: ModelSpec? {
    guard stepFloor != nil else { return nil }
    var spec = self
    for i in spec.sublayers.indices where spec.sublayers[i]["dt_floor"] != .null {
      spec.sublayers[i].attributes["dt_floor"] = .null
    }
    return spec
  }

  /// What is said of a run with the floor, or without it.
  func stepFloorNote(_ path: String, isOff: Bool, triedBoth: Bool) -> Diagnostic? {
    guard let stepFloor else { return nil }
    let floor = String(describing: stepFloor)
    return Diagnostic(
      .note, code: "model.dt-floor", subject: path,
      message: isOff
        ? "the step sizes are not raised to time_step_min (\(floor)), as the model's own code, llama.cpp, vLLM and mlx-lm have it"
        : "the step sizes are raised to time_step_min (\(floor)), as transformers' class does",
      notes: triedBoth
        ? [
          isOff
            ? "raised, as transformers' class does, they do not give these values"
            : "nor are these values given by steps that are not raised"
        ] : [],
      help: "--dt-floor config or none says which is meant")
  }
}
