import Checkpoints
import Conversion
import Hub
import Layouts
import OrderedCollections
import TestSupport
import Tensors
import Testing
import WeighbridgeKit

/// The names of the embedding and the head in a fixture.
private func tiedNames(_ fixture: ModelFixture) -> (embedding: String, head: String) {
  switch fixture.layout {
  case "lit_gpt", "gla-berlino", "archscale", "archscale-fused":
    ("transformer.wte.weight", "lm_head.weight")
  case "phi4flash-hf": ("model.embed_tokens.weight", "lm_head.weight")
  case "retnet-torchscale": ("embed_tokens.weight", "output_projection.weight")
  case "mamba-ssm", "mamba2-ssm": ("backbone.embedding.weight", "lm_head.weight")
  case "bamba-hf", "granitemoehybrid-hf", "falcon_h1-hf", "zamba2-hf", "jamba-hf":
    ("model.embed_tokens.weight", "lm_head.weight")
  case "gla-fla", "retnet-fla": ("model.embeddings.weight", "lm_head.weight")
  default: ("backbone.embeddings.weight", "lm_head.weight")
  }
}

/// A fixture's config under which its framework ties the head, where it has such a key.
private func tyingConfig(_ fixture: ModelFixture, _ tied: Bool = true) throws -> JSONObject {
  var config = try config(of: fixture)
  switch fixture.framework {
  case "torchscale": config["share_decoder_input_output_embed"] = .bool(tied)
  case "mamba_ssm": config["tie_embeddings"] = .bool(tied)
  case "lit_gpt", "archscale", "archscale-fused": break
  default: config["tie_word_embeddings"] = .bool(tied)
  }
  return config
}

@Suite("Names in wrappers", .tags(.slow))
struct WrapperTests {
  /// What people put around a model.
  static let wrappers = [
    "model.", "net.", "module.", "student.", "pretrained_model.", "_forward_module.", "_orig_mod.",
    "state_dict.", "ema.", "app.model.", "lm.", "transformer_model.", "module.model.",
    "_orig_mod.module.", "model.model.", "transformer.", "backbone.", "0.", "a.b.c.d.",
  ]

  @Test(
    "every layout in every wrapper is read, told, and written without it, bit for bit",
    arguments: ModelFixture.all)
  func matrix(fixture: ModelFixture) throws {
    try wrapped(
      try stored(fixture).tensors, try config(of: fixture), fixture.framework, fixture.layout)
  }

  @Test(
    "so are the layouts that no fixture has, as the tool writes them",
    arguments: [
      ("lit-llama-full/lit_gpt", "hf", "llama-hf"),
      ("lit-llama-full/lit_gpt", "fla", "transformer-fla"),
    ])
  func derived(source: String, framework: String, layout: String) throws {
    let own = try Converted(ModelFixture.named(source).path, to: framework)
    try wrapped(own.checkpoint.tensors, own.config, framework, layout)
  }

