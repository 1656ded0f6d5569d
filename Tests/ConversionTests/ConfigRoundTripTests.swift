import Checkpoints
import Hub
import Layouts
import OrderedCollections
import TestSupport
import Tensors
import Testing
import WeighbridgeKit

/// A small Mamba-2 of transformers: width 16, 4 heads of 8, 4 states, 1 group, 2 layers, 16 words.
enum TinyMamba2 {
  static let config: JSONObject = [
    "model_type": "mamba2", "hidden_size": 16, "num_hidden_layers": 2, "vocab_size": 16,
    "state_size": 4, "num_heads": 4, "head_dim": 8, "n_groups": 1, "conv_kernel": 4, "expand": 2,
    "tie_word_embeddings": false,
  ]

  static func tensors() -> [String: StoredCheckpoint.Tensor] {
    var random = SeededRandom(11)
    var shapes: OrderedDictionary<String, [Int]> = [
      "backbone.embeddings.weight": [16, 16], "backbone.norm_f.weight": [16],
      "lm_head.weight": [16, 16],
    ]
    for i in 0..<2 {
      let prefix = "backbone.layers.\(i)."
      shapes[prefix + "norm.weight"] = [16]
      shapes[prefix + "mixer.in_proj.weight"] = [76, 16]
      shapes[prefix + "mixer.conv1d.weight"] = [40, 1, 4]
      shapes[prefix + "mixer.conv1d.bias"] = [40]
      shapes[prefix + "mixer.dt_bias"] = [4]
      shapes[prefix + "mixer.A_log"] = [4]
      shapes[prefix + "mixer.D"] = [4]
      shapes[prefix + "mixer.norm.weight"] = [32]
      shapes[prefix + "mixer.out_proj.weight"] = [16, 32]
    }
    var tensors: [String: StoredCheckpoint.Tensor] = [:]
    for (name, shape) in shapes {
      tensors[name] = tensor(
        shape, (0..<shape.reduce(1, *)).map { _ in Float.random(in: -1...1, using: &random) })
    }
    return tensors
  }

  /// Writes the model with changes to its config.
  static func store(_ path: String, _ change: JSONObject = [:]) {
    Files.makeDirectory(path)
    Files.write(
      JSONValue.object(config.merging(change) { $1 }).text(), to: path + "/config.json")
    var builder = SafetensorsBuilder()
    for (name, tensor) in tensors().sorted(by: { $0.key < $1.key }) {
      builder.add(name, tensor.dtype, tensor.shape, tensor.bytes)
    }
    Files.write(builder.bytes, to: path + "/model.safetensors")
  }
}

/// Keys that change no function survive where both frameworks have a word for them.
@Suite("Configs there and back")
struct ConfigRoundTripTests {
  /// A model, where it goes and comes back from, and keys with values that are no defaults.
  struct Trip: Sendable, CustomStringConvertible {
    var source: String
    var via: String
    var keys: JSONObject

    var description: String { "\(source) via \(via)" }
  }

  static let tokens: JSONObject = [
    "bos_token_id": 3, "eos_token_id": 4, "pad_token_id": 5, "initializer_range": 0.05,
    "use_cache": false,
  ]
  static let times: JSONObject = [
    "time_step_min": 0.002, "time_step_max": 0.2, "time_step_floor": 0.003,
    "residual_in_fp32": false,
  ]
  static let times1: JSONObject = times.merging([
    "time_step_scale": 2.0, "time_step_init_scheme": "constant",
  ]) { $1 }
  static let more: JSONObject = tokens.merging(["rescale_prenorm_residual": true]) { $1 }
  static let steps: JSONObject = [
    "dt_min": 0.002, "dt_max": 0.2, "dt_init_floor": 0.003, "dt_scale": 2.0,
    "dt_init_scheme": "constant", "residual_in_fp32": false,
  ]
  static let ssm: JSONObject = [
    "ssm_cfg.dt_min": 0.002, "ssm_cfg.dt_max": 0.2, "ssm_cfg.dt_init_floor": 0.003,
    "ssm_cfg.dt_scale": 2.0, "ssm_cfg.dt_init": "constant", "residual_in_fp32": false,
  ]

