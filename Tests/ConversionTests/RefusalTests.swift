import Checkpoints
import Conversion
import Hub
import OrderedCollections
import TestSupport
import Tensors
import Testing
import WeighbridgeKit

/// A conversion that must be refused.
struct RefusedCase: Sendable, CustomStringConvertible {
  let source: String
  let to: String
  /// Changes to the source's config.
  var change: JSONObject = [:]
  /// What must be among the reasons: code and subject.
  let reasons: [String]
  /// Words of the first of them.
  var words: [String] = []

  var description: String {
    "\(source) to \(to)\(change.isEmpty ? "" : " with \(change.keys.joined(separator: ", "))")"
  }

  static let all: [RefusedCase] = [
    RefusedCase(
      source: "lit-samba-gqa-nope/lit_gpt", to: "fla",
      reasons: ["convert.inexpressible attention.rope_base"], words: ["nope", "10000"]),
    RefusedCase(
      source: "lit-s6-mega/lit_gpt", to: "fla", reasons: ["convert.no-such-mixer layer 0 (mega)"],
      words: ["use_mega"]),
    RefusedCase(
      source: "lit-s6-mega/lit_gpt", to: "mamba_ssm",
      reasons: ["convert.no-such-mixer layer 0 (mega)"]),
    RefusedCase(
      source: "lit-s6-mega/lit_gpt", to: "hf", reasons: ["convert.no-such-mixer layer 0 (mega)"]),
    RefusedCase(
      source: "lit-mlp-swa-mlp/lit_gpt", to: "fla",
      reasons: ["convert.stack the stack of sub-layers"], words: ["abl_mamba"]),
    RefusedCase(
      source: "lit-samba/lit_gpt", to: "mamba_ssm",
      reasons: ["convert.inexpressible attention.window"], words: ["local_window"]),
    RefusedCase(
      source: "samba-fla/fla", to: "mamba_ssm", reasons: ["convert.inexpressible attention.window"]),
    RefusedCase(
      source: "samba-fla/fla", to: "hf", reasons: ["convert.inexpressible attention.window"]),
    RefusedCase(
      source: "lit-llama-mqa-bf16/lit_gpt", to: "hf",
      reasons: ["convert.inexpressible attention.window"], words: ["full_per_layer"]),
    RefusedCase(
      source: "lit-mamba-swa-mlp/lit_gpt", to: "mamba_ssm",
      reasons: ["convert.stack the stack of sub-layers"]),
    RefusedCase(
      source: "hy-falcon-h1/hf", to: "mamba_ssm",
      reasons: ["convert.parallel layer 0 (attention)"], words: ["same norm"]),
    RefusedCase(
      source: "hy-zamba2/hf", to: "mamba_ssm",
      reasons: ["convert.no-such-mixer layer 1 (shared_block)"]),
    RefusedCase(
      source: "hy-jamba/hf", to: "mamba_ssm", reasons: ["convert.no-such-mixer layer 1 (moe)"],
      words: ["num_experts"]),
    RefusedCase(
      source: "hy-granite-moe/hf", to: "mamba_ssm",
      reasons: ["convert.no-such-mixer layer 0 (moe)"]),
    RefusedCase(
      source: "hy-nemotron-h/hf", to: "mamba_ssm",
      reasons: [
        "convert.no-such-mixer layer 1 (ffn)", "convert.no-such-mixer layer 3 (moe)",
      ], words: ["layers_block_type"]),
    RefusedCase(
      source: "hy-mamba2attn/mamba_ssm", to: "hf",
      reasons: ["convert.inexpressible attention.d_conv"], words: ["attn_cfg"]),
    RefusedCase(
      source: "hy-bamba/hf", to: "mamba_ssm", change: ["rms_norm_eps": 1e-6],
      reasons: ["convert.inexpressible mamba2.gated_norm_eps"]),
    RefusedCase(
      source: "mamba-bias-untied/hf", to: "lit_gpt",
      reasons: [
        "convert.inexpressible tied", "convert.inexpressible mamba.d_state",
        "convert.inexpressible mamba.d_conv", "convert.inexpressible mamba.dt_rank",
        "convert.no-place backbone.layers.0.mixer.in_proj.bias",
        "convert.no-place backbone.layers.1.mixer.out_proj.bias",
      ]),
    RefusedCase(
      source: "mamba-fla/fla", to: "lit_gpt", reasons: ["convert.inexpressible tied"],
      words: ["tie_word_embeddings is false"]),
    RefusedCase(
      source: "mamba-tied/hf", to: "mamba_ssm", change: ["layer_norm_epsilon": 1e-6],
      reasons: [
        "convert.inexpressible mamba.norm_eps", "convert.inexpressible model.final_norm_eps",
      ],
      words: ["1e-06", "1e-05"]),
    RefusedCase(
      source: "mamba-tied/hf", to: "fla",
      change: ["model_type": "falcon_mamba", "mixer_rms_eps": 1e-6],
      reasons: ["convert.inexpressible mamba.bcdt_norm_eps"]),
    RefusedCase(
      source: "mamba-tied/hf", to: "fla", change: ["hidden_act": "gelu"],
      reasons: ["config.unsupported hidden_act"]),
    RefusedCase(
      source: "mamba-tied/hf", to: "fla", change: ["sparkle": 3],
      reasons: ["config.unknown-key sparkle"]),
    RefusedCase(
      source: "retnet-torchscale/torchscale", to: "fla",
      reasons: ["convert.inexpressible mlp.activation"], words: ["gelu"]),
    RefusedCase(
      source: "retnet-torchscale/torchscale", to: "fla", change: ["activation_fn": "swish"],
      reasons: [], words: ["frequencies"]),
    RefusedCase(
      source: "retnet-torchscale-norm/torchscale", to: "fla",
      reasons: ["convert.inexpressible model.embed_norm"]),
    RefusedCase(
      source: "retnet-torchscale/torchscale", to: "fla",
      change: ["decoder_normalize_before": false],
      reasons: ["config.unsupported decoder_normalize_before"]),
    RefusedCase(
      source: "retnet-torchscale/torchscale", to: "fla", change: ["deepnorm": true],
      reasons: ["config.unsupported deepnorm"]),
    RefusedCase(
      source: "retnet-gqa-nogate/fla", to: "torchscale",
      reasons: ["convert.inexpressible retention.output_gate"]),
    RefusedCase(
      source: "retnet-base/fla", to: "lit_gpt",
      reasons: ["convert.inexpressible retention.group_norm_eps"]),
    RefusedCase(
      source: "retnet-base/fla", to: "berlino",
      reasons: ["convert.no-such-mixer layer 0 (retention)"]),
    RefusedCase(
      source: "gla-base/fla", to: "berlino",
      reasons: [
        "convert.inexpressible gla.group_norm", "convert.inexpressible model.final_norm_eps",
      ]),
    RefusedCase(
      source: "gla-conv-gqa-clamp/fla", to: "lit_gpt",
      reasons: [
        "convert.inexpressible gla.gate_min", "convert.inexpressible gla.d_conv",
        "convert.no-place model.layers.0.attn.q_conv1d.weight",
      ]),
    RefusedCase(
      source: "gla-base/fla", to: "torchscale", reasons: ["convert.no-such-mixer layer 0 (gla)"]),
    RefusedCase(
      source: "lit-samba/lit_gpt", to: "fla", change: ["sc_attn": true],
      reasons: ["layout.missing-tensor transformer.h.1.attn.q_conv1d.weight"]),
  ]
}

