import Conversion
import Hub
import OrderedCollections
import TestSupport
import Tensors
import Testing
import WeighbridgeKit

/// A conversion, what it should promise and what it should give.
struct ConversionCase: Sendable, CustomStringConvertible {
  let source: String
  let to: String
  let exactness: Exactness
  /// Words of the reasons, one for each.
  var reasons: [String] = []
  /// Of the largest value of a tensor: 0 for moves; arithmetic is done in float64 and rounded once to
  /// float32, which leaves less than 1e-7, and two ways to sum a mean may differ by a rounding more.
  var tolerance = 0.0
  /// Changes to the source's config.
  var change: JSONObject = [:]
  /// Members that the written config must have.
  let config: JSONObject
  let expected: @Sendable (StoredCheckpoint) -> ExpectedTensors

  var description: String { "\(source) to \(to)\(change.isEmpty ? "" : " changed")" }

  static let ropeTable = "rotary tables in bfloat16"

  static let all: [ConversionCase] = mamba + lit + others

  static let mamba: [ConversionCase] = [
    ConversionCase(
      source: "mamba-tied/hf", to: "fla", exactness: .bitwise,
      config: [
        "model_type": "mamba", "hidden_size": 48, "num_hidden_layers": 3, "vocab_size": 128,
        "dt_rank": 3, "norm_eps": 1e-5, "tie_word_embeddings": true, "state_size": 16,
        "conv_kernel": 4, "expand": 2, "use_bias": false, "use_conv_bias": true,
      ]
    ) { Expect.mamba($0, embedding: "backbone.embeddings.weight", head: false) },
    ConversionCase(
      source: "mamba-tied/hf", to: "mamba_ssm", exactness: .bitwise,
      config: [
        "d_model": 48, "n_layer": 3, "vocab_size": 128, "pad_vocab_size_multiple": 8,
        "tie_embeddings": true, "rms_norm": true, "d_intermediate": 0, "attn_layer_idx": [],
      ]
    ) { Expect.mamba($0, embedding: "backbone.embedding.weight", head: true) },
    ConversionCase(
      source: "mamba-tied/mamba_ssm", to: "hf", exactness: .bitwise,
      config: [
        "hidden_size": 48, "num_hidden_layers": 3, "vocab_size": 128, "time_step_rank": 3,
        "layer_norm_epsilon": 1e-5, "tie_word_embeddings": true, "model_type": "mamba",
      ]
    ) { Expect.mamba($0, embedding: "backbone.embeddings.weight", head: false) },
    ConversionCase(
      source: "mamba-tied/mamba_ssm", to: "fla", exactness: .bitwise,
      config: ["tie_word_embeddings": true, "vocab_size": 128, "norm_eps": 1e-5]
    ) { Expect.mamba($0, embedding: "backbone.embeddings.weight", head: false) },
    ConversionCase(
      source: "mamba-tied/hf", to: "lit_gpt", exactness: .bitwise,
      config: [
        "mamba": true, "n_embd": 48, "n_layer": 3, "padded_vocab_size": 128, "norm_eps": 1e-5,
        "_norm_class": "FusedRMSNorm",
      ]
    ) { Expect.mambaAsLit($0) },
    ConversionCase(
      source: "mamba-bias-untied/hf", to: "mamba_ssm", exactness: .bitwise,
      config: [
        "vocab_size": 104, "tie_embeddings": false,
        "ssm_cfg": [
          "layer": "Mamba1", "d_state": 8, "d_conv": 3, "expand": 2, "dt_rank": 5, "bias": true,
          "conv_bias": true, "dt_min": 0.001, "dt_max": 0.1, "dt_init": "random",
          "dt_scale": 1.0, "dt_init_floor": 0.0001,
        ],
      ]
    ) { Expect.mamba($0, embedding: "backbone.embedding.weight", head: true) },
    ConversionCase(
      source: "mamba-bias-untied/mamba_ssm", to: "hf", exactness: .bitwise,
      config: [
        "use_bias": true, "use_conv_bias": true, "state_size": 8, "conv_kernel": 3,
        "time_step_rank": 5, "vocab_size": 104, "tie_word_embeddings": false,
      ]
    ) { Expect.mamba($0, embedding: "backbone.embeddings.weight", head: true) },
    ConversionCase(
      source: "mamba-bias-untied/mamba_ssm", to: "fla", exactness: .bitwise,
      config: ["use_bias": true, "dt_rank": 5, "tie_word_embeddings": false]
    ) { Expect.mamba($0, embedding: "backbone.embeddings.weight", head: true) },
    ConversionCase(
      source: "mamba-fla/fla", to: "hf", exactness: .bitwise,
      config: ["layer_norm_epsilon": 1e-5, "time_step_rank": 3, "tie_word_embeddings": false]
    ) { Expect.mamba($0, embedding: "backbone.embeddings.weight", head: true) },
    ConversionCase(
      source: "mamba-fla/fla", to: "mamba_ssm", exactness: .bitwise,
      config: ["d_model": 48, "vocab_size": 96, "tie_embeddings": false]
    ) { Expect.mamba($0, embedding: "backbone.embedding.weight", head: true) },
    ConversionCase(
      source: "lit-mamba-only/lit_gpt", to: "hf", exactness: .bitwise,
      config: [
        "hidden_size": 64, "vocab_size": 128, "time_step_rank": 4, "tie_word_embeddings": true,
        "layer_norm_epsilon": 1e-5, "intermediate_size": 128,
      ]
    ) { Expect.litMambaOnly($0, embedding: "backbone.embeddings.weight", head: false) },
    ConversionCase(
      source: "lit-mamba-only/lit_gpt", to: "fla", exactness: .bitwise,
      config: ["norm_eps": 1e-5, "tie_word_embeddings": true]
    ) { Expect.litMambaOnly($0, embedding: "backbone.embeddings.weight", head: false) },
    ConversionCase(
      source: "lit-mamba-only/lit_gpt", to: "mamba_ssm", exactness: .bitwise,
      config: ["tie_embeddings": true, "d_model": 64]
    ) { Expect.litMambaOnly($0, embedding: "backbone.embedding.weight", head: true) },
  ]

