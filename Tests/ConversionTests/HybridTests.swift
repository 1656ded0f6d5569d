import Conversion
import Hub
import OrderedCollections
import Parity
import TestSupport
import Tensors
import Testing
import WeighbridgeKit

@Suite("Conversions of hybrids")
struct HybridConversionTests {
  /// Rows of a two-dimensional tensor.
  static func rows(_ tensor: StoredCheckpoint.Tensor, _ rows: Range<Int>) -> [Float] {
    let width = tensor.shape[1]
    return Array(tensor.values[rows.lowerBound * width..<rows.upperBound * width])
  }

  static let names: KeyValuePairs<String, String> = [
    "backbone.embedding": "model.embed_tokens", "backbone.norm_f": "model.final_layernorm",
    ".norm.weight": ".input_layernorm.weight", "norm2": "pre_ff_layernorm",
  ]

  @Test("mamba_ssm with attention becomes Bamba, every row in its place, and comes back")
  func bamba() throws {
    let fixture = ModelFixture.named("hy-mamba2attn-mlp/mamba_ssm")
    let source = try stored(fixture)
    let bamba = try Converted(fixture.path, to: "hf")
    #expect(bamba.result.plan.exactness == .bitwise)
    #expect(bamba.config["model_type"] == "bamba")
    #expect(bamba.config["attn_layer_indices"] == [1])
    #expect(bamba.config["head_dim"] == 6)
    #expect(bamba.config["rope_parameters"]?["partial_rotary_factor"]?.double == 4.0 / 6.0)
    #expect(bamba.config["rms_norm_eps"]?.double == 1e-5)
    let target = bamba.checkpoint
    #expect(
      target["model.embed_tokens.weight"].bytes == source["backbone.embedding.weight"].bytes)
    #expect(
      target["model.layers.0.mamba.in_proj.weight"].bytes
        == source["backbone.layers.0.mixer.in_proj.weight"].bytes)
    // in_proj [q; k; v]: 4 heads of 6, 2 of 6, 2 of 6.
    let fused = source["backbone.layers.1.mixer.in_proj.weight"]
    for (name, range) in [("q", 0..<24), ("k", 24..<36), ("v", 36..<48)] {
      #expect(
        target["model.layers.1.self_attn.\(name)_proj.weight"].values == Self.rows(fused, range))
    }
    // fc1 [up; gate].
    let fc1 = source["backbone.layers.0.mlp.fc1.weight"]
    #expect(
      target["model.layers.0.feed_forward.up_proj.weight"].values == Self.rows(fc1, 0..<128))
    #expect(
      target["model.layers.0.feed_forward.gate_proj.weight"].values == Self.rows(fc1, 128..<256))
    let back = try Converted(bamba.path, to: "mamba_ssm")
    #expect(back.result.plan.exactness == .bitwise)
    for (name, tensor) in source.tensors { #expect(back.checkpoint[name].bytes == tensor.bytes) }
    #expect(back.config["attn_cfg"]?["rotary_emb_dim"] == 4)
  }

  @Test("without rotation and MLPs it becomes Nemotron-H by names alone, and comes back")
  func nemotron() throws {
    let directory = TemporaryDirectory()
    let fixture = ModelFixture.named("hy-mamba2attn/mamba_ssm")
    var source = try stored(fixture)
    for name in source.tensors.keys
    where name.contains("layers.1.mixer.conv1d") || name.contains("layers.1.mixer.in_proj.bias") {
      source.tensors[name] = nil
    }
    source.tensors["lm_head.weight"] = nil
    var config = try readConfig(fixture.path + "/config.json")
    config["attn_cfg"] = [
      "causal": true, "num_heads": 4, "num_heads_kv": 2, "head_dim": 6, "qkv_proj_bias": false,
      "out_proj_bias": false,
    ]
    let path = directory.file("source")
    write(source.tensors, config: config, to: path)
    let hf = try Converted(path, to: "hf")
    #expect(hf.config["model_type"] == "nemotron_h")
    #expect(hf.config["time_step_min"]?.double == 0)
    #expect(
      hf.config["layers_block_type"] == ["mamba", "attention", "mamba"])
    // The class never ties its head: it is written.
    #expect(
      hf.checkpoint["lm_head.weight"].bytes == source["backbone.embedding.weight"].bytes)
    #expect(
      hf.checkpoint["backbone.layers.0.mixer.norm.weight"].bytes
        == source["backbone.layers.0.mixer.norm.weight"].bytes)
    let back = try Converted(hf.path, to: "mamba_ssm")
    for (name, tensor) in source.tensors { #expect(back.checkpoint[name].bytes == tensor.bytes) }
  }

  @Test("MLPs of zeros make a Bamba of layers without them, and are left out on the way back")
  func zeros() throws {
    let directory = TemporaryDirectory()
    let fixture = ModelFixture.named("hy-mamba2attn/mamba_ssm")
    var source = try stored(fixture)
    for name in source.tensors.keys where name.contains("layers.1.mixer.conv1d") {
      source.tensors[name] = nil
    }
    source.tensors["lm_head.weight"] = nil
    var config = try readConfig(fixture.path + "/config.json")
    var attention = try #require(config["attn_cfg"]?.object)
    attention["d_conv"] = 0
    config["attn_cfg"] = .object(attention)
    let path = directory.file("source")
    write(source.tensors, config: config, to: path)
    let bamba = try Converted(path, to: "hf")
    #expect(bamba.result.plan.exactness == .exact)
    #expect(bamba.result.plan.reasons.contains { $0.text.contains("3 MLPs of zeros") })
    #expect(
      bamba.checkpoint["model.layers.0.feed_forward.down_proj.weight"].values.allSatisfy { $0 == 0 }
    )
    let back = try Converted(bamba.path, to: "mamba_ssm")
    #expect(back.config["d_intermediate"] == 0)
    for (name, tensor) in source.tensors { #expect(back.checkpoint[name].bytes == tensor.bytes) }
  }

  @Test("Granite's multipliers are folded for mamba_ssm, powers of two without rounding")
  func granite() throws {
    let fixture = ModelFixture.named("hy-granite-dense/hf")
    let source = try stored(fixture)
    let there = try Converted(fixture.path, to: "mamba_ssm") { $0.verifies = true }
    #expect(there.result.plan.exactness == .rounding)
    let embedding = source["model.embed_tokens.weight"].values
    let target = there.checkpoint
    #expect(
      target["backbone.embedding.weight"].values.prefix(embedding.count)
        == embedding.map { $0 * 3 }[...])
    #expect(target["lm_head.weight"].values.prefix(embedding.count) == embedding[...])
    #expect(
      target["backbone.norm_f.weight"].values == source["model.norm.weight"].values.map { $0 / 4 })
    #expect(
      target["backbone.layers.0.mixer.out_proj.weight"].values
        == source["model.layers.0.mamba.out_proj.weight"].values.map { $0 / 4 })
    #expect(there.config["attn_cfg"]?["softmax_scale"]?.double == 0.15)
    #expect(there.config["attn_cfg"]?["rotary_emb_dim"] == 0)
  }

  @Test("a floor of the steps becomes a limit, or nothing where it is not meant")
  func floor() throws {
    let directory = TemporaryDirectory()
    let fixture = ModelFixture.named("hy-nemotron-h/hf")
    // Of this model only its layers of Mamba-2 and attention.
    var source = try stored(fixture)
    for name in source.tensors.keys where name.contains("layers.1.") || name.contains("layers.3.") {
      source.tensors[name] = nil
    }
    var tensors: [String: StoredCheckpoint.Tensor] = [:]
    for (name, tensor) in source.tensors {
      var name = name
      for (old, new) in [
        ("layers.2.", "layers.1."), ("layers.4.", "layers.2."), ("layers.5.", "layers.3."),
      ] where name.contains(old) {
        name = name.replacing(old, with: new)
        break
      }
      tensors[name] = tensor
    }
    var config = try readConfig(fixture.path + "/config.json")
    config["layers_block_type"] = ["mamba", "mamba", "attention", "mamba"]
    let path = directory.file("source")
    write(tensors, config: config, to: path)
    let raised = try Converted(path, to: "mamba_ssm") { $0.verifies = true }
    #expect(raised.config["ssm_cfg"]?["dt_limit"]?.array?.first?.double == 0.01)
    #expect(raised.result.plan.reasons.contains { $0.text.contains("written as a limit") })
    let free = try Converted(path, to: "mamba_ssm") {
      $0.input.stepFloor = .none
      $0.verifies = true
    }
    #expect(free.config["ssm_cfg"]?["dt_limit"] == nil)
    // Another container says what the source says.
    let same = try Converted(path, to: "hf") {
      $0.input.stepFloor = .none
      $0.container = .pytorch
      $0.verifies = true
    }
    #expect(same.config["time_step_min"]?.double == 0.01)
  }
}

