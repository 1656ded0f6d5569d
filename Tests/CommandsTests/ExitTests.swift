import TestSupport
import Tensors
import Testing

@Suite("Exit codes and output", .tags(.slow))
struct ExitTests {
  static func path(_ name: String) -> String { ModelFixture.named(name).path }

  /// Arguments of a run, with the exit code it should have; `OUT` stands for a new directory.
  struct Run: Sendable, CustomStringConvertible {
    let status: Int32
    let arguments: [String]
    /// The first problem's code; empty for none.
    var code = ""

    var description: String {
      arguments.map { $0.hasPrefix("/") ? String($0.split(separator: "/").last!) : $0 }
        .joined(separator: " ")
    }
  }

  static let runs: [Run] = [
    Run(status: 0, arguments: ["inspect", path("lit-samba/lit_gpt")]),
    Run(
      status: 0, arguments: ["inspect", path("samba-fla/fla"), "--stats", "--filter", "*.A_log"]),
    Run(status: 0, arguments: ["convert", path("lit-samba/lit_gpt"), "OUT", "--to", "fla"]),
    Run(
      status: 0,
      arguments: [
        "convert", path("mamba-tied/hf"), "OUT", "--to", "mamba_ssm", "--container", "hdf5",
        "--dtype", "bfloat16", "--no-fsync", "--verify",
      ]),
    Run(
      status: 0, arguments: ["convert", path("gla-base/fla"), "OUT", "--to", "fla", "--dry-run"]),
    Run(status: 0, arguments: ["diff", path("mamba-tied/hf"), path("mamba-tied/mamba_ssm")]),
    Run(status: 0, arguments: ["layouts"]),
    Run(status: 0, arguments: ["layouts", "samba-fla"]),
    Run(
      status: 1, arguments: ["convert", path("lit-samba-gqa-nope/lit_gpt"), "OUT", "--to", "fla"],
      code: "convert.inexpressible"),
    Run(
      status: 1, arguments: ["convert", path("lit-s6-mega/lit_gpt"), "OUT", "--to", "fla"],
      code: "convert.no-such-mixer"),
    Run(
      status: 1,
      arguments: [
        "convert", path("lit-llama-full/lit_gpt"), "OUT", "--to", "lit_gpt", "--vocab-size", "80",
      ], code: "convert.lossy"),
    Run(
      status: 64,
      arguments: ["parity", path("gla-base/fla"), path("gla-base/fla"), "--atol", "inf"],
      code: "usage"),
    Run(
      status: 64,
      arguments: ["parity", path("gla-base/fla"), path("gla-base/fla"), "--rtol", "nan"],
      code: "usage"),
    Run(
      status: 2, arguments: ["inspect", "/no/such/file.safetensors"], code: "checkpoint.not-found"),
    Run(
      status: 2,
      arguments: [
        "inspect",
        Fixtures.path("bad/safetensors/safetensors.header-length__zero.safetensors"),
      ], code: "safetensors.header-length"),
    Run(status: 2, arguments: ["inspect", Fixtures.path("generate")], code: "checkpoint.none"),
    Run(
      status: 2,
      arguments: ["convert", path("gla-base/fla"), Fixtures.path("generate"), "--to", "fla"],
      code: "output.exists"),
    Run(
      status: 64, arguments: ["convert", path("gla-base/fla"), "OUT", "--to", "flo"], code: "usage"),
    Run(
      status: 64,
      arguments: ["convert", path("gla-base/fla"), "OUT", "--to", "fla", "--from", "transformers"],
      code: "usage"),
    Run(
      status: 64, arguments: ["inspect", path("gla-base/fla"), "--layout", "berlin"], code: "usage"),
    Run(status: 64, arguments: ["layouts", "samba-flo"], code: "usage"),
    Run(status: 0, arguments: ["layouts", "mamba"]),
    Run(
      status: 1,
      arguments: ["convert", path("lit-llama-full/lit_gpt"), "OUT", "--to", "litgpt"],
      code: "convert.read-only"),
    Run(
      status: 2, arguments: ["inspect", path("gla-base/fla"), "--config", "/no/such.json"],
      code: "io.open"),
    Run(
      status: 2, arguments: ["diff", path("mamba-tied/hf"), path("gla-base/fla")],
      code: "diff.stacks"),
    Run(status: 64, arguments: ["inspect"], code: "usage"),
    Run(status: 64, arguments: ["inspect", "a", "b"], code: "usage"),
    Run(status: 64, arguments: ["inspect", "a", "--no-such-option"], code: "usage"),
    Run(status: 64, arguments: ["convert", "a", "b"], code: "usage"),
    Run(
      status: 64, arguments: ["convert", "a", "b", "--to", "hf", "--dtype", "int4"], code: "usage"),
    Run(
      status: 64, arguments: ["convert", "a", "b", "--to", "hf", "--container", "zip"],
      code: "usage"),
    Run(
      status: 64, arguments: ["convert", "a", "b", "--to", "hf", "--vocab-size", "0"],
      code: "usage"),
    Run(
      status: 64, arguments: ["convert", "a", "b", "--to", "hf", "--max-shard-size", "big"],
      code: "usage"),
    Run(status: 64, arguments: ["weigh", "a"], code: "usage"),
  ]

