import Conversion
import Hub
import OrderedCollections
import TestSupport
import Tensors
import Testing
import WeighbridgeKit

@Suite("MLX")
struct MLXTests {
  static let mamba = ModelFixture.named("mamba-tied/hf")

  /// A directory of random weights with these shapes.
  private func model(
    _ shapes: [String: [Int]], _ config: JSONObject, format: String? = nil, at path: String
  ) -> [String: StoredCheckpoint.Tensor] {
    var random = SeededRandom(11)
    var tensors: [String: StoredCheckpoint.Tensor] = [:]
    for (name, shape) in shapes.sorted(by: { $0.key < $1.key }) {
      tensors[name] = tensor(
        shape, (0..<shape.reduce(1, *)).map { _ in Float.random(in: -1...1, using: &random) })
    }
    write(tensors, config: config, to: path)
    if let format { self.format(format, path + "/model.safetensors") }
    return tensors
  }

  /// Puts `format` into the metadata of a file that has none.
  private func format(_ format: String, _ path: String) {
    let bytes = Files.read(path)
    let length = bytes[..<8].enumerated().reduce(0) { $0 | Int($1.element) << ($1.offset * 8) }
    let header = String(decoding: bytes[8..<8 + length], as: UTF8.self)
    Files.write(
      SafetensorsBuilder.file(
        header: "{\"__metadata__\":{\"format\":\"\(format)\"},\(header.dropFirst())",
        data: Array(bytes[(8 + length)...])), to: path)
  }

  private func llama(_ more: JSONObject) -> ([String: [Int]], JSONObject) {
    var shapes = [
      "model.embed_tokens.weight": [12, 8], "model.norm.weight": [8], "lm_head.weight": [12, 8],
    ]
    for i in 0..<2 {
      for (name, shape) in [
        "input_layernorm.weight": [8], "post_attention_layernorm.weight": [8],
        "self_attn.q_proj.weight": [16, 8], "self_attn.k_proj.weight": [8, 8],
        "self_attn.v_proj.weight": [8, 8], "self_attn.o_proj.weight": [8, 16],
        "mlp.gate_proj.weight": [6, 8], "mlp.up_proj.weight": [6, 8],
        "mlp.down_proj.weight": [8, 6],
      ] { shapes["model.layers.\(i).\(name)"] = shape }
    }
    var config: JSONObject = [
      "model_type": "llama", "hidden_size": 8, "intermediate_size": 6, "num_hidden_layers": 2,
      "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "vocab_size": 12,
      "rms_norm_eps": 1e-5, "tie_word_embeddings": false,
    ]
    config.merge(more) { _, new in new }
    return (shapes, config)
  }

  private func mamba2(_ more: JSONObject, groups: Int = 1) -> ([String: [Int]], JSONObject) {
    var shapes = ["backbone.embeddings.weight": [10, 8], "backbone.norm_f.weight": [8]]
    let channels = 16 + 2 * groups * 3
    for (name, shape) in [
      "norm.weight": [8], "mixer.in_proj.weight": [16 + channels + 4, 8],
      "mixer.conv1d.weight": [channels, 1, 2], "mixer.conv1d.bias": [channels],
      "mixer.dt_bias": [4], "mixer.A_log": [4], "mixer.D": [4], "mixer.norm.weight": [16],
      "mixer.out_proj.weight": [8, 16],
    ] { shapes["backbone.layers.0." + name] = shape }
    var config: JSONObject = [
      "model_type": "mamba2", "hidden_size": 8, "num_hidden_layers": 1, "vocab_size": 10,
      "state_size": 3, "num_heads": 4, "head_dim": 4, "n_groups": .int(groups), "conv_kernel": 2,
      "expand": 2, "tie_word_embeddings": true,
    ]
    config.merge(more) { _, new in new }
    return (shapes, config)
  }