  static let trips: [Trip] = [
    Trip(source: "mamba-tied/hf", via: "mamba_ssm", keys: times1),
    Trip(source: "mamba-tied/hf", via: "fla", keys: times1.merging(more) { $1 }),
    Trip(source: "mamba-fla/fla", via: "hf", keys: steps.merging(more) { $1 }),
    Trip(source: "mamba-fla/fla", via: "mamba_ssm", keys: steps),
    Trip(source: "mamba-tied/mamba_ssm", via: "hf", keys: ssm),
    Trip(source: "mamba-tied/mamba_ssm", via: "fla", keys: ssm),
    Trip(
      source: "mamba2", via: "mamba_ssm", keys: times.merging(["chunk_size": 16]) { $1 }),
    Trip(
      source: "mamba2", via: "fla",
      keys: times.merging(more) { $1 }.merging(["chunk_size": 16]) { $1 }),
    Trip(
      source: "mamba2", via: "mamba_ssm",
      keys: ["time_step_limit": [0.01, 0.5], "chunk_size": 64]),
    Trip(source: "mamba2", via: "fla", keys: ["time_step_limit": [0.01, 0.5]]),
    Trip(source: "lit-llama-full/lit_gpt", via: "hf", keys: ["block_size": 1234]),
    Trip(source: "lit-llama-full/lit_gpt", via: "fla", keys: ["block_size": 1234]),
    Trip(
      source: "lit-samba/lit_gpt", via: "fla",
      keys: ["block_size": 1234, "residual_in_fp32": false]),
    Trip(
      source: "gla-berlino/berlino", via: "fla",
      keys: tokens.merging(["context_length": 77]) { $1 }),
    Trip(
      source: "retnet-base/fla", via: "torchscale", keys: ["max_position_embeddings": 99]),
  ]

  @Test("what both frameworks can say comes back as it was", arguments: trips)
  func there(trip: Trip) throws {
    let directory = TemporaryDirectory()
    var keys: JSONObject = [:]
    for (path, value) in trip.keys {
      let parts = path.split(separator: ".").map(String.init)
      if parts.count == 1 {
        keys[path] = value
      } else {
        var inner = keys[parts[0]]?.object ?? [:]
        inner[parts[1]] = value
        keys[parts[0]] = .object(inner)
      }
    }
    var source = directory.file("source")
    var config: String?
    var framework = "hf"
    if trip.source == "mamba2" {
      TinyMamba2.store(source, keys)
    } else {
      let fixture = ModelFixture.named(trip.source)
      (source, framework) = (fixture.path, fixture.framework)
      config = try changedConfig(fixture, in: directory) { own in
        for (key, value) in keys {
          if let new = value.object, let old = own[key]?.object {
            own[key] = .object(old.merging(new) { $1 })
          } else {
            own[key] = value
          }
        }
      }
    }
    let there = try Converted(source, to: trip.via, config: config)
    let back = try Converted(there.path, to: framework)
    for (path, value) in trip.keys {
      let parts = path.split(separator: ".").map(String.init)
      let found = parts.reduce(JSONValue.object(back.config)) { $0[$1] ?? .null }
      #expect(found == value, "\(path) came back as \(found)")
    }
  }

  @Test("mamba_ssm's chunk_size is read, and 256 where none of them says one")
  func chunkSize() throws {
    let directory = TemporaryDirectory()
    TinyMamba2.store(directory.file("a"), ["chunk_size": 16])
    let ssm = try Converted(directory.file("a"), to: "mamba_ssm")
    #expect(ssm.config["ssm_cfg"]?["chunk_size"] == 16)
    TinyMamba2.store(directory.file("b"))
    let plain = try Converted(directory.file("b"), to: "mamba_ssm")
    #expect(plain.config["ssm_cfg"]?["chunk_size"] == nil)
    #expect(try Converted(plain.path, to: "hf").config["chunk_size"] == 256)
  }
}

