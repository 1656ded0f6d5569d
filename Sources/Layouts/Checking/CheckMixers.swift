import Hub
import Tensors

extension LayoutCheck {
  /// The model's attributes and tensors.
  mutating func checkModel() {
    guard !isBroken("model.attributes"), !isBroken("model.tensors") else { return }
    let kind = words.vocabulary.model
    checkAttributes(layout.model.attributes, "model.attributes", kind)
    checkNeeded(Set(layout.model.attributes.map(\.name)).union(["tied"]), "model.attributes", kind)
    checkTensors(layout.model.tensors, "model.tensors", kind)
  }

  /// The mixers: kinds, attributes and pieces of the vocabulary.
  mutating func checkMixers() {
    guard !isBroken("mixers") || broken.contains(where: { $0.hasPrefix("mixers.") }) else { return }
    for (name, mixer) in layout.mixers.sorted(by: { $0.key < $1.key })
    where !isBroken("mixers.\(name)") {
      let path = "mixers.\(name)"
      guard let kind = words.vocabulary.kinds[mixer.kind] else {
        report(
          "\(path).kind", "is no kind: \(shown(mixer.kind))",
          help: help(mixer.kind, words.kindNames, "kinds"))
        continue
      }
      checkAttributes(mixer.attributes, "\(path).attributes", kind)
      checkTensors(mixer.tensors, "\(path).tensors", kind)
      if !isBroken("layers") { checkUses(of: name, mixer, kind) }
    }
    checkLayerAttributes()
  }

  /// Attributes of all sub-layers must be attributes of each kind.
  private mutating func checkLayerAttributes() {
    guard !isBroken("layers") else { return }
    let kinds = layout.layers.slots.flatMap(\.options).compactMap {
      layout.mixers[$0.mixer].flatMap { words.vocabulary.kinds[$0.kind] }
    }
    for attribute in layout.layers.attributes {
      guard
        let kind = kinds.first(where: { !$0.attributes.contains { $0.name == attribute.name } })
      else { continue }
      report(
        "layers.attributes.\(attribute.name)", "is no attribute of \(kind.name)",
        help: help(attribute.name, kind.attributes.map(\.name), "attributes"))
    }
  }

  /// Whether a slot names a mixer that the file does not have, which the parser tells.
  var namesMissingMixer: Bool {
    layout.layers.slots.contains { $0.options.contains { layout.mixers[$0.mixer] == nil } }
  }

  private mutating func checkUses(of name: String, _ mixer: Layout.Mixer, _ kind: MixerKind) {
    var isUsed = false
    for (i, slot) in layout.layers.slots.enumerated() {
      for (j, option) in slot.options.enumerated() where option.mixer == name {
        isUsed = true
        let path = "layers.slots.[\(i)].options.[\(j)]"
        checkAttributes(option.attributes, "\(path).attributes", kind)
        let said = Set(
          (layout.layers.attributes + mixer.attributes + option.attributes).map(\.name))
        checkNeeded(said, "mixers.\(name).attributes", kind)
      }
    }
    // Where a slot names no mixer of the file, this one may be meant.
    if !isUsed, !namesMissingMixer {
      report("mixers.\(name)", "stands in no slot of layers", isWarning: true)
    }
  }

  private mutating func checkAttributes(
    _ bindings: [Layout.Binding], _ path: String, _ kind: MixerKind
  ) {
    let known = kind.attributes.map(\.name)
    for binding in bindings where !known.contains(binding.name) {
      report(
        "\(path).\(binding.name)", "is no attribute of \(kind.name)",
        help: help(binding.name, known, "attributes"))
    }
  }

  private mutating func checkNeeded(_ said: Set<String>, _ path: String, _ kind: MixerKind) {
    for attribute in kind.attributes where attribute.initial == nil {
      guard !said.contains(attribute.name) else { continue }
      let message = "say nothing of \(kind.name)'s \(attribute.name)"
      guard !problems.contains(where: { $0.message == "\(path) \(message)" }) else { continue }
      report(path, message, help: "\(attribute.name): \(attribute.summary)")
    }
  }

  private mutating func checkTensors(
    _ tensors: [Layout.Tensor], _ path: String, _ kind: MixerKind
  ) {
    var holders: [String: String] = [:]
    for tensor in tensors {
      let own = YAMLCursor.join(path, tensor.name.text)
      for role in tensor.glue.roles where kind.piece(role) == nil {
        report(
          own, "holds no piece of \(kind.name): \(shown(role))",
          help: help(role, kind.pieces.map(\.role), "pieces"))
      }
      if tensor.tied != nil, tensor.glue.roles != ["head.weight"] {
        report(own, "is tied, which only the head can be")
      }
      guard tensor.when == nil else { continue }
      for role in Set(tensor.glue.roles) {
        if let other = holders[role], kind.piece(role) != nil {
          report(own, "holds \(role), which \(other) holds too")
        }
        holders[role] = tensor.name.text
      }
    }
  }
}