  @Test("a Mamba has MLX's axes and metadata, no tied head, and comes back bitwise by itself")
  func mamba() throws {
    let source = try StoredCheckpoint(Self.mamba.path)
    let written = try Converted(Self.mamba.path, to: "mlx")
    #expect(written.result.plan.exactness == .bitwise)
    #expect(written.checkpoint.metadata["format"] == "mlx")
    #expect(Set(written.checkpoint.tensors.keys) == Set(source.tensors.keys))
    for (name, tensor) in source.tensors {
      let found = try #require(written.checkpoint.tensors[name])
      #expect(found.bytes == tensor.bytes, "\(name)")
      #expect(found.shape == (name.hasSuffix("conv1d.weight") ? [96, 4, 1] : tensor.shape))
    }
    // mlx-lm's ModelArgs has no defaults for these.
    for (key, value) in [
      "model_type": "mamba", "vocab_size": 128, "hidden_size": 48, "intermediate_size": 96,
      "state_size": 16, "num_hidden_layers": 3, "conv_kernel": 4, "use_bias": false,
      "use_conv_bias": true, "time_step_rank": 3, "tie_word_embeddings": true,
    ] as JSONObject { #expect(written.config[key] == value, "\(key)") }
    let loaded = try weighbridge.load(CheckpointInput(path: written.path))
    #expect(loaded.bound?.layout.name == "mamba-mlx")
    #expect(loaded.problems == [])
    let back = try Converted(written.path, to: "hf")
    #expect(back.result.plan.exactness == .bitwise)
    #expect(back.checkpoint.tensors == source.tensors)
    #expect(back.checkpoint.metadata["format"] == "pt")
    // The same layout again keeps all of it.
    let again = try Converted(written.path, to: "mlx")
    #expect(again.checkpoint.tensors == written.checkpoint.tensors)
    #expect(again.checkpoint.metadata["format"] == "mlx")
    // And MLX to GGUF is what the source is to GGUF.
    let (one, two) = (
      try Converted(written.path, to: "mamba_ssm"), try Converted(Self.mamba.path, to: "mamba_ssm")
    )
    #expect(one.checkpoint.tensors == two.checkpoint.tensors)
  }

  @Test("transformers' axes under MLX's metadata are read too, as mlx-lm reads them")
  func otherAxes() throws {
    let directory = TemporaryDirectory()
    let source = try StoredCheckpoint(Self.mamba.path)
    write(
      source.tensors, config: try readConfig(Self.mamba.path + "/config.json"),
      to: directory.file("in"))
    format("mlx", directory.file("in/model.safetensors"))
    let written = try Converted(directory.file("in"), to: "mlx")
    #expect(written.result.plan.from.name == "mamba-mlx")
    #expect(
      written.checkpoint.tensors["backbone.layers.0.mixer.conv1d.weight"]?.shape == [96, 4, 1])
  }

