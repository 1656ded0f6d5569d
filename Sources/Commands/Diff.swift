import ArgumentParser
import Hub
import OrderedCollections
import Parity
import Tensors
import WeighbridgeKit

struct Diff: Command {
  static let configuration = CommandConfiguration(
    commandName: "diff",
    abstract: "Compare two checkpoints tensor by tensor, whatever their layouts.",
    discussion: """
      Both are mapped to the same smallest pieces first. Exit status 1 when anything differs.

      Examples:
        weighbridge diff iter-100000-ckpt.pth samba-fla
        weighbridge diff mamba-hf mamba-bf16 --json
        weighbridge diff mamba-hf mamba-bf16 --report diff.html
      """)

  @Argument(help: "A checkpoint: a file or a directory.", completion: Completions.checkpoints)
  var a: String

  @Argument(help: "Another.", completion: Completions.checkpoints)
  var b: String

  @Option(
    help: ArgumentHelp("The config of B.", valueName: "file"), completion: .file())
  var configB: String?

  @Option(
    help: ArgumentHelp("Which of several models in B to read.", valueName: "name"))
  var keyB: String?

  @OptionGroup var input: InputOptions
  @OptionGroup var output: OutputOptions
  @OptionGroup var report: ReportOptions
  @OptionGroup var progressOptions: ProgressOptions

  var emptyDocument: JSONObject { ["equal": .null, "pieces": [], "attributes": []] }

  func work() throws -> Outcome {
    let place = try report.place()
    var second = CheckpointInput(
      path: b, configPath: configB, compat: input.compat, key: keyB, inertKeys: input.inert)
    second.preset = nil
    var weighbridge = try input.weighbridge()
    let line = progressOptions.line
    defer { line?.clear() }
    weighbridge.progress = line?.handler
    let diff = try weighbridge.diff(input.input(a), second)
    line?.clear()
    try place?.write(HTMLDiff(diff: diff, a: a, b: b).text(command: ReportOptions.command))
    output.problems(diff.problems)
    try output.result(document(diff), text: text(diff))
    return diff.isEqual ? .yes : .no
  }

  private func document(_ diff: CheckpointDiff) -> JSONObject {
    [
      "equal": .bool(diff.isEqual),
      "pieces": .array(
        diff.pieces.map { piece in
          var object: JSONObject = [
            "piece": .string(piece.id.description), "status": .string(name(piece.status)),
          ]
          switch piece.status {
          case .differs(let maxAbs, let count, let total):
            object["max_abs"] = .double(maxAbs)
            object["differing"] = .int(count)
            object["of"] = .int(total)
          case .cast(let from, let to):
            object["from"] = .string(from.rawValue)
            object["to"] = .string(to.rawValue)
          case .rounded(let narrow): object["to"] = .string(narrow.rawValue)
          case .shapes(let x, let y):
            object["shapes"] = [JSONReport.shape(x), JSONReport.shape(y)]
          default: break
          }
          object["a"] = .array(piece.tensorsA.map { .string($0) })
          object["b"] = .array(piece.tensorsB.map { .string($0) })
          return .object(object)
        }),
      "attributes": .array(
        diff.attributes.map {
          [
            "place": .string($0.place), "name": .string($0.name), "a": $0.a, "b": $0.b,
            "rounding_only": .bool($0.isRounding),
          ]
        }),
      "problems": JSONReport.problems(diff.problems),
    ]
  }

  private func name(_ status: CheckpointDiff.Status) -> String {
    switch status {
    case .equal: "equal"
    case .cast: "cast"
    case .rounded: "rounded"
    case .differs, .shapes: "differs"
    case .onlyInA: "only in a"
    case .onlyInB: "only in b"
    case .neutral: "neutral"
    }
  }

  private func text(_ diff: CheckpointDiff) -> String {
    var head: [String] = []
    var lines: [String] = []
    var table = Table(
      [("piece", .left), ("a", .left), ("b", .left), ("", .folded)], spare: [1])
    var counts: OrderedDictionary<String, Int> = [:]
    for piece in diff.pieces {
      counts[name(piece.status), default: 0] += 1
      let told: String
      switch piece.status {
      case .equal, .neutral: continue
      case .cast(let from, let to):
        told = "\(from.rawValue) against \(to.rawValue), equal when rounded"
      case .differs, .rounded: told = piece.status.words
      case .shapes(let x, let y): told = "\(x) against \(y)"
      case .onlyInA: told = "only in a"
      case .onlyInB: told = "only in b"
      }
      table.add([
        piece.id.description, piece.tensorsA.joined(separator: "+"),
        piece.tensorsB.joined(separator: "+"), told,
      ])
    }
    if counts.contains(where: { $0.key != "equal" && $0.key != "neutral" }) {
      head = [table.text(width: Standard.width), ""]
    }
    for group in AttributeGroup.groups(diff.attributes) {
      let attribute = group.attribute
      lines.append(
        "\(group.place): \(attribute.name) is \(attribute.a.text()) in a, \(attribute.b.text()) in b\(attribute.isRounding ? " (rounding only)" : "")"
      )
    }
    lines.append(
      "\(diff.pieces.count) pieces: "
        + counts.map { "\($0.value) \($0.value > 1 && $0.key == "differs" ? "differ" : $0.key)" }
        .joined(separator: ", "))
    lines.append(diff.isEqual ? "equal" : "different")
    return (head + lines.flatMap(Paragraph.shown)).joined(separator: "\n")
  }
}
