import Foundation
import TestSupport
import Tensors
import Testing

/// Help, completions and suggestions.
@Suite("Help")
struct HelpTests {
  static let commands = [
    "inspect", "convert", "parity", "trace", "generate", "diff", "check", "show",
    "layouts", "kinds", "doctor",
  ]

  /// The examples of a command's help.
  static func examples(_ help: String) -> [[String]] {
    var lines = help.split(separator: "\n").map(String.init)
    guard let start = lines.firstIndex(of: "Examples:") else { return [] }
    lines.removeFirst(start + 1)
    return lines.prefix { $0.hasPrefix("  ") }.map { $0.split(separator: " ").map(String.init) }
  }

  @Test("the tool lists exactly these commands")
  func list() throws {
    let help = try BuiltTool.run("--help").output
    let listed = help.components(separatedBy: "SUBCOMMANDS:\n")[1].split(separator: "\n").filter {
      $0.hasPrefix("  ") && !$0.hasPrefix("   ") && !$0.contains("See '")
    }.map { String($0.split(separator: " ")[0]) }
    #expect(listed == Self.commands)
  }

  @Test("begins with one sentence, and its examples run", arguments: commands)
  func examples(command: String) throws {
    let help = try BuiltTool.run(command, "--help").output
    let overview = try #require(help.components(separatedBy: "\n\n").first)
    #expect(overview.hasPrefix("OVERVIEW: ") && overview.hasSuffix("."))
    #expect(overview.split(separator: ".").count <= 2 || command == "check")
    let examples = Self.examples(help)
    #expect(examples.count >= 2)
    // The files that examples speak of, made as their framework or an example before makes them.
    let directory = TemporaryDirectory()
    let samba = ModelFixture.named("samba-fla/fla").path
    let lit = ModelFixture.named("lit-samba/lit_gpt").path
    let hf = ModelFixture.named("mamba-tied/hf").path
    for (name, target) in [
      ("iter-100000-ckpt.pth", lit + "/iter-000128-ckpt.pth"),
      ("lit_config.json", lit + "/lit_config.json"), ("mamba-hf", hf), ("mamba", hf),
      ("model.safetensors", samba + "/model.safetensors"),
      ("trace.safetensors", Fixtures.path("models/samba-fla/trace.safetensors")),
    ] where !(name == "trace.safetensors" && command == "trace") {
      Files.link(directory.file(name), to: target)
    }
    for name in ["prompts.json", "p.json"] {
      Files.write("[[1, 2, 3, 4, 5, 6, 7, 8]]", to: directory.file(name))
    }
    if command != "convert" {
      let from = ["parity", "trace"].contains(command) ? samba : lit
      let made = try BuiltTool.run(
        ["convert", from, "samba-fla", "--to", "fla", "--sha256"], in: directory.path)
      #expect(made.status == 0, "\(made.error)")
      let bf16 = try BuiltTool.run(
        ["convert", hf, "mamba-bf16", "--to", "hf", "--dtype", "bfloat16"], in: directory.path)
      #expect(bf16.status == 0, "\(bf16.error)")
    }
    for example in examples {
      #expect(example.first == "weighbridge" && example.dropFirst().first == command)
      let arguments = example.dropFirst().map { $0.trimmingCharacters(in: ["'"]) }
      let run = try BuiltTool.run(arguments, in: directory.path)
      // A cast is a difference, and so is another model.
      let isNo = command == "diff" && example.contains("mamba-bf16") || command == "parity"
      #expect(run.status == 0 || isNo && run.status == 1, "\(example): \(run.error)")
      #expect(!run.output.isEmpty)
    }
  }