  @Test("the index that mlx-lm writes beside a single file is that file's")
  func index() throws {
    let directory = TemporaryDirectory()
    let written = try Converted(Self.mamba.path, to: "mlx")
    for name in ["model.safetensors", "config.json"] {
      Files.write(Files.read(written.path + "/" + name), to: directory.file(name))
    }
    let names = written.checkpoint.tensors.keys.sorted()
    let index = directory.file("model.safetensors.index.json")
    func put(_ file: String) {
      Files.write(
        "{\"metadata\": {\"total_size\": 1}, \"weight_map\": {"
          + names.map { "\"\($0)\": \"\(file)\"" }.joined(separator: ", ") + "}}", to: index)
    }
    put("model.safetensors")
    #expect(
      try Converted(directory.path, to: "hf").checkpoint.tensors
        == StoredCheckpoint(Self.mamba.path).tensors)
    // An index of other files is another checkpoint.
    put("model-00001-of-00001.safetensors")
    #expect(
      failure { _ = try Converted(directory.path, to: "hf") }.map(\.code)
        == ["checkpoint.ambiguous"])
  }

  @Test("weights.npz, which says nothing of its format, is MLX's where that is said")
  func npz() throws {
    let written = try Converted(Self.mamba.path, to: "mlx") { $0.container = .npz }
    #expect(written.names.contains("weights.npz"))
    let tensors = written.checkpoint.tensors
    #expect(tensors["backbone.layers.1.mixer.conv1d.weight"]?.shape == [96, 4, 1])
    var input = CheckpointInput(path: written.path)
    #expect(try weighbridge.load(input).bound?.layout.name == "mamba-hf")
    input.framework = "mlx"
    let loaded = try weighbridge.load(input)
    #expect(loaded.bound?.layout.name == "mamba-mlx")
    #expect(loaded.problems == [])
  }

  @Test("Mamba-2 says what mlx-lm asks for, infinity as a number of plain JSON")
  func mamba2() throws {
    let directory = TemporaryDirectory()
    let (shapes, config) = mamba2([:])
    let tensors = model(shapes, config, at: directory.file("in"))
    let written = try Converted(directory.file("in"), to: "mlx")
    #expect(written.config["time_step_limit"] == [0.0, 3.4028234663852886e+38])
    #expect(written.config["intermediate_size"] == 16)
    #expect(written.config["time_step_rank"] == 1)
    let name = "backbone.layers.0.mixer.conv1d.weight"
    #expect(written.checkpoint.tensors[name]?.shape == [22, 2, 1])
    #expect(written.checkpoint.tensors[name]?.bytes == tensors[name]?.bytes)
    let back = try Converted(written.path, to: "hf")
    #expect(back.result.plan.from.name == "mamba2-mlx")
    #expect(back.checkpoint.tensors == tensors)
    #expect(back.config["time_step_limit"] == nil)
  }

  @Test("a window in some layers, and the scalings of rotary frequencies, are said in MLX's words")
  func llama() throws {
    let directory = TemporaryDirectory()
    let (shapes, config) = llama([
      "layer_types": ["full_attention", "sliding_attention"], "sliding_window": 4,
      "rope_theta": 500.0,
      "rope_scaling": [
        "rope_type": "llama3", "factor": 8, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
      ],
    ])
    let tensors = model(shapes, config, format: "mlx", at: directory.file("in"))
    let loaded = try weighbridge.load(CheckpointInput(path: directory.file("in")))
    let bound = try #require(loaded.bound)
    #expect(bound.layout.name == "llama-mlx")
    #expect(bound.problems == [])
    let layers = bound.spec.sublayers.filter { $0.kind == "attention" }
    #expect(layers.map { $0["window"] } == [.null, 4])
    #expect(layers.map { $0["rope_base"] } == [500.0, 500.0])
    // llama's class of transformers slides nowhere.
    let problems = try refusal { _ = try Converted(directory.file("in"), to: "hf") }
    #expect(problems.contains { $0.subject == "attention.window" })
    // Without the window it goes there and comes back.
    let plain = llama(["rope_theta": 500.0, "rope_scaling": config["rope_scaling"]!])
    _ = model(plain.0, plain.1, at: directory.file("plain"))
    let written = try Converted(directory.file("plain"), to: "mlx")
    #expect(written.config["rope_scaling"]?["factor"]?.double == 8)
    #expect(written.config["rope_parameters"] == nil)
    #expect(written.config["rope_theta"] == 500.0)
    #expect(written.config["layer_types"] == nil)
    #expect(written.checkpoint.tensors == tensors)
    let back = try Converted(written.path, to: "hf")
    #expect(back.config["rope_parameters"]?["rope_type"] == "llama3")
    #expect(back.config["rope_parameters"]?["rope_theta"] == 500.0)
    #expect(back.checkpoint.tensors == tensors)
  }

  /// A change of a config, and the key by which it is refused.
  struct Refused: Sendable, CustomStringConvertible {
    var description: String
    var family: String
    var change: JSONObject
    var key: String
    var groups = 1
  }

  @Test(
    "what mlx-lm computes otherwise is refused, by the key",
    arguments: [
      Refused(
        description: "a window everywhere", family: "llama",
        change: ["model_type": "mistral", "sliding_window": 4], key: "layer_types"),
      Refused(
        description: "yarn with its own magnitude", family: "llama",
        change: [
          "rope_scaling": [
            "rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 8,
            "attention_factor": 1.5,
          ]
        ], key: "rope_scaling"),
      Refused(
        description: "another epsilon", family: "mamba2", change: ["layer_norm_epsilon": 1e-6],
        key: "layer_norm_epsilon"),
      Refused(
        description: "several groups", family: "mamba2", change: [:], key: "n_groups", groups: 2),
    ])
  func refused(_ refused: Refused) throws {
    let directory = TemporaryDirectory()
    let (shapes, config) =
      refused.family == "llama"
      ? llama(refused.change) : mamba2(refused.change, groups: refused.groups)
    _ = model(shapes, config, at: directory.file("in"))
    let problems = try refusal { _ = try Converted(directory.file("in"), to: "mlx") }
    #expect(problems.map(\.subject) == [refused.key])
  }

  @Test(
    "a config that mlx-lm reads otherwise than its author meant is told, and --from hf is the way",
    arguments: [
      Refused(
        description: "a Mistral's window", family: "llama",
        change: ["model_type": "mistral", "sliding_window": 4], key: "sliding_window"),
      Refused(
        description: "another base", family: "llama",
        change: ["rope_parameters": ["rope_type": "default", "rope_theta": 77.0]],
        key: "rope_parameters"),
      Refused(
        description: "no full attention", family: "llama",
        change: ["layer_types": ["sliding_attention", "sliding_attention"]], key: "layer_types"),
    ])
  func read(_ told: Refused) throws {
    let directory = TemporaryDirectory()
    let (shapes, config) = llama(told.change)
    _ = model(shapes, config, format: "mlx", at: directory.file("in"))
    var input = CheckpointInput(path: directory.file("in"))
    let errors = try weighbridge.load(input).problems.filter { $0.severity == .error }
    #expect(errors.map(\.subject) == [told.key])
    input.framework = "hf"
    #expect(try weighbridge.load(input).problems.filter { $0.severity == .error } == [])
  }
}
