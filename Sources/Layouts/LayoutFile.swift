import Hub
import OrderedCollections
import Synchronization
import Tensors

/// A layout file of which the front is read at once and the rest on call: a run looks at every
/// layout and needs one or two of them.
final class LayoutFile: Sendable {
  /// The marks that distinguish the layout from others.
  struct Front: Sendable {
    var name: String
    var framework: String
    /// Other names of this one layout.
    var also: [String]
    var detect: Layout.Detect
  }

  let front: Front
  /// Whether it was given with the run, not carried by the binary.
  let isGiven: Bool
  /// The file that it came from, for messages.
  let file: String
  /// The file's text.
  let text: String
  private let shared: Shared
  private let parsed: Mutex<Layout?>

  /// A bundled file.
  ///
  /// - Throws: `layout.yaml`, `layout.schema` for a mistake in the front.
  init(_ text: String, file: String, _ shared: Shared) throws(Diagnostic) {
    front = try Front(of: text, file: file, shared.sources)
    isGiven = false
    self.file = file
    self.text = text
    self.shared = shared
    parsed = Mutex(nil)
  }

  /// A layout that is at hand.
  init(_ layout: Layout, _ text: String, file: String, _ shared: Shared) {
    front = Front(
      name: layout.name, framework: layout.framework, also: layout.also, detect: layout.detect)
    isGiven = true
    self.file = file
    self.text = text
    self.shared = shared
    parsed = Mutex(layout)
  }

  /// All of it.
  var layout: Layout {
    parsed.withLock { parsed in
      if let parsed { return parsed }
      do throws(Diagnostic) {
        let root = YAMLCursor(try shared.sources.node(text, file: file))
        let layout = try Layout(root, inertGroups: shared.inertGroups)
        if let first = root.findings.problems.first { throw first }
        parsed = layout
        return layout
      } catch {
        // The binary carries this text, and the tests read all of them.
        fatalError("a bundled layout is broken: \(error)")
      }
    }
  }

  /// What the bundled layouts have in common, read on call.
  final class Shared: Sendable {
    private let files: [(name: String, text: String)]
    /// The sources that layouts may extend.
    let sources: LayoutSources
    private struct State {
      var groups: [String: [String]]?
      var presets: [String: JSONObject]?
      var archScale: ArchScalePresets?
    }
    private let state = Mutex(State())

    init(_ files: [(name: String, text: String)]) {
      sources = LayoutSources(files)
      self.files = files.filter {
        ["inert-keys.yaml", "samba-presets.json", "archscale-presets.json"].contains($0.name)
      }
    }

    /// The lists that `config.inert` may name as `@group`.
    var inertGroups: [String: [String]] {
      state.withLock { state in
        if let groups = state.groups { return groups }
        let groups = Self.orDie { () throws(Diagnostic) in try readGroups() }
        state.groups = groups
        return groups
      }
    }

    /// microsoft/Samba's named configurations.
    var presets: [String: JSONObject] {
      state.withLock { state in
        if let presets = state.presets { return presets }
        let presets = Self.orDie { () throws(Diagnostic) in try readPresets() }
        state.presets = presets
        return presets
      }
    }

    /// microsoft/ArchScale's.
    var archScale: ArchScalePresets {
      state.withLock { state in
        if let presets = state.archScale { return presets }
        let name = "archscale-presets.json"
        let presets = Self.orDie { () throws(Diagnostic) in
          guard let text = text(name) else { return ArchScalePresets() }
          return try ArchScalePresets(text: text, file: name)
        }
        state.archScale = presets
        return presets
      }
    }

    private static func orDie<T>(_ work: () throws(Diagnostic) -> T) -> T {
      do throws(Diagnostic) { return try work() } catch {
        fatalError("a bundled file is broken: \(error)")
      }
    }

    private func text(_ name: String) -> String? { files.first { $0.name == name }?.text }

    private func readGroups() throws(Diagnostic) -> [String: [String]] {
      let name = "inert-keys.yaml"
      guard let text = text(name) else { return [:] }
      var groups: [String: [String]] = [:]
      for (group, keys) in try YAMLCursor(text: text, file: name).members() {
        groups[group] = try keys.strings()
      }
      return groups
    }

    private func readPresets() throws(Diagnostic) -> [String: JSONObject] {
      let name = "samba-presets.json"
      guard let text = text(name) else { return [:] }
      let root = try JSONParser.parse(Array(text.utf8), file: name)
      guard let defaults = root["defaults"]?.object, let named = root["presets"]?.object else {
        throw Diagnostic(
          code: "layout.presets", subject: name, message: "needs the members defaults and presets")
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
}

extension LayoutFile.Front {
  /// Reads the keys of which it is made; the lines of the other keys are not looked at.
  ///
  /// - Throws: `layout.yaml`, `layout.schema`.
  init(of text: String, file: String, _ sources: LayoutSources) throws(Diagnostic) {
    let keys = ["layout", "framework", "also", "detect"]
    let root = YAMLCursor(try sources.node(text, file: file, keys: keys))
    let fields = try root.fields(keys)
    guard let name = fields["layout"], let framework = fields["framework"],
      let detect = fields["detect"]
    else { throw root.error("needs layout, framework and detect") }
    self.name = try name.string()
    self.framework = try framework.string()
    also = try fields["also"]?.strings() ?? []
    self.detect = try Layout.Detect(detect)
  }
}
