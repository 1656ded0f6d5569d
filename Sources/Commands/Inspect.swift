import ArgumentParser
import Hub
import Layouts
import OrderedCollections
import Tensors
import WeighbridgeKit

struct Inspect: Command {
  static let configuration = CommandConfiguration(
    commandName: "inspect",
    abstract: "Show what a checkpoint is: layout, config, stack of sub-layers, every tensor.",
    discussion: """
      Reads headers only, unless --stats or --report is given. Exit status 2 when tensors are missing \
      or the config does not fit, after telling what it can.

      Examples:
        weighbridge inspect iter-100000-ckpt.pth
        weighbridge inspect samba-fla --stats --filter '*A_log'
        weighbridge inspect samba-fla --report samba.html
      """)

  @Argument(
    help: "A checkpoint: a file, a directory, or a URL (https://…, hf://org/model).",
    completion: Completions.checkpoints)
  var path: String

  @Flag(help: "Add min, max, mean, std, NaN, inf and zeros of each tensor.")
  var stats = false

  @Option(
    help: ArgumentHelp("Consider only this framework's layouts.", valueName: "layout"),
    completion: Completions.frameworks)
  var layout: String?

  @Option(
    help: ArgumentHelp(
      "List only tensors whose name matches, * standing for anything.", valueName: "glob"))
  var filter: String?

  @OptionGroup var input: InputOptions
  @OptionGroup var output: OutputOptions
  @OptionGroup var report: ReportOptions
  @OptionGroup var progressOptions: ProgressOptions

  func validate() throws {
    try LayoutName.check(layout, option: "--layout", layoutFiles: input.layoutFile)
  }

  func work() throws -> Outcome {
    let place = try report.place()
    var weighbridge = try input.weighbridge()
    let line = progressOptions.line
    defer { line?.clear() }
    weighbridge.progress = line?.handler
    let inspection = try weighbridge.inspect(
      input.input(path, framework: layout), withStatistics: stats || place != nil, filter: filter)
    line?.clear()
    try place?.write(HTMLInspection(inspection).text(command: ReportOptions.command))
    try output.result(
      document(inspection),
      text: InspectionText(inspection: inspection, withStatistics: stats).text)
    output.problems(inspection.problems)
    return inspection.problems.contains { $0.severity == .error } ? .errors : .yes
  }

  private func document(_ inspection: Inspection) -> JSONObject {
    let sublayers: [JSONValue] = (inspection.spec?.sublayers ?? []).enumerated().map {
      i, sublayer in
      var object: JSONObject = [
        "index": .int(i), "kind": .string(sublayer.kind), "layer": .int(sublayer.layer),
      ]
      object.merge(sublayer.attributes) { own, _ in own }
      return .object(object)
    }
    return [
      "path": .string(inspection.path),
      "container": .string(inspection.container.rawValue),
      "layout": inspection.framework.map { .string($0) } ?? .null,
      "layout_file": inspection.layoutName.map { .string($0) } ?? .null,
      "family": inspection.family.map { .string($0) } ?? .null,
      "parameters": .int(inspection.parameters),
      "bytes": .int(inspection.bytes),
      "parameters_by_kind": .object(inspection.parametersByKind.mapValues { .int($0) }),
      "config": .object(inspection.config),
      "sublayers": .array(sublayers),
      "tied": .array(inspection.tied.map { .array($0.map { .string($0) }) }),
      "tensors": .array(inspection.tensors.map(tensor)),
      "problems": JSONReport.problems(inspection.problems),
    ]
  }

  private func tensor(_ tensor: Inspection.Tensor) -> JSONValue {
    var object: JSONObject = [
      "name": .string(tensor.info.name.string),
      "dtype": .string(tensor.info.typeName),
      "shape": JSONReport.shape(tensor.info.shape),
      "bytes": .int(tensor.info.storedByteCount),
      "file": .string(tensor.info.file),
      "piece": tensor.piece.map { .string($0) } ?? .null,
    ]
    if let grid = tensor.grid { object["grid"] = .string(grid) }
    if stats {
      object["min"] = JSONReport.number(tensor.stats?.min)
      object["max"] = JSONReport.number(tensor.stats?.max)
      object["mean"] = JSONReport.number(tensor.stats?.mean)
      object["std"] = JSONReport.number(tensor.stats?.std)
      object["nan"] = tensor.stats.map { .int($0.nan) } ?? .null
      object["inf"] = tensor.stats.map { .int($0.inf) } ?? .null
      object["zeros"] = tensor.stats.map { .int($0.zeros) } ?? .null
    }
    return .object(object)
  }
}
