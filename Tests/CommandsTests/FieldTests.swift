import Foundation
import TestSupport
import Tensors
import Testing

/// Inputs of the kinds that users reported, with what must happen to each: its exit status, the codes
/// that are told, and the values that are written.
///
/// `Fixtures/generate/field.py` makes them with the libraries that make users' own; a folder with `x`,
/// `y` or `z` for its letter is a relative of the one before.
@Suite("Inputs that users reported")
struct FieldTests {
  struct Row: CustomTestStringConvertible, Sendable {
    var folder: String
    /// The command; `in` is the input's folder and `out` a new one.
    var command: String
    var status: Int32
    /// The codes of all problems, in any order.
    var codes: [String] = []
    /// What is said, on either stream.
    var said: [String] = []
    /// For a conversion: where the weights stand that every written tensor's bytes should be, below
    /// `in`, and the words that take the place of others in their names.
    var values: (path: String, names: [String: String])?

    var testDescription: String { "\(folder): \(command)" }
  }

  static let hfToSSM = ["backbone.embedding.": "backbone.embeddings."]
  static let ssmToHF = ["backbone.embeddings.": "backbone.embedding."]
  static let llamaToFLA = [
    "model.embeddings.": "model.embed_tokens.", ".attn.": ".self_attn.",
    ".attn_norm.": ".input_layernorm.", ".mlp_norm.": ".post_attention_layernorm.",
  ]