  static let lit: [ConversionCase] = [
    ConversionCase(
      source: "lit-samba/lit_gpt", to: "fla", exactness: .rounding,
      reasons: ["from 96 to 256 by zeros", ropeTable],
      config: [
        "model_type": "samba", "hidden_size": 64, "num_hidden_layers": 4, "vocab_size": 128,
        "tie_word_embeddings": true, "hidden_ratio": 6, "hidden_act": "swish", "norm_eps": 1e-5,
        "intermediate_size": 128,
        "attn": [
          "layers": [1, 3], "num_heads": 4, "num_kv_heads": 4, "qkv_bias": false,
          "window_size": 8, "rope_theta": 10000.0,
        ],
      ]
    ) { Expect.litSamba($0) },
    ConversionCase(
      source: "lit-samba/lit_gpt", to: "mamba_ssm", exactness: .rounding,
      reasons: ["from 96 to 128 by zeros", ropeTable], change: ["local_window": -1],
      config: [
        "d_intermediate": 128, "attn_layer_idx": [1, 3], "tie_embeddings": true,
        "attn_cfg": [
          "causal": true, "num_heads": 4, "num_heads_kv": 4, "head_dim": 16,
          "qkv_proj_bias": false, "out_proj_bias": false, "rotary_emb_dim": 16,
          "rotary_emb_base": 10000.0,
        ],
      ]
    ) { Expect.litAsHybrid($0, layers: 4, groups: 4) { $0 % 2 == 0 } },
    ConversionCase(
      source: "lit-mamba-swa-mlp/lit_gpt", to: "fla", exactness: .rounding,
      reasons: ["2 MLPs of zeros are added", "from 96 to 256 by zeros", ropeTable],
      config: [
        "num_hidden_layers": 4, "tie_word_embeddings": true,
        "attn": [
          "layers": [1, 3], "num_heads": 4, "num_kv_heads": 4, "qkv_bias": false,
          "window_size": 8, "rope_theta": 10000.0,
        ],
      ]
    ) { Expect.litMambaSWAMLP($0) },
    ConversionCase(
      source: "lit-llama-full/lit_gpt", to: "hf", exactness: .rounding, reasons: [ropeTable],
      config: [
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
        "intermediate_size": 96, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "vocab_size": 128,
        "tie_word_embeddings": false, "attention_bias": false, "mlp_bias": false,
      ]
    ) { Expect.litLlamaAsHF($0) },
    ConversionCase(
      source: "lit-llama-full/lit_gpt", to: "hf", exactness: .rounding, reasons: [ropeTable],
      change: ["local_window": 8, "condense_ratio": 1],
      config: [
        "model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 8,
      ]
    ) { Expect.litLlamaAsHF($0) },
    ConversionCase(
      source: "lit-llama-full/lit_gpt", to: "fla", exactness: .rounding, reasons: [ropeTable],
      config: [
        "model_type": "transformer", "num_heads": 4, "num_kv_heads": 2, "window_size": nil,
        "intermediate_size": 96, "norm_eps": 1e-5, "qk_norm": false, "qkv_bias": false,
        "rope_theta": 10000.0, "tie_word_embeddings": false,
      ]
    ) { Expect.litLlamaAsFLA($0) },
    ConversionCase(
      source: "lit-llama-full/lit_gpt", to: "mamba_ssm", exactness: .rounding,
      reasons: ["from 96 to 128 by zeros", ropeTable],
      config: ["attn_layer_idx": [0, 1, 2], "tie_embeddings": false, "d_intermediate": 128]
    ) { Expect.litAsHybrid($0, layers: 3, groups: 2) { _ in false } },
    ConversionCase(
      source: "lit-llama-mqa-bf16/lit_gpt", to: "fla", exactness: .rounding,
      reasons: ["from 96 to 256 by zeros", ropeTable],
      config: [
        "model_type": "samba", "dtype": "bfloat16", "tie_word_embeddings": false,
        "attn": [
          [
            "layers": [0, 2], "num_heads": 4, "num_kv_heads": 1, "qkv_bias": false,
            "window_size": 8, "rope_theta": 10000.0,
          ],
          [
            "layers": [1, 3], "num_heads": 4, "num_kv_heads": 1, "qkv_bias": false,
            "window_size": nil, "rope_theta": 10000.0,
          ],
        ],
      ]
    ) { Expect.litLlamaAsSamba($0) },
    ConversionCase(
      source: "lit-sliding-gla/lit_gpt", to: "fla", exactness: .rounding, reasons: [ropeTable],
      config: [
        "model_type": "gla", "num_heads": 1, "expand_k": 0.5, "expand_v": 1.0, "norm_eps": 1e-5,
        "intermediate_size": 128, "tie_word_embeddings": false, "dtype": "bfloat16",
        "attn": [
          "layers": [1], "num_heads": 6, "num_kv_heads": 6, "qkv_bias": false, "window_size": 8,
          "rope_theta": 10000.0,
        ],
      ]
    ) { Expect.litSliding($0, heads: 6, width: 128, tied: false) },
    ConversionCase(
      source: "lit-sliding-retnet/lit_gpt", to: "fla", exactness: .rounding, reasons: [ropeTable],
      config: [
        "model_type": "retnet", "num_heads": 2, "expand_k": 1.0, "expand_v": 2.0,
        "norm_eps": 1e-5, "intermediate_size": 96, "tie_word_embeddings": true,
        "attn": [
          "layers": [1], "num_heads": 4, "num_kv_heads": 4, "qkv_bias": false, "window_size": 8,
          "rope_theta": 10000.0,
        ],
      ]
    ) { Expect.litSliding($0, heads: 4, width: 96, tied: true) },
  ]

