import Conversion
import Hub
import Inference
import Layouts
import OrderedCollections
import Parity
import TestSupport
import Tensors
import Testing
import WeighbridgeKit

/// Configs as people have them, beside weights that the frameworks load with them.
@Suite("Configs as people have them")
struct HubConfigTests {
  static let mamba = ModelFixture.named("mamba-tied/hf")

  /// What conversions of state-spaces' checkpoints to transformers left in their configs.
  static let leftBehind: JSONObject = [
    "d_model": 48, "d_inner": 96, "n_layer": 3, "ssm_cfg": [:], "rms_norm": true,
    "fused_add_norm": true, "pad_vocab_size_multiple": 8, "unsloth_version": "2025.1",
  ]

  @Test(
    "a transformers config that still has mamba_ssm's keys is one of transformers",
    arguments: ["hf", "fla", "mamba_ssm", "lit_gpt"])
  func leftovers(to: String) throws {
    let directory = TemporaryDirectory()
    let config = try changedConfig(Self.mamba, in: directory) {
      $0.merge(Self.leftBehind) { _, new in new }
    }
    let converted = try Converted(Self.mamba.path, to: to, config: config)
    let plain = try Converted(Self.mamba.path, to: to)
    #expect(converted.result.plan.from.name == "mamba-hf")
    #expect(converted.result.problems.isEmpty)
    #expect(converted.checkpoint.tensors == plain.checkpoint.tensors)
  }

  @Test(
    "transformers' and fla's old singular name of the embedding is read, and written as today's",
    arguments: ["mamba-tied/hf", "mamba-fla/fla"])
  func singular(name: String) throws {
    let fixture = ModelFixture.named(name)
    let directory = TemporaryDirectory()
    var tensors = try stored(fixture).tensors
    tensors["backbone.embedding.weight"] = tensors.removeValue(forKey: "backbone.embeddings.weight")
    let config = try readConfig(fixture.path + "/config.json")
    write(tensors, config: config, to: directory.file("old"))
    let framework = String(name.split(separator: "/")[1])
    for to in [framework, "mamba_ssm"] {
      let old = try Converted(directory.file("old"), to: to)
      #expect(old.result.plan.from.framework == framework)
      let today = try Converted(fixture.path, to: to)
      #expect(old.checkpoint.tensors == today.checkpoint.tensors)
    }
  }

