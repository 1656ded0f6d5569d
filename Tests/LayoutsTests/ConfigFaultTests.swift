import Hub
import Inference
import Layouts
import OrderedCollections
import TestSupport
import Tensors
import Testing

/// A config with one value that is wrong: the key is named, with what was found and what belongs there.
@Suite("Configs with a fault")
struct ConfigFaultTests {
  static let library = try! LayoutLibrary.bundled()

  struct Case: CustomTestStringConvertible, Sendable {
    var model: String
    /// `key` or `key.member`.
    var key: String
    /// `nil` takes the key away.
    var value: JSONValue?
    /// What the message says.
    var said: [String] = []

    init(_ model: String, _ key: String, _ value: JSONValue?, _ said: String...) {
      self.model = model
      self.key = key
      self.value = value
      self.said = said
    }

    var testDescription: String { "\(model): \(key) \(value?.brief ?? "missing")" }
  }

  /// The errors under the fixture's config with one key changed.
  static func bound(_ test: Case) throws -> MatchedLayout {
    let fixture = ModelFixture.named(test.model)
    let inventory = try Inventory.of(fixture.path)
    let original = try config(of: fixture)
    let layout = try #require(
      library.candidates(for: inventory, config: original).first { $0.obstacles.isEmpty }?.layout)
    var changed = original
    let parts = test.key.split(separator: ".").map(String.init)
    if parts.count == 1 {
      changed[parts[0]] = test.value
    } else {
      var object = original[parts[0]]?.object ?? [:]
      object[parts[1]] = test.value
      changed[parts[0]] = .object(object)
    }
    return layout.bind(inventory, config: changed, vocabulary: .standard)
  }

  static func errors(_ bound: MatchedLayout) -> [Diagnostic] {
    bound.problems.filter { $0.severity == .error }
  }

  static let nonsense: [Case] = [
    Case("samba-fla/fla", "hidden_size", 0, "is 0", "a whole number from 1 on"),
    Case("samba-fla/fla", "hidden_size", -64, "is -64", "a whole number from 1 on"),
    Case("samba-fla/fla", "hidden_size", 63.5, "is 63.5", "a whole number from 1 on"),
    Case("samba-fla/fla", "hidden_size", "64", "a whole number from 1 on"),
    Case("samba-fla/fla", "hidden_size", .null, "is null", "a whole number from 1 on"),
    Case("samba-fla/fla", "hidden_size", .double(.nan), "a whole number from 1 on"),
    Case("samba-fla/fla", "norm_eps", -1e-5, "a finite number from 0 on"),
    Case("samba-fla/fla", "norm_eps", .double(.nan), "a finite number from 0 on"),
    Case("samba-fla/fla", "norm_eps", "small", "a finite number from 0 on"),
    Case("samba-fla/fla", "attn.rope_theta", 0, "is 0", "a finite number above 0"),
    Case("samba-fla/fla", "attn.rope_theta", -10000.0, "a finite number above 0"),
    Case("samba-fla/fla", "attn.rope_theta", .double(.infinity), "a finite number above 0"),
    Case("samba-fla/fla", "attn.rope_theta", .double(.nan), "a finite number above 0"),
    Case("samba-fla/fla", "attn.rope_theta", "10k", "a finite number above 0"),
    Case("samba-fla/fla", "attn.window_size", 0, "a whole number from 1 on"),
    Case("samba-fla/fla", "attn.num_heads", 0, "is 0"),
    Case("samba-fla/fla", "attn.num_kv_heads", 3, "a divisor of n_heads"),
    Case("samba-fla/fla", "state_size", 0, "a whole number from 1 on"),
    Case("samba-fla/fla", "conv_kernel", -4, "a whole number from 1 on"),
    Case("samba-fla/fla", "num_hidden_layers", -1, "is -1"),
    Case("samba-fla/fla", "use_bias", "yes", "true or false"),
    Case("gla-base/fla", "num_heads", 0, "is 0"),
    Case("gla-base/fla", "num_kv_heads", 3, "a divisor of n_heads"),
    Case("gla-base/fla", "expand_k", .double(.infinity), "is "),
    Case("gla-base/fla", "clamp_min", "low", "a finite number"),
    Case("gla-base/fla", "vocab_size", 0, "a whole number from 1 on"),
    Case("mamba-tied/hf", "layer_norm_epsilon", -1.0, "a finite number from 0 on"),
    Case("mamba-tied/hf", "state_size", -16, "a whole number from 1 on"),
    Case("mamba-tied/hf", "vocab_size", .null, "is null"),
    Case("mamba-tied/mamba_ssm", "d_model", 0, "is 0"),
    Case("mamba-tied/mamba_ssm", "ssm_cfg.d_state", 0, "a whole number from 1 on"),
    Case("mamba-tied/hf", "expand", .double(.nan), "is NaN", "a finite number"),
    Case("mamba-tied/hf", "expand", "two", "a finite number"),
    Case("retnet-base/fla", "num_heads", 0, "is 0"),
    Case("retnet-base/fla", "norm_eps", .double(-.infinity), "a finite number from 0 on"),
  ]

  @Test("nonsense is told by key, value and range, whatever the layout", arguments: nonsense)
  func isNamed(_ test: Case) throws {
    let errors = Self.errors(try Self.bound(test))
    #expect(errors.map { "\($0.code) \($0.subject)" } == ["config.value \(test.key)"])
    for words in test.said { #expect(errors.first?.message.contains(words) == true, "\(errors)") }
  }

  @Test(
    "time-step limits and groups of Mamba-2, with transformers' words for infinity",
    arguments: [
      ("time_step_limit", #"[0.0, {"__float__": "Infinity"}]"#, nil),
      ("time_step_limit", #"[0.0, {"__float__": "-Infinity"}]"#, "time_step_limit"),
      ("time_step_limit", #"[0.0, -Infinity]"#, "time_step_limit"),
      ("time_step_limit", #"[{"__float__": "NaN"}, 1.0]"#, "time_step_limit"),
      ("time_step_limit", #"[{"__float__": "-Infinity"}, 1.0]"#, "time_step_limit"),
      ("time_step_limit", "[0.5, 0.1]", "time_step_limit"),
      ("time_step_limit", #"[0.0, "long"]"#, "time_step_limit"),
      ("time_step_limit", "7", "time_step_limit"),
      ("n_groups", "3", "n_groups"), ("n_groups", "0", "n_groups"),
      ("state_size", "-8", "state_size"), ("layer_norm_epsilon", "NaN", "layer_norm_epsilon"),
    ] as [(String, String, String?)])
  func mamba2(key: String, text: String, named: String?) throws {
    let path = Fixtures.path("field/k13c-chunk-size-lost")
    let inventory = try Inventory.of(path)
    let file = path + "/config.json"
    var config = try #require(
      JSONParser.parse(Files.read(file), file: file, mode: .python).resolvingFloatTags.object)
    config[key] = try JSONParser.parse(text, file: "text", mode: .python).resolvingFloatTags
    let layout = try #require(Self.library.layouts.first { $0.name == "mamba2-hf" })
    let errors = Self.errors(layout.bind(inventory, config: config, vocabulary: .standard))
    #expect(
      errors.map { "\($0.code) \($0.subject)" } == (named.map { ["config.value \($0)"] } ?? []))
  }

  static let contradicted: [Case] = [
    Case("gla-base/fla", "fuse_norm", false, "is false", "those of true"),
    Case("gla-base/fla", "use_output_gate", false, "is false", "those of true"),
    Case("gla-base/fla", "num_heads", 4, "is 4", "those of 2"),
    Case("mamba-tied/mamba_ssm", "rms_norm", false, "is false", "those of true"),
    Case("mamba-tied/mamba_ssm", "vocab_size", 1000, "is 1000", "those of 128"),
    Case("retnet-torchscale/torchscale", "vocab_size", 101, "is 101", "those of 100"),
    Case("retnet-torchscale/torchscale", "decoder_ffn_embed_dim", 97, "is 97", "those of 96"),
    Case("gla-base/fla", "vocab_size", 96, "is 96", "those of 100"),
    Case("gla-base/fla", "intermediate_size", 100, "is 100", "those of 96"),
    Case("gla-base/fla", "expand_v", 2.0, "is 2", "those of 1"),
    Case("gla-base/fla", "elementwise_affine", false, "is false", "those of true"),
    Case("gla-conv-gqa-clamp/fla", "use_short_conv", false, "is false", "those of true"),
    Case("samba-fla/fla", "use_bias", true, "is true", "those of false"),
    Case("samba-fla/fla", "state_size", 8, "is 8", "those of 16"),
    Case("samba-fla/fla", "time_step_rank", 5, "is 5", "those of 4"),
    Case("samba-fla/fla", "conv_kernel", 3, "is 3", "those of 4"),
    Case("samba-fla/fla", "attn.qkv_bias", true, "is true", "those of false"),
    Case("samba-fla/fla", "attn.layers", [1], "those of [1, 3]"),
    Case("samba-fla/fla", "hidden_size", 128, "is 128", "those of 64"),
    Case("retnet-base/fla", "fuse_norm", false, "is false", "those of true"),
  ]

  @Test(
    "a key that only the tensors contradict is named, once, with its value", arguments: contradicted
  )
  func isNamedOnce(_ test: Case) throws {
    let bound = try Self.bound(test)
    let errors = Self.errors(bound)
    #expect(errors.map { "\($0.code) \($0.subject)" } == ["config.mismatch \(test.key)"])
    for words in test.said { #expect(errors.first?.message.contains(words) == true, "\(errors)") }
    // What the tensors are is told all the same.
    let right = try Self.bound(Case(test.model, "a_note", nil))
    #expect(right.isSound && bound.spec.sublayers == right.spec.sublayers)
  }

  @Test("two wrong keys are one fault that names both")
  func two() throws {
    let fixture = ModelFixture.named("gla-base/fla")
    let inventory = try Inventory.of(fixture.path)
    var config = try config(of: fixture)
    config["fuse_norm"] = false
    config["vocab_size"] = 96
    let layout = try #require(Self.library.layouts.first { $0.name == "gla-fla" })
    let errors = Self.errors(layout.bind(inventory, config: config, vocabulary: .standard))
    #expect(errors.map { "\($0.code) \($0.subject)" } == ["config.mismatch config"])
    for words in ["fuse_norm is false", "vocab_size is 96", "2 keys"] {
      #expect(errors.first?.message.contains(words) == true, "\(errors)")
    }
  }

  @Test("every attribute of every kind says which values it may have")
  func domains() {
    let kinds = [Vocabulary.standard.model] + Vocabulary.standard.kinds.values
    for kind in kinds {
      for attribute in kind.attributes {
        // An initial value that the domain refuses could be in no model.
        if let initial = attribute.initial {
          #expect(attribute.allows(initial), "\(attribute.name)")
        }
        #expect(
          !attribute.allows(.object(["no": "value"])) || attribute.domain.expected == "any value",
          "\(kind.name)'s \(attribute.name)")
      }
    }
  }

  @Test("a factor of another architecture is passed where it is 1, and named where it is not")
  func factors() throws {
    for (key, value, codes) in [
      ("embedding_multiplier", 1.0, []), ("embedding_multiplier", 1, []),
      ("residual_multiplier", 0.22, ["config.unsupported residual_multiplier"]),
      ("logits_scaling", 8, ["config.unsupported logits_scaling"]),
      ("mlp_multipliers", [1.0, 1.0], []),
      ("mlp_multipliers", [1.0, 0.5], ["config.unsupported mlp_multipliers"]),
      ("resid_pdrop", 0.1, []), ("attention_dropout_prob", 0.1, []), ("pretraining_tp", 1, []),
    ] as [(String, JSONValue, [String])] {
      let errors = Self.errors(try Self.bound(Case("gla-base/fla", key, value)))
      #expect(errors.map { "\($0.code) \($0.subject)" } == codes, "\(key)")
    }
  }
}