@Suite("Numbers that JSON cannot say")
struct NonFiniteConfigTests {
  /// What a config says of the limit, and what its framework's config says after a conversion.
  @Test(
    "the default limit of Mamba-2's time steps is left out, however it is spelled",
    arguments: [
      "[0.0, Infinity]", #"[0.0, {"__float__": "Infinity"}]"#, "[0, 1e999]",
    ], ["hf", "fla", "mamba_ssm"])
  func byDefault(spelled: String, to: String) throws {
    let directory = TemporaryDirectory()
    TinyMamba2.store(directory.file("a"))
    let text = JSONValue.object(TinyMamba2.config).text().dropLast()
    Files.write("\(text), \"time_step_limit\": \(spelled)}", to: directory.file("a/config.json"))
    let made = try Converted(directory.file("a"), to: to)
    #expect(made.result.problems == [])
    let limits = ["time_step_limit", "dt_limit"].compactMap { made.config[$0] }
    #expect(limits == [])
    #expect(made.config["ssm_cfg"]?["dt_limit"] == nil)
    // `Converted` reads the config by the strict rules; so do others.
    let bytes = Files.read("\(made.path)/config.json")
    #expect(!String(decoding: bytes, as: Unicode.UTF8.self).contains("Infinity"))
    #expect(made.result.plan.spec.sublayers[0]["dt_max"] == .null)
  }

  @Test("a limit with a least step and no greatest is said as each framework reads it, and noted")
  func halfOpen() throws {
    let directory = TemporaryDirectory()
    TinyMamba2.store(directory.file("a"), ["time_step_limit": [0.5, .double(.infinity)]])
    let object: JSONValue = [0.5, ["__float__": "Infinity"]]
    for (to, key) in [("hf", "time_step_limit"), ("fla", "dt_limit")] {
      let made = try Converted(directory.file("a"), to: to)
      #expect(made.config[key] == object)
      #expect(
        made.result.problems.map { "\($0.code) \($0.subject)" } == ["config.float-object \(key)"])
    }
    let ssm = try Converted(directory.file("a"), to: "mamba_ssm")
    #expect(ssm.config["ssm_cfg"]?["dt_limit"] == [0.5, 3.4028234663852886e+38])
    #expect(ssm.result.problems == [])
    let again = try Converted(ssm.path, to: "mamba_ssm")
    for path in [ssm.path, again.path] {
      let back = try Converted(path, to: "hf")
      #expect(back.config["time_step_limit"] == object)
    }
  }

  @Test("HDF5's config attribute is strict JSON, and reads back")
  func hdf5() throws {
    let directory = TemporaryDirectory()
    TinyMamba2.store(directory.file("a"), ["time_step_limit": [0.5, .double(.infinity)]])
    let made = try Converted(directory.file("a"), to: "hf") { $0.container = .hdf5 }
    let bytes = Files.read("\(made.path)/model.h5")
    let text = String(decoding: bytes, as: Unicode.ASCII.self)
    #expect(text.contains(#""time_step_limit": [0.5, {"__float__": "Infinity"}]"#))
    Files.remove("\(made.path)/config.json")
    let back = try weighbridge.load(CheckpointInput(path: "\(made.path)/model.h5"))
    #expect(back.config?["time_step_limit"] == [0.5, .double(.infinity)])
  }
}

@Suite("Config keys that are not known")
struct InertKeyTests {
  private func problems(
    _ source: String, _ change: (inout JSONObject) -> Void, inert: [String] = []
  ) throws -> [Diagnostic] {
    let fixture = ModelFixture.named(source)
    let directory = TemporaryDirectory()
    let config = try changedConfig(fixture, in: directory, change)
    return try weighbridge.load(
      CheckpointInput(path: fixture.path, configPath: config, inertKeys: inert)
    ).problems
  }