  @Test(
    "a slip of the fingers is answered with what was meant",
    arguments: [
      (["inspec", "x"], "Did you mean 'weighbridge inspect'?"),
      (["convert", "a", "b", "--too", "fla"], "Did you mean '--to'"),
      (["parity", "--jsn", "a", "b"], "Did you mean '--json'?"),
      (["convert", "SAMBA", "out", "--to", "flaa"], "did you mean fla?"),
      (["convert", "SAMBA", "out", "--to", "fla", "--from", "flaa"], "did you mean fla?"),
      (["inspect", "SAMBA", "--layout", "litgp"], "did you mean litgpt?"),
      (["inspect", "SAMBA", "--preset", "Samba_412M"], "did you mean Samba_421M?"),
      (["inspect", "SAMBA", "--filter", "lm_haed.weight"], "did you mean lm_head.weight?"),
      (["layouts", "sambafla"], "did you mean samba-fla?"),
      (["inspect", "Fixtures/modles"], "did you mean Fixtures/models?"),
      (["convert", "a", "b", "--to", "fla", "--dtype", "bfloat"], "'bfloat16'"),
    ])
  func suggestion(arguments: [String], words: String) throws {
    let run = try BuiltTool.run(
      arguments.map { $0 == "SAMBA" ? ModelFixture.named("samba-fla/fla").path : $0 })
    #expect(run.error.contains(words), "\(run.error)")
  }

  /// What bash offers for the last of `words`.
  static func bash(_ words: String...) throws -> [String] {
    let directory = TemporaryDirectory()
    Files.write(
      try BuiltTool.run("--generate-completion-script", "bash").output,
      to: directory.file("completions.bash"))
    let quoted = words.map { "'\($0)'" }.joined(separator: " ")
    let script = """
      PATH=\(directory.path):$PATH
      source \(directory.file("completions.bash"))
      COMP_WORDS=(\(quoted)); COMP_CWORD=\(words.count - 1)
      COMP_LINE="${COMP_WORDS[*]}"; COMP_POINT=${#COMP_LINE}; COMP_TYPE=9; COMP_KEY=9
      _weighbridge weighbridge "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
      printf '%s\\n' "${COMPREPLY[@]}"
      """
    Files.link(directory.file("weighbridge"), to: BuiltTool.path)
    let output = Pipe()
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/bash")
    process.arguments = ["--norc", "-c", script]
    process.currentDirectoryURL = URL(fileURLWithPath: BuiltTool.package)
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = output
    process.standardError = FileHandle.nullDevice
    try process.run()
    let bytes = output.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return String(decoding: bytes, as: Unicode.UTF8.self).split(separator: "\n").map {
      $0.trimmingCharacters(in: [" "])
    }
  }

  @Test("bash completes commands, options, layouts, presets and files")
  func completions() throws {
    #expect(try Self.bash("weighbridge", "par").contains("parity"))
    #expect(try Self.bash("weighbridge", "convert", "--max").contains("--max-shard-size"))
    #expect(
      try Set(Self.bash("weighbridge", "convert", "a", "b", "--to", "")).isSuperset(
        of: ["hf", "fla", "mamba_ssm", "lit_gpt", "torchscale", "berlino"]))
    #expect(try Self.bash("weighbridge", "inspect", "--preset", "Samba_4").contains("Samba_421M"))
    #expect(try Self.bash("weighbridge", "layouts", "samba-").contains("samba-fla"))
    #expect(
      try Self.bash("weighbridge", "convert", "a", "b", "--dtype", "bf") == ["bfloat16"])
    #expect(try Self.bash("weighbridge", "inspect", "READ").contains("README.md"))
  }

  @Test("zsh and fish ask the tool for layouts and presets, too", arguments: ["zsh", "fish"])
  func otherShells(shell: String) throws {
    let script = try BuiltTool.run("--generate-completion-script", shell).output
    for words in ["---completion", "convert", "preset", "max-shard-size"] {
      #expect(script.contains(words), "\(words)")
    }
  }

  @Test("a page on a layout has its names, shapes, keys and what becomes of its models")
  func page() throws {
    let page = try BuiltTool.run("layouts", "samba-fla").output
    for line in [
      "samba-fla: flash-linear-attention SambaForCausalLM",
      "written as model.safetensors and config.json (safetensors)",
      "mixer.in_proj.weight", "[2 * d_inner, d_model]", "in_x.weight + in_z.weight",
      "[dt_rank + 2 * d_state, d_inner]", "hidden_ratio", "fla: bitwise, as samba-fla",
      "lit_gpt: rounding, as lit_gpt", "torchscale: refused", "Samba of lit_gpt: rounding",
    ] {
      #expect(page.contains(line), "\(line)")
    }
  }
}
