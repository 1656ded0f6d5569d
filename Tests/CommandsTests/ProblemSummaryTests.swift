import Tensors
import TestSupport
import Testing

@testable import Commands

@Suite("Problems for a person", .tags(.slow))
struct ProblemSummaryTests {
  static func missing(_ count: Int) -> [Diagnostic] {
    (0..<count).map {
      Diagnostic(
        code: "layout.missing-tensor", subject: "backbone.layers.\($0).mixer.A_log",
        message: "is not in the checkpoint; mamba-hf expects it with the shape [\($0 + 7), 16]",
        help: "the checkpoint is incomplete")
    }
  }

  @Test("many of one cause are told once, with their number and names")
  func once() {
    let lines = ProblemSummary(
      Self.missing(48)
        + [
          Diagnostic(
            code: "layout.missing-tensor", subject: "lm_head.weight",
            message: "is not in the checkpoint; mamba-hf expects it with the shape [4]")
        ]
    ).lines()
    #expect(
      lines == [
        "error[layout.missing-tensor]: backbone.layers.0.mixer.A_log: is not in the checkpoint; "
          + "mamba-hf expects it with the shape [7, 16]",
        "  help: the checkpoint is incomplete",
        "  and 48 more like it: backbone.layers.*.mixer.A_log, lm_head.weight",
        "  --all-problems lists all 49",
      ])
  }

  @Test("one is told alone, and nothing is added")
  func few() {
    let problems = Self.missing(1)
    #expect(
      ProblemSummary(problems).lines().joined(separator: "\n")
        == problems.map(\.description).joined(separator: "\n"))
    #expect(
      ProblemSummary(Self.missing(3)).lines() == [
        "error[layout.missing-tensor]: backbone.layers.0.mixer.A_log: is not in the checkpoint; "
          + "mamba-hf expects it with the shape [7, 16]",
        "  help: the checkpoint is incomplete",
        "  and 2 more like it: backbone.layers.*.mixer.A_log", "  --all-problems lists all 3",
      ])
    #expect(ProblemSummary([]).lines() == [])
  }

  @Test("errors come before warnings and notes, and causes before what follows from them")
  func order() {
    let problems =
      [
        Diagnostic(.note, code: "n", subject: "a", message: "x"),
        Diagnostic(.warning, code: "w", subject: "a", message: "x"),
        Diagnostic(code: "layout.dtype", subject: "a", message: "x"),
      ] + Self.missing(5)
      + [
        Diagnostic(code: "layout.shape", subject: "b", message: "x"),
        Diagnostic(code: "config.unknown-key", subject: "c", message: "is 3"),
      ]
    let summary = ProblemSummary(problems)
    #expect(summary.groups.map(\.first.code) == ["config.unknown-key", "layout.dtype", "w", "n"])
    #expect(summary.consequences.map(\.count) == [5, 1])
    #expect(
      summary.lines() == [
        "error[config.unknown-key]: c: is 3", "error[layout.dtype]: a: x", "warning[w]: a: x",
        "note[n]: a: x",
        "note: 6 problems (5 layout.missing-tensor, 1 layout.shape) may follow from this",
        "  --all-problems lists all 10",
      ])
  }

  @Test("without a cause the tensors themselves are told")
  func noCause() {
    let summary = ProblemSummary(Self.missing(5))
    #expect(summary.groups.count == 1 && summary.consequences.isEmpty)
  }

  @Test(
    "no number of problems fills more than a screen, and one cause no more than 15 lines",
    arguments: [1, 2, 3, 4, 30, 5000], [0, 1, 3, 40])
  func screen(kinds: Int, notes: Int) {
    let words = ["red", "blue", "green", "amber", "plum"]
    let problems = (0..<kinds).flatMap { kind in
      (0..<(kind % 6 + 1)).map { number in
        Diagnostic(
          kind % 3 == 0 ? .warning : .error, code: "code.\(kind)", subject: "t.\(number)",
          message: "is \(words[kind % 5])",
          notes: (0..<notes).map { "note \($0)" }, help: "do it")
      }
    }
    let lines = ProblemSummary(problems).lines()
    #expect(lines.count <= 25)
    #expect(lines.first?.contains("[code.") == true)
    if kinds == 1 { #expect(lines.count <= 15) }
    if kinds == 5000 { #expect(lines.contains { $0.hasSuffix("…) besides") }) }
  }

  @Test(
    "numbers, lists, quoted and switched values do not make another cause; words do",
    arguments: [
      ("is 3, and x does not know it", "is \"red\", and x does not know it", true),
      ("is true, and x does not know it", "is [1, 2], and x does not know it", true),
      ("is 1e-05, and x does not know it", "is null, and x does not know it", true),
      ("has the shape [2, 3]", "has the shape []", true),
      ("has the shape [2, 3]", "is not there", false),
    ])
  func shapes(a: String, b: String, alike: Bool) {
    #expect((ProblemSummary.shape(of: a) == ProblemSummary.shape(of: b)) == alike)
  }

  @Test("one fault in a model of 48 layers is told on a screen, and listed whole when asked for")
  func tool() throws {
    let directory = TemporaryDirectory()
    let fixture = ModelFixture.named("mamba-tied/hf")
    let config = try JSONParser.parse(
      Files.read("\(fixture.path)/config.json"), file: "config.json")
    var object = try #require(config.object)
    // Tensors of one kind are of another size in every layer: no fault of the model's width.
    object["num_hidden_layers"] = 48
    object["state_size"] = 24
    Files.write(JSONValue.object(object).text(), to: directory.file("c.json"))
    let arguments = ["inspect", fixture.path, "--config", directory.file("c.json")]
    let short = try BuiltTool.run(arguments)
    #expect(short.status == 2 && !short.output.isEmpty)
    let lines = short.error.split(separator: "\n")
    #expect(lines.count <= 25)
    #expect(lines.contains { $0.contains("more like it") })
    let json = try BuiltTool.run(arguments + ["--json"])
    #expect(json.status == 2)
    let count = try json.problems().count
    #expect(count > 400)
    let all = try BuiltTool.run(arguments + ["--all-problems"])
    #expect(all.error.split(separator: "\n").count { $0.hasPrefix("error[") } == count)
  }
}

@Suite("What people type", .tags(.slow))
struct TypedTests {
  static let source = ModelFixture.named("mamba-tied/hf").path

  @Test(
    "a layout's other names get the right one suggested",
    arguments: [
      ("huggingface", "hf"), ("transformers", "hf"), ("HF", "hf"),
      ("flash-linear-attention", "fla"), ("lit-gpt", "lit_gpt"),
      ("fairseq", "torchscale"), ("berlin", "berlino"), ("h5", "--container hdf5"),
      ("safetensors", "--container safetensors"), ("dcp", "--container dcp"),
    ])
  func names(given: String, meant: String) throws {
    let run = try BuiltTool.run("convert", Self.source, "/dev/null/out", "--to", given)
    #expect(run.status == 64 && run.output == "")
    #expect(run.error.contains("did you mean \(meant)?"), "\(run.error)")
    #expect(run.error.contains("Usage: weighbridge convert"))
    let from = try BuiltTool.run("inspect", Self.source, "--layout", "huggingface", "--json")
    #expect(from.status == 64)
    #expect(try from.problems() == ["usage weighbridge"])
  }

  @Test(
    "types have the names that frameworks give them",
    arguments: [
      ("bf16", "BF16"), ("BF16", "BF16"), ("torch.bfloat16", "BF16"), ("fp16", "F16"),
      ("half", "F16"), ("float16", "F16"), ("fp32", "F32"), ("float", "F32"),
    ])
  func types(given: String, dtype: String) throws {
    let directory = TemporaryDirectory()
    let run = try BuiltTool.run(
      "convert", Self.source, directory.file("out"), "--to", "hf", "--dtype", given, "--no-fsync")
    #expect(run.status == 0)
    let made = try StoredCheckpoint(directory.file("out"))
    #expect(made["backbone.embeddings.weight"].dtype.rawValue == dtype)
  }

  @Test(
    "a container's file ending gets the container suggested",
    arguments: [
      ("h5", "hdf5"), ("pt", "pytorch"), ("pth", "pytorch"), ("st", "safetensors"),
      (".distcp", "dcp"),
    ])
  func containers(given: String, meant: String) throws {
    for option in [["--container", given], ["--container=\(given)"]] {
      let run = try BuiltTool.run(["convert", "a", "b", "--to", "hf"] + option)
      #expect(run.status == 64)
      #expect(run.error.contains("Did you mean '--container \(meant)'?"), "\(run.error)")
    }
  }

  @Test("a family's layouts are described together")
  func family() throws {
    let document = try BuiltTool.run("layouts", "mamba2", "--json").document()
    let names = document["layouts"]?.array?.compactMap { $0["name"]?.string } ?? []
    #expect(names == ["mamba2-fla", "mamba2-gguf", "mamba2-hf", "mamba2-mlx", "mamba2-ssm"])
  }

  @Test(
    "tokens come from a file, a pipe or standard input, with one result",
    arguments: ["--tokens -", "--tokens /dev/stdin", "--tokens FILE"])
  func tokens(option: String) throws {
    let directory = TemporaryDirectory()
    Files.write("[[1, 2, 3]]", to: directory.file("t.json"))
    let option = option.replacing("FILE", with: directory.file("t.json"))
    let run = try BuiltTool.run(
      [
        "-c",
        "cat '\(directory.file("t.json"))' | '\(BuiltTool.path)' generate '\(Self.source)' \(option) --max-new-tokens 2",
      ], tool: "/bin/sh")
    let plain = try BuiltTool.run(
      "generate", Self.source, "--tokens", directory.file("t.json"), "--max-new-tokens", "2")
    #expect(run.status == 0, "\(run.error)")
    #expect(run.output == plain.output && plain.output.hasPrefix("[[1, 2, 3, "))
  }

  @Test("what is no list of tokens is told as that, and a token out of range by its number")
  func noTokens() throws {
    let directory = TemporaryDirectory()
    func error(_ path: String) throws -> String {
      let run = try BuiltTool.run(
        "generate", Self.source, "--tokens", path, "--max-new-tokens", "1")
      #expect(run.status == 2)
      return run.error
    }
    let path = directory.path
    #expect(try error(path).hasPrefix("error[tokens.format]: \(path): is a directory"))
    #expect(try error("-").hasPrefix("error[tokens.format]: standard input: is empty"))
    Files.write("[[1, 2], [3, 99999]]", to: directory.file("t.json"))
    let range = try error(directory.file("t.json"))
    #expect(range.contains("99999"), "\(range)")
    #expect(!(try error(directory.path)).contains("checkpoint"))
  }

  @Test("--json-file writes the document beside the text, and over no other file")
  func jsonFile() throws {
    let directory = TemporaryDirectory()
    let file = directory.file("d.json")
    let run = try BuiltTool.run("inspect", Self.source, "--json-file", file)
    #expect(run.status == 0 && run.output.hasPrefix(Self.source))
    let json = try BuiltTool.run("inspect", Self.source, "--json")
    #expect(Files.text(file) == json.output)
    // Its own document is replaced.
    let failed = try BuiltTool.run("inspect", "/no/such", "--json-file", file)
    #expect(failed.status == 2)
    let document = try JSONParser.parse(Files.read(file), file: file)
    #expect(document["problems"]?.array?.first?["code"] == "checkpoint.not-found")
    let config = directory.file("config.json")
    Files.write("{\"hidden_size\": 3}", to: config)
    let refused = try BuiltTool.run("inspect", Self.source, "--json-file", config)
    #expect(refused.status == 2 && refused.error.hasPrefix("error[report.exists]: "))
    #expect(Files.read(config) == Array("{\"hidden_size\": 3}".utf8))
  }

  @Test("an unknown layout or a missing config is no error of inspect, but one of others")
  func inspect() throws {
    let directory = TemporaryDirectory()
    var builder = SafetensorsBuilder()
    builder.add("encoder.weight", [2], [1, 2])
    Files.write(builder.bytes, to: directory.file("model.safetensors"))
    let unknown = try BuiltTool.run("inspect", directory.path, "--json")
    #expect(unknown.status == 0)
    #expect(try unknown.document()["layout"] == .null)
    #expect(try unknown.document()["problems"]?.array?.map { $0["severity"] } == ["warning"])
    let convert = try BuiltTool.run(
      "convert", directory.path, directory.file("out"), "--to", "hf", "--json")
    #expect(convert.status == 2)
    #expect(try convert.problems() == ["layout.unknown \(directory.path)"])
    // Weights alone: their names tell the layout; only a model needs the config.
    Files.makeDirectory(directory.file("bare"))
    Files.write(
      Files.read("\(Self.source)/model.safetensors"), to: directory.file("bare/model.safetensors"))
    let bare = try BuiltTool.run("inspect", directory.file("bare"), "--json")
    #expect(bare.status == 0)
    #expect(try bare.problems() == ["config.missing \(directory.file("bare"))"])
    let parity = try BuiltTool.run("parity", directory.file("bare"), Self.source, "--json")
    #expect(parity.status == 2)
  }

  @Test("--inert is taken by every command that reads a checkpoint")
  func inert() throws {
    let directory = TemporaryDirectory()
    let config = try JSONParser.parse(
      Files.read("\(Self.source)/config.json"), file: "config.json")
    var object = try #require(config.object)
    object["colour"] = "red"
    Files.write(JSONValue.object(object).text(), to: directory.file("c.json"))
    Files.write("[[1, 2]]", to: directory.file("t.json"))
    let own = ["--config", directory.file("c.json")]
    let commands = [
      ["inspect", Self.source], ["diff", Self.source, Self.source],
      ["convert", Self.source, directory.file("out"), "--to", "mamba_ssm", "--verify"],
      ["convert", Self.source, directory.file("same"), "--to", "hf", "--verify"],
      ["parity", Self.source, Self.source, "--random", "1x4"],
      ["generate", Self.source, "--tokens", directory.file("t.json"), "--max-new-tokens", "1"],
      ["trace", Self.source, directory.file("t.safetensors"), "--random", "1x4"],
    ]
    for command in commands where command[2...].first != directory.file("same") {
      let run = try BuiltTool.run(command + own)
      #expect(run.status != 0, "\(command)")
      #expect(run.error.contains("colour: is \"red\""), "\(command): \(run.error)")
      #expect(run.error.contains("--inert colour"))
    }
    for command in commands {
      let run = try BuiltTool.run(command + own + ["--inert", "colour"])
      #expect(run.status == 0, "\(command): \(run.error)")
      #expect(run.error.hasPrefix("note[config.inert-key]: colour: is \"red\""), "\(run.error)")
    }
  }
}
