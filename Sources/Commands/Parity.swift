import ArgumentParser
import Hub
import Inference
import OrderedCollections
import Parity
import Tensors
import WeighbridgeKit

struct ParityCheck: Command {
  static let configuration = CommandConfiguration(
    commandName: "parity",
    abstract:
      "Run the forward pass and find where two checkpoints, or a checkpoint and a trace, part.",
    discussion: """
      The bound of each stage is measured: float32's noise on the reference. Exit status 1 when a \
      stage is out of bounds; 2 when the two cannot be compared.

      Examples:
        weighbridge parity iter-100000-ckpt.pth samba-fla --random 2x64 --seed 1
        weighbridge parity samba-fla --trace trace.safetensors --report parity.html
      """)

  @Argument(
    help: "A checkpoint: a file, a directory or a URL.", completion: Completions.checkpoints)
  var a: String

  @Argument(help: "Another; or none, with --trace.", completion: Completions.checkpoints)
  var b: String?

  @Option(
    help: ArgumentHelp("A framework's own trace of A.", valueName: "file"), completion: .file())
  var trace: String?

  @Option(
    help: ArgumentHelp("The config of B.", valueName: "file"), completion: .file())
  var configB: String?

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

  @Option(help: ArgumentHelp("Compare a continuation of this many tokens.", valueName: "n"))
  var generate: Int = 0

  @Option(help: "An absolute bound instead of the measured one.")
  var atol: Double?

  @Option(help: "A bound relative to each stage's largest value instead of the measured one.")
  var rtol: Double?

  @Option(
    help: ArgumentHelp(
      "Self-Extend for full attention; the group divides the window.", valueName: "group,window"))
  var selfExtend: GroupAndWindow?

  @Option(
    help: ArgumentHelp("Which of several models in B to read.", valueName: "name"))
  var keyB: String?

  @Flag(
    help:
      "Take longer: several lengths, beyond the windows too, both precisions, and steps against whole sequences."
  )
  var thorough = false

  @OptionGroup var input: InputOptions
  @OptionGroup var output: OutputOptions
  @OptionGroup var report: ReportOptions
  @OptionGroup var progressOptions: ProgressOptions

  var emptyDocument: JSONObject {
    [
      "verdict": .null, "precision": .string(precision.rawValue), "tokens": [],
      "weights": ["equal": 0, "differ": []], "stages": [], "first_divergence": .null,
      "logits": .null, "generation": .null, "engine": .null,
    ]
  }

  func validate() throws {
    if (b == nil) == (trace == nil) {
      throw ValidationError("give a second checkpoint, or a trace with --trace")
    }
    if tokens != nil, random != nil {
      throw ValidationError("give --tokens or --random, not both")
    }
    if trace != nil, tokens != nil || random != nil {
      throw ValidationError("a trace has its own tokens: --tokens and --random do not go with it")
    }
    if generate < 0 { throw ValidationError("--generate should not be negative") }
    for bound in [atol, rtol].compactMap({ $0 }) where !(bound >= 0 && bound.isFinite) {
      throw ValidationError("bounds should be finite numbers, not negative")
    }
  }

  func work() throws -> Outcome {
    let place = try report.place()
    let (nameA, nameB) = (Weighbridge.shown(a), Weighbridge.shown(b ?? trace ?? ""))
    var weighbridge = try input.weighbridge()
    let line = progressOptions.line
    defer { line?.clear() }
    weighbridge.progress = line?.handler
    var request = ParityRequest()
    request.precision = precision
    request.tolerance = Tolerance(atol: atol, rtol: rtol)
    request.generate = generate
    request.isThorough = thorough
    request.selfExtend = selfExtend?.value
    var first = input.input(a)
    if let preset = input.preset, let sampling = SamplingPreset.sampling(preset, seed: seed) {
      request.sampling = sampling
      first.preset = nil
    }
    let result: ParityResult
    if let trace {
      result = try weighbridge.parity(first, trace: trace, request)
    } else {
      var second = CheckpointInput(
        path: b!, configPath: configB, compat: input.compat, key: keyB, inertKeys: input.inert)
      second.stepFloor = input.dtFloor
      let source: TokenInput
      if let tokens {
        source = .file(tokens)
      } else {
        source = .random(batch: random?.batch ?? 2, length: random?.length ?? 48, seed: seed)
      }
      result = try weighbridge.parity(first, second, tokens: source, request)
    }
    line?.clear()
    try place?.write(
      HTMLParity(result: result, a: nameA, b: nameB, isTrace: trace != nil)
        .text(command: ReportOptions.command))
    output.problems(result.problems)
    try output.result(
      ParityText.document(result), text: ParityText.text(result, a: nameA, b: nameB))
    return result.passes ? .yes : .no
  }
}