  static let others: [ConversionCase] = [
    ConversionCase(
      source: "samba-fla/fla", to: "lit_gpt", exactness: .rounding, reasons: [ropeTable],
      config: [
        "n_embd": 64, "n_head": 4, "n_query_groups": 2, "n_layer": 4, "local_window": 8,
        "mb_per_layer": 2, "attn_layer_pos": nil, "padded_vocab_size": 100, "mamba_init": false,
        "intermediate_size": 256, "nope": false, "bias": false, "parallel_residual": false,
        "_mlp_class": "LLaMAMLP", "rotary_percentage": 1.0,
      ]
    ) { Expect.sambaAsLit($0) },
    ConversionCase(
      source: "gla-berlino/berlino", to: "fla", exactness: .exact,
      reasons: ["folded into k_proj", "mean", "written as ones", "g.bias is left out"],
      tolerance: 2e-7,
      config: [
        "model_type": "gla", "hidden_size": 96, "num_heads": 3, "expand_k": 0.5, "expand_v": 1.0,
        "norm_eps": 1e-5, "intermediate_size": 256, "tie_word_embeddings": false,
        "use_output_gate": true, "fuse_norm": true,
      ]
    ) { Expect.berlino($0) },
    ConversionCase(
      source: "retnet-base/fla", to: "torchscale", exactness: .rounding,
      reasons: ["folded into the output projections", "group norm cancels", "angle", "decay"],
      tolerance: 2e-7,
      config: [
        "decoder_embed_dim": 64, "decoder_value_embed_dim": 128, "decoder_retention_heads": 2,
        "decoder_ffn_embed_dim": 96, "decoder_layers": 3, "activation_fn": "swish",
        "layernorm_eps": 1e-6, "no_scale_embedding": true, "vocab_size": 100,
        "share_decoder_input_output_embed": false,
      ]
    ) { Expect.retnetAsTorchscale($0) },
  ]
}