@Suite("Refusals")
struct RefusalTests {
  @Test(
    "what the target cannot express is refused by name, and nothing is left",
    arguments: RefusedCase.all.filter { !$0.reasons.contains { $0.hasPrefix("layout.") } })
  func refused(test: RefusedCase) throws {
    let directory = TemporaryDirectory()
    let fixture = ModelFixture.named(test.source)
    var input = CheckpointInput(path: fixture.path)
    if !test.change.isEmpty {
      input.configPath = try changedConfig(fixture, in: directory) {
        $0.merge(test.change) { _, new in new }
      }
    }
    Files.makeDirectory(directory.file("parent"))
    let request = ConversionRequest(
      input: input, destination: directory.file("parent/out"), to: test.to)
    let problems = try refusal { _ = try weighbridge.convert(request) }
    #expect(!problems.isEmpty)
    let found = problems.map { "\($0.code) \($0.subject)" }
    for reason in test.reasons { #expect(found.contains(reason), "\(found)") }
    #expect(problems.allSatisfy { $0.severity == .error })
    let text = problems.map(\.description).joined(separator: "\n")
    for word in test.words { #expect(text.contains(word), "\(text)") }
    #expect(Files.names(in: directory.file("parent")) == [])
  }

  @Test("a config that belongs to another checkpoint is a failure, not a refusal")
  func wrongConfig() throws {
    let directory = TemporaryDirectory()
    let fixture = ModelFixture.named("lit-samba/lit_gpt")
    let config = try changedConfig(fixture, in: directory) { $0["sc_attn"] = true }
    let request = ConversionRequest(
      input: CheckpointInput(path: fixture.path, configPath: config),
      destination: directory.file("out"), to: "fla")
    let found = failure { _ = try weighbridge.convert(request) }
    #expect(found.map { "\($0.code) \($0.subject)" } == ["config.mismatch sc_attn"])
    #expect(found.first?.message == "is true, but the tensors are those of false")
    #expect(found.first?.notes.first?.contains("6 tensors do not fit") == true)
    #expect(!Files.exists(directory.file("out")))
  }

  @Test("a gate with a bias is refused by the tensor's name")
  func gateBias() throws {
    let fixture = ModelFixture.named("gla-berlino/berlino")
    var tensors = try stored(fixture).tensors
    let name = "transformer.h.1.attn.g_proj.bias"
    var values = tensors[name]!.values
    values[95] = 1e-6
    tensors[name] = tensor([96], values)
    let directory = TemporaryDirectory()
    write(
      tensors, config: try readConfig(fixture.path + "/config.json"), to: directory.file("source"))
    let request = ConversionRequest(
      input: CheckpointInput(path: directory.file("source")), destination: directory.file("out"),
      to: "fla")
    let problems = try refusal { _ = try weighbridge.convert(request) }
    #expect(problems.map { "\($0.code) \($0.subject)" } == ["convert.no-place \(name)"])
    #expect(!Files.exists(directory.file("out")))
  }

  @Test("what changes the mathematics and is not understood is only a warning in the same layout")
  func sameLayout() throws {
    let directory = TemporaryDirectory()
    let fixture = ModelFixture.named("mamba-tied/hf")
    let config = try changedConfig(fixture, in: directory) {
      $0["hidden_act"] = "gelu"
      $0["sparkle"] = 3
    }
    let same = try Converted(fixture.path, to: "hf", config: config) { $0.container = .hdf5 }
    #expect(same.result.plan.exactness == .bitwise)
    #expect(same.config["sparkle"] == 3 && same.config["hidden_act"] == "gelu")
    let warnings = same.result.problems.map { "\($0.severity.rawValue) \($0.code) \($0.subject)" }
    #expect(warnings.contains("warning config.unknown-key sparkle"))
    #expect(warnings.contains("warning config.unsupported hidden_act"))
  }

  @Test("no framework of that name, with a suggestion")
  func unknownTarget() {
    let request = ConversionRequest(
      input: CheckpointInput(path: ModelFixture.all[0].path), destination: "/nowhere", to: "fla2")
    let found = failure { _ = try weighbridge.convert(request) }
    #expect(found.map(\.code) == ["layout.unknown-name"])
    #expect(found.first?.help == "did you mean fla?")
  }
}

@Suite("Destinations")
struct DestinationTests {
  let directory = TemporaryDirectory()
  let fixture = ModelFixture.named("mamba-tied/hf")

  func request(_ destination: String, _ source: String? = nil) -> ConversionRequest {
    var request = ConversionRequest(
      input: CheckpointInput(path: source ?? fixture.path), destination: destination, to: "fla")
    request.sync = false
    return request
  }

  @Test("an existing destination is refused and untouched; --force replaces what it writes")
  func force() throws {
    let path = directory.file("out")
    Files.makeDirectory(path)
    Files.write("old", to: path + "/model.safetensors")
    Files.write("old", to: path + "/left.txt")
    var request = request(path)
    #expect(failure { _ = try weighbridge.convert(request) }.map(\.code) == ["output.exists"])
    #expect(Files.names(in: path) == ["left.txt", "model.safetensors"])
    request.force = true
    _ = try weighbridge.convert(request)
    #expect(
      Files.names(in: path)
        == ["config.json", "generation_config.json", "left.txt", "model.safetensors"])
    #expect(Files.read(path + "/left.txt") == Array("old".utf8))
    #expect(Files.read(path + "/model.safetensors").count > 1000)
    #expect(Files.names(in: directory.path) == ["out"])
  }

  @Test("a directory that holds no checkpoint is not deleted, whatever is asked for")
  func foreign() {
    let path = directory.file("home")
    Files.makeDirectory(path)
    Files.write("dear", to: path + "/thesis.txt")
    var request = request(path)
    request.force = true
    #expect(failure { _ = try weighbridge.convert(request) }.map(\.code) == ["output.foreign"])
    #expect(Files.names(in: path) == ["thesis.txt"])
  }

  @Test("the source is never written to")
  func source() throws {
    let copy = directory.file("copy")
    write(
      try stored(fixture).tensors, config: try readConfig(fixture.path + "/config.json"), to: copy)
    for destination in [copy, copy + "/inside", directory.path] {
      var request = request(destination, copy)
      request.force = true
      let codes = failure { _ = try weighbridge.convert(request) }.map(\.code)
      #expect(codes.first?.hasPrefix("output.") == true, "\(destination): \(codes)")
    }
    #expect(Files.names(in: copy) == ["config.json", "model.safetensors"])
  }

  @Test("a parent that does not exist is created, with a note")
  func parent() throws {
    let result = try weighbridge.convert(request(directory.file("a/b")))
    #expect(result.problems.map(\.code).contains("output.parent"))
    #expect(Files.exists(directory.file("a/b/model.safetensors")))
  }

  @Test("a dry run decides everything and writes nothing")
  func dryRun() throws {
    let result = try weighbridge.convert(request(directory.file("out")), dryRun: true)
    #expect(result.plan.tensors.count == 32)
    #expect(
      result.outputs == ["model.safetensors", "config.json"].map { directory.file("out/\($0)") })
    #expect(Files.names(in: directory.path) == [])
  }