  static func run(_ run: Run, _ more: [String] = []) throws -> (ToolRun, [String]) {
    let directory = TemporaryDirectory()
    let arguments = run.arguments.map { $0 == "OUT" ? directory.file("out") : $0 }
    let result = try BuiltTool.run(arguments + more)
    return (result, Files.names(in: directory.path))
  }

  @Test(
    "errors go to standard error as error[code], and the exit code says which kind",
    arguments: runs)
  func words(run: Run) throws {
    let (result, left) = try Self.run(run)
    #expect(result.status == run.status, "\(result.error)")
    if run.status == 0 {
      #expect(!result.output.isEmpty)
      #expect(result.error == "")
    } else {
      #expect(result.output == "")
      #expect(left == [])
      if run.status == 64 {
        #expect(result.error.contains("Usage: weighbridge"))
      } else {
        #expect(result.error.hasPrefix("error[\(run.code)]: "), "\(result.error)")
      }
    }
  }

  @Test("with --json standard output is one document, whatever happens", arguments: runs)
  func json(run: Run) throws {
    let (result, left) = try Self.run(run, ["--json"])
    #expect(result.status == run.status, "\(result.error)")
    let document = try result.document()
    let problems = try #require(document["problems"]?.array)
    if run.status == 0 {
      #expect(problems == [])
    } else {
      #expect(problems.first?["code"]?.string == run.code)
      #expect(left == [])
    }
    for problem in problems {
      #expect(
        problem.object.map { Array($0.keys) } == ["code", "severity", "subject", "message", "help"])
      #expect(problem["severity"] == "error")
      #expect(problem["message"]?.string?.isEmpty == false)
    }
  }

  @Test("differing checkpoints are no error: exit 1 and a report")
  func differing() throws {
    let directory = TemporaryDirectory()
    let converted = try BuiltTool.run(
      "convert", Self.path("mamba-tied/hf"), directory.file("bf16"), "--to", "hf", "--dtype",
      "bfloat16", "--no-fsync")
    #expect(converted.status == 0)
    let diff = try BuiltTool.run(
      "diff", Self.path("mamba-tied/hf"), directory.file("bf16"), "--json")
    #expect(diff.status == 1)
    let document = try diff.document()
    #expect(document["equal"] == false)
    let pieces = try #require(document["pieces"]?.array)
    #expect(Set(pieces.compactMap { $0["status"]?.string }) == ["equal", "cast"])
    let text = try BuiltTool.run("diff", Self.path("mamba-tied/hf"), directory.file("bf16"))
    #expect(text.status == 1 && text.output.hasSuffix("different\n"))
  }

  @Test("progress goes to standard error, and only when it is asked for or seen")
  func progress() throws {
    let directory = TemporaryDirectory()
    let quiet = try BuiltTool.run(
      "convert", Self.path("samba-fla/fla"), directory.file("a"), "--to", "fla", "--json")
    #expect(quiet.error == "")
    let loud = try BuiltTool.run(
      "convert", Self.path("samba-fla/fla"), directory.file("b"), "--to", "fla", "--json",
      "--progress")
    #expect(loud.error.contains(" MB"))
    #expect(try loud.document()["exactness"] == "bitwise")
  }

  @Test("warnings are told on standard error and in the document, and do not fail")
  func warnings() throws {
    let directory = TemporaryDirectory()
    let run = try BuiltTool.run(
      "convert", Self.path("lit-llama-full/lit_gpt"), directory.file("cut"), "--to", "lit_gpt",
      "--vocab-size", "100", "--json", "--no-fsync", "--allow-lossy")
    #expect(run.status == 0)
    #expect(try run.document()["exactness"] == "lossy")
    #expect(run.error.hasPrefix("warning[convert.vocab-trimmed]: "))
    #expect(
      try run.problems() == [
        "convert.vocab-trimmed embed.weight", "convert.vocab-trimmed head.weight",
      ])
  }
}