@Suite("Conversions", .tags(.slow))
struct ConversionTests {
  static func convert(_ test: ConversionCase) throws -> Converted {
    let fixture = ModelFixture.named(test.source)
    guard !test.change.isEmpty else { return try Converted(fixture.path, to: test.to) }
    let directory = TemporaryDirectory()
    let config = try changedConfig(fixture, in: directory) {
      $0.merge(test.change) { _, new in new }
    }
    return try Converted(fixture.path, to: test.to, config: config)
  }

  @Test("every tensor is what plain array code makes of the source", arguments: ConversionCase.all)
  func values(test: ConversionCase) throws {
    let source = try stored(.named(test.source))
    let expected = test.expected(source)
    let converted = try Self.convert(test)
    #expect(Set(converted.checkpoint.tensors.keys) == Set(expected.keys))
    // Each of these models has one type throughout.
    let dtype = try #require(source.tensors.values.first).dtype
    for (name, matrix) in expected {
      guard let found = converted.checkpoint.tensors[name] else { continue }
      #expect(found.shape == matrix.shape, "\(name)")
      #expect(found.dtype == dtype, "\(name)")
      if test.tolerance == 0 {
        #expect(found.values == matrix.values, "\(name)")
      } else {
        let largest = matrix.values.reduce(0) { max($0, abs($1)) }
        let off = zip(found.values, matrix.values).reduce(0) { max($0, abs($1.0 - $1.1)) }
        #expect(Double(off) <= test.tolerance * Double(largest), "\(name): off by \(off)")
      }
    }
  }

  @Test("the config says what the target framework needs to know", arguments: ConversionCase.all)
  func config(test: ConversionCase) throws {
    let converted = try Self.convert(test)
    for (key, value) in test.config {
      if let number = value.double {
        #expect(converted.config[key]?.double == number, "\(key)")
      } else {
        #expect(converted.config[key] == value, "\(key)")
      }
    }
  }

