import Checkpoints
import Conversion
import Hub
import Layouts
import OrderedCollections
import TestSupport
import Tensors
import Testing
import WeighbridgeKit

@Suite("ArchScale and Phi-4-mini-flash")
struct ArchScaleTests {
  private func rows(_ tensor: StoredCheckpoint.Tensor, _ range: Range<Int>) -> ArraySlice<Float> {
    let width = tensor.shape.dropFirst().reduce(1, *)
    return tensor.values[range.lowerBound * width..<range.upperBound * width]
  }

  @Test("Wqkv is contiguous, ArchScale's attn grouped, and both are the same numbers")
  func grouping() throws {
    let source = try StoredCheckpoint(ModelFixture.named("phi4flash/hf").path)
    let converted = try Converted(ModelFixture.named("phi4flash/hf").path, to: "archscale")
    #expect(converted.result.plan.exactness == .bitwise)
    #expect(converted.result.plan.to.name == "archscale-fused")
    #expect(converted.names.contains("iter-000000-ckpt.pth"))
    #expect(converted.names.contains("archscale_config.json"))
    // 8 query heads of 6 channels in 4 groups; 4 key and value heads.
    for (part, width) in [("weight", 48), ("bias", 1)] {
      let whole = source.tensors["model.layers.1.attn.Wqkv.\(part)"]!
      var want: [Float] = []
      for g in 0..<4 {
        want += rows(whole, 12 * g..<12 * g + 12)
        want += rows(whole, 48 + 6 * g..<48 + 6 * g + 6)
        want += rows(whole, 72 + 6 * g..<72 + 6 * g + 6)
      }
      let found = converted.checkpoint.tensors["transformer.h.1.attn.attn.\(part)"]!
      #expect(found.values == want)
      #expect(found.values.count == 96 * width)
    }
    // Cross attention holds queries only.
    #expect(
      converted.checkpoint.tensors["transformer.h.7.attn.attn.weight"]
        == source.tensors["model.layers.7.attn.Wqkv.weight"])
    for (here, there) in [
      ("model.layers.6.attn.in_proj.weight", "transformer.h.6.attn.gmu.in_proj.weight"),
      ("model.layers.5.attn.inner_cross_attn.lambda_k2", "transformer.h.5.attn.da.lambda_k2"),
      ("model.layers.5.attn.inner_cross_attn.subln.weight", "transformer.h.5.attn.da.subln.weight"),
      ("model.layers.2.mlp.fc1.weight", "transformer.h.2.mlp.w1.weight"),
      ("model.final_layernorm.bias", "transformer.ln_f.bias"),
    ] {
      #expect(converted.checkpoint.tensors[there] == source.tensors[here], "\(here)")
    }
    // And back, bit for bit.
    let back = try Converted(converted.path, to: "hf")
    #expect(back.result.plan.exactness == .bitwise)
    #expect(back.checkpoint.tensors == source.tensors)
    #expect(back.config["sliding_window"] == 5)
    #expect(
      back.config["auto_map"]?["AutoModelForCausalLM"] == "modeling_phi4flash.Phi4FlashForCausalLM")
    #expect(back.config["num_key_value_heads"] == 4)
  }

  @Test("a config that save_pretrained wrote is read, and the number written again")
  func windowList() throws {
    let fixture = ModelFixture.named("phi4flash/hf")
    let directory = TemporaryDirectory()
    let list: JSONValue = [.null, 5, .null, 5, .null, .null, .null, .null]
    let path = try changedConfig(fixture, in: directory) { $0["sliding_window"] = list }
    let converted = try Converted(fixture.path, to: "hf", config: path)
    #expect(converted.config["sliding_window"] == 5)
    let twice = try changedConfig(fixture, in: directory) {
      $0["sliding_window"] = [.null, list, .null, list, .null, .null, .null, .null]
    }
    #expect(throws: (any Error).self) { try Converted(fixture.path, to: "hf", config: twice) }
  }

  @Test("with a cast to bfloat16 A_log and the lambda vectors stay float32")
  func cast() throws {
    let converted = try Converted(ModelFixture.named("phi4flash/archscale").path, to: "hf") {
      $0.dtype = .bf16
    }
    for (name, tensor) in converted.checkpoint.tensors {
      // Those that the source has in float32; its D is bfloat16, as the published model's.
      let keeps = name.contains("A_log") || name.contains("lambda_")
      #expect(tensor.dtype == (keeps ? .f32 : .bf16), "\(name)")
    }
  }

  @Test("muP's multipliers go into the weights of a Llama")
  func folding() throws {
    let fixture = ModelFixture.named("as-transformer-gqa-mup/archscale")
    let source = try StoredCheckpoint(fixture.path)
    let converted = try Converted(fixture.path, to: "hf")
    #expect(converted.result.plan.exactness == .rounding)
    #expect(converted.config["tie_word_embeddings"] == true)
    #expect(converted.config["head_dim"] == 16)
    #expect(converted.config["rope_theta"] == 640000.0)
    // sqrt(128 / 16), 1 / sqrt(2 * 5), 8 / 5.
    for (there, here, factor) in [
      (
        "model.layers.2.self_attn.q_proj.weight", "transformer.h.2.attn.q_proj.weight",
        8.0.squareRoot()
      ),
      (
        "model.layers.2.self_attn.o_proj.weight", "transformer.h.2.attn.proj.weight",
        0.1.squareRoot()
      ),
      ("model.layers.4.mlp.down_proj.weight", "transformer.h.4.mlp.w3.weight", 0.1.squareRoot()),
      ("model.norm.weight", "transformer.ln_f.weight", 1.6),
    ] {
      let want = source.tensors[here]!.values.map { Double($0) * factor }
      let found = converted.checkpoint.tensors[there]!.values
      #expect(found.count == want.count)
      for (x, y) in zip(found, want) { #expect(abs(Double(x) - y) <= abs(y) * 0x1p-24) }
    }
    // Gate, then up.
    let w1 = source.tensors["transformer.h.0.mlp.w1.weight"]!
    #expect(
      converted.checkpoint.tensors["model.layers.0.mlp.up_proj.weight"]!.values
        == Array(rows(w1, 136..<272)))
  }

  @Test("microsoft/Samba's lit_gpt and ArchScale's differ in names and glue only")
  func samba() throws {
    let fixture = ModelFixture.named("as-samba/archscale")
    let source = try StoredCheckpoint(fixture.path)
    let converted = try Converted(fixture.path, to: "lit_gpt")
    #expect(converted.result.plan.exactness == .bitwise)
    let w1 = source.tensors["transformer.h.0.mlp.w1.weight"]!
    #expect(
      converted.checkpoint.tensors["transformer.h.0.mlp.swiglu.w2.weight"]!.values
        == Array(rows(w1, 256..<512)))
    let back = try Converted(converted.path, to: "archscale")
    #expect(back.checkpoint.tensors == source.tensors)
    let own = try readConfig(fixture.path + "/archscale_config.json")
    for key in [
      "n_head", "n_query_groups", "head_dim", "n_embd", "intermediate_size", "local_window",
      "rnn_per_layer", "nope", "norm_eps",
    ] {
      #expect(back.config[key] == own[key], "\(key)")
    }
  }

  @Test(
    "what has no equal elsewhere is refused, and says what",
    arguments: [
      ("as-sambay", "hf", "model.final_norm"), ("as-sambayoco", "fla", "layer 6 (cross_attention)"),
      ("as-sambay2", "lit_gpt", "layer 0 (mamba2)"),
      ("as-sambay-da", "lit_gpt", "layer 5 (attention)"),
    ])
  func refused(name: String, to framework: String, subject: String) throws {
    let error = #expect(throws: Refusal.self) {
      try Converted(ModelFixture.named("\(name)/archscale").path, to: framework)
    }
    #expect(error?.problems.isEmpty == false)
    if name != "as-sambay-da" {
      #expect(
        error?.problems.contains { $0.subject == subject } == true, "\(error?.problems ?? [])")
    }
  }

  @Test(
    "a setting that changes the function and is not supported is refused by its key",
    arguments: [
      ("moe", true), ("sink_attn", true), ("relu2", true), ("oss_swiglu", true), ("lc", true),
      ("post_norm", true), ("sum_skip", true), ("share_per_layer", 2), ("rnn_type", "gdn"),
      ("full_swa_extend", true), ("mlp_relu2", true), ("use_sigmoid", true),
    ] as [(String, JSONValue)])
  func unsupported(key: String, value: JSONValue) throws {
    let directory = TemporaryDirectory()
    let fixture = ModelFixture.named("as-sambay/archscale")
    let path = try changedConfig(fixture, in: directory) { $0[key] = value }
    let found = try weighbridge.inspect(
      CheckpointInput(path: fixture.path, configPath: path)
    ).problems.filter { $0.severity == .error }
    #expect(found.contains { $0.code == "config.unsupported" && $0.subject == key }, "\(found)")
  }

  @Test(
    "ArchScale's named configurations make models of their sizes",
    arguments: [
      // Counted by hand from the layout rules: V D, 3 D I, the mixers.
      ("phi4miniflash_d32", 3_852_562_944)
    ])
  func presets(name: String, parameters: Int) throws {
    for fused in [false, true] {
      let layout = try #require(
        weighbridge.library.layouts.first { $0.name == (fused ? "archscale-fused" : "archscale") })
      let config = try #require(
        weighbridge.library.archScalePresets.config(named: name, fused: fused))
      let expansion = layout.expand(config: config, vocabulary: .standard, inventory: nil)
      #expect(expansion.problems.filter { $0.severity == .error } == [])
      let count = expansion.tensors.reduce(0) {
        $0 + ($1.tied == nil ? $1.shape.elementCount ?? 0 : 0)
      }
      // Separate projections have no bias of the keys: nine layers of 1280.
      #expect(count == parameters - (fused ? 0 : 9 * 1280))
    }
  }

  @Test("every name that is offered makes a model in the form of its time")
  func names() throws {
    let presets = weighbridge.library.archScalePresets
    #expect(presets.names.contains("sambay_d16"))
    #expect(presets.config(named: "sambay_d16", fused: false)?["n_embd"] == 1984)
    #expect(presets.config(named: "transformer_gqa4_h2_d8", fused: false)?["n_head"] == 16)
    #expect(presets.config(named: "sambay_gqa4_moe_s8_k2_d16", fused: false)?["moe"] == true)
    #expect(presets.config(named: "sambal_d16", fused: false) == nil)
    for name in presets.names {
      let config = try #require(presets.config(named: name, fused: false))
      let layout = try #require(
        weighbridge.library.layouts.first {
          $0.name == (config["separate_qkv"] == nil ? "archscale-fused" : "archscale")
        })
      let expansion = layout.expand(config: config, vocabulary: .standard, inventory: nil)
      let errors = expansion.problems.filter { $0.severity == .error }
      #expect(errors == [], "\(name)")
      #expect(expansion.spec.layerCount == config["n_layer"]?.int)
    }
  }
}

