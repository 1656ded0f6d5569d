import Dispatch
import Hub
public import OrderedCollections
public import Tensors

extension LayoutLibrary {
  /// A layout that does not fit, and how far it goes.
  public struct NearMiss: Sendable {
    /// The layout.
    public var layout: Layout
    /// The reasons why it does not fit.
    public var obstacles: [String]
    /// How many of the tensors' names it knows.
    public var known: Int
    /// The first names of each kind that it does not know.
    public var unknown: [String]
    /// Whether it was given with the run.
    public var isGiven: Bool
  }

  /// The layouts that know most of a checkpoint's names, when none fits; those given with the run come
  /// first.
  public func closest(
    to inventory: Inventory, config: JSONObject?, framework: String? = nil
  ) -> [NearMiss] {
    let kinds = inventory.kinds
    let candidates = candidates(for: inventory, config: config, framework: framework)
    // Every file is read to its end here, which takes longer than everything else about it.
    DispatchQueue.concurrentPerform(iterations: candidates.count) { _ = candidates[$0].layout }
    return candidates.map { candidate in
      let patterns = candidate.layout.namePatterns
      let strip = candidate.layout.detect.strip
      var known = 0
      var unknown: [String] = []
      for (name, count) in kinds {
        let bare =
          strip.first { name.hasPrefix($0) }.map { String(name.dropFirst($0.count)) } ?? name
        if patterns.contains(where: { $0.matches(bare) }) {
          known += count
        } else if unknown.count < 3 {
          unknown.append(name)
        }
      }
      return NearMiss(
        layout: candidate.layout, obstacles: candidate.obstacles, known: known, unknown: unknown,
        isGiven: candidate.isGiven)
    }.sorted {
      if $0.isGiven != $1.isGiven { return $0.isGiven }
      return ($1.known, $0.obstacles.count, $0.layout.name) < (
        $0.known, $1.obstacles.count, $1.layout.name
      )
    }
  }
}

extension Layout {
  /// Every tensor name that the layout may hold, with `*` for what its config decides.
  var namePatterns: [Glob] {
    var patterns = model.tensors.map(\.name.glob)
    for slot in layers.slots {
      for option in slot.options {
        guard let mixer = mixers[option.mixer] else { continue }
        if let norm = option.norm { patterns.append("\(layers.prefix.glob)\(norm.glob).*") }
        patterns += mixer.tensors.map {
          "\(layers.prefix.glob)\(option.prefix.glob)\($0.name.glob)"
        }
      }
    }
    return patterns.map { Glob($0) }
  }
}

extension NameTemplate {
  /// The template with `*` for each hole.
  var glob: String {
    segments.map { segment in
      switch segment {
      case .literal(let text): text
      case .hole: "*"
      }
    }.joined()
  }
}