  private func wrapped(
    _ plain: [String: StoredCheckpoint.Tensor], _ config: JSONObject, _ framework: String,
    _ layout: String
  ) throws {
    for wrapper in Self.wrappers {
      let directory = TemporaryDirectory()
      let wrapped = Dictionary(uniqueKeysWithValues: plain.map { (wrapper + $0.key, $0.value) })
      write(wrapped, config: config, to: directory.file("in"))
      let hop = try Converted(directory.file("in"), to: framework) {
        $0.container = .safetensors
      }
      #expect(hop.checkpoint.tensors == plain, "\(wrapper)")
      #expect(hop.result.plan.from.name == layout, "\(wrapper)")
      #expect(hop.result.plan.exactness == .bitwise)
      #expect(
        hop.result.plan.reasons.map(\.text).contains { $0.contains("prefixes of wrappers") },
        "\(wrapper): \(hop.result.plan.reasons)")
      let notes = hop.result.problems.filter { $0.code == "layout.prefix-stripped" }
      #expect(notes.map(\.severity) == [.note], "\(wrapper): \(hop.result.problems)")
      #expect(notes.first?.subject == wrapper)
      #expect(
        hop.result.problems.allSatisfy { $0.severity == .note || $0.code == "config.float-object" })
    }
  }

  @Test("a wrapped model gives another framework the same bytes as the model alone")
  func elsewhere() throws {
    for (name, target) in [
      ("mamba-tied/hf", "fla"), ("lit-samba/lit_gpt", "fla"), ("samba-fla/fla", "lit_gpt"),
      ("retnet-torchscale/torchscale", "fla"),
    ] {
      let fixture = ModelFixture.named(name)
      let directory = TemporaryDirectory()
      let plain = try stored(fixture).tensors
      write(
        Dictionary(uniqueKeysWithValues: plain.map { ("model.net." + $0.key, $0.value) }),
        config: try config(of: fixture), to: directory.file("in"))
      let own = try? Converted(fixture.path, to: target)
      let wrapped = try? Converted(directory.file("in"), to: target)
      #expect((own == nil) == (wrapped == nil), "\(name)")
      if let own, let wrapped {
        #expect(own.checkpoint.tensors == wrapped.checkpoint.tensors, "\(name)")
      }
    }
    let own = try Converted(ModelFixture.named("mamba-tied/hf").path, to: "fla")
    #expect(own.checkpoint.tensors.count > 20)
  }

  @Test("what lies outside the wrapper is one error that names it")
  func outside() throws {
    let fixture = ModelFixture.named("gla-base/fla")
    let directory = TemporaryDirectory()
    var tensors = Dictionary(
      uniqueKeysWithValues: try stored(fixture).tensors.map { ("net." + $0.key, $0.value) })
    tensors["loss_fn.weight"] = tensor([3], [1, 2, 3])
    tensors["val_acc.total"] = tensor([1], [7])
    write(tensors, config: try config(of: fixture), to: directory.file("in"))
    let problems = try weighbridge.inspect(CheckpointInput(path: directory.file("in"))).problems
    let errors = problems.filter { $0.severity == .error }
    #expect(errors.map(\.code) == ["layout.outside-prefix"])
    #expect(errors.first?.notes == ["such as loss_fn.weight, val_acc.total"])
    #expect(errors.first?.message.contains("'net.'") == true)
    let found = failure {
      _ = try Converted(directory.file("in"), to: "fla")
    }
    #expect(found.map(\.code) == ["layout.outside-prefix"])
  }

  @Test("a prefix is not taken off where that would give two tensors one name")
  func clash() throws {
    let fixture = ModelFixture.named("gla-base/fla")
    let directory = TemporaryDirectory()
    let plain = try stored(fixture).tensors
    var tensors = Dictionary(uniqueKeysWithValues: plain.map { ("net." + $0.key, $0.value) })
    tensors["lm_head.weight"] = plain["lm_head.weight"]!
    write(tensors, config: try config(of: fixture), to: directory.file("in"))
    let problems = try weighbridge.inspect(CheckpointInput(path: directory.file("in"))).problems
    #expect(problems.map(\.code) == ["layout.unknown"])
    #expect(
      failure { _ = try Converted(directory.file("in"), to: "fla") }.map(\.code) == [
        "layout.unknown"
      ])
  }
}

@Suite("Base models and heads that stand for embeddings")
struct TiedNameTests {
  static let withBase = ModelFixture.all.filter {
    !["lit_gpt", "archscale", "torchscale"].contains($0.framework)
  }

  /// A fixture's tensors as its base model saves them.
  private func base(_ fixture: ModelFixture) throws -> [String: StoredCheckpoint.Tensor] {
    let (embedding, head) = tiedNames(fixture)
    let prefix = embedding.prefix { $0 != "." } + "."
    var tensors: [String: StoredCheckpoint.Tensor] = [:]
    for (name, tensor) in try stored(fixture).tensors where name != head {
      #expect(name.hasPrefix(prefix))
      tensors[String(name.dropFirst(prefix.count))] = tensor
    }
    return tensors
  }