  @Test(
    "a written intermediate_size is Mamba's width, whatever expand says",
    arguments: ["mamba-tied/hf", "mamba-fla/fla", "samba-fla/fla"])
  func width(name: String) throws {
    let fixture = ModelFixture.named(name)
    let directory = TemporaryDirectory()
    let config = try changedConfig(fixture, in: directory) {
      #expect($0["intermediate_size"] != nil)
      $0["expand"] = 16
    }
    let converted = try Converted(fixture.path, to: fixture.framework, config: config)
    let plain = try Converted(fixture.path, to: fixture.framework)
    #expect(converted.checkpoint.tensors == plain.checkpoint.tensors)
    // And without it, expand is what counts.
    let without = try changedConfig(fixture, in: directory) {
      $0["expand"] = 16
      $0["intermediate_size"] = nil
    }
    let problems = try weighbridge.inspect(
      CheckpointInput(path: fixture.path, configPath: without)
    ).problems
    #expect(
      problems.filter { $0.severity == .error }.map { "\($0.code) \($0.subject)" } == [
        "config.mismatch expand"
      ])
  }

  /// What llama-hf makes of a config without looking at tensors.
  private func spec(_ config: JSONObject) throws -> ModelSpec {
    let layout = try #require(weighbridge.library.layouts.first { $0.name == "llama-hf" })
    let expansion = layout.expand(config: config, vocabulary: .standard, inventory: nil)
    #expect(expansion.problems.filter { $0.severity == .error }.isEmpty)
    return expansion.spec
  }

  static let sizes: JSONObject = [
    "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 16, "vocab_size": 32,
  ]

  @Test("what a Mistral config leaves out is what MistralConfig fills in")
  func mistralDefaults() throws {
    var config = Self.sizes
    config["model_type"] = "mistral"
    let sparse = try spec(config)
    #expect(sparse.sublayers[0]["window"] == 4096)
    #expect(sparse.sublayers[0]["n_kv_heads"] == 8)
    #expect(sparse.sublayers[1]["d_ff"] == 14336)
    config["sliding_window"] = .null
    config["num_key_value_heads"] = .null
    let said = try spec(config)
    #expect(said.sublayers[0]["window"] == .null)
    #expect(said.sublayers[0]["n_kv_heads"] == 16)
  }

  @Test("what a Llama config leaves out is what LlamaConfig fills in, which has no window")
  func llamaDefaults() throws {
    var config = Self.sizes
    config["sliding_window"] = 8
    let sparse = try spec(config)
    #expect(sparse.sublayers[0]["window"] == .null)
    #expect(sparse.sublayers[0]["n_kv_heads"] == 16)
    #expect(sparse.sublayers[1]["d_ff"] == 11008)
  }

  @Test("the rotary base in the dictionary goes before the one beside it")
  func rotaryBase() throws {
    var config = Self.sizes
    config["rope_theta"] = 500
    #expect(try spec(config).sublayers[0]["rope_base"].double == 500)
    config["rope_parameters"] = ["rope_type": "default", "rope_theta": 700]
    #expect(try spec(config).sublayers[0]["rope_base"].double == 700)
    config["rope_scaling"] = ["rope_type": "linear", "factor": 2]
    #expect(try spec(config).sublayers[0]["rope_base"].double == 500)
    #expect(try spec(config).sublayers[0]["rope_factor"].double == 2)
  }

  @Test("a scaling that is not supported is refused under the key that the file has")
  func scalingKey() throws {
    let layout = try #require(weighbridge.library.layouts.first { $0.name == "llama-hf" })
    for key in ["rope_scaling", "rope_parameters"] {
      var config = Self.sizes
      config[key] = ["rope_type": "dynamic", "factor": 2]
      let problems = layout.expand(config: config, vocabulary: .standard, inventory: nil).problems
      #expect(problems.map { "\($0.code) \($0.subject)" } == ["config.unsupported \(key)"])
      #expect(problems.first?.message.contains("dynamic") == true)
    }
  }

  @Test("Codestral's config, which says norm_before_gate, is what transformers makes of it")
  func codestral() throws {
    let layout = try #require(weighbridge.library.layouts.first { $0.name == "mamba2-hf" })
    let config: JSONObject = [
      "model_type": "mamba2", "hidden_size": 64, "num_hidden_layers": 1, "vocab_size": 32,
      "num_heads": 8, "head_dim": 16, "n_groups": 2, "norm_before_gate": true, "rms_norm": true,
      "time_step_limit": [0, .double(.infinity)], "time_step_rank": 256, "intermediate_size": 128,
    ]
    let expansion = layout.expand(config: config, vocabulary: .standard, inventory: nil)
    #expect(expansion.problems.isEmpty)
    #expect(expansion.spec.sublayers[0]["norm_before_gate"] == false)
  }

  @Test("Codestral's own params.json is a Mamba-2 of mamba_ssm")
  func params() throws {
    let layout = try #require(weighbridge.library.layouts.first { $0.name == "mamba2-ssm" })
    let config: JSONObject = [
      "dim": 64, "n_layers": 1, "vocab_size": 32, "n_groups": 2, "tie_embeddings": false,
      "model_type": "mamba",
    ]
    let expansion = layout.expand(config: config, vocabulary: .standard, inventory: nil)
    #expect(expansion.problems.isEmpty)
    #expect(expansion.spec["d_model"] == 64)
    #expect(expansion.spec.sublayers.map(\.kind) == ["mamba2"])
    #expect(expansion.spec.sublayers[0]["n_groups"] == 2)
  }

  @Test("a window and biases together fit no class of transformers, and are refused")
  func windowAndBiases() throws {
    let directory = TemporaryDirectory()
    let fixture = ModelFixture.named("lit-llama-full/lit_gpt")
    let fla = try Converted(fixture.path, to: "fla")
    var tensors = fla.checkpoint.tensors
    for (name, tensor) in tensors {
      guard let shape = tensor.shape.first, name.hasSuffix("_proj.weight"), name.contains(".attn."),
        !name.contains("o_proj")
      else { continue }
      tensors[String(name.dropLast("weight".count)) + "bias"] = StoredCheckpoint.Tensor(
        dtype: .f32, shape: [shape], bytes: [UInt8](repeating: 62, count: 4 * shape))
    }
    var config = fla.config
    config["qkv_bias"] = true
    config["window_size"] = 8
    write(tensors, config: config, to: directory.file("biased"))
    let request = ConversionRequest(
      input: CheckpointInput(path: directory.file("biased")), destination: directory.file("out"),
      to: "hf")
    let problems = try refusal { _ = try weighbridge.convert(request) }
    #expect(problems.contains { $0.code == "convert.no-place" && $0.subject.contains("bias") })
    #expect(!Files.exists(directory.file("out")))
  }
}