@Suite("What configs of hybrids say")
struct HybridConfigTests {
  /// Problems of a fixture under a changed config, with the keys they blame.
  func problems(
    _ name: String, _ change: (inout JSONObject) -> Void
  ) throws -> [String] {
    let directory = TemporaryDirectory()
    let fixture = ModelFixture.named(name)
    let config = try changedConfig(fixture, in: directory, change)
    let inspection = try weighbridge.inspect(
      CheckpointInput(path: fixture.path, configPath: config))
    return inspection.problems.filter { $0.severity == .error }.map { "\($0.code) \($0.subject)" }
  }

  @Test("what the engine cannot do is refused by its key")
  func unsupported() throws {
    let cases: [(String, String, JSONValue)] = [
      ("hy-bamba/hf", "hidden_act", "gelu"), ("hy-granite-dense/hf", "hidden_act", "relu"),
      ("hy-falcon-h1/hf", "hidden_act", "gelu"), ("hy-jamba/hf", "hidden_act", "gelu"),
      ("hy-nemotron-h/hf", "mlp_hidden_act", "tanh"),
      ("hy-nemotron-h/hf", "mamba_hidden_act", "gelu"),
      ("hy-nemotron-h/hf", "intermediate_size", [13, 24]),
      ("hy-zamba2/hf", "hidden_act", "quick_gelu"),
      ("hy-falcon-h1/hf", "ssm_multipliers", [1.0, 2.0]),
      ("hy-bamba/hf", "rope_scaling", ["rope_type": "yarn", "factor": 4.0]),
      ("hy-jamba/hf", "attn_layer_offset", 3),
    ]
    for (name, key, value) in cases {
      let found = try problems(name) { $0[key] = value }
      // A word or a list that no layout has is told with what may stand there.
      let isValue = [.string("tanh"), .string("quick_gelu"), .array([13, 24])].contains(value)
      #expect(found == ["config.\(isValue ? "value" : "unsupported") \(key)"], "\(name) \(key)")
    }
    #expect(
      try problems("hy-mamba2attn/mamba_ssm") {
        var attention = $0["attn_cfg"]?.object ?? [:]
        attention["mlp_dim"] = 64
        $0["attn_cfg"] = .object(attention)
      } == ["config.unsupported attn_cfg.mlp_dim"])
    #expect(
      try problems("hy-mamba2attn/mamba_ssm") {
        var attention = $0["attn_cfg"]?.object ?? [:]
        attention["causal"] = nil
        $0["attn_cfg"] = .object(attention)
      } == ["config.unsupported attn_cfg.causal"])
    #expect(
      try problems("hy-bamba/hf") { $0["mamba_sparkle"] = 3 } == [
        "config.unknown-key mamba_sparkle"
      ])
  }

  @Test("the hub's older spellings of a config say the same")
  func spellings() throws {
    #expect(
      try problems("hy-nemotron-h/hf") {
        $0["layers_block_type"] = nil
        $0["hybrid_override_pattern"] = "M-ME*M"
        $0["num_hidden_layers"] = 52
      } == [])
    #expect(
      try problems("hy-granite-dense/hf") {
        $0["layer_types"] = ["mamba", "attention", "mamba"]
        $0["rope_theta"] = 10000
        $0["rope_parameters"] = nil
      } == [])
    #expect(
      try problems("hy-falcon-h1/hf") {
        $0["time_step_limit"] = [0.0, "Infinity"]
        $0["attn_layer_indices"] = nil
        $0["mamba_use_mlp"] = true
      } == [])
  }

  @Test("an architecture that nothing here reads is named by its model_type, and that is all")
  func unknown() throws {
    let directory = TemporaryDirectory()
    let fixture = ModelFixture.named("hy-falcon-h1/hf")
    let config = try changedConfig(fixture, in: directory) {
      $0["model_type"] = "recurrent_gemma"
      $0["architectures"] = ["RecurrentGemmaForCausalLM"]
    }
    let inspection = try weighbridge.inspect(
      CheckpointInput(path: fixture.path, configPath: config))
    #expect(inspection.framework == nil)
    #expect(inspection.problems.count == 1)
    #expect(
      inspection.problems[0].message.contains("recurrent_gemma")
        || inspection.problems[0].subject.contains("recurrent_gemma"))
  }

  @Test("experts in one tensor, as they are in memory, are read as those on the hub")
  func stacked() throws {
    let directory = TemporaryDirectory()
    let fixture = ModelFixture.named("hy-jamba/hf")
    let source = try stored(fixture)
    var tensors = source.tensors
    for layer in [1, 3] {
      let prefix = "model.layers.\(layer).feed_forward.experts."
      var (both, down): ([UInt8], [UInt8]) = ([], [])
      for e in 0..<4 {
        both += source[prefix + "\(e).gate_proj.weight"].bytes
        both += source[prefix + "\(e).up_proj.weight"].bytes
        down += source[prefix + "\(e).down_proj.weight"].bytes
        for name in ["gate", "up", "down"] { tensors[prefix + "\(e).\(name)_proj.weight"] = nil }
      }
      let own = source[prefix + "0.gate_proj.weight"]
      let (f, d) = (own.shape[0], own.shape[1])
      tensors[prefix + "gate_up_proj"] = .init(dtype: own.dtype, shape: [4, 2 * f, d], bytes: both)
      tensors[prefix + "down_proj"] = .init(dtype: own.dtype, shape: [4, d, f], bytes: down)
    }
    let path = directory.file("stacked")
    write(tensors, config: try readConfig(fixture.path + "/config.json"), to: path)
    let result = try weighbridge.parity(
      CheckpointInput(path: path), trace: Fixtures.path("models/hy-jamba/trace.safetensors"),
      ParityRequest())
    #expect(result.passes)
    let diff = try weighbridge.parity(
      CheckpointInput(path: fixture.path), CheckpointInput(path: path),
      tokens: .random(batch: 1, length: 12, seed: 1), ParityRequest())
    #expect(diff.passes && diff.differing.isEmpty)
  }
}
