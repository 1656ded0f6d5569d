import ArgumentParser
import Layouts
import OrderedCollections
import Tensors
import WeighbridgeKit

struct Layouts: Command {
  static let configuration = CommandConfiguration(
    abstract: "List the layouts that are known, or one of them with its tensors and config keys.",
    discussion: """
      Examples:
        weighbridge layouts
        weighbridge layouts fla
      """)

  @Argument(help: "A framework (fla) or a layout (samba-fla).")
  var name: String?

  @Option(
    help: ArgumentHelp("A layout file of your own; may be given several times.", valueName: "file"))
  var layoutFile: [String] = []

  @OptionGroup var output: OutputOptions

  var emptyDocument: JSONObject { ["layouts": [], "presets": []] }

  func work() throws -> Outcome {
    let weighbridge = try Weighbridge(layoutFiles: layoutFile)
    let all = weighbridge.library.layouts
    var chosen = all
    if let name {
      chosen = all.filter { $0.framework == name || $0.name == name }
      guard !chosen.isEmpty else {
        let names = weighbridge.library.frameworks + all.map(\.name)
        throw Diagnostic(
          code: "layout.unknown-name", subject: name, message: "is no layout",
          help: Suggestion.nearest(name, names).map { "did you mean \($0)?" }
            ?? "known: \(names.joined(separator: ", "))")
      }
    }
    if output.json {
      Standard.output(
        JSONReport.document([
          "layouts": .array(chosen.map { document($0, all) }),
          "presets": .array(weighbridge.library.presets.keys.sorted().map { .string($0) }),
          "problems": [],
        ]))
    } else if name == nil {
      Standard.output(overview(all, weighbridge.library))
    } else {
      Standard.output(chosen.map { page($0, all) }.joined(separator: "\n\n"))
    }
    return .yes
  }

  private func overview(_ all: [Layout], _ library: LayoutLibrary) -> String {
    var table = Table([("layout", .left), ("to", .left), ("container", .left), ("what", .left)])
    for layout in all {
      table.add([layout.name, layout.framework, layout.files.container, layout.title])
    }
    return table.text(width: Standard.width)
      + "\n\npresets: \(library.presets.keys.sorted().joined(separator: " "))"
  }

  /// The tensors as templates, with the pieces that they are glued from.
  private func tensors(_ layout: Layout) -> [(name: String, pieces: String, when: String)] {
    var rows: [(String, String, String)] = []
    for tensor in layout.model.tensors {
      rows.append(
        (tensor.name.text, tensor.glue.roles.joined(separator: " + "), tensor.when?.text ?? ""))
    }
    for slot in layout.layers.slots {
      for option in slot.options {
        guard let mixer = layout.mixers[option.mixer] else { continue }
        if let norm = option.norm {
          rows.append(
            (
              layout.layers.prefix.text + norm.text + ".weight", "\(mixer.kind): norm.weight",
              option.when?.text ?? ""
            ))
        }
        for tensor in mixer.tensors {
          rows.append(
            (
              layout.layers.prefix.text + option.prefix.text + tensor.name.text,
              "\(mixer.kind): " + tensor.glue.roles.joined(separator: " + "),
              [option.when?.text, tensor.when?.text].compactMap { $0 }.joined(separator: " and ")
            ))
        }
      }
    }
    return rows
  }

  /// The frameworks whose layouts can hold some stack of this one's kinds.
  private func targets(_ layout: Layout, _ all: [Layout]) -> [String] {
    let kinds = Set(layout.mixers.values.map(\.kind))
    return all.filter { other in
      guard other.name != layout.name, let write = other.write else { return false }
      return write.patterns.contains { pattern in
        !kinds.isDisjoint(with: pattern.slots[0].kinds)
      }
    }.map(\.name)
  }

  private func page(_ layout: Layout, _ all: [Layout]) -> String {
    var lines = [
      "\(layout.name): \(layout.title)", "  from \(layout.source)", "",
      "config keys (\(layout.files.config))",
    ]
    for key in layout.config.keys {
      let aliases = key.aliases.isEmpty ? "" : " (also \(key.aliases.joined(separator: ", ")))"
      lines.append(
        "  \(key.name)\(aliases)  \(key.initial.map { "default \($0.text())" } ?? "required")")
    }
    var table = Table([("tensor", .left), ("pieces", .left), ("when", .left)])
    for row in tensors(layout) { table.add([row.name, row.pieces, row.when]) }
    lines += ["", table.text(width: 160), ""]
    if !layout.config.requirements.isEmpty {
      lines.append("not supported")
      lines += layout.config.requirements.map { "  \($0.key): \($0.why)" }
      lines.append("")
    }
    lines.append(
      "converts to \(targets(layout, all).joined(separator: ", ")), as far as they can express the model"
    )
    for accept in layout.write?.accepts ?? [] { lines.append("  rounding: \(accept.reason)") }
    return lines.joined(separator: "\n")
  }

  private func document(_ layout: Layout, _ all: [Layout]) -> JSONValue {
    [
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
        tensors(layout).map {
          ["name": .string($0.name), "pieces": .string($0.pieces), "when": .string($0.when)]
        }),
      "converts_to": .array(targets(layout, all).map { .string($0) }),
    ]
  }
}