  @Test("a tied base model is read as its head class reads it", arguments: withBase)
  func tied(fixture: ModelFixture) throws {
    // berlino and Nemotron-H never tie the head.
    guard fixture.framework != "berlino", fixture.layout != "nemotron_h-hf" else { return }
    let (embedding, head) = tiedNames(fixture)
    for wrapper in ["", "net.", "model."] where wrapper.isEmpty || embedding.first == "b" {
      let directory = TemporaryDirectory()
      let tensors = Dictionary(
        uniqueKeysWithValues: try base(fixture).map { (wrapper + $0.key, $0.value) })
      write(tensors, config: try tyingConfig(fixture), to: directory.file("in"))
      let hop = try Converted(directory.file("in"), to: fixture.framework) {
        $0.container = .safetensors
      }
      var expected = try stored(fixture).tensors
      expected[head] = nil
      #expect(hop.checkpoint.tensors == expected, "\(wrapper)")
      #expect(hop.result.plan.exactness == .bitwise)
      let notes = hop.result.problems.filter { $0.code == "layout.base-prefix" }
      #expect(notes.map(\.subject) == [embedding.prefix { $0 != "." } + "."])
      #expect(
        hop.result.problems.allSatisfy { $0.severity == .note || $0.code == "config.float-object" })
    }
  }

  @Test(
    "a base model whose head is not tied lacks it, and that is the one error", arguments: withBase)
  func untied(fixture: ModelFixture) throws {
    let directory = TemporaryDirectory()
    write(
      try base(fixture), config: try tyingConfig(fixture, false), to: directory.file("in"))
    let found = failure { _ = try Converted(directory.file("in"), to: fixture.framework) }
    #expect(found.map { "\($0.code) \($0.subject)" } == ["layout.base-model lm_head.weight"])
  }

  /// A file of a tied model that holds the head alone.
  private func headOnly(_ fixture: ModelFixture, tied: Bool) throws -> TemporaryDirectory {
    let directory = TemporaryDirectory()
    let (embedding, head) = tiedNames(fixture)
    var tensors = try stored(fixture).tensors
    tensors[head] = tensors.removeValue(forKey: embedding)!
    write(tensors, config: try tyingConfig(fixture, tied), to: directory.file("in"))
    return directory
  }

  static let tieable = ModelFixture.all.filter {
    $0.framework != "berlino" && $0.layout != "nemotron_h-hf"
      && (!["lit_gpt", "archscale"].contains($0.framework) || $0.tied)
  }

  @Test("a head alone stands for a tied embedding, in every layout", arguments: tieable)
  func headAlone(fixture: ModelFixture) throws {
    let (embedding, head) = tiedNames(fixture)
    let directory = try headOnly(fixture, tied: true)
    for container in [Container.safetensors, .pytorch] {
      let hop = try Converted(directory.file("in"), to: fixture.framework) {
        $0.container = container
      }
      var expected = try stored(fixture).tensors
      expected[head] = nil
      // These frameworks' files hold both names.
      if ["lit_gpt", "archscale", "torchscale", "mamba_ssm"].contains(fixture.framework) {
        expected[head] = expected[embedding]
        if container == .pytorch { #expect(hop.checkpoint.shared == [[embedding, head]]) }
      }
      #expect(hop.checkpoint.tensors == expected)
      #expect(hop.result.plan.exactness == .bitwise)
      let notes = hop.result.problems.filter { $0.code == "layout.embedding-absent" }
      #expect(notes.map(\.subject) == [embedding])
    }
  }

  @Test(
    "a head alone is not taken for an embedding that the config does not tie",
    arguments: tieable.filter { !["lit_gpt", "archscale"].contains($0.framework) })
  func headAloneUntied(fixture: ModelFixture) throws {
    let directory = try headOnly(fixture, tied: false)
    let found = failure { _ = try Converted(directory.file("in"), to: fixture.framework) }
    #expect(
      found.map { "\($0.code) \($0.subject)" }
        == ["layout.missing-tensor \(tiedNames(fixture).embedding)"])
  }

  @Test("the note of a dropped name is not carried to a file that has the name")
  func alias() throws {
    let fixture = ModelFixture.named("mamba-tied/hf")
    let directory = try headOnly(fixture, tied: true)
    let bytes = Files.read(directory.file("in/model.safetensors"))
    let length = bytes[..<8].enumerated().reduce(0) { $0 | Int($1.1) << (8 * $1.0) }
    let header =
      "{\"__metadata__\":{\"backbone.embeddings.weight\":\"lm_head.weight\",\"author\":\"x\"},"
    Files.write(
      SafetensorsBuilder.file(
        header: header + String(decoding: bytes[9..<8 + length], as: UTF8.self),
        data: Array(bytes[(8 + length)...])), to: directory.file("in/model.safetensors"))
    let hop = try Converted(directory.file("in"), to: "hf")
    #expect(hop.checkpoint.metadata == ["author": "x", "format": "pt"])
    #expect(
      hop.checkpoint["backbone.embeddings.weight"]
        == (try stored(fixture))["backbone.embeddings.weight"])
  }

  @Test("a base model of a tied Mamba gives mamba_ssm both names")
  func baseElsewhere() throws {
    let fixture = ModelFixture.named("mamba-tied/hf")
    let directory = TemporaryDirectory()
    write(try base(fixture), config: try config(of: fixture), to: directory.file("in"))
    let own = try Converted(fixture.path, to: "mamba_ssm")
    let bare = try Converted(directory.file("in"), to: "mamba_ssm")
    #expect(own.checkpoint.tensors == bare.checkpoint.tensors)
    let head = bare.checkpoint.tensors["lm_head.weight"]
    #expect(head == bare.checkpoint["backbone.embedding.weight"])
  }
}

