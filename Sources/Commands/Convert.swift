public import ArgumentParser
import Checkpoints
import Conversion
import Hub
import OrderedCollections
import Tensors
import WeighbridgeKit

extension Container: ExpressibleByArgument {}

struct Convert: Command {
  static let configuration = CommandConfiguration(
    commandName: "convert",
    abstract: "Convert checkpoints to another framework's layout, container or type.",
    usage: "weighbridge convert <source> ... <destination> --to <layout> [<options>]",
    discussion: """
      DST is a directory that the framework loads as it is. It appears whole or not at all; an empty \
      directory may stand there, and missing parents are created. What the target cannot express is \
      refused, by name.

      With --force, files of the names that are written are replaced, and so are those that the \
      directory's weighbridge.json lists. Every other file and directory stays. Weights that would be \
      read instead of the new ones are an error that names them.

      Of several sources, or of a quoted pattern, each becomes a directory of its own name in DST, with \
      weighbridge.json; those that it shows to be done are skipped. One that fails stops no other: the \
      exit status is 2 at the end, or 1 where all that failed are refusals. --watch goes on with what a \
      run's directory gets.

      With --part K/N (from 1/N to N/N), N runs on any machines of one file system write the shards of \
      one conversion, and --finish puts them together. See docs/at-scale.md.

      Examples:
        weighbridge convert iter-100000-ckpt.pth samba-fla --to fla
        weighbridge convert mamba-hf mamba-bf16 --to hf --dtype bfloat16
        weighbridge convert 'run/checkpoint/step-*' steps --to fla
        weighbridge convert mamba-hf mamba-parts --to hf --max-shard-size 100kB --part 1/2
      """)

  @Argument(
    help:
      "The source, or several: files, directories, URLs, patterns in quotes. Then the directory to write.",
    completion: Completions.checkpoints)
  var paths: [String] = []

  @Option(
    help: ArgumentHelp(
      "The target: hf, fla, mamba_ssm, lit_gpt, torchscale, berlino, archscale or gguf, or one layout of it by its own name (archscale-fused).",
      valueName: "layout"),
    completion: Completions.targets)
  var to: String?

  @Option(
    help: ArgumentHelp(
      "The source's layout; detected by default.", valueName: "layout"),
    completion: Completions.frameworks)
  var from: String?

  @Option(help: "The container to write; the target's own by default.")
  var container: Container?

  @Option(help: "Cast floating-point tensors to this type.")
  var dtype: FloatChoice = .keep

  @Flag(help: "Cast A_log, D and dt biases down as well, which otherwise stay float32.")
  var castAll = false

  @Option(
    help: ArgumentHelp("Pad or trim embedding and head to this many rows.", valueName: "rows"))
  var vocabSize: Int?

  @Option(
    help: ArgumentHelp(
      "Close a shard before it is larger than this: 5GB, 500MiB, 1000000.", valueName: "size"))
  var maxShardSize: ByteSize?

  @Option(
    help: ArgumentHelp(
      "With --container dcp: deal the rows out to so many ranks' files.", valueName: "number"))
  var ranks: Int?

  @Option(
    help: ArgumentHelp(
      "With --container dcp: the key that the names stand under (flame's is model); by default none.",
      valueName: "key"))
  var dcpPrefix: String?
  @Flag(
    help: "Convert also where something is lost: rows of the vocabulary, values beyond the type.")
  var allowLossy = false

  @Flag(help: "Plan and print, but write nothing.")
  var dryRun = false

  @Flag(help: "Replace what a conversion writes in an existing destination; the rest stays.")
  var force = false

  @Flag(
    help: "Read back what was written, and compare its bytes and what it computes with the source.")
  var verify = false

  @Flag(name: .customLong("no-fsync"), help: "Do not wait for the bytes to reach the disk.")
  var noFsync = false

  @Flag(
    name: .customLong("sha256"),
    help: "Write weighbridge.json, the digests that `weighbridge check` compares with.")
  var sha256 = false

  @Flag(help: "Keep finished shards when interrupted, and resume from them.")
  var resume = false

  @Option(
    help: ArgumentHelp(
      "Write only the shards of part K of N (1/4 to 4/4); --finish puts the parts together.",
      valueName: "k/n"))
  var part: PartChoice?

  @Flag(help: "Examine all parts that --part has written, and put the directory together.")
  var finish = false

  @Flag(
    help: """
      Convert every checkpoint in the source directory (or of the pattern) as it becomes complete, until \
      SIGINT or SIGTERM.
      """)
  var watch = false

  @Option(
    help: ArgumentHelp(
      "With --watch: end when nothing has changed for so long.", valueName: "seconds"))
  var untilIdle: Double?

  @Option(
    help: ArgumentHelp(
      "With --watch: the time between two looks, 5 by default. What has not changed between them is complete.",
      valueName: "seconds"))
  var watchInterval: Double?

  @OptionGroup var input: InputOptions
  @OptionGroup var output: OutputOptions
  @OptionGroup var progressOptions: ProgressOptions

