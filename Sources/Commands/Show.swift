import ArgumentParser
import Hub
import OrderedCollections
import Tensors
import WeighbridgeKit

struct Show: Command {
  static let configuration = CommandConfiguration(
    commandName: "show",
    abstract: "Print values of a tensor, and a histogram.",
    discussion: """
      TENSOR is a name as inspect lists it, a piece such as 3.a_log, or a glob. A row is everything at one \
      index of the first axis.

      Examples:
        weighbridge show samba-fla backbone.layers.0.mixer.A_log --rows 0:4
        weighbridge show samba-fla '*.A_log' --rows 0 --histogram
        weighbridge show model.gguf 3.a_log --json
      """)

  @Argument(help: "A checkpoint: a file or a directory.", completion: Completions.checkpoints)
  var path: String

  @Argument(help: "A tensor's name, a piece's, or a glob.")
  var tensor: String

  @Option(
    help: ArgumentHelp(
      "Rows as Python slices them: 2:5, :4, -2:, or one row, 7. By default the first 4; of a vector "
        + "the first 32 values.", valueName: "slice"))
  var rows: String?

  @Flag(help: "Add a histogram of the whole tensor, with its extremes, mean and spread.")
  var histogram = false

  @Option(help: ArgumentHelp("Bins of the histogram.", valueName: "n"))
  var bins = 20

  @OptionGroup var input: InputOptions
  @OptionGroup var output: OutputOptions

  var emptyDocument: JSONObject { ["path": .string(path), "tensors": []] }

  func validate() throws {
    guard (1...1000).contains(bins) else {
      throw ValidationError("'\(bins)', given for --bins, is not between 1 and 1000")
    }
    if let rows, RowSlice(rows) == nil {
      throw ValidationError("'\(rows)', given for --rows, is no slice such as 2:5, :4, -2: or 7")
    }
  }

  func work() throws -> Outcome {
    let (tensors, problems) = try input.weighbridge().show(
      input.input(path), tensor: tensor, rows: rows.flatMap { RowSlice($0) },
      bins: histogram ? bins : 0)
    output.problems(problems)
    try output.result(
      [
        "path": .string(path), "tensors": .array(tensors.map(document)),
        "problems": JSONReport.problems(problems),
      ], text: tensors.map { TensorText($0).text }.joined(separator: "\n\n"))
    return .yes
  }

  private func document(_ view: TensorView) -> JSONValue {
    let width = view.rows.isEmpty ? 0 : view.values.count / view.rows.count
    let rows = view.rows.enumerated().map { place, _ in
      view.values[place * width..<(place + 1) * width].map(number)
    }
    var object: JSONObject = [
      "name": .string(view.info.name.string), "dtype": .string(view.info.typeName),
      "shape": JSONReport.shape(view.info.shape), "piece": view.piece.map { .string($0) } ?? .null,
      "rows": [.int(view.rows.lowerBound), .int(view.rows.upperBound)],
      // A vector's rows are its values.
      "values": .array(
        view.info.shape.dims.count < 2 ? rows.flatMap { $0 } : rows.map { .array($0) }),
    ]
    if let stats = view.statistics {
      for (name, value) in [
        ("min", stats.min), ("max", stats.max), ("mean", stats.mean), ("std", stats.std),
      ] { object[name] = JSONReport.number(value) }
      object["nan"] = .int(stats.nan)
      object["inf"] = .int(stats.inf)
      object["zeros"] = .int(stats.zeros)
    }
    if histogram {
      object["histogram"] =
        view.histogram.map {
          [
            "edges": .array($0.edges.map { .double($0) }),
            "counts": .array($0.counts.map { .int($0) }),
          ]
        } ?? .null
    }
    return .object(object)
  }

  private func number(_ value: TensorNumber) -> JSONValue {
    switch value {
    case .float(let x): .double(x)
    case .integer(let x): .int(x)
    case .unsigned(let x): Int(exactly: x).map { .int($0) } ?? .string("\(x)")
    case .bool(let x): .bool(x)
    }
  }
}