@Suite("Forms of other tools")
struct ForeignFormTests {
  @Test(
    "MLX's convolutions are the same numbers in another shape",
    arguments: [
      "mamba-tied/hf", "mamba-fla/fla", "samba-fla/fla", "gla-conv-gqa-clamp/fla",
      "lit-samba/lit_gpt", "lit-s6-mega/lit_gpt", "mamba-tied/mamba_ssm",
    ])
  func mlx(name: String) throws {
    let fixture = ModelFixture.named(name)
    let directory = TemporaryDirectory()
    let plain = try stored(fixture).tensors
    var turned = plain
    var count = 0
    for (name, tensor) in plain where name.hasSuffix("conv1d.weight") {
      // [C, 1, W] turned to [C, W, 1]: no byte moves.
      turned[name]!.shape = [tensor.shape[0], tensor.shape[2], tensor.shape[1]]
      count += 1
    }
    #expect(count >= 2)
    write(turned, config: try config(of: fixture), to: directory.file("in"))
    let hop = try Converted(directory.file("in"), to: fixture.framework) {
      $0.container = .safetensors
    }
    #expect(hop.checkpoint.tensors == plain)
    #expect(hop.result.plan.exactness == .bitwise)
    #expect(hop.result.problems.map(\.code) == ["layout.reshaped"])
    if name == "mamba-tied/hf" {
      let own = try Converted(fixture.path, to: "fla")
      let other = try Converted(directory.file("in"), to: "fla")
      #expect(own.checkpoint.tensors == other.checkpoint.tensors)
    }
  }

  /// Names that a tool adds to a model, and the one error that they make.
  struct Marks: Sendable, CustomStringConvertible {
    var description: String
    var names: [String]
    var code: String
    var word: String
  }