  static let rows: [Row] = [
    // K1
    Row(
      folder: "k01a-fp16-overflow-passes-parity", command: "convert in out --to hf --dtype float16",
      status: 1, codes: ["convert.overflow"],
      said: ["backbone.layers.0.mixer.in_proj.weight: 3 finite values became infinite in F16"]),
    Row(
      folder: "k01b-both-nan-and-a-real-difference", command: "parity in/a in/b --random 1x8",
      status: 1, codes: ["parity.not-finite"],
      said: ["hidden_states.1", "backbone.layers.0.mixer.in_proj.weight", "FAIL"]),
    Row(
      folder: "k01b-both-nan-and-a-real-difference", command: "parity in/a in/a --random 1x8",
      status: 1, codes: ["parity.not-finite"], said: ["no function was compared"]),
    Row(
      folder: "k01b-both-nan-and-a-real-difference",
      command: "generate in/a --tokens TOKENS --max-new-tokens 4", status: 2,
      codes: ["generate.not-finite"], said: ["logits are NaN or infinite"]),
    Row(
      folder: "k01c-infinite-bound", command: "parity in/a in/b --random 1x8", status: 1,
      codes: ["parity.beyond-float32"], said: ["FAIL"]),
    // K2
    Row(
      folder: "k02a-base-model-without-prefix", command: "convert in out --to mamba_ssm", status: 0,
      codes: ["layout.base-prefix"], said: ["bitwise"],
      values: ("model.safetensors", ["backbone.embedding.": "embeddings.", "backbone.": ""])),
    Row(
      folder: "k02c-lightning-llama", command: "convert in out --to fla", status: 0,
      codes: ["layout.prefix-stripped"], said: ["bitwise", "model.: is taken off 21 of 21 names"],
      values: ("last.pt", llamaToFLA)),
    Row(
      folder: "k02x-llama-base", command: "inspect in", status: 2,
      codes: ["layout.base-model", "layout.base-prefix"],
      said: ["lm_head.weight", "base model without its head"]),
    Row(
      folder: "k02y-net-module", command: "convert in out --to fla", status: 0,
      codes: ["layout.prefix-stripped"], said: ["bitwise", "net"],
      values: ("pytorch_model.bin", llamaToFLA)),
    // K3
    Row(
      folder: "k03a-only-the-head-kept", command: "convert in out --to fla", status: 0,
      codes: ["layout.embedding-absent"], said: ["bitwise"],
      values: ("model.safetensors", ["backbone.embeddings.": "lm_head."])),
    Row(
      folder: "k03x-llama-only-the-head", command: "convert in out --to fla", status: 0,
      codes: ["layout.embedding-absent"], said: ["bitwise"],
      values: (
        "model.safetensors",
        llamaToFLA.merging(["model.embeddings.": "lm_head."]) { $1 }
      )),
    Row(
      folder: "k03y-pickle-only-the-head", command: "convert in out --to hf", status: 0,
      codes: ["layout.embedding-absent"], said: ["bitwise"],
      values: ("pytorch_model.bin", ["backbone.embeddings.": "lm_head."])),
    // K4
    Row(
      folder: "k04a-size-and-numpy-in-the-state-dict", command: "convert in/size.pt out --to hf",
      status: 0, codes: ["pytorch.passed-over"], said: ["in_shape", "bitwise"],
      values: ("size.pt", ssmToHF)),
    Row(
      folder: "k04a-size-and-numpy-in-the-state-dict", command: "convert in/numpy.pt out --to hf",
      status: 0, codes: ["pytorch.passed-over"], said: ["best_loss", "bitwise"],
      values: ("numpy.pt", ssmToHF)),
    Row(
      folder: "k04a-size-and-numpy-in-the-state-dict",
      command: "convert in/device-and-set.pt out --to hf", status: 0,
      codes: ["pytorch.passed-over"], said: ["device", "tags", "bitwise"],
      values: ("device-and-set.pt", ssmToHF)),
    Row(
      folder: "k04a-size-and-numpy-in-the-state-dict",
      command: "convert in/when-and-where.pt out --to hf", status: 0,
      codes: ["pytorch.passed-over"], said: ["when", "path", "bitwise"],
      values: ("when-and-where.pt", ssmToHF)),
    // K5
    Row(
      folder: "k05a-whole-hf-model", command: "inspect in", status: 2,
      codes: ["pytorch.whole-module"], said: ["MambaForCausalLM", "state_dict"]),
    Row(
      folder: "k05x-whole-model-under-a-key", command: "convert in out --to fla", status: 2,
      codes: ["pytorch.whole-module"], said: ["LlamaForCausalLM", "state_dict"]),
    // K6
    Row(
      folder: "k06a-unmerged-lora-litgpt", command: "convert in out --to hf", status: 2,
      codes: ["checkpoint.adapter"], said: ["LoRA matrices that are not merged", "merge"]),
    Row(
      folder: "k06c-mlx", command: "convert in out --to mamba_ssm", status: 0,
      codes: [], said: ["bitwise"], values: ("model.safetensors", hfToSSM)),
    Row(
      folder: "k06e-zero3-placeholders", command: "convert in out --to mamba_ssm", status: 2,
      codes: ["pytorch.zero3-placeholders"], said: ["zero_to_fp32.py"]),
    Row(
      folder: "k06e-zero3-placeholders", command: "inspect in", status: 2,
      codes: ["pytorch.zero3-placeholders"], said: ["ZeRO-3"]),
    Row(
      folder: "k06g-other-architectures", command: "inspect in", status: 0,
      codes: [], said: ["bamba-hf"]),
    Row(
      folder: "k06i-mamba2-with-attention", command: "convert in out --to fla", status: 1,
      codes: ["convert.no-such-mixer"], said: ["attention"]),
    Row(
      folder: "k06i-mamba2-with-attention", command: "inspect in", status: 0,
      codes: [], said: ["mamba2, attention"]),
    // K7
    Row(
      folder: "k07a-two-models-in-one-file-48-layers", command: "convert in/ema.pt out --to hf",
      status: 0, codes: ["checkpoint.other-model"], said: ["483 names", "--key ema"],
      values: ("ema.pt", ssmToHF)),
    // K8
    Row(
      folder: "k08a-ckpt-directory", command: "convert in out --to hf", status: 0,
      codes: ["layout.prefix-stripped"], said: ["bitwise"], values: ("last.ckpt", ssmToHF)),
    Row(
      folder: "k08x-pth-tar", command: "convert in out --to hf", status: 0,
      codes: ["layout.prefix-stripped"], said: ["bitwise"],
      values: ("model_best.pth.tar", ssmToHF)),
    Row(
      folder: "k08c-shards-without-index", command: "convert in out --to mamba_ssm", status: 0,
      codes: ["shards.no-index"], said: ["bitwise"], values: ("", hfToSSM)),
    Row(
      folder: "k08c-shards-without-index",
      command: "inspect in/model-00001-of-00003.safetensors", status: 0,
      codes: ["checkpoint.one-shard"], said: ["is one of 3 shards", "give the directory"]),
    Row(
      folder: "k08c-shards-without-index",
      command: "convert in/model-00001-of-00003.safetensors out --to fla", status: 2,
      codes: ["checkpoint.one-shard"], said: ["is one of 3 shards", "give the directory"]),
    Row(
      folder: "k08y-a-shard-is-missing", command: "inspect in", status: 2,
      codes: ["shards.missing-file"], said: ["model-00002-of-00003.safetensors"]),
    Row(
      folder: "k08y-a-shard-is-missing",
      command: "convert in/model-00003-of-00003.safetensors out --to fla", status: 2,
      codes: ["checkpoint.one-shard"],
      said: ["is one of 3 shards", "model-00002-of-00003.safetensors", "fetch them"]),
    Row(
      folder: "k08z-run", command: "convert in out --to mamba_ssm", status: 0,
      codes: ["checkpoint.inside"], said: ["checkpoint-10", "bitwise"],
      values: ("checkpoint-10", hfToSSM)),
    // K9
    Row(
      folder: "k09a-ema-unsaid", command: "convert in/b.pth out --to hf", status: 0,
      codes: ["checkpoint.other-model"], said: ["`model` is read", "--key model_ema"]),
    Row(
      folder: "k09a-ema-unsaid", command: "inspect in/b.pth", status: 0,
      codes: ["checkpoint.other-model"], said: ["model_ema"]),
    Row(
      folder: "k09a-ema-unsaid", command: "convert in/student-teacher.pth out --to hf", status: 2,
      codes: ["pytorch.ambiguous-state-dict"], said: ["student", "teacher", "--key"]),
    Row(
      folder: "k09c-other-keys", command: "convert in/net.pt out --to hf", status: 0,
      codes: ["pytorch.state-dict-key"], said: ["`net`", "bitwise"], values: ("net.pt", ssmToHF)),
    Row(
      folder: "k09c-other-keys", command: "convert in/deep.pt out --to hf", status: 0,
      codes: ["pytorch.state-dict-key"], said: ["only model", "bitwise"],
      values: ("deep.pt", ssmToHF)),
    // Where something else is left, nothing is said to be the only one.
    Row(
      folder: "k09c-other-keys", command: "convert in/gen-disc.pt out --to hf", status: 0,
      codes: ["checkpoint.other-model"], said: ["`generator` is read", "discriminator"],
      values: ("gen-disc.pt", ssmToHF)),
    // K10
    Row(
      folder: "k10a-strings-beside", command: "convert in out --to mamba_ssm", status: 0,
      codes: ["hdf5.passed-over"], said: ["config_json", "bitwise"],
      values: ("model.h5", hfToSSM)),
    Row(
      folder: "k10x-compound-beside", command: "convert in out --to mamba_ssm", status: 0,
      codes: ["hdf5.passed-over"], said: ["log", "bitwise"], values: ("model.h5", hfToSSM)),
    Row(
      folder: "k10c-lzf", command: "convert in out --to mamba_ssm", status: 0, said: ["bitwise"],
      values: ("model.h5", hfToSSM)),
    // K11, K13
    Row(
      folder: "k11a-infinity-in-written-config", command: "convert in out --to hf", status: 0,
      said: ["bitwise"], values: ("pytorch_model.bin", ssmToHF)),
    Row(
      folder: "k13a-ssm-cfg-key", command: "convert in out --to hf", status: 0, said: ["bitwise"],
      values: ("pytorch_model.bin", ssmToHF)),
    Row(
      folder: "k13x-ssm-cfg-silu", command: "convert in out --to hf", status: 0,
      said: ["bitwise"], values: ("pytorch_model.bin", ssmToHF)),
    // K14
    Row(
      folder: "k14a-fp16-underflow", command: "convert in out --to hf --dtype float16", status: 0,
      codes: ["convert.underflow"], said: ["x_proj.weight", "became zero in F16"]),
    // K15
    Row(
      folder: "k15a-cli", command: "convert in out --to huggingface", status: 64,
      said: ["did you mean hf"]),
    Row(
      folder: "k15a-cli", command: "inspect in/config-of-another", status: 2,
      codes: ["config.mismatch"], said: ["64"]),
  ]

