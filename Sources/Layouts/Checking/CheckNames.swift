import Hub
import Tensors

extension Layout.Detect {
  /// Whether one pattern must match and must not: the layout is written and never recognised, because
  /// its files are read as those of another one.
  public var isNever: Bool { !Set(tensors).isDisjoint(with: absent) }
}

extension LayoutCheck {
  /// A tensor's name as the layout writes it, with `*` for what the config decides.
  struct OwnName {
    var glob: Glob
    var path: String
    /// Whether it is there under every config.
    var isAlways: Bool
    var role: String?
  }

  var ownNames: [OwnName] {
    func paths(_ tensors: [Layout.Tensor], _ path: String) -> [(Layout.Tensor, String)] {
      tensors.map { ($0, YAMLCursor.join(path, $0.name.text)) }
    }
    var names = paths(layout.model.tensors, "model.tensors").map {
      OwnName(
        glob: Glob($0.name.glob), path: $1, isAlways: $0.when == nil && $0.tied == nil,
        role: $0.glue.roles.first)
    }
    for (i, slot) in layout.layers.slots.enumerated() {
      for (j, option) in slot.options.enumerated() {
        guard let mixer = layout.mixers[option.mixer] else { continue }
        let isAlways = slot.when == nil && slot.options.count == 1
        if let norm = option.norm {
          for ending in ["weight", "bias"] {
            names.append(
              OwnName(
                glob: Glob("\(layout.layers.prefix.glob)\(norm.glob).\(ending)"),
                path: "layers.slots.[\(i)].options.[\(j)].norm",
                isAlways: isAlways && ending == "weight"))
          }
        }
        for (tensor, path) in paths(mixer.tensors, "mixers.\(option.mixer).tensors") {
          names.append(
            OwnName(
              glob: Glob("\(layout.layers.prefix.glob)\(option.prefix.glob)\(tensor.name.glob)"),
              path: path, isAlways: isAlways && tensor.when == nil, role: tensor.glue.roles.first))
        }
      }
    }
    return names
  }

  /// What tells the layout apart: its own names must pass.
  mutating func checkNames() {
    // An incomplete list of names proves nothing.
    guard !isBroken("detect"), !isBroken("layers"), !isBroken("mixers"), !isBroken("model"),
      !namesMissingMixer
    else { return }
    let detect = layout.detect
    let names = ownNames
    let ignored = layout.ignore.map { Glob($0.glob) }
    checkLayerPrefix()
    if detect.tensors.isEmpty, detect.config == nil {
      report(
        "detect", "tells this layout from no other: it has neither tensors nor config",
        help: "name a tensor that only this framework has")
    }
    for (i, text) in detect.tensors.enumerated() {
      let glob = Glob(text)
      guard !names.contains(where: { $0.glob.overlaps(glob) }),
        !layout.ignore.contains(where: { Glob($0.glob).overlaps(glob) })
      else { continue }
      report(
        "detect.tensors.[\(i)]", "matches no tensor of this file: \(shown(text))",
        help: Nearest.name(to: text, among: names.map(\.glob.text)).map { "did you mean \($0)?" }
          ?? "what this layout writes would not be recognised")
    }
    for (i, text) in detect.absent.enumerated() where !detect.isNever {
      guard let own = names.first(where: { $0.isAlways && Glob(text).matches($0.glob.text) }) else {
        continue
      }
      report(
        "detect.absent.[\(i)]", "rules out a tensor of this file: \(own.glob.text)",
        help: "what this layout writes would not be recognised")
    }
    for (i, prefix) in detect.strip.enumerated() {
      guard let own = names.first(where: { $0.glob.text.hasPrefix(prefix) }) else { continue }
      report(
        "detect.strip.[\(i)]", "is taken off a name of this file: \(own.glob.text)",
        help: "it would be read back under another name; common prefixes need no strip")
    }
    if let base = detect.base, !names.contains(where: { $0.glob.text.hasPrefix(base) }) {
      report(
        "detect.base", "begins no name of this file: \(shown(base))",
        help: "base is what the head class puts in front of its base model's names")
    }
    checkTied(names)
    for (i, glob) in ignored.enumerated() {
      let path = "ignore.[\(i)]"
      if !layout.ignore[i].isRest, let own = names.first(where: { glob.matches($0.glob.text) }) {
        report(
          "\(path).tensors", "leaves out a tensor that carries weight: \(own.glob.text)",
          help: "make the pattern \(shown(glob.text)) narrower")
      }
      if let write = layout.ignore[i].write, !glob.matches(write.name.glob) {
        report(
          "\(path).write.name",
          "is not matched by \(shown(glob.text)), so it would not be read back")
      }
    }
  }

  /// Every layer must have names of its own.
  private mutating func checkLayerPrefix() {
    let varying = Set(["i"] + layout.layers.lets.map(\.name))
    func varies(_ template: NameTemplate) -> Bool {
      template.segments.contains {
        if case .hole(let hole) = $0 { !hole.names.isDisjoint(with: varying) } else { false }
      }
    }
    guard !varies(layout.layers.prefix) else { return }
    for slot in layout.layers.slots {
      for option in slot.options where !varies(option.prefix) {
        guard let mixer = layout.mixers[option.mixer],
          option.norm.map({ !varies($0) }) ?? false
            || mixer.tensors.contains(where: { !varies($0.name) })
        else { continue }
        report(
          "layers.prefix", "gives the tensors of all layers the same names",
          help: "put the layer's index into it: \"\(layout.layers.prefix.text){i}.\"")
        return
      }
    }
  }

  private mutating func checkTied(_ names: [OwnName]) {
    guard let tied = layout.detect.tied else { return }
    for (name, role) in [(tied.head, "head.weight"), (tied.embedding, "embed.weight")] {
      guard !names.contains(where: { $0.role == role && $0.glob.matches(name) }) else { continue }
      let own = names.filter { $0.role == role }.map(\.glob.text)
      report(
        "detect.tied", "names \(shown(name)), which is no tensor of \(role)",
        help: own.first.map { "\(role) is \($0)" })
    }
  }
}
