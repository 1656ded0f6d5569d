import Hub
public import OrderedCollections
public import Tensors

/// The layouts at hand: those that the binary carries and those given by file.
public struct LayoutLibrary: Sendable {
  /// By name.
  private(set) var files: [LayoutFile]
  let shared: LayoutFile.Shared

  /// The layouts, by name.
  public var layouts: [Layout] { files.map(\.layout) }
  /// microsoft/Samba's named configurations: lit_gpt configs, defaults filled in.
  public var presets: [String: JSONObject] { shared.presets }

  /// microsoft/ArchScale's named configurations.
  public var archScalePresets: ArchScalePresets { shared.archScale }
  /// The names that `--preset` takes.
  public var presetNames: [String] { (presets.keys + archScalePresets.names).sorted() }

  /// The layouts that the binary carries.
  ///
  /// Only the front of each file is read, what tells the layouts apart; the rest when it is asked
  /// for.
  ///
  /// - Throws: `layout.yaml`, `layout.schema` for a mistake in the front of a bundled file.
  public static func bundled() throws(Diagnostic) -> LayoutLibrary {
    try LayoutLibrary(files: bundledFormats)
  }

  /// The layouts in these files (`formats/`).
  ///
  /// - Throws: `layout.yaml`, `layout.schema`.
  init(files: [(name: String, text: String)]) throws(Diagnostic) {
    let shared = LayoutFile.Shared(files)
    var layouts: [LayoutFile] = []
    for (name, text) in files
    where name.hasSuffix(".yaml") && name != "inert-keys.yaml" && !name.hasPrefix("shared/") {
      layouts.append(try LayoutFile(text, file: name, shared))
    }
    self.files = layouts.sorted { $0.front.name < $1.front.name }
    self.shared = shared
  }

  /// Adds the layout of a file; one of the same name is replaced.
  ///
  /// - Throws: `layout.yaml`, `layout.schema`.
  public mutating func add(yaml text: String, file: String) throws(Diagnostic) {
    let root = YAMLCursor(try node(text, file: file))
    let layout = try Layout(root, inertGroups: shared.inertGroups)
    if let first = root.findings.problems.first { throw first }
    add(layout, text, file: file)
  }

  mutating func add(_ layout: Layout, _ text: String, file: String) {
    let layout = LayoutFile(layout, text, file: file, shared)
    files.removeAll { $0.front.name == layout.front.name }
    files.append(layout)
    files.sort { $0.front.name < $1.front.name }
  }

  /// What a file says, with all that it extends.
  func node(_ text: String, file: String) throws(Diagnostic) -> YAMLNode {
    var given: [String: (file: String, text: String)] = [:]
    for file in files where file.isGiven { given[file.front.name] = (file.file, file.text) }
    return try shared.sources.node(text, file: file, given: given)
  }

  /// The frameworks that some layout belongs to, in order.
  public var frameworks: [String] { Set(files.map(\.front.framework)).sorted() }

  /// The layouts of a framework, by name.
  public func layouts(of framework: String) -> [Layout] {
    files.filter { $0.front.framework == framework }.map(\.layout)
  }

  /// The layouts that a name stands for: all of a framework, or else the one that is called so.
  public func layouts(named name: String) -> [Layout] { files(named: name).map(\.layout) }

  /// Whether a name stands for a framework or a layout.
  public func knows(_ name: String) -> Bool { !files(named: name).isEmpty }

  /// The names of layouts that are no framework's.
  public var layoutNames: [String] {
    let frameworks = Set(self.frameworks)
    return files.flatMap { [$0.front.name] + $0.front.also }.filter { !frameworks.contains($0) }
      .sorted()
  }

  private func files(named name: String) -> [LayoutFile] {
    let whole = files.filter { $0.front.framework == name }
    if !whole.isEmpty { return whole }
    let one =
      files.first { $0.front.name == name } ?? files.first { $0.front.also.contains(name) }
    return one.map { [$0] } ?? []
  }
}

