import Hub
public import OrderedCollections
public import Tensors

/// The layouts at hand: those that the binary carries and those given by file.
public struct LayoutLibrary: Sendable {
  /// By name.
  private var files: [LayoutFile]
  private let shared: LayoutFile.Shared

  /// The layouts, by name.
  public var layouts: [Layout] { files.map(\.layout) }
  /// microsoft/Samba's named configurations: lit_gpt configs, defaults filled in.
  public var presets: [String: JSONObject] { shared.presets }

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
    for (name, text) in files where name.hasSuffix(".yaml") && name != "inert-keys.yaml" {
      layouts.append(try LayoutFile(text, file: name, shared))
    }
    self.files = layouts.sorted { $0.front.name < $1.front.name }
    self.shared = shared
  }

  /// Adds the layout of a file; one of the same name is replaced.
  ///
  /// - Throws: `layout.yaml`, `layout.schema`.
  public mutating func add(yaml text: String, file: String) throws(Diagnostic) {
    let layout = LayoutFile(
      try Layout(yaml: text, file: file, inertGroups: shared.inertGroups), shared)
    files.removeAll { $0.front.name == layout.front.name }
    files.append(layout)
    files.sort { $0.front.name < $1.front.name }
  }

  /// The frameworks that some layout belongs to, in order.
  public var frameworks: [String] { Set(files.map(\.front.framework)).sorted() }

  /// The layouts of a framework, by name.
  public func layouts(of framework: String) -> [Layout] {
    files.filter { $0.front.framework == framework }.map(\.layout)
  }
}

extension LayoutLibrary {
  /// Why a layout does or does not fit a checkpoint.
  public struct Candidate: Sendable {
    let file: LayoutFile
    /// The layout; the first to ask for it waits until its file is read to the end.
    public var layout: Layout { file.layout }
    /// The layout's name.
    public var name: String { file.front.name }
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
    files.filter { framework == nil || $0.front.framework == framework }
      .map { candidate($0, inventory, config) }
      .sorted {
        ($0.obstacles.count, -$0.matches, $0.name) < ($1.obstacles.count, -$1.matches, $1.name)
      }
  }

  private func candidate(
    _ file: LayoutFile, _ whole: Inventory, _ config: JSONObject?
  ) -> Candidate {
    let detect = file.front.detect
    let inventory = whole.stripping(detect.strip)
    var obstacles: [String] = []
    var matches = 0
    for glob in detect.tensors {
      if inventory.first(Glob(glob)) != nil {
        matches += 1
      } else {
        obstacles.append("no tensor is called \(glob)")
      }
    }
    for glob in detect.absent {
      if let found = inventory.first(Glob(glob)) {
        obstacles.append("\(found) does not belong to it")
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
    return Candidate(file: file, obstacles: obstacles, matches: matches)
  }
}