@Suite("What an ArchScale trainer says of its run")
struct ArchScaleRunTests {
  private func config(
    _ hparams: JSONObject, fused: Bool = false
  ) throws -> (JSONObject, [String]) {
    let run = try #require(
      ArchScaleRun(["hparams": .object(hparams)], hasFusedProjections: fused))
    let config = try #require(run.config(weighbridge.library.archScalePresets))
    return (config, run.evaluationNotes(config).map(\.message))
  }

  @Test("options lie over the named configuration, and flags of the name count")
  func options() throws {
    let (config, notes) = try config([
      "model_name": "sambay_d8", "train_config": "scaling_mup_tie_qknorm_bias", "mup": true,
      "original_mup": false, "seq_len": 8192, "rope_base": 10000, "base_hps.d0": 8,
      "base_hps.hd0": 128, "base_hps.w_init_scale": 1.0, "depth_scale": true, "swa_len": 256,
      "ar": 64, "norm_class": "LayerNorm",
    ])
    let want: JSONObject = [
      "n_layer": 8, "n_head": 8, "head_dim": 128, "n_query_groups": 2, "n_embd": 512,
      "intermediate_size": 2048, "mup": true, "mup_d0": 8, "depth_scale": true,
      "local_window": 256, "block_size": 8192, "tied_embed": true, "qk_norm": true, "bias": true,
      "attn_bias": true, "attn_out_bias": true, "_norm_class": "LayerNorm", "use_muonh": false,
    ]
    for (key, value) in want { #expect(config[key] == value, "\(key)") }
    #expect(notes.count == 1)
    for text in ["1 / sqrt(2 * 8)", "16 / 8, where training had 8.0 / 8", "_qknorm", "LayerNorm"] {
      #expect(notes[0].contains(text), "\(text)")
    }
  }

  @Test("MuonH means muP without its factor on the logits")
  func muonH() throws {
    let (config, notes) = try config([
      "model_name": "transformer_d8", "train_config": "muonh_rope",
      "base_hps.w_init_scale": 1.0,
    ])
    #expect(config["mup"] == true && config["use_muonh"] == true)
    #expect(config["mup_d0"] == 8)
    #expect(notes.first?.contains("no _mup_") == true)
  }

  @Test("a run of July 2025 knows fewer flags, and takes 16 for the base depth")
  func fused() throws {
    let (config, notes) = try config(
      [
        "model_name": "sambayda_d8", "train_config": "v2_mup_qknorm", "mup": true,
        "base_hps.w_init0": 1.0,
      ], fused: true)
    #expect(config["mup_d0"] == 16)
    #expect(config["qk_norm"] == nil && config["separate_qkv"] == nil)
    #expect(config["use_da"] == true)
    #expect(notes == [])
  }

  @Test("flags that are not supported reach the config, which is refused by them")
  func refusedFlags() throws {
    let (config, _) = try config([
      "model_name": "transformer_d8", "train_config": "x_lc_skipgain",
      "base_hps.w_init_scale": 1.0, "post_norm": true,
    ])
    #expect(config["lc"] == true && config["skip_gain"] == true && config["post_norm"] == true)
  }
}
