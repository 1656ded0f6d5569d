import Hub
import Tensors

extension LayoutCheck {
  /// Every name by which the config may have a key.
  var configNames: [String] { layout.config.keys.flatMap { [$0.name] + $0.aliases } }

  /// The config's keys, and what speaks of them.
  mutating func checkConfig() {
    guard !isBroken("config.keys") else { return }
    var owners: [String: String] = [:]
    for key in layout.config.keys { owners[key.name] = key.name }
    for key in layout.config.keys {
      for (i, alias) in key.aliases.enumerated() {
        if let owner = owners[alias] {
          report(
            "config.keys.\(key.name).aliases.[\(i)]",
            "is a name of the key \(owner) already: \(shown(alias))")
        } else {
          owners[alias] = key.name
        }
      }
    }
    let known = Set(owners.keys).union(["config"])
    let bindings = Set(layout.lets.map(\.name))
    for (i, requirement) in layout.config.requirements.enumerated() {
      let first = String(requirement.key.prefix { $0 != "." })
      guard !known.contains(requirement.key), !known.contains(first), !bindings.contains(first)
      else { continue }
      report(
        "config.require.[\(i)].key", "is no key of the config: \(shown(requirement.key))",
        help: help(first, owners.keys.sorted(), "keys"))
    }
  }
}
