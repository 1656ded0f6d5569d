public import OrderedCollections
public import Tensors

/// The layouts at hand: those that the binary carries and those given by file.
public struct LayoutLibrary: Sendable {
  /// The layouts, by name.
  public private(set) var layouts: [Layout]
  /// microsoft/Samba's named configurations: lit_gpt configs, defaults filled in.
  public let presets: [String: JSONObject]
  private let inertGroups: [String: [String]]

  /// The layouts that the binary carries.
  ///
  /// - Throws: `layout.yaml`, `layout.schema` for a mistake in a bundled file.
  public static func bundled() throws(Diagnostic) -> LayoutLibrary {
    try LayoutLibrary(files: bundledFormats)
  }

  /// The layouts in these files (`formats/`).
  ///
  /// - Throws: `layout.yaml`, `layout.schema`.
  init(files: [(name: String, text: String)]) throws(Diagnostic) {
    var groups: [String: [String]] = [:]
    var presets: [String: JSONObject] = [:]
    for (name, text) in files {
      if name == "inert-keys.yaml" {
        for (group, keys) in try YAMLCursor(text: text, file: name).members() {
          groups[group] = try keys.strings()
        }
      } else if name == "samba-presets.json" {
        presets = try LayoutLibrary.presets(text, file: name)
      }
    }
    var layouts: [Layout] = []
    for (name, text) in files where name.hasSuffix(".yaml") && name != "inert-keys.yaml" {
      layouts.append(try Layout(yaml: text, file: name, inertGroups: groups))
    }
    self.layouts = layouts.sorted { $0.name < $1.name }
    self.presets = presets
    inertGroups = groups
  }

  /// Adds the layout of a file; one of the same name is replaced.
  ///
  /// - Throws: `layout.yaml`, `layout.schema`.
  public mutating func add(yaml text: String, file: String) throws(Diagnostic) {
    let layout = try Layout(yaml: text, file: file, inertGroups: inertGroups)
    layouts.removeAll { $0.name == layout.name }
    layouts.append(layout)
    layouts.sort { $0.name < $1.name }
  }

  /// The frameworks that some layout belongs to, in order.
  public var frameworks: [String] {
    var seen: [String] = []
    for layout in layouts where !seen.contains(layout.framework) { seen.append(layout.framework) }
    return seen.sorted()
  }

  private static func presets(_ text: String, file: String) throws(Diagnostic)
    -> [String: JSONObject]
  {
    let root = try JSONParser.parse(Array(text.utf8), file: file)
    guard let defaults = root["defaults"]?.object, let named = root["presets"]?.object else {
      throw Diagnostic(
        code: "layout.presets", subject: file, message: "needs the members defaults and presets")
    }
    var presets: [String: JSONObject] = [:]
    for (name, value) in named {
      var config: JSONObject = ["name": .string(name)]
      config.merge(defaults) { _, new in new }
      config.merge(value.object ?? [:]) { _, new in new }
      presets[name] = config
    }
    return presets
  }
}

extension LayoutLibrary {
  /// Why a layout does or does not fit a checkpoint.
  public struct Candidate: Sendable {
    /// The layout.
    public var layout: Layout
    /// What keeps it from fitting, in words; empty when it fits.
    public var obstacles: [String]
    /// How many of its conditions hold.
    public var matches: Int
  }

  /// The layouts in the order in which they fit; those that fit come first.
  ///
  /// - Parameters:
  ///   - inventory: the checkpoint's tensors.
  ///   - config: its config, if it has one.
  ///   - framework: only layouts of this framework.
  public func candidates(
    for inventory: Inventory, config: JSONObject?, framework: String? = nil
  ) -> [Candidate] {
    layouts.filter { framework == nil || $0.framework == framework }
      .map { candidate($0, inventory, config) }
      .sorted {
        ($0.obstacles.count, -$0.matches, $0.layout.name)
          < ($1.obstacles.count, -$1.matches, $1.layout.name)
      }
  }

  private func candidate(
    _ layout: Layout, _ whole: Inventory, _ config: JSONObject?
  ) -> Candidate {
    let inventory = whole.stripping(layout.detect.strip)
    var obstacles: [String] = []
    var matches = 0
    for glob in layout.detect.tensors {
      let pattern = Glob(glob)
      if inventory.names.contains(where: { pattern.matches($0) }) {
        matches += 1
      } else {
        obstacles.append("no tensor is called \(glob)")
      }
    }
    for glob in layout.detect.absent {
      let pattern = Glob(glob)
      if let found = inventory.names.first(where: { pattern.matches($0) }) {
        obstacles.append("\(found) does not belong to it")
      }
    }
    if let expression = layout.detect.config, let config {
      let scope = Scope(["config": .object(config)])
      if (try? expression.bool(in: scope)) == true {
        matches += 1
      } else {
        obstacles.append("the config is not of this framework (\(expression.text))")
      }
    }
    return Candidate(layout: layout, obstacles: obstacles, matches: matches)
  }
}