  static let marks = [
    Marks(
      description: "LoRA of PEFT",
      names: [
        "base_model.model.model.layers.0.attn.q_proj.lora_A.default.weight",
        "base_model.model.model.layers.0.attn.q_proj.lora_B.default.weight",
      ], code: "checkpoint.adapter", word: "merge_and_unload"),
    Marks(
      description: "LoRA of litgpt",
      names: ["transformer.h.0.attn.attn.lora_A", "transformer.h.0.attn.attn.lora_B"],
      code: "checkpoint.adapter", word: "merge_lora"),
    Marks(
      description: "DoRA", names: ["model.layers.0.attn.q_proj.lora_magnitude_vector.weight"],
      code: "checkpoint.adapter", word: "merge"),
    Marks(
      description: "PEFT's wrapped layers",
      names: ["model.layers.0.attn.q_proj.base_layer.weight"], code: "checkpoint.adapter",
      word: "PEFT"),
    Marks(
      description: "bitsandbytes, 4 bits",
      names: [
        "model.layers.0.attn.q_proj.weight.absmax", "model.layers.0.attn.q_proj.weight.quant_map",
        "model.layers.0.attn.q_proj.weight.quant_state.bitsandbytes__nf4",
      ], code: "checkpoint.quantized", word: "bitsandbytes"),
    Marks(
      description: "bitsandbytes, 8 bits",
      names: ["model.layers.0.attn.q_proj.SCB", "model.layers.0.attn.q_proj.weight_format"],
      code: "checkpoint.quantized", word: "bitsandbytes"),
    Marks(
      description: "GPTQ",
      names: [
        "model.layers.0.attn.q_proj.qweight", "model.layers.0.attn.q_proj.qzeros",
        "model.layers.0.attn.q_proj.scales", "model.layers.0.attn.q_proj.g_idx",
      ], code: "checkpoint.quantized", word: "GPTQ"),
    Marks(
      description: "MLX",
      names: ["model.layers.0.attn.q_proj.scales", "model.layers.0.attn.q_proj.biases"],
      code: "checkpoint.quantized", word: "MLX"),
    Marks(
      description: "compressed-tensors", names: ["model.layers.0.attn.q_proj.weight_scale"],
      code: "checkpoint.quantized", word: "scales"),
  ]

  @Test("adapters and quantized weights are one error with the way out", arguments: marks)
  func marked(marks: Marks) throws {
    let fixture = ModelFixture.named("gla-base/fla")
    var tensors = try stored(fixture).tensors
    for name in marks.names { tensors[name] = tensor([2], [1, 2]) }
    let directory = TemporaryDirectory()
    write(tensors, config: try config(of: fixture), to: directory.file("in"))
    let inspection = try weighbridge.inspect(CheckpointInput(path: directory.file("in")))
    #expect(inspection.tensors.count == tensors.count)
    let errors = inspection.problems.filter { $0.severity == .error }
    #expect(errors.map(\.code) == [marks.code])
    let text = errors.map(\.description).joined()
    #expect(text.contains(marks.word) && text.contains("help: "), "\(text)")
    #expect(text.contains(marks.names[0]), "\(text)")
    let found = failure { _ = try Converted(directory.file("in"), to: "fla") }
    #expect(found.map(\.code) == [marks.code])
  }

  @Test("an adapter alone says that the model is another file")
  func adapterAlone() throws {
    let directory = TemporaryDirectory()
    write(
      [
        "base_model.model.model.layers.0.q_proj.lora_A.weight": tensor([2], [1, 2]),
        "base_model.model.model.layers.0.q_proj.lora_B.weight": tensor([2], [1, 2]),
      ], config: ["model_type": "llama"], to: directory.file("in"))
    let problems = try weighbridge.inspect(CheckpointInput(path: directory.file("in"))).problems
    #expect(problems.map(\.code) == ["checkpoint.adapter"])
    #expect(problems.first?.notes.contains { $0.contains("the adapter alone") } == true)
  }

