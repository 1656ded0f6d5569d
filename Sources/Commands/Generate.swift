import ArgumentParser
import Hub
import Inference
import OrderedCollections
import Parity
import Tensors
import WeighbridgeKit

struct Generate: Command {
  static let configuration = CommandConfiguration(
    commandName: "generate",
    abstract: "Continue prompts with a checkpoint of any layout.",
    discussion: """
      Greedy unless a temperature is given.

      Examples:
        weighbridge generate samba-fla --tokens prompts.json --max-new-tokens 64
        weighbridge generate mamba --tokens p.json --max-new-tokens 9 --temperature 1
      """)

  @Argument(help: "A checkpoint: a file or a directory.", completion: Completions.checkpoints)
  var path: String

  @Option(
    help: ArgumentHelp(
      "Prompts: a JSON array of arrays, a trace, or - for a pipe.", valueName: "file"),
    completion: .file())
  var tokens: String

  @Option(help: ArgumentHelp("Tokens to add to each prompt.", valueName: "n"))
  var maxNewTokens: Int

  @Option(help: "Logits are divided by it.")
  var temperature: Double?

  @Option(help: "Draw from the likeliest tokens that together reach this probability.")
  var topP: Double = 1

  @Option(help: "Where random numbers start.")
  var seed: UInt64 = 0

  @Option(help: "What the model is computed in.")
  var precision: Precision = .float32

  @Option(
    help: ArgumentHelp(
      "Self-Extend for full attention; the group divides the window.", valueName: "group,window"))
  var selfExtend: GroupAndWindow?

  @OptionGroup var input: InputOptions
  @OptionGroup var output: OutputOptions
  @OptionGroup var progressOptions: ProgressOptions

  var emptyDocument: JSONObject { ["tokens": [], "engine": .null] }

  func validate() throws {
    if maxNewTokens < 0 { throw ValidationError("--max-new-tokens should not be negative") }
    if let temperature, !(temperature >= 0) {
      throw ValidationError("--temperature should not be negative")
    }
    if !(topP > 0 && topP <= 1) { throw ValidationError("--top-p should be above 0, at most 1") }
  }

  func work() throws -> Outcome {
    var first = input.input(path)
    var sampling = temperature.map { Sampling(temperature: $0, topP: topP, seed: seed) } ?? .greedy
    if let preset = input.preset, let known = SamplingPreset.sampling(preset, seed: seed) {
      sampling = known
      first.preset = nil
    }
    var weighbridge = try input.weighbridge()
    let line = progressOptions.line
    defer { line?.clear() }
    weighbridge.progress = line?.handler
    let (tokens, problems) = try weighbridge.generate(
      first, prompts: .file(self.tokens), count: maxNewTokens, sampling: sampling,
      precision: precision, selfExtend: selfExtend?.value)
    line?.clear()
    output.problems(problems)
    let value = JSONValue.array(tokens.map { .array($0.map { .int($0) }) })
    try output.result(
      [
        "tokens": value, "engine": JSONReport.engine(.current),
        "problems": JSONReport.problems(problems),
      ], text: value.text())
    return .yes
  }
}
