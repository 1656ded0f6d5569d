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
      ("full_swa_extend", true), ("mlp_relu2", true), ("use_sigmoid", true), ("fa2", false),
      ("zero_mod", true), ("decouple_postnorm", true), ("skip_gain", true), ("compress", true),
      ("mlp", false), ("rnn_type", "delta"), ("local_window", 0), ("ada_rope", true),
      ("n_head", 5), ("n_query_groups", 3), ("gmu_attn", "both"), ("rnn_per_layer", -1),
    ] as [(String, JSONValue)])
  func unsupported(key: String, value: JSONValue) throws {
    let directory = TemporaryDirectory()
    let fixture = ModelFixture.named("as-sambay/archscale")
    let path = try changedConfig(fixture, in: directory) {
      $0[key] = value == "both" ? true : value
      if value == "both" { $0["gmu_mlp"] = true }
    }
    let key = ["gmu_attn": "gmu_mlp", "rnn_per_layer": "gmu_yoco"][key] ?? key
    let found = try weighbridge.inspect(
      CheckpointInput(path: fixture.path, configPath: path)
    ).problems.filter { $0.severity == .error }
    // A size that cannot be is told with its range.
    let code = ["local_window", "n_head", "n_query_groups"].contains(key) ? "value" : "unsupported"
    #expect(found.contains { $0.code == "config.\(code)" && $0.subject == key }, "\(found)")
  }

  @Test("every named configuration makes a model of its size, in both forms")
  func presets() throws {
    // By Fixtures/generate/archscale.py: shapes written down once more, not those of the layouts.
    let path = Fixtures.path("archscale-parameters.json")
    let counts = try JSONParser.parse(Files.read(path), file: path).object!
    #expect(Set(counts.keys) == Set(weighbridge.library.archScalePresets.names))
    for (name, pair) in counts {
      for (form, fused) in [(0, false), (1, true)] {
        // Some names are of one form only.
        guard let count = pair.array?[form].int else { continue }
        #expect(weighbridge.parameters(ofPreset: name, isFused: fused) == count, "\(name)")
      }
    }
    // The published model; separate projections have no bias of the keys: nine layers of 1280.
    #expect(counts["phi4miniflash_d32"]?.array?[1] == 3_852_562_944)
    #expect(counts["phi4miniflash_d32"]?.array?[0] == .int(3_852_562_944 - 9 * 1280))
  }

  @Test("a layout's own name is a target, too, and another name of it")
  func layoutNames() throws {
    let sambay = ModelFixture.named("as-sambay/archscale").path
    let fused = try Converted(sambay, to: "archscale-fused")
    #expect(fused.result.plan.to.name == "archscale-fused")
    #expect(fused.result.plan.exactness == .bitwise)
    #expect(fused.checkpoint.tensors["transformer.h.1.attn.attn.weight"] != nil)
    // What has no name of its own stays as it is, and archscale-separate goes back.
    #expect(try Converted(fused.path, to: "archscale").result.plan.to.name == "archscale-fused")
    let back = try Converted(fused.path, to: "archscale-separate")
    #expect(back.result.plan.to.name == "archscale")
    #expect(back.result.plan.exactness == .bitwise)
    #expect(back.checkpoint.tensors == (try stored(.named("as-sambay/archscale"))).tensors)
    let phi = ModelFixture.named("phi4flash/archscale").path
    #expect(try Converted(phi, to: "phi4flash-hf").result.plan.exactness == .bitwise)
    #expect(throws: Refusal.self) { try Converted(sambay, to: "llama-hf") }
    #expect(throws: Diagnostic.self) { try Converted(sambay, to: "archscale-fuse") }
  }

  @Test("a projection that nothing applies stays in the layout, and its loss is told elsewhere")
  func skipProjection() throws {
    let directory = TemporaryDirectory()
    let tiny = TinyArchScale("transformer_gqa4_h2_skipw_d8", ["n_layer": 4])
    let path = try tiny.write(in: directory)
    var stored = try StoredCheckpoint(path)
    let name = "transformer.h.3.skip_proj.weight"
    stored.tensors[name] = stored.tensors["transformer.h.3.attn.proj.weight"]
    write(stored.tensors, config: tiny.config, to: path)
    let kept = try Converted(path, to: "archscale", config: path + "/archscale_config.json")
    #expect(kept.checkpoint.tensors[name] == stored.tensors[name])
    #expect(kept.config["skip_weight_per_layer"] == 4)
    let older = try Converted(
      path, to: "archscale-fused", config: path + "/archscale_config.json")
    #expect(
      older.result.problems.contains {
        $0.code == "convert.left-out" && $0.subject == name && $0.severity == .warning
      })
  }

  @Test("norms of q and k make a Qwen3, and come back")
  func qwen3() throws {
    let directory = TemporaryDirectory()
    let source = try TinyArchScale(
      "transformer_d8", ["qk_norm": true, "head_dim": 10, "n_layer": 3, "tied_embed": true]
    ).write(in: directory)
    let converted = try Converted(source, to: "hf")
    #expect(converted.config["model_type"] == "qwen3")
    #expect(converted.config["head_dim"] == 10)
    #expect(converted.config["sliding_window"] == .null)
    let own = try StoredCheckpoint(source)
    #expect(
      converted.checkpoint.tensors["model.layers.2.self_attn.k_norm.weight"]
        == own.tensors["transformer.h.2.attn.k_norm.weight"])
    let back = try Converted(converted.path, to: "archscale")
    for (name, tensor) in own.tensors {
      #expect(back.checkpoint.tensors[name] == tensor, "\(name)")
    }
    #expect(back.config["qk_norm"] == true)
    // muP's factor on the scores goes into the norm, which would undo it in the projection.
    let scaled = try Converted(
      TinyArchScale("transformer_d8", ["qk_norm": true, "mup": true, "mup_hd0": 48, "n_layer": 3])
        .write(in: directory), to: "hf")
    let norm = try StoredCheckpoint(scaled.path).tensors["model.layers.1.self_attn.q_norm.weight"]!
    let plain = try StoredCheckpoint(directory.file("transformer_d8"))
      .tensors["transformer.h.1.attn.q_norm.weight"]!
    // Heads of 12 channels: sqrt(48 / 12).
    #expect(norm.values == plain.values.map { 2 * $0 })
  }

  @Test("windows of some layers have their place in a Qwen3, and none in a Llama")
  func qwenWindows() throws {
    let directory = TemporaryDirectory()
    let changes: JSONObject = ["local_window": 3, "full_per_layer": 2, "n_layer": 4]
    let source = try TinyArchScale("transformer_d8", changes.merging(["qk_norm": true]) { $1 })
      .write(in: directory)
    let converted = try Converted(source, to: "hf")
    #expect(
      converted.config["layer_types"]
        == ["sliding_attention", "full_attention", "sliding_attention", "full_attention"])
    #expect(converted.config["sliding_window"] == 3)
    let plain = try TinyArchScale("transformer_d8", changes).write(in: directory)
    #expect(throws: Refusal.self) { try Converted(plain, to: "hf") }
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

  @Test("a config that says otherwise than the trainer is told, key by key")
  func contradictions() throws {
    let run = try #require(
      ArchScaleRun(
        [
          "hparams": [
            "model_name": "tiny_d5", "train_config": "x_mup_muonh", "mup": true,
            "depth_scale": true,
            "base_hps.d0": 8, "base_hps.hd0": 128, "rope_base": 640000, "swa_len": 6,
            "base_hps.w_init_scale": 1.0,
          ]
        ], hasFusedProjections: false))
    // What eval.py makes of it, and a window off by one.
    let config: JSONObject = [
      "mup": true, "mup_d0": 16, "mup_hd0": 128, "depth_scale": false, "use_muonh": false,
      "rope_base": 640000, "local_window": 7,
    ]
    let found = run.contradictions(config, from: "a.json")
    #expect(
      found.map(\.subject) == ["depth_scale", "local_window", "mup_d0", "use_muonh"], "\(found)")
    #expect(found.allSatisfy { $0.code == "archscale.hparams" && $0.severity == .warning })
    #expect(found[2].message.contains("16 in a.json") && found[2].message.contains("8 by"))
  }

  @Test("the recipe is told from the run's name where it is nowhere else")
  func recipeOfRun() throws {
    let (config, _) = try config([
      "model_name": "transformer_d8", "name": "scaling_mup_tie_transformer_d8_ar64_ctx4096",
      "ar": 64,
      "base_hps.w_init_scale": 1.0,
    ])
    #expect(config["mup"] == true && config["tied_embed"] == true)
    // Heads have no size of their own: width / heads.
    #expect(config["n_embd"] == 512 && config["head_dim"] == .null)
    let (other, _) = try self.config([
      "model_name": "transformer_d8", "train_config": "x_noskip_sum",
      "base_hps.w_init_scale": 1.0,
    ])
    #expect(other["sum_skip"] == true && other["no_skip"] == false)
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