  @Test("what it promises and why", arguments: ConversionCase.all)
  func exactness(test: ConversionCase) throws {
    let plan = try Self.convert(test).result.plan
    #expect(plan.exactness == test.exactness)
    let reasons = plan.reasons.map(\.text)
    #expect(reasons.count == test.reasons.count, "\(reasons)")
    for word in test.reasons { #expect(reasons.contains { $0.contains(word) }, "\(word)") }
  }

  @Test(
    "what was written reads back as a sound model of the target, tied as the source",
    arguments: ConversionCase.all)
  func readBack(test: ConversionCase) throws {
    let fixture = ModelFixture.named(test.source)
    let converted = try Self.convert(test)
    let loaded = try weighbridge.load(CheckpointInput(path: converted.path))
    let model = try loaded.model()
    #expect(loaded.problems.filter { $0.severity != .note } == [])
    #expect(model.layout.framework == test.to)
    #expect(model.spec["tied"].bool == fixture.tied)
    // PyTorch files share a tied head's storage, as the frameworks' own do.
    if fixture.tied, converted.checkpoint.container == .pytorch {
      #expect(converted.checkpoint.shared.count == 1)
      #expect(converted.checkpoint.shared.first?.contains("lm_head.weight") == true)
    }
  }

  @Test(
    "there and back gives the source's bytes, as far as nothing was added or folded",
    arguments: ConversionCase.all.filter { test in
      test.change.isEmpty && test.tolerance == 0 && !test.reasons.contains { $0.contains("zeros") }
    })
  func roundTrip(test: ConversionCase) throws {
    let fixture = ModelFixture.named(test.source)
    let there = try Self.convert(test)
    let back = try Converted(there.path, to: fixture.framework)
    let source = try stored(fixture)
    #expect(Set(back.checkpoint.tensors.keys) == Set(source.tensors.keys))
    for (name, tensor) in source.tensors {
      #expect(back.checkpoint.tensors[name] == tensor, "\(name)")
    }
  }

  @Test("MLPs of zeros come out again; widths stay widened")
  func zeroMLPs() throws {
    let fixture = ModelFixture.named("lit-mamba-swa-mlp/lit_gpt")
    let there = try Converted(fixture.path, to: "fla")
    let back = try Converted(there.path, to: "lit_gpt")
    #expect(back.config["mamba_swa_mlp"] == true && back.config["n_layer"] == 2)
    #expect(back.config["intermediate_size"] == 256)
    #expect(back.result.plan.reasons.contains { $0.text.contains("MLPs of zeros are left out") })
    let source = try stored(fixture)
    #expect(Set(back.checkpoint.tensors.keys) == Set(source.tensors.keys))
    for (name, tensor) in source.tensors {
      let matrix =
        name.hasSuffix("w3.weight")
        ? tensor.matrix.padded(columns: 256)
        : name.contains("swiglu") ? tensor.matrix.padded(rows: 256) : tensor.matrix
      #expect(back.checkpoint.matrix(name) == matrix, "\(name)")
    }
  }

  @Test("torchscale and back: rotary rows return, folded norms stay folded")
  func torchscaleAndBack() throws {
    let fixture = ModelFixture.named("retnet-base/fla")
    let there = try Converted(fixture.path, to: "torchscale")
    let back = try Converted(there.path, to: "fla")
    let source = try stored(fixture)
    #expect(Set(back.checkpoint.tensors.keys) == Set(source.tensors.keys))
    for (name, tensor) in source.tensors {
      if name.hasSuffix("g_norm_swish_gate.weight") {
        #expect(back.checkpoint.matrix(name).values.allSatisfy { $0 == 1 })
      } else if name.hasSuffix("o_proj.weight") {
        let layer = name.dropLast("o_proj.weight".count)
        let there = there.checkpoint.matrix(
          "layers.\(layer.split(separator: ".")[2]).retention.out_proj.weight")
        #expect(back.checkpoint.matrix(name) == there)
      } else {
        #expect(back.checkpoint.tensors[name] == tensor, "\(name)")
      }
    }
  }

  @Test("berlino to fla and back: values are centred, keys scaled back within a rounding")
  func berlinoAndBack() throws {
    let fixture = ModelFixture.named("gla-berlino/berlino")
    let there = try Converted(fixture.path, to: "fla")
    let back = try Converted(there.path, to: "berlino")
    let source = try stored(fixture)
    #expect(Set(back.checkpoint.tensors.keys) == Set(source.tensors.keys))
    for (name, tensor) in source.tensors where !name.hasSuffix("v_proj.weight") {
      let found = back.checkpoint.matrix(name).values
      for (a, b) in zip(found, tensor.values) {
        // Two float32 roundings, of the product and of the quotient.
        #expect(abs(a - b) <= 2.5e-7 * abs(b), "\(name)")
      }
    }
    let v = "transformer.h.1.attn.v_proj.weight"
    #expect(
      back.checkpoint.matrix(v) == there.checkpoint.matrix("model.layers.1.attn.v_proj.weight"))
  }

