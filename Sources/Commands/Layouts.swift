import ArgumentParser
import Conversion
import Hub
import Layouts
import OrderedCollections
import Tensors
import WeighbridgeKit

struct Layouts: Command {
  static let configuration = CommandConfiguration(
    commandName: "layouts",
    abstract: "List the layouts that are known, or describe one on a page.",
    discussion: """
      A page has the names, shapes and config keys of the layout, and what becomes of its models in \
      every framework, with the reasons.

      Examples:
        weighbridge layouts
        weighbridge layouts fla
        weighbridge layouts --table
        weighbridge layouts samba-fla --yaml
      """)

  @Argument(
    help: "A framework (fla), a family (samba) or a layout (samba-fla).",
    completion: Completions.layouts)
  var name: String?

  @Flag(help: "What converts to what, and how exactly, as a table in Markdown.")
  var table = false

  @Flag(help: "Print the layout's file: something to begin with. Name one layout.")
  var yaml = false

  @Option(
    help: ArgumentHelp(
      "Check a layout file, and say all that is wrong with it by line and column.",
      valueName: "file"),
    completion: .file(extensions: ["yaml"]))
  var check: String?

  @Option(
    help: ArgumentHelp("A layout file of your own; may be given several times.", valueName: "file"),
    completion: .file(extensions: ["yaml"]))
  var layoutFile: [String] = []

  @OptionGroup var output: OutputOptions

  var emptyDocument: JSONObject { ["layouts": [], "presets": []] }

  func validate() throws {
    if check != nil, name != nil || yaml || table {
      throw ValidationError("--check takes a file and nothing else")
    }
    if yaml, name == nil || table { throw ValidationError("--yaml needs the name of one layout") }
  }

  func work() throws -> Outcome {
    let weighbridge = try Weighbridge(layoutFiles: layoutFile)
    if let check { return try checked(check, weighbridge) }
    let all = weighbridge.library.layouts
    var chosen = all
    if let name {
      chosen = all.filter { $0.framework == name || $0.name == name || $0.also.contains(name) }
      // A family: mamba, samba.
      if chosen.isEmpty { chosen = all.filter { $0.name.hasPrefix("\(name)-") } }
      if chosen.isEmpty { throw LayoutName.unknown(name, option: nil, weighbridge) }
    }
    if yaml {
      guard chosen.count == 1, let text = try weighbridge.library.yaml(of: chosen[0].name) else {
        throw ValidationError(
          "'\(name ?? "")' is several layouts: \(chosen.map(\.name).joined(separator: ", "))")
      }
      try output.result(
        ["layout": .string(chosen[0].name), "yaml": .string(text), "problems": []],
        text: text.hasSuffix("\n") ? String(text.dropLast()) : text)
      return .yes
    }
    if name == nil, !output.json, output.jsonFile == nil, !table {
      Standard.output(overview(all, weighbridge))
      return .yes
    }
    let conversions = try weighbridge.conversions()
    let names = Set(chosen.map(\.name))
    let own = conversions.filter { names.contains($0.exampleModel.layout) }
    let pages = chosen.map { page($0, conversions, weighbridge) }
    let width = Standard.width
    try output.result(
      [
        "layouts": .array(pages.map(document)),
        "presets": .array(weighbridge.library.presetNames.map { .string($0) }),
        "preset_parameters": .object(
          JSONObject(
            uniqueKeysWithValues: weighbridge.presetParameters().map { ($0, .int($1)) })),
        "conversions": ConversionTable.document(own),
        "problems": [],
      ],
      text: table
        ? ConversionTable.markdown(own)
        : name == nil
          ? overview(all, weighbridge)
          : pages.map { $0.text(width: width) }.joined(separator: "\n\n\n"))
    return .yes
  }

