import Layouts
import Tensors

extension Weighbridge {
  /// What is known of a checkpoint without a config, and what is not.
  ///
  /// - Parameters:
  ///   - fitting: the layouts that its names fit; `first` is the best of them.
  func withoutConfig(
    _ input: CheckpointInput, _ fitting: [LayoutLibrary.Candidate],
    _ first: LayoutLibrary.Candidate
  ) -> Diagnostic {
    let layout = first.layout
    var notes: [String] = []
    let sizes = layout.knownSizes(of: first.inventory)
    if !sizes.isEmpty {
      notes.append(
        "its tensors have " + sizes.map { "\($0.name) \($0.value)" }.joined(separator: ", "))
    }
    let takesPresets = ["lit_gpt", "archscale"].contains(layout.framework)
    let presets = takesPresets ? fittingPresets(first) : []
    if takesPresets {
      notes.append(
        presets.isEmpty
          ? "none of the \(library.presetNames.count) presets fits them"
          : "presets that fit them: \(presets.prefix(6).joined(separator: ", "))"
            + (presets.count > 6 ? " and \(presets.count - 6) more" : ""))
    }
    let unseen = layout.keysBeyondShapes(vocabulary)
    if !unseen.isEmpty {
      notes.append(
        "no shape tells these, though they change what is computed: "
          + unseen.prefix(10).joined(separator: ", ") + (unseen.count > 10 ? ", …" : ""))
    }
    return Diagnostic(
      code: "config.missing", subject: input.path,
      message: "has no config beside it; as its names go it is "
        + fitting.map(\.layout.name).joined(separator: " or "),
      notes: notes,
      help: layout.framework == "lit_gpt"
        ? "give one with --config, or name one of microsoft/Samba's with --preset (weighbridge layouts lists them)"
        : presets.isEmpty ? "give one with --config" : "give one with --config, or --preset")
  }

  /// The presets under which every tensor has its place.
  private func fittingPresets(_ candidate: LayoutLibrary.Candidate) -> [String] {
    let isFused = candidate.inventory.names.contains { $0.hasSuffix("attn.attn.weight") }
    return library.presetNames.filter { name in
      guard
        let config = library.presets[name]
          ?? library.archScalePresets.config(named: name, fused: isFused)
      else { return false }
      return candidate.layout.fits(candidate.inventory, config: config, vocabulary: vocabulary)
    }
  }
}