  @Test(
    "an architecture that nobody knows is one error, whatever its names look like",
    arguments: [
      "zamba", "plamo2", "qwen2", "phi3", "granite", "phimoe", "bitnet", "gemma",
      "mixtral", "rwkv6", "gpt_neox", "recurrent_gemma", "hgrn2", "anything",
    ])
  func architecture(type: String) throws {
    for name in ["gla-base/fla", "mamba-tied/hf", "samba-fla/fla"] {
      let fixture = ModelFixture.named(name)
      let directory = TemporaryDirectory()
      let path = try changedConfig(fixture, in: directory) {
        $0["model_type"] = .string(type)
        $0["attn_layer_indices"] = [1]
      }
      for framework in [nil, fixture.framework] {
        let input = CheckpointInput(path: fixture.path, configPath: path, framework: framework)
        let inspection = try weighbridge.inspect(input)
        #expect(inspection.problems.map(\.code) == ["config.architecture"])
        #expect(inspection.problems.first?.message.contains("model_type \"\(type)\"") == true)
        #expect(inspection.problems.first?.message.contains("falcon_mamba, gla, granite") == true)
        #expect(!inspection.tensors.isEmpty && inspection.spec == nil)
      }
    }
  }

  @Test("a config without model_type is judged by its class, if that is a causal model's")
  func architectureByClass() throws {
    let fixture = ModelFixture.named("mamba-tied/hf")
    let directory = TemporaryDirectory()
    func problems(_ name: String) throws -> [String] {
      let path = try changedConfig(fixture, in: directory) {
        $0["model_type"] = nil
        $0["architectures"] = [.string(name)]
      }
      return try weighbridge.inspect(CheckpointInput(path: fixture.path, configPath: path))
        .problems.map(\.code)
    }
    #expect(try problems("Qwen2ForCausalLM") == ["config.architecture"])
    #expect(try problems("MambaForCausalLM") == [])
    #expect(try problems("MyTrainer") == [])
  }