@Suite("JSON documents", .tags(.slow))
struct JSONDocumentTests {
  @Test("inspect's document has what the contract says", arguments: ModelFixture.all)
  func inspect(fixture: ModelFixture) throws {
    let document = try BuiltTool.run("inspect", fixture.path, "--json").document()
    #expect(document["path"] == .string(fixture.path))
    #expect(document["layout"] == .string(fixture.framework))
    #expect(document["family"] == .string(fixture.family))
    #expect(document["parameters"] == .int(fixture.parameters))
    #expect(["safetensors", "pytorch"].contains(document["container"]?.string))
    let sublayers = try #require(document["sublayers"]?.array)
    #expect(sublayers.compactMap { $0["kind"]?.string } == fixture.kinds)
    #expect(sublayers.compactMap { $0["index"]?.int } == Array(0..<fixture.kinds.count))
    #expect(document["config"]?["d_model"]?.int != nil)
    #expect(document["tied"]?.array != nil)
    let tensors = try #require(document["tensors"]?.array)
    #expect(tensors.reduce(0) { $0 + ($1["bytes"]?.int ?? 0) } == document["bytes"]?.int)
    for tensor in tensors {
      #expect(["F32", "BF16"].contains(tensor["dtype"]?.string))
      #expect(tensor["shape"]?.array?.isEmpty == false)
      #expect(tensor["name"]?.string != nil && tensor["file"]?.string != nil)
    }
    // Every tensor of these models has its place, but for buffers.
    let buffers = tensors.filter { $0["piece"] == .null }.compactMap { $0["name"]?.string }
    #expect(buffers.allSatisfy { $0.hasSuffix("_float_tensor") })
  }

  @Test("inspect --stats adds the values' extremes to each tensor")
  func stats() throws {
    let path = ModelFixture.named("gla-berlino/berlino").path
    let document = try BuiltTool.run(
      "inspect", path, "--json", "--stats", "--filter", "*g_proj.bias"
    ).document()
    let tensors = try #require(document["tensors"]?.array)
    #expect(tensors.count == 2)
    for tensor in tensors {
      let stats = tensor
      #expect(stats["min"]?.double == 0 && stats["max"]?.double == 0)
      #expect(stats["mean"]?.double == 0 && stats["std"]?.double == 0)
      #expect(stats["nan"] == 0 && stats["inf"] == 0 && stats["zeros"] == 96)
    }
  }