  /// The sources.
  var sources: [String] { paths.dropLast() }
  /// The directory to write.
  var destination: String { paths.last ?? "" }

  /// Whether each source goes to a directory of its own in the destination.
  var isMany: Bool { watch || sources.count > 1 || sources.contains(where: BatchSources.isPattern) }

  var emptyDocument: JSONObject {
    if isMany { return ConvertMany.document([], []) }
    return [
      "exactness": .null, "reasons": [], "from": .null, "to": to.map { .string($0) } ?? .null,
      "family": .null,
      "tensors": 0, "bytes": 0, "outputs": [],
    ]
  }

  func validate() throws {
    guard paths.count > 1 else {
      throw ValidationError(
        "Missing expected argument '<\(paths.isEmpty ? "source" : "destination")>'")
    }
    try validateShare()
    if !watch, untilIdle != nil || watchInterval != nil {
      throw ValidationError("--until-idle and --watch-interval belong to --watch")
    }
    if watch, dryRun { throw ValidationError("--watch has no --dry-run: it waits for work to do") }
    for (name, seconds) in [("--until-idle", untilIdle), ("--watch-interval", watchInterval)] {
      if let seconds, !(seconds > 0 && seconds <= 1e7) {
        throw ValidationError("\(name) should be a positive number of seconds")
      }
    }
    if verify, dtype == .q8_0 {
      throw ValidationError("--verify cannot judge the rounding of --dtype q8_0; use parity")
    }
    try LayoutName.check(to ?? "gguf", option: "--to", layoutFiles: input.layoutFile)
    try LayoutName.check(from, option: "--from", layoutFiles: input.layoutFile)
    if let vocabSize, vocabSize < 1 { throw ValidationError("--vocab-size should be at least 1") }
    if to == nil, container != .gguf {
      throw ValidationError("Missing expected argument '--to <layout>'")
    }
    if container != .dcp, ranks != nil || dcpPrefix != nil {
      throw ValidationError("--ranks and --dcp-prefix belong to --container dcp")
    }
    if let ranks, !(1...DCPWriter.rankLimit).contains(ranks) {
      throw ValidationError("--ranks should be 1 to \(DCPWriter.rankLimit)")
    }
    if container == .dcp, maxShardSize != nil {
      throw ValidationError("--container dcp is split by --ranks, not by --max-shard-size")
    }
    if container == .dcp, resume {
      throw ValidationError("--resume is not for --container dcp, whose files are written together")
    }
  }

  private func validateShare() throws {
    guard part != nil || finish else { return }
    if part != nil, finish { throw ValidationError("--part and --finish exclude each other") }
    if isMany { throw ValidationError("--part and --finish are for one source at a time") }
    if resume { throw ValidationError("--resume is not for parts, which are written again") }
  }

  /// What to do with a source.
  func request(_ source: String, to destination: String) -> ConversionRequest {
    var request = ConversionRequest(
      input: input.input(source, framework: from), destination: destination,
      // Only GGUF's own names can stand in a GGUF file.
      to: container == .gguf ? "gguf" : to ?? "gguf")
    request.container = container
    request.dtype = dtype.value
    request.blocks = dtype == .q8_0 ? .q8_0 : nil
    request.castsAll = castAll
    request.vocabularyRows = vocabSize
    request.allowsLossy = allowLossy
    request.verifies = verify
    request.maxShardBytes = maxShardSize?.bytes
    request.ranks = ranks ?? 1
    request.nesting = dcpPrefix == "none" || dcpPrefix == "" ? nil : dcpPrefix
    request.force = force
    request.sync = !noFsync
    request.writesDigests = sha256
    request.resumes = resume
    request.share = finish ? .finish : part.map { .part($0.number, of: $0.count) }
    return request
  }

  func work() throws -> Outcome {
    let weighbridge = try input.weighbridge()
    if isMany { return try ConvertMany(self, weighbridge).work() }
    let request = request(sources[0], to: destination)
    let empty = emptyDocument
    var lastWord: (@Sendable (Diagnostic) -> String)?
    if output.json {
      lastWord = { problem in
        var document = empty
        document["problems"] = JSONReport.problems([problem])
        return JSONReport.document(document)
      }
    }
    Interruption.arm(document: lastWord)
    let line = progressOptions.line
    defer { line?.clear() }
    var progress: (@Sendable (Executor.Progress) -> Void)?
    if let line { progress = line.handler }
    var result = try weighbridge.convert(request, dryRun: dryRun, progress: progress)
    line?.clear()
    if let to, to != request.to {
      result.problems.append(
        Diagnostic(
          .note, code: "convert.container", subject: "--to \(to)",
          message: "is not used: a GGUF file has llama.cpp's names and keys"))
    }
    if part != nil, sha256 || verify {
      result.problems.append(
        Diagnostic(
          .note, code: "part.later", subject: verify ? "--verify" : "--sha256",
          message: "is done by --finish, which has all of the weights"))
    }
    output.problems(result.problems)
    try output.result(document(result), text: text(result))
    return .yes
  }