  @Test("a config of another size is one error with both sizes")
  func size() throws {
    let fixture = ModelFixture.named("mamba-tied/hf")
    let directory = TemporaryDirectory()
    func errors(_ change: (inout JSONObject) -> Void) throws -> [Diagnostic] {
      let path = try changedConfig(fixture, in: directory, change)
      let input = CheckpointInput(path: fixture.path, configPath: path)
      let inspection = try weighbridge.inspect(input)
      #expect(inspection.layoutName == "mamba-hf")
      // What the tensors are is told where one key alone is wrong.
      #expect((inspection.spec?.layerCount ?? 3) == 3)
      let found = failure {
        _ = try weighbridge.convert(
          ConversionRequest(input: input, destination: directory.file("out"), to: "fla"))
      }
      let errors = inspection.problems.filter { $0.severity == .error }
      #expect(found == errors)
      return errors
    }
    let both = try errors {
      $0["hidden_size"] = 1536
      $0["num_hidden_layers"] = 24
      $0["time_step_rank"] = 96
    }
    #expect(both.map(\.code) == ["config.mismatch"])
    #expect(
      both.first?.message
        == "is not of this checkpoint: it asks for d_model 1536 and 24 layers; the tensors have "
        + "d_model 48 and 3 layers"
    )
    let fewer = try errors { $0["num_hidden_layers"] = 2 }
    #expect(fewer.map(\.subject) == ["num_hidden_layers"])
    #expect(fewer.map(\.message) == ["is 2, but the tensors are those of 3"])
    // Ten tensors of the layer that the config does not know.
    #expect(fewer.first?.notes.first?.contains("10 tensors do not fit") == true)
    let more = try errors { $0["num_hidden_layers"] = 4 }
    #expect(
      more.map(\.message)
        == ["is not of this checkpoint: it asks for 4 layers; the tensors have 3 layers"])
  }

  @Test(
    "another framework's config is one error that names both",
    arguments: [
      ("mamba-tied/hf", "mamba-tied/mamba_ssm", "mamba_ssm", "mamba-hf"),
      ("samba-fla/fla", "lit-samba/lit_gpt", "lit_gpt", "samba-fla"),
      ("lit-samba/lit_gpt", "samba-fla/fla", "fla", "lit_gpt"),
      ("retnet-torchscale/torchscale", "retnet-base/fla", "fla", "retnet-torchscale"),
      ("gla-base/fla", "mamba-tied/hf", "mamba", "gla-fla"),
    ])
  func framework(names: String, config: String, owner: String, layout: String) throws {
    let path = try CheckpointLocation(finding: ModelFixture.named(config).path).config!
    let input = CheckpointInput(path: ModelFixture.named(names).path, configPath: path)
    let errors = try weighbridge.inspect(input).problems.filter { $0.severity == .error }
    #expect(errors.map(\.code) == ["config.mismatch"])
    #expect(errors.first?.message.contains(owner) == true, "\(errors)")
    #expect(errors.first?.message.hasSuffix(layout) == true, "\(errors)")
  }

  /// mamba_ssm's Mamba-2 of three layers, the second of which may be attention.
  private func mamba2(attention: Bool) -> [String: StoredCheckpoint.Tensor] {
    var random = SeededRandom(11)
    func made(_ shape: [Int]) -> StoredCheckpoint.Tensor {
      tensor(
        shape, (0..<shape.reduce(1, *)).map { _ in Float.random(in: -1...1, using: &random) })
    }
    var all = ["backbone.embedding.weight": made([64, 32]), "backbone.norm_f.weight": made([32])]
    for i in 0..<3 {
      let prefix = "backbone.layers.\(i)."
      all[prefix + "norm.weight"] = made([32])
      // Width 64, state 16, one group, 8 heads of 8.
      var shapes: [String: [Int]] = [
        "in_proj.weight": [168, 32], "conv1d.weight": [96, 1, 4], "conv1d.bias": [96],
        "dt_bias": [8], "A_log": [8], "D": [8], "norm.weight": [64], "out_proj.weight": [32, 64],
      ]
      if attention, i == 1 {
        shapes = [
          "in_proj.weight": [96, 32], "conv1d.weight": [96, 1, 4], "conv1d.bias": [96],
          "out_proj.weight": [32, 32],
        ]
      }
      for (name, shape) in shapes { all[prefix + "mixer." + name] = made(shape) }
    }
    all["lm_head.weight"] = all["backbone.embedding.weight"]
    return all
  }

  @Test("Mamba-2 with attention that is not causal is one refusal, and no stack is made up for it")
  func mamba2WithAttention() throws {
    let directory = TemporaryDirectory()
    var config: JSONObject = [
      "d_model": 32, "n_layer": 3, "vocab_size": 64, "tie_embeddings": true,
      "ssm_cfg": ["layer": "Mamba2", "d_state": 16, "headdim": 8],
    ]
    write(mamba2(attention: false), config: config, to: directory.file("plain"))
    let plain = try weighbridge.inspect(CheckpointInput(path: directory.file("plain")))
    #expect(plain.problems == [] && plain.spec?.sublayers.count == 3)

    config["attn_layer_idx"] = [1]
    write(mamba2(attention: true), config: config, to: directory.file("in"))
    let input = CheckpointInput(path: directory.file("in"))
    let inspection = try weighbridge.inspect(input)
    #expect(
      inspection.problems.map { "\($0.code) \($0.subject)" }
        == ["config.unsupported attn_cfg.causal"])
    #expect(inspection.spec == nil && inspection.tensors.count == mamba2(attention: true).count)
    for target in ["fla", "hf", "mamba_ssm"] {
      let refused = try refusal {
        _ = try weighbridge.convert(
          ConversionRequest(input: input, destination: directory.file("out"), to: target))
      }
      #expect(refused.map(\.subject) == ["attn_cfg.causal"])
    }
    #expect(!Files.exists(directory.file("out")))
  }
}