  @Test("an unknown layout is listed all the same")
  func unknown() throws {
    let path = Fixtures.path("good/safetensors/all-dtypes.safetensors")
    let run = try BuiltTool.run("inspect", path, "--json")
    let document = try run.document()
    #expect(document["layout"] == .null && document["family"] == .null)
    let types = (document["tensors"]?.array ?? []).compactMap { $0["dtype"]?.string }
    #expect(Set(types).isSuperset(of: ["F8_E4M3", "BF16", "BOOL", "U64", "C64"]))
    #expect(try run.problems().contains("layout.unknown \(path)"))
  }

  @Test("convert's document has what the contract says, and its outputs are there")
  func convert() throws {
    let directory = TemporaryDirectory()
    let path = ModelFixture.named("lit-samba/lit_gpt").path
    let document = try BuiltTool.run(
      "convert", path, directory.file("out"), "--to", "fla", "--json", "--no-fsync"
    ).document()
    #expect(
      Array(document.keys) == [
        "exactness", "reasons", "from", "to", "family", "tensors", "bytes", "outputs", "problems",
      ])
    #expect(document["exactness"] == "rounding")
    #expect(document["reasons"]?.array?.count == 2)
    #expect(document["from"] == "lit_gpt" && document["to"] == "fla")
    #expect(document["family"] == "samba" && document["tensors"] == 48)
    let outputs = (document["outputs"]?.array ?? []).compactMap(\.string)
    #expect(outputs == ["config.json", "model.safetensors"].map { directory.file("out/\($0)") })
    let header = 8
    #expect((document["bytes"]?.int ?? 0) + header < Files.read(outputs[1]).count)
    let bytes = try #require(document["bytes"]?.int)
    #expect(
      bytes == (try StoredCheckpoint(outputs[1])).tensors.values.reduce(0) { $0 + $1.bytes.count })
  }

  @Test("a refusal's document has the same members, and names what cannot be expressed")
  func refusal() throws {
    let directory = TemporaryDirectory()
    let path = ModelFixture.named("lit-samba-gqa-nope/lit_gpt").path
    let run = try BuiltTool.run(
      "convert", path, directory.file("out"), "--to", "fla", "--json")
    let document = try run.document()
    #expect(document["exactness"] == .null && document["outputs"] == [])
    #expect(try run.problems() == ["convert.inexpressible attention.rope_base"])
  }

  @Test("layouts lists every layout with its tensors, and every preset")
  func layouts() throws {
    let document = try BuiltTool.run("layouts", "--json").document()
    let names = (document["layouts"]?.array ?? []).compactMap { $0["name"]?.string }
    #expect(names.count >= 11 && names.contains("samba-fla") && names == names.sorted())
    let presets = (document["presets"]?.array ?? []).compactMap(\.string)
    #expect(presets.contains("Samba_421M") && presets.count > 20)
    let one = try BuiltTool.run("layouts", "lit_gpt", "--json").document()
    let layout = try #require(one["layouts"]?.array?.first)
    #expect(layout["converts_to"]?.array?.contains("samba-fla") == true)
    let tensors = (layout["tensors"]?.array ?? []).compactMap { $0["name"]?.string }
    #expect(tensors.contains("transformer.wte.weight"))
    #expect(tensors.contains("transformer.h.{i}.attn.attn.weight"))
  }

  @Test("a table fits a terminal of a hundred columns")
  func width() throws {
    for arguments in [["inspect", ModelFixture.named("lit-s6-mega/lit_gpt").path], ["layouts"]] {
      let lines = try BuiltTool.run(arguments).output.split(separator: "\n")
      let table = lines.filter { $0.contains("  ") && !$0.hasPrefix("presets") }
      #expect(table.allSatisfy { $0.count <= 100 }, "\(table.filter { $0.count > 100 })")
    }
  }
}

@Suite("Usage", .tags(.slow))
struct UsageTests {
  static let commands = [
    "inspect", "convert", "parity", "trace", "generate", "diff", "layouts",
  ]