  @Test("a key of a mapping is named itself, with its value and the way out")
  func nested() throws {
    let cases: [(String, String, String)] = [
      ("mamba-tied/mamba_ssm", "ssm_cfg", "ssm_cfg.colour"),
      ("samba-fla/fla", "attn", "attn.colour"),
    ]
    for (source, key, name) in cases {
      let change: (inout JSONObject) -> Void = { config in
        var inner = config[key]?.object ?? [:]
        inner["colour"] = 3
        config[key] = .object(inner)
      }
      let found = try problems(source, change)
      #expect(
        found.map { "\($0.severity) \($0.code) \($0.subject)" } == [
          "error config.unknown-key \(name)"
        ])
      #expect(found[0].message.hasPrefix("is 3, and "))
      #expect(found[0].help == "if it changes nothing in the forward pass, say --inert \(name)")
      let told = try problems(source, change, inert: [name])
      #expect(
        told.map { "\($0.severity) \($0.code) \($0.subject)" } == [
          "note config.inert-key \(name)"
        ])
    }
  }

  @Test("--inert takes the key itself, at the top as well, and no other")
  func declared() throws {
    let change: (inout JSONObject) -> Void = { $0["colour"] = "red" }
    let error = ["config.unknown-key"]
    #expect(try problems("mamba-tied/hf", change).map(\.code) == error)
    // A slip is told, with the key that was meant.
    let slip = try problems("mamba-tied/hf", change, inert: ["color"])
    #expect(slip.map(\.code).sorted() == (error + ["config.inert-unused"]).sorted())
    #expect(slip.contains { $0.help == "did you mean colour?" })
    #expect(
      try problems("mamba-tied/hf", change, inert: ["colour"]).map(\.code) == ["config.inert-key"])
    // A key that counts cannot be waved away.
    let known = try problems("mamba-tied/hf", { _ in }, inert: ["hidden_size"])
    #expect(known.map { "\($0.code) \($0.subject)" } == ["config.inert hidden_size"])
    let nested = try problems(
      "mamba-tied/mamba_ssm", { $0["ssm_cfg"] = ["d_state": 16] }, inert: ["ssm_cfg.d_state"])
    #expect(nested.contains { $0.code == "config.inert" && $0.subject == "ssm_cfg.d_state" })
  }

  @Test("mamba_ssm's own defaults are no error; what changes the mathematics is refused by name")
  func defaults() throws {
    let directory = TemporaryDirectory()
    TinyMamba2.store(directory.file("a"))
    let ssm = try Converted(directory.file("a"), to: "mamba_ssm")
    func found(_ change: JSONObject) throws -> [String] {
      var config = ssm.config
      config["ssm_cfg"] = .object(config["ssm_cfg"]!.object!.merging(change) { $1 })
      Files.write(JSONValue.object(config).text(), to: directory.file("c.json"))
      return try weighbridge.load(
        CheckpointInput(path: ssm.path, configPath: directory.file("c.json"))
      ).problems.map { "\($0.code) \($0.subject)" }
    }
    #expect(
      try found([
        "activation": "swish", "device": "cuda", "dtype": nil, "learnable_init_states": false,
        "conv_init": nil, "D_has_hdim": false, "rmsnorm": true,
        "norm_before_gate": false, "dt_limit": [0, .double(.infinity)], "chunk_size": 256,
        "use_mem_eff_path": true, "layer_idx": nil, "process_group": nil,
        "sequence_parallel": true, "bias": false, "A_init_range": [1, 16], "d_ssm": nil,
      ]) == [])
    #expect(try found(["activation": "silu"]) == [])
    #expect(try found(["activation": "relu"]) == ["config.unsupported ssm_cfg.activation"])
    #expect(try found(["d_ssm": 16]).contains("config.unsupported ssm_cfg.d_ssm"))
    #expect(try found(["colour": false]) == ["config.unknown-key ssm_cfg.colour"])
  }

  @Test("complex weights are refused by name")
  func complex() throws {
    let directory = TemporaryDirectory()
    var tensors = TinyMamba2.tensors()
    let name = "backbone.layers.1.mixer.D"
    tensors[name] = StoredCheckpoint.Tensor(
      dtype: .c64, shape: [4], bytes: [UInt8](repeating: 0, count: 32))
    write(tensors, config: TinyMamba2.config, to: directory.file("a"))
    for to in ["hf", "mamba_ssm"] {
      do {
        _ = try Converted(directory.file("a"), to: to)
        Issue.record("converted to \(to)")
      } catch let found as Problems {
        #expect(found.diagnostics.map { "\($0.code) \($0.subject)" } == ["layout.dtype \(name)"])
      }
    }
  }
}
