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
      """)

  @Argument(
    help: "A framework (fla), a family (samba) or a layout (samba-fla).",
    completion: Completions.layouts)
  var name: String?

  @Flag(help: "What converts to what, and how exactly, as a table in Markdown.")
  var table = false

  @Option(
    help: ArgumentHelp("A layout file of your own; may be given several times.", valueName: "file"),
    completion: .file(extensions: ["yaml"]))
  var layoutFile: [String] = []

  @OptionGroup var output: OutputOptions

  var emptyDocument: JSONObject { ["layouts": [], "presets": []] }

  func work() throws -> Outcome {
    let weighbridge = try Weighbridge(layoutFiles: layoutFile)
    let all = weighbridge.library.layouts
    var chosen = all
    if let name {
      chosen = all.filter { $0.framework == name || $0.name == name }
      // A family: mamba, samba.
      if chosen.isEmpty { chosen = all.filter { $0.name.hasPrefix("\(name)-") } }
      if chosen.isEmpty { throw LayoutName.unknown(name, option: nil, weighbridge) }
    }
    if name == nil, !output.json, output.jsonFile == nil, !table {
      Standard.output(overview(all, weighbridge.library))
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
        "conversions": ConversionTable.document(own),
        "problems": [],
      ],
      text: table
        ? ConversionTable.markdown(own)
        : name == nil
          ? overview(all, weighbridge.library)
          : pages.map { $0.text(width: width) }.joined(separator: "\n\n\n"))
    return .yes
  }

  private func overview(_ all: [Layout], _ library: LayoutLibrary) -> String {
    var table = Table(
      [("layout", .whole), ("to", .whole), ("container", .whole), ("what", .folded)], spare: [2])
    for layout in all {
      table.add([layout.name, layout.framework, layout.files.container, layout.title])
    }
    return table.text(width: Standard.width)
      + "\n\n"
      + Paragraph.shown("presets: \(library.presetNames.joined(separator: " "))")
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