  let home = TemporaryDirectory()

  func run(_ row: Row, _ more: String...) throws -> ToolRun {
    Files.write("[[1, 2]]", to: home.file("tokens.json"))
    let words = row.command.split(separator: " ").map { word in
      switch word {
      case "in": Fixtures.path("field/\(row.folder)")
      case "out": home.file("out")
      case "TOKENS": home.file("tokens.json")
      default:
        word.hasPrefix("in/")
          ? Fixtures.path("field/\(row.folder)/\(word.dropFirst(3))") : String(word)
      }
    }
    return try BuiltTool.run(words + more)
  }

  @Test("each has its exit status, its few lines and its values", arguments: rows)
  func row(_ row: Row) throws {
    let text = try run(row)
    #expect(text.status == row.status, "\(text.error)")
    let lines = text.error.split(separator: "\n")
    #expect(lines.count <= 15, "\(text.error)")
    for words in row.said {
      #expect((text.error + text.output).contains(words), "\(words): \(text.error)")
    }
    if row.status != 0 { #expect(!Files.exists(home.file("out"))) }
    if let values = row.values {
      try checkValues(Fixtures.path("field/\(row.folder)/\(values.path)"), values.names)
    }
    Files.remove(home.file("out"))
    let json = try run(row, "--json")
    #expect(json.status == row.status)
    guard row.status != 64 else { return }
    let codes = try json.problems().map { String($0.prefix { $0 != " " }) }
    #expect(codes.sorted() == row.codes.sorted(), "\(json.output)")
  }

  /// Every written tensor has the bytes of the input's tensor of the other name.
  private func checkValues(_ path: String, _ names: [String: String]) throws {
    let source = try StoredCheckpoint(path).tensors
    let written = try StoredCheckpoint(home.file("out")).tensors
    #expect(written.count >= 10)
    for (name, tensor) in written {
      var old = name
      // The longer words first: one may stand in another.
      for (new, word) in names.sorted(by: { $0.key.count > $1.key.count }) {
        if let range = old.firstRange(of: new) { old.replaceSubrange(range, with: word) }
      }
      func find(_ name: String) -> StoredCheckpoint.Tensor? {
        source[name] ?? source.first { $0.key.hasSuffix("." + name) }?.value
      }
      // A tied head may be written beside the embedding that it is.
      let own = find(old) ?? (old == "lm_head.weight" ? embedding(source) : nil)
      let expected = try #require(own, "\(name), \(old)")
      #expect(tensor.bytes == expected.bytes && tensor.dtype == expected.dtype, "\(name)")
    }
  }

  private func embedding(_ tensors: [String: StoredCheckpoint.Tensor]) -> StoredCheckpoint.Tensor? {
    tensors.first { $0.key.contains("embed") }?.value
  }

  @Test(
    "--key reads the average: its values are nine tenths of the model's",
    arguments: [
      ("b.pth", "model_ema"), ("ema_state_dict.pth", "ema_state_dict"),
      ("swa_model.pth", "swa_model"), ("student-teacher.pth", "teacher"),
    ])
  func average(file: String, key: String) throws {
    let path = Fixtures.path("field/k09a-ema-unsaid/\(file)")
    #expect(
      try BuiltTool.run("convert", path, home.file("out"), "--to", "hf", "--key", key).status == 0)
    let model = try StoredCheckpoint(Fixtures.path("field/k09c-other-keys/net.pt"))
    let written = try StoredCheckpoint(home.file("out"))
    for (name, tensor) in written.tensors {
      let old = name.replacing("backbone.embeddings.", with: "backbone.embedding.")
      #expect(tensor.values == model[old].values.map { $0 * Float(0.9) }, "\(name)")
    }
  }