  @Test("a check that fails leaves nothing")
  func check() {
    let problem = Diagnostic(code: "test.no", subject: "s", message: "m")
    let found = failure {
      _ = try weighbridge.convert(
        request(directory.file("out")),
        check: { path, _ in
          #expect(Files.names(in: path).contains("model.safetensors"))
          throw problem
        })
    }
    #expect(found == [problem])
    #expect(Files.names(in: directory.path) == [])
  }

  @Test("tokenizer and generation files go along, byte for byte, and nothing else")
  func companions() throws {
    let source = directory.file("source")
    write(
      try stored(fixture).tensors, config: try readConfig(fixture.path + "/config.json"),
      to: source)
    let along = [
      "tokenizer.json": "{\"ü\": 1}", "tokenizer_config.json": "{}",
      "tokenizer.model": "\u{0}\u{1}",
      "special_tokens_map.json": "[]", "generation_config.json": "{\"a\": 1}", "merges.txt": "a b",
      "vocab.json": "{}", "added_tokens.json": "{}", "chat_template.jinja": "x",
    ]
    for (name, text) in along { Files.write(text, to: source + "/" + name) }
    Files.write("no", to: source + "/README.md")
    let converted = try Converted(source, to: "mamba_ssm")
    #expect(Set(converted.names) == Set(along.keys).union(["config.json", "pytorch_model.bin"]))
    for (name, text) in along {
      #expect(Files.read(converted.path + "/" + name) == Array(text.utf8), "\(name)")
    }
    #expect(converted.result.outputs == converted.names.map { converted.path + "/" + $0 })
  }
}
