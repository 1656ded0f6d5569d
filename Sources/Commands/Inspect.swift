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
      Reads headers only, unless --stats, --finite or --report is given. Exit status 2 when tensors are \
      missing or the config does not fit, after telling what it can; 1 when --finite finds NaN or infinities.

      Examples:
        weighbridge inspect iter-100000-ckpt.pth
        weighbridge inspect samba-fla --stats --filter '*A_log'
        weighbridge inspect samba-fla --sort bytes --top 10
        weighbridge inspect samba-fla --group-by layer --format csv
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
      "List only tensors whose name matches, * standing for anything; may be given several times.",
      valueName: "glob"))
  var filter: [String] = []

  @Flag(help: "Read every value; exit status 1 when one is NaN or infinite.")
  var finite = false

  @Option(
    help: ArgumentHelp(
      "Sort by name, bytes, dtype or piece; with --stats also by min, max, mean, std, nan, inf or zeros. "
        + "Numbers come greatest first.", valueName: "column"))
  var sort: TensorColumn?

  @Option(help: ArgumentHelp("List only the first N tensors or groups.", valueName: "n"))
  var top: Int?

  @Option(
    help: ArgumentHelp("Count by layer, kind, role, dtype or file.", valueName: "property"))
  var groupBy: TensorProperty?

  @Flag(help: "List the tensors as a tree of their names.")
  var tree = false

  @Option(help: ArgumentHelp("table, csv, markdown or json.", valueName: "form"))
  var format: ListingFormat = .table

  @OptionGroup var input: InputOptions
  @OptionGroup var output: OutputOptions
  @OptionGroup var report: ReportOptions
  @OptionGroup var progressOptions: ProgressOptions

  func validate() throws {
    try LayoutName.check(layout, option: "--layout", layoutFiles: input.layoutFile)
    if let top, top < 1 { throw ValidationError("'\(top)', given for --top, is not above 0") }
    if tree, groupBy != nil { throw ValidationError("--tree and --group-by exclude each other") }
    if tree, format == .csv || format == .markdown {
      throw ValidationError("a tree is neither CSV nor Markdown; leave --tree or --format out")
    }
    if let sort, sort.needsValues, !stats, !finite {
      throw ValidationError("--sort \(sort.rawValue) needs --stats")
    }
  }

  func work() throws -> Outcome {
    let place = try report.place()
    var weighbridge = try input.weighbridge()
    let line = progressOptions.line
    defer { line?.clear() }
    weighbridge.progress = line?.handler
    let inspection = try weighbridge.inspect(
      input.input(path, framework: layout), withStatistics: stats || finite || place != nil,
      filters: filter)
    line?.clear()
    try place?.write(HTMLInspection(inspection).text(command: ReportOptions.command))
    var problems = inspection.problems
    let odd = finite ? notFinite(inspection) : []
    problems += odd
    let listing = TensorListing(
      inspection, withStatistics: stats, sort: sort, top: top, groupBy: groupBy, isTree: tree,
      isRaw: format == .csv)
    var output = output
    if format == .json { output.json = true }
    try output.result(
      document(inspection, listing, problems), text: text(inspection, listing))
    output.problems(problems)
    if inspection.problems.contains(where: { $0.severity == .error }) { return .errors }
    return odd.isEmpty ? .yes : .no
  }

  private func text(_ inspection: Inspection, _ listing: TensorListing) -> String {
    switch format {
    case .csv: listing.csv
    case .markdown: listing.markdown
    case .table, .json:
      InspectionText(inspection: inspection).text + "\n\n"
        + listing.text(width: Standard.tableWidth)
    }
  }

  /// One problem for each tensor with values that are not finite.
  private func notFinite(_ inspection: Inspection) -> [Diagnostic] {
    inspection.tensors.compactMap { tensor in
      guard let stats = tensor.stats, stats.nan + stats.inf > 0 else { return nil }
      return Diagnostic(
        .error, code: "inspect.not-finite", subject: tensor.info.name.string,
        message: "has \(stats.nan) NaN and \(stats.inf) infinite values of "
          + "\(tensor.info.shape.elementCount ?? 0)",
        help: "training went wrong before this checkpoint, or a cast overflowed")
    }
  }

  private func document(
    _ inspection: Inspection, _ listing: TensorListing, _ problems: [Diagnostic]
  ) -> JSONObject {
    let sublayers: [JSONValue] = (inspection.spec?.sublayers ?? []).enumerated().map {
      i, sublayer in
      var object: JSONObject = [
        "index": .int(i), "kind": .string(sublayer.kind), "layer": .int(sublayer.layer),
      ]
      object.merge(sublayer.attributes) { own, _ in own }
      return .object(object)
    }
    var document: JSONObject = [
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
      "tensors": .array(listing.tensors.map(tensor)),
      "metadata": .object(inspection.metadata.mapValues { .string($0) }),
      "problems": JSONReport.problems(problems),
    ]
    if groupBy != nil { document["groups"] = listing.document }
    return document
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
    if stats || finite {
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
