package import Hub
package import Layouts
import OrderedCollections
package import Tensors

/// Which keys of the source's config an attribute comes from, so that a refusal can name them.
package struct ConfigProvenance {
  private let layout: Layout
  private let config: JSONObject
  private let lets: [String: Expression]
  private let keys: Set<String>
  private let defaults: [String: JSONValue]

  package init(_ bound: MatchedLayout, _ vocabulary: Vocabulary) {
    layout = bound.layout
    config = bound.config
    keys = Set(bound.layout.config.keys.map(\.name))
    defaults = bound.layout.config.keys.reduce(into: [:]) { $0[$1.name] = $1.initial }
    var lets: [String: Expression] = [:]
    for binding in bound.layout.lets + bound.layout.layers.lets {
      lets[binding.name] = binding.value
    }
    self.lets = lets
  }

  /// ` (nope is true)`, or nothing when no key is behind it.
  ///
  /// - Parameter value: the attribute's, where a place in the layer may give another than the mixer.
  func clause(kind: String, attribute: String, value: JSONValue? = nil) -> String {
    // What is not tied is so because a key is off.
    clause(
      expressions(kind: kind, attribute: attribute, value: value),
      alsoOff: kind == "model" && attribute == "tied")
  }

  /// The keys behind an attribute with their values, those that are off too; missing ones have the
  /// framework's default.
  package func keys(kind: String, attribute: String) -> JSONObject {
    var found: JSONObject = [:]
    for name in names(behind: expressions(kind: kind, attribute: attribute, value: nil)).sorted() {
      found[name] = config[name] ?? defaults[name] ?? .null
    }
    return found
  }

  private func expressions(
    kind: String, attribute: String, value: JSONValue?
  ) -> [Expression] {
    if kind == "model" {
      if attribute == "tied" { return [layout.model.tied] }
      return layout.model.attributes.filter { $0.name == attribute }.map(\.value)
    }
    if let conditions = conditions(kind: kind, attribute: attribute, value: value) {
      return conditions
    }
    var expressions: [Expression] = []
    for mixer in layout.mixers.values where mixer.kind == kind {
      expressions += mixer.attributes.filter { $0.name == attribute }.map(\.value)
    }
    return expressions.isEmpty
      ? layout.layers.attributes.filter { $0.name == attribute }.map(\.value) : expressions
  }

  /// What decides that a sub-layer stands in a place of its layer that gives the attribute this value.
  private func conditions(
    kind: String, attribute: String, value: JSONValue?
  ) -> [Expression]? {
    for slot in layout.layers.slots {
      for option in slot.options where layout.mixers[option.mixer]?.kind == kind {
        guard let own = option.attributes.first(where: { $0.name == attribute }),
          let value, (try? own.value.value(in: Scope())) == value
        else { continue }
        return slot.options.compactMap(\.when)
      }
    }
    return nil
  }

  /// The keys that make a layer one of this kind.
  func clause(kind: String) -> String {
    let options = layout.layers.slots.flatMap(\.options).filter {
      layout.mixers[$0.mixer]?.kind == kind
    }
    return clause(options.compactMap(\.when))
  }

  /// The keys that decide the kinds of all layers, as far as they are switched on.
  func clauseOfStack() -> String {
    clause(
      layout.layers.slots.compactMap(\.when)
        + layout.layers.slots.flatMap { $0.options.compactMap(\.when) })
  }

  private func clause(_ expressions: [Expression], alsoOff: Bool = false) -> String {
    var found: [String] = []
    for name in names(behind: expressions) {
      guard let value = config[name] ?? (alsoOff ? defaults[name] : nil),
        alsoOff || (value != .null && value != false && value != .int(-1))
      else { continue }
      found.append("\(name) is \(value.brief)")
    }
    return found.isEmpty ? "" : " (\(found.sorted().joined(separator: ", ")))"
  }

  /// The config's keys that expressions come from, by way of the layout's own names.
  private func names(behind expressions: [Expression]) -> [String] {
    var found: [String] = []
    var seen: Set<String> = []
    var open = expressions.flatMap { $0.names.sorted() }
    while let name = open.popLast() {
      guard seen.insert(name).inserted else { continue }
      if let expression = lets[name] { open += expression.names.sorted() }
      if keys.contains(name) { found.append(name) }
    }
    return found
  }
}