  @Test("grouped heads are repeated for berlino, which has none")
  func expandedHeads() throws {
    // A fla GLA that berlino can express, but for its grouped heads.
    let there = try Converted(ModelFixture.named("gla-berlino/berlino").path, to: "fla")
    var tensors = there.checkpoint.tensors
    var grouped: [String: StoredCheckpoint.Tensor] = [:]
    for (name, tensor) in tensors {
      guard
        name.hasSuffix("k_proj.weight") || name.hasSuffix("attn.v_proj.weight")
          || name.contains("gk_proj.1")
      else { continue }
      // The first of three heads serves all.
      let rows = tensor.shape[0] / 3
      var one = tensor
      one.shape[0] = rows
      one.bytes = Array(tensor.bytes.prefix(tensor.bytes.count / 3))
      grouped[name] = one
    }
    tensors.merge(grouped) { _, new in new }
    var config = there.config
    config["num_kv_heads"] = 1
    let directory = TemporaryDirectory()
    write(tensors, config: config, to: directory.file("grouped"))
    let berlino = try Converted(directory.file("grouped"), to: "berlino")
    #expect(berlino.result.plan.exactness == .exact)
    let one = grouped["model.layers.0.attn.v_proj.weight"]!.matrix
    #expect(
      berlino.checkpoint.matrix("transformer.h.0.attn.v_proj.weight")
        == Matrix(concatenating: [one, one, one]))
    let gate = grouped["model.layers.1.attn.gk_proj.1.bias"]!.matrix
    #expect(
      berlino.checkpoint.matrix("transformer.h.1.attn.k_gate.1.bias")
        == Matrix(concatenating: [gate, gate, gate]))
  }

  @Test("an embedding scale becomes part of the embedding, and a tied head a tensor of its own")
  func embedScale() throws {
    let fla = ModelFixture.named("retnet-base/fla")
    let there = try Converted(fla.path, to: "torchscale")
    var tensors = there.checkpoint.tensors
    tensors["output_projection.weight"] = tensors["embed_tokens.weight"]
    var config = there.config
    config["no_scale_embedding"] = false
    config["share_decoder_input_output_embed"] = true
    let directory = TemporaryDirectory()
    write(tensors, config: config, to: directory.file("scaled"))
    let back = try Converted(directory.file("scaled"), to: "fla")
    let embedding = tensors["embed_tokens.weight"]!.matrix
    // sqrt(64) is 8: the product is exact.
    #expect(
      back.checkpoint.matrix("model.embeddings.weight")
        == embedding.mapped { _, _, value in value * 8 })
    #expect(back.checkpoint.matrix("lm_head.weight") == embedding)
    #expect(back.config["tie_word_embeddings"] == false)
  }

  @Test("old fla files with gate and up in one tensor are read, and written apart")
  func fusedGate() throws {
    let fixture = ModelFixture.named("gla-base/fla")
    let source = try stored(fixture)
    var tensors = source.tensors
    for i in 0..<3 {
      let prefix = "model.layers.\(i).mlp."
      let gate = tensors[prefix + "gate_proj.weight"]!
      let up = tensors.removeValue(forKey: prefix + "up_proj.weight")!
      tensors[prefix + "gate_proj.weight"] = StoredCheckpoint.Tensor(
        dtype: .f32, shape: [192, 64], bytes: gate.bytes + up.bytes)
    }
    let directory = TemporaryDirectory()
    let config = try readConfig(fixture.path + "/config.json")
    write(tensors, config: config, to: directory.file("old"))
    let loaded = try weighbridge.load(CheckpointInput(path: directory.file("old")))
    let model = try loaded.model()
    #expect(model.pieces.count == source.tensors.count)
    let diff = try weighbridge.diff(
      CheckpointInput(path: directory.file("old")), CheckpointInput(path: fixture.path))
    #expect(diff.isEqual)
  }
}