  func document(_ result: ConversionResult) -> JSONObject {
    var document: JSONObject = [
      "exactness": .string(result.plan.exactness.rawValue),
      "reasons": .array(result.plan.reasons.map { .string($0.text) }),
      "from": .string(result.plan.from.framework),
      "to": .string(result.plan.to.framework),
      "family": .string(result.plan.spec.family),
      "tensors": .int(result.plan.tensors.count),
      "bytes": .int(result.plan.byteCount),
      "outputs": .array(result.outputs.map { .string($0) }),
      "problems": JSONReport.problems(result.problems),
    ]
    if let part { document["part"] = .string("\(part.number)/\(part.count)") }
    return document
  }

  private func text(_ result: ConversionResult) -> String {
    let plan = result.plan
    let share = part.map { "part \($0.number) of \($0.count) of " } ?? ""
    var lines = [
      "\(dryRun ? "would convert" : "converted") \(share)\(plan.from.title) to \(plan.to.title)",
      "  exactness   \(plan.exactness.rawValue)\(plan.reasons.isEmpty ? ": every value has its bits" : "")",
    ]
    lines += plan.reasons.flatMap { Paragraph.shown("    \($0.exactness.rawValue): \($0.text)") }
    lines.append("  tensors     \(plan.tensors.count), \(Shown.bytes(plan.byteCount))")
    if result.wasDone { lines.append("  done        by an earlier run; its parts are removed") }
    if verify, !dryRun, part == nil, !result.wasDone {
      lines.append("  verified    read back and compared with the source")
    }
    if sha256, !dryRun, part == nil {
      lines.append("  digests     weighbridge.json; see weighbridge check")
    }
    lines += result.outputs.map { "  \(dryRun ? "would write" : "wrote      ") \($0)" }
    if dryRun {
      var table = Table([("tensor", .left), ("dtype", .left), ("shape", .left), ("from", .left)])
      for tensor in plan.tensors {
        var pieces: [String] = []
        for part in tensor.parts where !pieces.contains(part.piece.description) {
          pieces.append(part.piece.description)
        }
        table.add([
          tensor.output.name.string, tensor.output.typeName, tensor.output.shape.description,
          tensor.output.sharesStorageWith.map { "shares \(plan.tensors[$0].output.name)" }
            ?? pieces.joined(separator: " + "),
        ])
      }
      lines += [
        "", table.text(width: Standard.tableWidth), "",
        JSONValue.object(plan.config).text(indent: 2),
      ]
    }
    return lines.joined(separator: "\n")
  }
}

/// What `--dtype` takes.
enum FloatChoice: String, ExpressibleByArgument, CaseIterable {
  case keep, float32, float16, bfloat16, q8_0

  /// Also as frameworks and people call them: `bf16`, `torch.float16`, `half`.
  init?(argument: String) {
    var name = argument.lowercased()
    if name.hasPrefix("torch.") { name.removeFirst("torch.".count) }
    switch name {
    case "bf16": self = .bfloat16
    case "fp16", "f16", "half": self = .float16
    case "fp32", "f32", "float": self = .float32
    default: self.init(rawValue: name)
    }
  }

  var value: DType? {
    switch self {
    case .keep, .q8_0: nil
    case .float32: .f32
    case .float16: .f16
    case .bfloat16: .bf16
    }
  }
}

/// What `--part` takes: `2/4`, the second of four.
struct PartChoice: ExpressibleByArgument {
  var number: Int
  var count: Int

  init?(argument: String) {
    let words = argument.split(separator: "/", omittingEmptySubsequences: false)
    let numbers = words.compactMap { word in
      word.utf8.allSatisfy { $0 >= 48 && $0 < 58 } ? Int(word) : nil
    }
    guard words.count == 2, numbers.count == 2, (1...Weighbridge.mostParts).contains(numbers[1]),
      (1...numbers[1]).contains(numbers[0])
    else { return nil }
    number = numbers[0]
    count = numbers[1]
  }
}

/// A number of bytes: `5GB` in powers of ten, `5GiB` in powers of two.
struct ByteSize: ExpressibleByArgument {
  var bytes: Int

  init?(argument: String) {
    let units: [(String, Double)] = [
      ("KIB", 1024), ("MIB", 1_048_576), ("GIB", 1_073_741_824), ("KB", 1e3), ("MB", 1e6),
      ("GB", 1e9), ("TB", 1e12), ("B", 1),
    ]
    let text = argument.uppercased()
    let unit = units.first { text.hasSuffix($0.0) }
    let digits = text.dropLast(unit?.0.count ?? 0)
    guard let number = Double(digits), number > 0, number * (unit?.1 ?? 1) < 9e18 else {
      return nil
    }
    bytes = Int(number * (unit?.1 ?? 1))
    if bytes < 1 { return nil }
  }
}