  @Test("each command's help has a sentence and two examples", arguments: commands)
  func help(command: String) throws {
    let run = try BuiltTool.run(command, "--help")
    #expect(run.status == 0 && run.error == "")
    let lines = run.output.split(separator: "\n", omittingEmptySubsequences: false)
      .map { $0.drop { $0 == " " } }
    let overview = lines.prefix { !$0.isEmpty }.joined(separator: " ")
    #expect(overview.hasPrefix("OVERVIEW: ") && overview.hasSuffix("."), "\(overview)")
    #expect(lines.filter { $0.hasPrefix("weighbridge \(command)") }.count >= 2)
  }

  @Test("the tool's own help lists every command and the exit codes")
  func root() throws {
    let run = try BuiltTool.run("--help")
    #expect(run.status == 0)
    for command in Self.commands { #expect(run.output.contains("  \(command) ")) }
    for code in ["0 done", "1 it ran", "2 failure", "64 usage"] {
      #expect(run.output.contains(code), "\(code)")
    }
  }

  @Test("the version is a version")
  func version() throws {
    let run = try BuiltTool.run("--version")
    #expect(run.status == 0)
    #expect(run.output.split(separator: ".").count == 3)
  }

  @Test("a wrong option gets a suggestion or a usage line, and exit 64")
  func usage() throws {
    let run = try BuiltTool.run("convert", "a", "b", "--two", "hf")
    #expect(run.status == 64 && run.output == "")
    #expect(run.error.contains("Usage: weighbridge convert"))
  }

  #if os(Linux)
    @Test("libhdf5 and OpenBLAS are not loaded as the program starts")
    func startsWithoutLibraries() throws {
      // The dynamic linker lists what it would load, and starts nothing.
      let run = try BuiltTool.run(
        ["LD_TRACE_LOADED_OBJECTS=1", BuiltTool.path], tool: "/usr/bin/env")
      #expect(run.output.contains("libc.so"))
      #expect(!run.output.contains("hdf5") && !run.output.contains("blas"), "\(run.output)")
    }
  #endif

  @Test(
    "output that nobody takes is a failure, and a reader that went away is none",
    arguments: [
      ["inspect", ExitTests.path("lit-samba/lit_gpt"), "--json"], ["layouts"], ["--help"],
      ["diff", ExitTests.path("mamba-tied/hf"), ExitTests.path("mamba-tied/mamba_ssm")],
      ["parity", ExitTests.path("mamba-tied/hf"), ExitTests.path("mamba-tied/mamba_ssm")],
    ])
  func lost(arguments: [String]) throws {
    let quoted = ([BuiltTool.path] + arguments).map { "'\($0)'" }.joined(separator: " ")
    func shell(_ redirection: String) throws -> ToolRun {
      try BuiltTool.run(["-c", "\(quoted) \(redirection)"], tool: "/bin/sh")
    }
    for redirection in ["> /dev/full", ">&-"] {
      let run = try shell(redirection)
      #expect(run.status == 2, "\(redirection)")
      #expect(
        run.error.hasPrefix("error[io.write]: standard output: cannot be written: "),
        "\(redirection): \(run.error)")
    }
    let told = try shell("| true")
    #expect(told.status == 0)
    #expect(told.error == "")
  }

  @Test("a conversion without standard output writes what it writes with one")
  func closed() throws {
    let directory = TemporaryDirectory()
    let source = ExitTests.path("mamba-tied/hf")
    let open = try BuiltTool.run("convert", source, directory.file("a"), "--to", "mamba_ssm")
    #expect(open.status == 0)
    let quoted = [BuiltTool.path, "convert", source, directory.file("b"), "--to", "mamba_ssm"]
      .map { "'\($0)'" }.joined(separator: " ")
    let run = try BuiltTool.run(["-c", "\(quoted) >&- <&-"], tool: "/bin/sh")
    #expect(run.status == 2)
    #expect(Files.names(in: directory.file("a")) == Files.names(in: directory.file("b")))
    for name in Files.names(in: directory.file("a")) {
      #expect(
        Files.read(directory.file("a") + "/" + name) == Files.read(directory.file("b") + "/" + name)
      )
    }
  }
}