  /// Tells what is wrong with a layout file, or what it describes.
  private func checked(_ path: String, _ weighbridge: Weighbridge) throws -> Outcome {
    let checked = try weighbridge.checkLayout(path)
    Standard.problems(checked.problems, all: true)
    var document: JSONObject = ["valid": .bool(checked.isSound), "path": .string(path)]
    var text = "\(path): \(checked.problems.count { $0.severity == .error }) mistakes"
    if let layout = checked.layout {
      document["name"] = .string(layout.name)
      document["framework"] = .string(layout.framework)
      document["title"] = .string(layout.title)
      document["kinds"] = .array(Set(layout.mixers.values.map(\.kind)).sorted().map { .string($0) })
      document["reads"] = true
      document["writes"] = .bool(layout.write != nil)
      if checked.isSound { text = summary(layout, path) }
    }
    if checked.problems.count(where: { $0.severity == .error }) == 1 {
      text = "\(path): 1 mistake"
    }
    document["problems"] = JSONReport.problems(checked.problems)
    try output.result(document, text: text)
    return checked.isSound ? .yes : .errors
  }

  private func summary(_ layout: Layout, _ path: String) -> String {
    let kinds = Set(layout.mixers.values.map(\.kind)).sorted().joined(separator: ", ")
    let names =
      layout.model.tensors.count + layout.mixers.values.reduce(0) { $0 + $1.tensors.count }
    let weights = layout.files.weightsName(in: Container(rawValue: layout.files.container)!)
    return """
      \(path): sound
        layout      \(layout.name), \(layout.title)
        framework   \(layout.framework)
        sub-layers  \(kinds)
        config      \(layout.config.keys.count) keys
        tensors     \(names) names
        \(layout.write == nil ? "read only" : "written     as \(weights) and \(layout.files.config)")
      """
  }

  private func overview(_ all: [Layout], _ weighbridge: Weighbridge) -> String {
    var table = Table(
      [("layout", .whole), ("to", .whole), ("container", .whole), ("what", .folded)], spare: [2])
    for layout in all {
      table.add([layout.name, layout.framework, layout.files.container, layout.title])
    }
    return table.text(width: Standard.tableWidth)
      + "\n\n"
      + Paragraph.shown(
        "presets: "
          + weighbridge.presetParameters().map { "\($0) (\(Shown.count($1)))" }
          .joined(separator: ", ")
      )
      .joined(separator: "\n")
  }

  private func page(
    _ layout: Layout, _ conversions: [Conversions], _ weighbridge: Weighbridge
  ) -> LayoutPage {
    var arrivals: [(Conversions, Exactness)] = []
    for conversion in conversions where conversion.exampleModel.layout != layout.name {
      if case .converts(let exactness, _, layout.name) = conversion.verdicts[layout.framework] {
        arrivals.append((conversion, exactness))
      }
    }
    return LayoutPage(
      layout: layout, vocabulary: weighbridge.vocabulary,
      conversions: conversions.filter { $0.exampleModel.layout == layout.name }, arrivals: arrivals)
  }

  private func document(_ page: LayoutPage) -> JSONValue {
    let layout = page.layout
    var targets: [JSONValue] = []
    for conversion in page.conversions {
      for case .converts(_, _, let name) in conversion.verdicts.values
      where name != layout.name && !targets.contains(.string(name)) {
        targets.append(.string(name))
      }
    }
    return [
      "name": .string(layout.name), "framework": .string(layout.framework),
      "title": .string(layout.title), "container": .string(layout.files.container),
      "config_file": .string(layout.files.config),
      "config_keys": .array(
        layout.config.keys.map {
          [
            "name": .string($0.name), "default": $0.initial ?? .null,
            "required": .bool($0.initial == nil),
          ]
        }),
      "tensors": .array(
        page.rows.map {
          [
            "name": .string($0.prefix + $0.name), "shape": .string($0.shape),
            "kind": .string($0.kind),
            "pieces": .string($0.pieces), "when": .string($0.when),
          ]
        }),
      "converts_to": .array(targets),
    ]
  }
}