  @Test("parity of an overflowed cast fails and names the tensor and the side")
  func overflowed() throws {
    let source = Fixtures.path("field/k01a-fp16-overflow-passes-parity")
    let cast = try BuiltTool.run(
      "convert", source, home.file("out"), "--to", "hf", "--dtype", "float16", "--allow-lossy")
    #expect(cast.status == 0, "\(cast.error)")
    let parity = try BuiltTool.run("parity", source, home.file("out"), "--random", "1x8", "--json")
    #expect(parity.status == 1)
    #expect(try parity.document()["verdict"] == "fail")
    #expect(parity.output.contains("backbone.layers.0.mixer.in_proj.weight"))
  }

  @Test("parity says what a cast to float16 made zero, though the cast explains it")
  func underflowed() throws {
    let source = Fixtures.path("field/k14a-fp16-underflow")
    let cast = try BuiltTool.run(
      "convert", source, home.file("out"), "--to", "hf", "--dtype", "float16")
    #expect(cast.status == 0)
    let parity = try BuiltTool.run("parity", source, home.file("out"), "--random", "1x8", "--json")
    #expect(parity.status == 0)
    #expect(try parity.problems().map { String($0.prefix { $0 != " " }) } == ["parity.underflow"])
    // Counted here, from the two files.
    let (a, b) = (try StoredCheckpoint(source), try StoredCheckpoint(home.file("out")))
    var zeros = 0
    for (name, tensor) in a.tensors {
      for (x, y) in zip(tensor.values, b[name].values) where x != 0 && y == 0 { zeros += 1 }
    }
    #expect(zeros > 500)
    #expect(parity.output.contains("\(zeros) of "), "\(zeros): \(parity.output)")
  }