extension LayoutLibrary {
  /// The `model_type`s that some layout reads, in order.
  public var modelTypes: [String] {
    Set(files.flatMap { $0.front.detect.modelTypes ?? [] }).sorted()
  }

  /// What a config says of its architecture, when no layout reads it: `model_type "bamba"`.
  ///
  /// A config without `model_type` is judged by its class, if it is one of transformers' names of
  /// causal language models; configs of other frameworks have neither.
  public func foreignArchitecture(of config: JSONObject) -> String? {
    let known = modelTypes + files.flatMap { [$0.front.name, $0.front.framework] }
    if let type = config["model_type"]?.string, !type.isEmpty {
      return known.contains(type) ? nil : "model_type \"\(type)\""
    }
    guard let name = config["architectures"]?.array?.first?.string,
      let suffix = ["ForCausalLM", "LMHeadModel", "ForConditionalGeneration"]
        .first(where: { name.hasSuffix($0) })
    else { return nil }
    func plain(_ text: some StringProtocol) -> String {
      text.lowercased().filter { $0.isLetter || $0.isNumber }
    }
    let own = plain(name.dropLast(suffix.count))
    return known.contains { plain($0) == own } ? nil : "architectures [\"\(name)\"]"
  }

  /// The layout whose config this clearly is, although the names are another's; `nil` when it may be
  /// one of `named`.
  ///
  /// - Parameter named: the layouts that the tensors' names fit.
  public func owner(of config: JSONObject, insteadOf named: [Layout]) -> Layout? {
    let all = layouts
    if let type = config["model_type"]?.string, !named.isEmpty,
      named.allSatisfy({ $0.detect.modelTypes.map { !$0.contains(type) } ?? false }),
      let owner = all.first(where: { $0.detect.modelTypes?.contains(type) ?? false })
    {
      return owner
    }
    // How many of a layout's own keys the config has: sizes and switches, not what any config holds.
    func score(_ layout: Layout) -> Int {
      let keys = Set(layout.config.keys.flatMap { [$0.name] + $0.aliases })
      return config.keys.count { keys.contains($0) }
    }
    guard let best = all.max(by: { score($0) < score($1) }), score(best) >= 4,
      named.allSatisfy({ score($0) * 2 < score(best) })
    else { return nil }
    return best
  }

  /// Why a layout does or does not fit a checkpoint.
  public struct Candidate: Sendable {
    let file: LayoutFile
    /// The layout; the first to ask for it waits until its file is read to the end.
    public var layout: Layout { file.layout }
    /// The layout's name.
    public var name: String { file.front.name }
    /// Whether it was given with the run, not carried by the binary.
    public var isGiven: Bool { file.isGiven }
    /// The tensors under the names that were looked at.
    public var inventory: Inventory
    /// The reasons why it does not fit, in words; empty when it fits.
    public var obstacles: [String]
    /// How many of its conditions hold.
    public var matches: Int
  }

  /// The layouts in the order in which they fit; those that fit come first.
  ///
  /// - Parameters:
  ///   - inventory: the checkpoint's tensors.
  ///   - config: its config, if it has one.
  ///   - framework: only layouts of this framework, or the one called so.
  ///   - asBase: looks at the names as those of each layout's base model; layouts without one, and
  ///     those whose base model's names these cannot be, are left out.
  public func candidates(
    for inventory: Inventory, config: JSONObject?, framework: String? = nil, asBase: Bool = false
  ) -> [Candidate] {
    let embeddings = Set(files.compactMap { $0.front.detect.tied?.embedding })
    return (framework.map(files(named:)) ?? files)
      .compactMap { file in
        let isAsked = framework != nil
        guard asBase else { return candidate(file, inventory, config, embeddings, isAsked) }
        let detect = file.front.detect
        guard let base = detect.base, detect.mayBeBase(inventory.stripping(detect.strip)) else {
          return nil
        }
        return inventory.stripping(detect.strip).adding(base: base, head: detect.tied?.head)
          .map { candidate(file, $0, config, embeddings, isAsked) }
      }
      .sorted {
        ($0.obstacles.count, -$0.matches, $0.name) < ($1.obstacles.count, -$1.matches, $1.name)
      }
  }

