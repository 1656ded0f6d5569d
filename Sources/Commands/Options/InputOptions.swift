import ArgumentParser
import Hub
import OrderedCollections
import Output
import Tensors
import WeighbridgeKit

/// Options of every command that reads a checkpoint.
struct InputOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "The config to use instead of the one beside the weights.", valueName: "file"),
    completion: .file())
  var config: String?

  @Option(
    help: ArgumentHelp("One of microsoft/Samba's named configurations.", valueName: "name"),
    completion: Completions.presets)
  var preset: String?

  @Option(
    help: ArgumentHelp("A layout file of your own; may be given several times.", valueName: "file"),
    completion: .file(extensions: ["yaml"]))
  var layoutFile: [String] = []

  @Option(
    help: ArgumentHelp(
      "A config key that is not known and changes nothing; may be given several times.",
      valueName: "key"))
  var inert: [String] = []

  @Option(
    help: ArgumentHelp(
      "Which of several models in one file to read (model_ema, ema_state_dict…).", valueName: "name"
    ))
  var key: String?

  @Option(
    help: ArgumentHelp(
      "Whether Nemotron-H's and Zamba2's step sizes are raised to time_step_min, as transformers does (config), or not (none).",
      valueName: "config|none"))
  var dtFloor: StepFloor = .config

  @Flag(help: "Read safetensors as laxly as its reference implementation does.")
  var compat = false

  func input(_ path: String, framework: String? = nil) -> CheckpointInput {
    var input = CheckpointInput(
      path: path, configPath: config, preset: preset, framework: framework, compat: compat,
      key: key, inertKeys: inert)
    input.stepFloor = dtFloor
    return input
  }

  func weighbridge() throws -> Weighbridge { try Weighbridge(layoutFiles: layoutFile) }
}

/// Options of every command that reports.
struct OutputOptions: ParsableArguments {
  @Flag(help: "Print one JSON document to standard output.")
  var json = false

  @Option(
    help: ArgumentHelp("Also write that document to a file.", valueName: "file.json"),
    completion: .file(extensions: ["json"]))
  var jsonFile: String?

  @Flag(help: "Print every problem, where many of one cause are told once.")
  var allProblems = false

  /// Examines the document's place before the work begins.
  func checkPlace() throws {
    if let jsonFile { _ = try ReportFile(jsonFile, form: .json) }
  }

  /// Prints the document or the text, and writes the document to the file that was asked for.
  func result(_ document: @autoclosure () -> JSONObject, text: @autoclosure () -> String) throws {
    let document = json || jsonFile != nil ? JSONReport.document(document()) : nil
    if let jsonFile, let document {
      try ReportFile(jsonFile, form: .json).write(document + "\n")
    }
    if json, let document {
      Standard.output(document)
    } else {
      Standard.output(text())
    }
  }

  /// Tells the problems on standard error.
  func problems(_ problems: [Diagnostic]) { Standard.problems(problems, all: allProblems) }
}

/// Whether progress is shown.
struct ProgressOptions: ParsableArguments {
  @Flag(inversion: .prefixedNo, help: "Show progress; by default only on a terminal.")
  var progress: Bool?

  @Flag(help: "Show progress as JSON lines on standard error; also as --progress=json.")
  var progressJson = false

  /// What shows it. On a terminal work of a second stays quiet.
  var line: ProgressLine? {
    if progressJson { return ProgressLine(.json, patience: .seconds(1)) }
    if let progress { return progress ? ProgressLine(.line) : nil }
    return Standard.errorTakesLine ? ProgressLine(.line, patience: .seconds(1)) : nil
  }
}
