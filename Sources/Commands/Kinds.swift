import ArgumentParser
import Hub
import OrderedCollections
import Tensors
import WeighbridgeKit

struct Kinds: Command {
  static let configuration = CommandConfiguration(
    commandName: "kinds",
    abstract: "List the kinds of sub-layers that layouts are written with, or describe one.",
    discussion: """
      A kind has attributes, which change the mathematics, and pieces, the smallest named parts of \
      weight: a layout says how its framework spells them. 'model' is the embedding, the final norm \
      and the head. Shapes are [out, in]; their extents are expressions over the attributes.

      Examples:
        weighbridge kinds
        weighbridge kinds mamba
        weighbridge kinds model --json
      """)

  @Argument(help: "A kind, such as mamba or attention.", completion: Completions.kinds)
  var name: String?

  @OptionGroup var output: OutputOptions

  var emptyDocument: JSONObject { ["kinds": []] }

  func work() throws -> Outcome {
    let vocabulary = try Weighbridge().vocabulary
    let all = [vocabulary.model] + vocabulary.kinds.values.sorted { $0.name < $1.name }
    var chosen = all
    if let name {
      chosen = all.filter { $0.name == name }
      if chosen.isEmpty {
        let names = all.map(\.name)
        throw ValidationError(
          "'\(name)' is no kind; "
            + (Suggestion.nearest(name, names).map { "did you mean \($0)?" }
              ?? "kinds: \(names.joined(separator: ", "))"))
      }
    }
    try output.result(
      ["kinds": .array(chosen.map(Self.document)), "problems": []],
      text: name == nil
        ? Self.overview(all) : Self.page(chosen[0]).joined(separator: "\n"))
    return .yes
  }

  private static func overview(_ kinds: [MixerKind]) -> String {
    var table = Table([
      ("kind", .whole), ("attributes", .right), ("pieces", .right), ("what", .folded),
    ])
    for kind in kinds {
      table.add([
        kind.name, String(kind.attributes.count), String(kind.pieces.count), kind.summary,
      ])
    }
    return table.text(width: Standard.tableWidth)
  }

  private static func page(_ kind: MixerKind) -> [String] {
    let width = Standard.width
    var lines = ["\(kind.name): \(kind.summary)"]
    if !kind.source.isEmpty {
      lines += Paragraph.fold("equations from \(kind.source)", width: width, indent: 0, hanging: 2)
    }
    lines += ["", "Attributes; those without a default must be given", ""]
    var attributes = Table([("attribute", .whole), ("default", .whole), ("what", .folded)])
    for attribute in kind.attributes {
      attributes.add([attribute.name, attribute.initial?.brief ?? "", attribute.summary])
    }
    lines += [attributes.text(width: width), "", "Pieces", ""]
    var pieces = Table([
      ("piece", .whole), ("shape", .folded), ("may be absent", .whole), ("what", .folded),
    ])
    for piece in kind.pieces {
      let remark =
        (piece.isTable ? "; a table, never cast" : piece.keepsFloat32 ? "; stays float32" : "")
        + (piece.count.map { "; e from 0 to \($0.text) - 1" } ?? "")
      pieces.add([
        piece.role, "[\(piece.shape.map(\.text).joined(separator: ", "))]", absence(piece),
        piece.summary + remark,
      ])
    }
    lines.append(pieces.text(width: width))
    if !kind.outputPieces.isEmpty {
      lines.append("")
      lines += Paragraph.fold(
        "With zeros in \(kind.outputPieces.joined(separator: " and ")) it adds nothing to the "
          + "residual stream.", width: width, indent: 0)
    }
    return lines
  }

  /// What stands for a piece that a file does not have.
  private static func absence(_ piece: MixerKind.Piece) -> String {
    switch piece.identity {
    case .zero: "as zeros"
    case .one: "as ones"
    case nil: piece.isTable ? "computed" : ""
    }
  }

  private static func document(_ kind: MixerKind) -> JSONValue {
    [
      "name": .string(kind.name), "summary": .string(kind.summary),
      "source": .string(kind.source),
      "attributes": .array(
        kind.attributes.map {
          [
            "name": .string($0.name), "required": .bool($0.initial == nil),
            "default": $0.initial ?? .null, "summary": .string($0.summary),
          ]
        }),
      "pieces": .array(
        kind.pieces.map { piece in
          let identity: JSONValue =
            switch piece.identity {
            case .zero: "zero"
            case .one: "one"
            case nil: .null
            }
          return [
            "role": .string(piece.role),
            "shape": .array(piece.shape.map { .string($0.text) }), "identity": identity,
            "keeps_float32": .bool(piece.keepsFloat32), "computed": .bool(piece.isTable),
            "count": piece.count.map { .string($0.text) } ?? .null,
            "summary": .string(piece.summary),
          ]
        }),
      "output_pieces": .array(kind.outputPieces.map { .string($0) }),
    ]
  }
}