@Suite("Weights as people have them")
struct HubWeightTests {
  @Test(
    "a prefix of a class or group around the whole model is taken off",
    arguments: [
      ("mamba-tied/hf", "model."), ("samba-fla/fla", "state_dict."),
      ("gla-base/fla", "state_dict."),
      ("lit-samba/lit_gpt", "model."), ("retnet-torchscale/torchscale", "model.decoder."),
    ])
  func prefix(name: String, prefix: String) throws {
    let fixture = ModelFixture.named(name)
    let directory = TemporaryDirectory()
    let tensors = Dictionary(
      uniqueKeysWithValues: try stored(fixture).tensors.map { (prefix + $0.key, $0.value) })
    let plain = try Converted(fixture.path, to: fixture.framework)
    write(tensors, config: plain.config, to: directory.file("wrapped"))
    let converted = try Converted(directory.file("wrapped"), to: fixture.framework)
    #expect(converted.result.plan.from.name == fixture.layout)
    #expect(converted.checkpoint.tensors == plain.checkpoint.tensors)
  }

  @Test("a model all in one half precision is verified in the other")
  func otherHalf() throws {
    let directory = TemporaryDirectory()
    var half = ConversionRequest(
      input: CheckpointInput(path: ModelFixture.named("mamba-tied/hf").path),
      destination: directory.file("half"), to: "hf")
    half.dtype = .f16
    half.castsAll = true
    _ = try weighbridge.convert(half)
    var other = ConversionRequest(
      input: CheckpointInput(path: directory.file("half")), destination: directory.file("other"),
      to: "fla")
    other.dtype = .bf16
    _ = try weighbridge.convert(other)
    let result = try weighbridge.parity(
      CheckpointInput(path: directory.file("half")),
      CheckpointInput(path: directory.file("other")),
      tokens: .random(batch: 1, length: 24, seed: 1), ParityRequest())
    #expect(result.passes)
    #expect(result.differing.count > 20)
  }

  @Test("whole numbers in place of weights are refused by name, not converted and no crash")
  func wholeNumbers() throws {
    let fixture = ModelFixture.named("samba-fla/fla")
    let directory = TemporaryDirectory()
    var tensors = try stored(fixture).tensors
    for (name, dtype) in [
      ("backbone.layers.0.mlp.down_proj.weight", DType.u16), ("backbone.norm_f.weight", .i8),
    ] {
      var tensor = tensors[name]!
      let count = tensor.shape.reduce(1, *)
      tensor.dtype = dtype
      tensor.bytes = [UInt8](repeating: 3, count: count * dtype.bitWidth / 8)
      tensors[name] = tensor
    }
    write(
      tensors, config: try readConfig(fixture.path + "/config.json"), to: directory.file("whole"))
    let request = ConversionRequest(
      input: CheckpointInput(path: directory.file("whole")), destination: directory.file("out"),
      to: "lit_gpt")
    let problems = failure { _ = try weighbridge.convert(request) }
    #expect(
      problems.filter { $0.code == "layout.dtype" }.map(\.subject).sorted()
        == ["backbone.layers.0.mlp.down_proj.weight", "backbone.norm_f.weight"])
    #expect(problems.first { $0.subject.contains("down_proj") }?.message.contains("U16") == true)
    #expect(!Files.exists(directory.file("out")))
  }
}