  /// Whether a layout was given with the run.
  public func isGiven(_ name: String) -> Bool {
    files.contains { $0.isGiven && $0.front.name == name }
  }

  /// What keeps a checkpoint from being recognised as the layout `name`; empty when nothing does.
  public func obstacles(
    to name: String, _ inventory: Inventory, config: JSONObject?
  ) -> [String] {
    let embeddings = Set(files.compactMap { $0.front.detect.tied?.embedding })
    return files.first { $0.front.name == name }
      .map { candidate($0, inventory, config, embeddings, false).obstacles } ?? []
  }

  /// Wrappers around wrappers are not looked for deeper than this.
  private static let mostPrefixes = 8

  /// The layouts that fit when as few prefixes as possible are taken off the names: none, the first
  /// component that most names have in common, the next one too, and so on; each time also as the
  /// names of a base model.
  ///
  /// - Returns: the layouts that fit, the best first; empty when none does.
  public func fitting(
    _ inventory: Inventory, config: JSONObject?, framework: String? = nil
  ) -> [Candidate] {
    var current = inventory
    for _ in 0...Self.mostPrefixes {
      for asBase in [false, true] {
        let found = candidates(
          for: current, config: config, framework: framework, asBase: asBase
        ).filter { $0.obstacles.isEmpty }
        if !found.isEmpty { return found }
      }
      guard let prefix = current.commonPrefix, let next = current.dropping(prefix) else { break }
      current = next
    }
    return []
  }

  private func candidate(
    _ file: LayoutFile, _ whole: Inventory, _ config: JSONObject?, _ embeddings: Set<String>,
    _ isAsked: Bool
  ) -> Candidate {
    let detect = file.front.detect
    let inventory = whole.stripping(detect.strip)
    var obstacles: [String] = []
    var matches = 0
    // A file of a tied model may hold the head alone.
    let standsIn =
      detect.tied.map { tied in
        inventory[tied.head] != nil && !embeddings.contains { inventory[$0] != nil }
      } ?? false
    for glob in detect.tensors {
      let glob = Glob(glob)
      if inventory.first(glob) != nil || standsIn && glob.matches(detect.tied!.embedding) {
        matches += 1
      } else {
        obstacles.append("no tensor is called \(glob.text)")
      }
    }
    for glob in detect.absent {
      if let found = inventory.first(Glob(glob)) {
        obstacles.append("\(found) does not belong to it")
      }
    }
    // Containers without metadata say nothing: whoever names the framework knows.
    if let format = detect.format, !isAsked {
      if inventory.format == format {
        matches += 1
      } else {
        obstacles.append("the file's metadata does not say format: \(format)")
      }
    }
    if let expression = detect.config, let config {
      var scope = Scope(["config": .object(config)])
      scope.functions = inventory.functions
      if (try? expression.bool(in: scope)) == true {
        matches += 1
      } else {
        obstacles.append("the config is not of this framework (\(expression.text))")
      }
    }
    return Candidate(file: file, inventory: whole, obstacles: obstacles, matches: matches)
  }
}

extension Layout.Detect {
  /// Whether names without `base` may be this layout's, by its patterns without it: the names of a
  /// large checkpoint are not made anew for every layout that they are not.
  fileprivate func mayBeBase(_ inventory: Inventory) -> Bool {
    guard let base else { return false }
    return tensors.allSatisfy { glob in
      guard glob.hasPrefix(base) else { return true }
      return inventory.first(Glob(String(glob.dropFirst(base.count)))) != nil
    }
  }
}