  @Test("the time-step limit and the chunk size survive, in strict JSON")
  func configs() throws {
    func config(_ folder: String) throws -> JSONValue {
      let path = home.file("\(folder)/config.json")
      return try JSONParser.parse(Files.read(path), file: path)
    }
    #expect(
      try BuiltTool.run(
        "convert", Fixtures.path("field/k11a-infinity-in-written-config"), home.file("limit"),
        "--to", "hf"
      ).status == 0)
    // Left out, it is transformers' default: [0, infinity].
    #expect(try config("limit")["time_step_limit"] == nil)
    #expect(
      try BuiltTool.run(
        "convert", Fixtures.path("field/k13c-chunk-size-lost"), home.file("there"), "--to",
        "mamba_ssm"
      ).status == 0)
    #expect(
      try BuiltTool.run("convert", home.file("there"), home.file("back"), "--to", "hf").status == 0)
    #expect(try config("back")["chunk_size"] == 16)
  }

  @Test("642 shards, one for each tensor, are read under 256 descriptors")
  func manyShards() throws {
    Files.makeDirectory(home.file("in"))
    var shapes: [(String, [Int])] = [("backbone.embeddings.weight", [8, 4])]
    for layer in 0..<64 {
      let front = "backbone.layers.\(layer)."
      shapes += [
        (front + "norm.weight", [4]), (front + "mixer.in_proj.weight", [16, 4]),
        (front + "mixer.conv1d.weight", [8, 1, 4]), (front + "mixer.conv1d.bias", [8]),
        (front + "mixer.x_proj.weight", [5, 8]), (front + "mixer.dt_proj.weight", [8, 1]),
        (front + "mixer.dt_proj.bias", [8]), (front + "mixer.A_log", [8, 2]),
        (front + "mixer.D", [8]), (front + "mixer.out_proj.weight", [4, 8]),
      ]
    }
    shapes.append(("backbone.norm_f.weight", [4]))
    var map: JSONObject = [:]
    for (number, (name, shape)) in shapes.enumerated() {
      let digits = String(number + 1)
      let file =
        "model-" + String(repeating: "0", count: 5 - digits.count) + digits
        + "-of-00642.safetensors"
      var builder = SafetensorsBuilder()
      let count = shape.reduce(1, *)
      builder.add(name, shape, (0..<count).map { Float($0 % 7 - 3 + number % 5) / 8 })
      Files.write(builder.bytes, to: home.file("in/" + file))
      map[name] = .string(file)
    }
    #expect(shapes.count == 642)
    Files.write(
      JSONValue.object(["metadata": [:], "weight_map": .object(map)]).text(),
      to: home.file("in/model.safetensors.index.json"))
    Files.write(
      JSONValue.object([
        "model_type": "mamba", "hidden_size": 4, "num_hidden_layers": 64, "vocab_size": 8,
        "state_size": 2,
      ]).text(), to: home.file("in/config.json"))
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/sh")
    process.arguments = [
      "-c", "ulimit -Sn 256; exec \"$0\" convert \"$1\" \"$2\" --to mamba_ssm --no-fsync",
      BuiltTool.path, home.file("in"), home.file("out"),
    ]
    process.standardOutput = FileHandle.nullDevice
    try process.run()
    process.waitUntilExit()
    #expect(process.terminationStatus == 0)
    let written = try StoredCheckpoint(home.file("out"))
    for (number, (name, _)) in shapes.enumerated() where number % 40 == 1 {
      let first = Float(0 - 3 + number % 5) / 8
      #expect(written[name].values.first == first, "\(name)")
    }
  }
}
