import Hub
import Tensors

extension LayoutCheck {
  /// What is written must be of the vocabulary, and be read back.
  mutating func checkWrite() {
    guard let write = layout.write, !broken.contains("write") else { return }
    checkPatterns(write)
    for (i, name) in write.rewrites.enumerated() where !words.rewrites.contains(name) {
      report(
        "write.rewrites.[\(i)]", "is no rewrite: \(shown(name))",
        help: help(name, words.rewrites, "rewrites"))
    }
    for (i, padding) in write.paddings.enumerated() {
      let path = "write.pad.[\(i)]"
      guard let kind = kind(padding.kind, path) else { continue }
      guard kind.attributes.contains(where: { $0.name == padding.attribute }) else {
        report(
          "\(path).attribute", "is no attribute of \(kind.name): \(shown(padding.attribute))",
          help: help(padding.attribute, kind.attributes.map(\.name), "attributes"))
        continue
      }
      if !kind.pieces.contains(where: { $0.shape.contains { $0.text == padding.attribute } }) {
        report("\(path).attribute", "is no width of \(kind.name)'s pieces: \(padding.attribute)")
      }
      if padding.multiple < 2 { report("\(path).multiple", "should be more than 1") }
    }
    for (i, accept) in write.accepts.enumerated() {
      let path = "write.accept.[\(i)]"
      guard let kind = kind(accept.kind, path, orModel: true) else { continue }
      let known = kind.attributes.map(\.name)
      if !known.contains(accept.attribute) {
        report(
          "\(path).attribute", "is no attribute of \(kind.name): \(shown(accept.attribute))",
          help: help(accept.attribute, known, "attributes"))
      }
    }
    if !isBroken("config") { checkWrittenConfig(write) }
  }

  private mutating func kind(
    _ name: String, _ path: String, orModel: Bool = false
  ) -> MixerKind? {
    if let kind = words.vocabulary.kinds[name] { return kind }
    if orModel, name == "model" { return words.vocabulary.model }
    report(
      "\(path).kind", "is no kind: \(shown(name))",
      help: help(name, words.kindNames + (orModel ? ["model"] : []), "kinds"))
    return nil
  }

  private mutating func checkPatterns(_ write: Layout.Write) {
    if write.patterns.isEmpty { report("write.patterns", "lists no pattern: nothing fits it") }
    let own = Set(layout.mixers.values.map(\.kind))
    for pattern in write.patterns {
      let path = "write.patterns.\(pattern.name)"
      if pattern.slots.isEmpty, !isBroken(path) { report(path, "has no slots") }
      for (i, slot) in pattern.slots.enumerated() {
        for (j, name) in slot.kinds.enumerated() {
          let path = "\(path).[\(i)].kinds.[\(j)]"
          if words.vocabulary.kinds[name] == nil {
            report(
              path, "is no kind: \(shown(name))",
              help: help(name, own.sorted(), "kinds of this file's mixers"))
          } else if !own.contains(name), !isBroken("mixers"),
            own.allSatisfy({ words.vocabulary.kinds[$0] != nil })
          {
            report(
              path, "is a kind that no mixer of this file has: \(name)",
              help: help(name, own.sorted(), "kinds of this file's mixers"))
          }
        }
      }
    }
  }

  /// The written config must have what reading needs, and nothing that reading does not know.
  private mutating func checkWrittenConfig(_ write: Layout.Write) {
    let known = Set(configNames)
    let inert = layout.config.inert.map { Glob($0) }
    func isKnown(_ key: String) -> Bool {
      known.contains(key) || inert.contains { $0.matches(key) }
    }
    for entry in write.config where !isKnown(entry.key) {
      report(
        "write.config.\(entry.key)\(entry.omitsNull ? "?" : "")",
        "is no key of this file's config, so it would not be read back",
        help: Nearest.name(to: entry.key, among: known.sorted()).map { "did you mean \($0)?" }
          ?? "add it to config.keys, or to config.inert if it changes nothing")
    }
    for entry in write.config {
      guard case .object(let entries) = entry.value,
        let key = layout.config.keys.first(where: { ([$0.name] + $0.aliases).contains(entry.key) }),
        let members = key.members
      else { continue }
      let listed = members.known + members.only.map(\.name)
      let globs = members.inert.map { Glob($0) }
      for inner in entries where !listed.contains(inner.key) {
        guard !globs.contains(where: { $0.matches(inner.key) }) else { continue }
        let path = "write.config.\(entry.key)\(entry.omitsNull ? "?" : "")"
        report(
          "\(path).\(inner.key)\(inner.omitsNull ? "?" : "")",
          "is no member of \(key.name), so it would not be read back",
          help: help(inner.key, listed, "members"))
      }
    }
    for (i, key) in write.carry.enumerated() where !isKnown(key) {
      report(
        "write.carry.[\(i)]", "is no key of this file's config: \(shown(key))",
        help: Nearest.name(to: key, among: known.sorted()).map { "did you mean \($0)?" }
          ?? "add it to config.inert if it changes nothing")
    }
    var written = Set(write.config.map(\.key))
    // A key with a slip of the fingers in it has been told.
    written.formUnion(
      written.filter { !isKnown($0) }.compactMap { Nearest.name(to: $0, among: known.sorted()) })
    for key in layout.config.keys where key.initial == nil {
      guard written.isDisjoint(with: [key.name] + key.aliases) else { continue }
      report(
        "config.keys.\(key.name)", "is required, and write.config does not write it",
        help: "what this layout writes could not be read back")
    }
    guard let types = layout.detect.modelTypes,
      let entry = write.config.first(where: { $0.key == "model_type" }),
      case .expression(let expression) = entry.value,
      let type = expression.constant?.string, !types.contains(type)
    else { return }
    report(
      "write.config.model_type", "is none of detect.model_types: \(shown(type))",
      help: help(type, types, "model_types"))
  }
}
