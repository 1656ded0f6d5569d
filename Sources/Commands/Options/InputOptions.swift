import ArgumentParser
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

  @Flag(help: "Read safetensors as laxly as its reference implementation does.")
  var compat = false

  @Option(
    help: ArgumentHelp(
      "The model's key in a saved dict that holds several.", valueName: "key"))
  var key: String?

  func input(_ path: String, framework: String? = nil) -> CheckpointInput {
    CheckpointInput(
      path: path, configPath: config, preset: preset, framework: framework, compat: compat,
      key: key)
  }

  func weighbridge() throws -> Weighbridge { try Weighbridge(layoutFiles: layoutFile) }
}

/// Options of every command that reports.
struct OutputOptions: ParsableArguments {
  @Flag(help: "Print one JSON document to standard output.")
  var json = false
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
