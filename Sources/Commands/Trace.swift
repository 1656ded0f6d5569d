import ArgumentParser
import Hub
import Inference
import OrderedCollections
import Parity
import Tensors
import WeighbridgeKit

struct Trace: Command {
  static let configuration = CommandConfiguration(
    commandName: "trace",
    abstract: "Write the stages of a forward pass to a safetensors file.",
    discussion: """
      The format is the one that parity --trace reads.

      Examples:
        weighbridge trace samba-fla trace.safetensors --tokens prompts.json
        weighbridge trace mamba-hf trace.safetensors --random 1x32 --precision float32
      """)

  @Argument(help: "A checkpoint: a file or a directory.", completion: Completions.checkpoints)
  var path: String

  @Argument(help: "The file to write.", completion: Completions.checkpoints)
  var out: String

  @Option(
    help: ArgumentHelp(
      "Tokens: a JSON array of arrays, a trace, or - for a pipe.", valueName: "file"),
    completion: .file())
  var tokens: String?

  @Option(help: ArgumentHelp("Random tokens: sequences x length.", valueName: "BxT"))
  var random: BatchSize?

  @Option(help: "Where random numbers start.")
  var seed: UInt64 = 0

  @Option(help: "What the model is computed in.")
  var precision: Precision = .float64

  @Option(
    help: ArgumentHelp(
      "Self-Extend for full attention; the group divides the window.", valueName: "group,window"))
  var selfExtend: GroupAndWindow?

  @OptionGroup var input: InputOptions
  @OptionGroup var output: OutputOptions
  @OptionGroup var progressOptions: ProgressOptions

  var emptyDocument: JSONObject { ["output": .null, "engine": .null] }

  func validate() throws {
    if (tokens == nil) == (random == nil) { throw ValidationError("give --tokens or --random") }
  }

  func work() throws -> Outcome {
    let source: TokenInput =
      tokens.map { .file($0) }
      ?? .random(batch: random!.batch, length: random!.length, seed: seed)
    var weighbridge = try input.weighbridge()
    let line = progressOptions.line
    defer { line?.clear() }
    weighbridge.progress = line?.handler
    let problems = try weighbridge.trace(
      input.input(path), to: out, tokens: source, precision: precision,
      selfExtend: selfExtend?.value)
    line?.clear()
    output.problems(problems)
    try output.result(
      [
        "output": .string(out), "engine": JSONReport.engine(.current),
        "problems": JSONReport.problems(problems),
      ], text: "wrote \(out)")
    return .yes
  }
}
