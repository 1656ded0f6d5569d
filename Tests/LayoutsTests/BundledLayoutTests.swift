import Hub
import Inference
import Layouts
import OrderedCollections
import Tensors
import TestSupport
import Testing

@Suite("Bundled layouts")
struct BundledLayoutTests {
  static let library = try! LayoutLibrary.bundled()

  @Test("every file of formats/ is in the library, under its own name")
  func files() {
    let names = Files.names(in: Fixtures.repository + "/formats")
      .filter { $0.hasSuffix(".yaml") && $0 != "inert-keys.yaml" }
      .map { String($0.dropLast(".yaml".count)) }
    #expect(names.count >= 11)
    #expect(Self.library.layouts.map(\.name) == names.sorted())
    #expect(
      Set(Self.library.frameworks)
        == [
          "hf", "fla", "mamba_ssm", "lit_gpt", "litgpt", "torchscale", "berlino", "gguf", "candle",
          "archscale", "mlx",
        ])
  }

  @Test("it uses only attributes and pieces of the vocabulary", arguments: library.layouts)
  func vocabulary(layout: Layout) throws {
    let vocabulary = Vocabulary.standard
    let model = vocabulary.model
    #expect(Set(layout.model.attributes.map(\.name)).isSubset(of: model.attributes.map(\.name)))
    for role in layout.model.tensors.flatMap(\.glue.roles) {
      #expect(model.piece(role) != nil, "\(role)")
    }
    for (name, mixer) in layout.mixers {
      let kind = try #require(vocabulary.kinds[mixer.kind], "\(name)")
      let known = Set(kind.attributes.map(\.name))
      #expect(known.isSuperset(of: mixer.attributes.map(\.name)), "\(name)")
      for role in mixer.tensors.flatMap(\.glue.roles) {
        #expect(kind.piece(role) != nil, "\(name): \(role)")
      }
      // What has no default must be said.
      for option in layout.layers.slots.flatMap(\.options) where option.mixer == name {
        let said = Set(
          (layout.layers.attributes + mixer.attributes + option.attributes).map(\.name))
        for attribute in kind.attributes where attribute.initial == nil {
          #expect(said.contains(attribute.name), "\(name): \(attribute.name)")
        }
      }
    }
  }

  @Test(
    "every mixer stands in some slot, and every slot's last option is unconditional or guarded",
    arguments: library.layouts)
  func slots(layout: Layout) {
    let used = Set(layout.layers.slots.flatMap(\.options).map(\.mixer))
    #expect(used == Set(layout.mixers.keys))
  }

  @Test("only LitGPT's is read and not written")
  func readOnly() {
    #expect(Self.library.layouts.filter { $0.write == nil }.map(\.name) == ["litgpt"])
  }

  @Test(
    "its write section speaks of the vocabulary too",
    arguments: library.layouts.filter { $0.name != "litgpt" })
  func write(layout: Layout) throws {
    let write = try #require(layout.write)
    let kinds = Vocabulary.standard.kinds
    #expect(!write.patterns.isEmpty)
    for kind in write.patterns.flatMap({ $0.slots.flatMap(\.kinds) }) {
      #expect(kinds[kind] != nil, "\(kind)")
      #expect(layout.mixers.values.contains { $0.kind == kind }, "\(kind)")
    }
    for accept in write.accepts {
      #expect(
        kinds[accept.kind]?.attributes.contains { $0.name == accept.attribute } == true,
        "\(accept.kind).\(accept.attribute)")
    }
    for padding in write.paddings {
      let piece = try #require(
        kinds[padding.kind]?.pieces.first { piece in
          piece.shape.contains { $0.text == padding.attribute }
        })
      #expect(piece.shape.count == 2 && padding.multiple > 1)
    }
    // What it writes, it reads: every key is one that its own config section knows.
    let known = Set(layout.config.keys.flatMap { [$0.name] + $0.aliases })
    let inert = layout.config.inert.map { Glob($0) }
    for entry in write.config {
      #expect(
        known.contains(entry.key) || inert.contains { $0.matches(entry.key) }, "\(entry.key)")
    }
  }

  @Test("the weight files have the names that the frameworks look for")
  func fileNames() {
    let names = Self.library.layouts.map {
      [
        $0.framework, $0.files.container, $0.files.weights[$0.files.container] ?? "",
        $0.files.config,
      ]
    }
    #expect(
      Set(names) == [
        ["hf", "safetensors", "model.safetensors", "config.json"],
        ["fla", "safetensors", "model.safetensors", "config.json"],
        ["berlino", "safetensors", "model.safetensors", "config.json"],
        ["mamba_ssm", "pytorch", "pytorch_model.bin", "config.json"],
        ["archscale", "pytorch", "iter-000000-ckpt.pth", "archscale_config.json"],
        ["lit_gpt", "pytorch", "lit_model.pth", "lit_config.json"],
        ["litgpt", "pytorch", "lit_model.pth", "model_config.yaml"],
        ["torchscale", "pytorch", "checkpoint.pt", "config.json"],
        ["gguf", "gguf", "model.gguf", "model.gguf"],
        ["candle", "safetensors", "model.safetensors", "config.json"],
        ["mlx", "safetensors", "model.safetensors", "config.json"],
      ])
    for layout in Self.library.layouts where layout.framework != "gguf" {
      #expect(layout.files.weights["hdf5"] == "model.h5")
    }
  }

  @Test(
    "every named configuration of microsoft/Samba makes a model",
    arguments: library.presets.keys.sorted())
  func presets(name: String) throws {
    let layout = try #require(Self.library.layouts.first { $0.name == "lit_gpt" })
    let config = try #require(Self.library.presets[name])
    let expansion = layout.expand(config: config, vocabulary: .standard, inventory: nil)
    #expect(expansion.problems.filter { $0.severity == .error } == [])
    #expect(expansion.spec.layerCount == config["n_layer"]?.int)
    #expect(expansion.spec["d_model"] == config["n_embd"])
    #expect(expansion.tensors.count > expansion.spec.sublayers.count)
    #expect(Set(expansion.tensors.map(\.name)).count == expansion.tensors.count)
  }

  /// Parameters of a preset, a tied head counted once.
  static func parameters(_ name: String) throws -> Int {
    let layout = try #require(library.layouts.first { $0.name == "lit_gpt" })
    let expansion = layout.expand(
      config: try #require(library.presets[name]), vocabulary: .standard, inventory: nil)
    let tied = expansion.spec["tied"].bool == true
    return expansion.tensors.reduce(0) {
      $0 + (tied && $1.tied != nil ? 0 : $1.shape.elementCount ?? 0)
    }
  }

  @Test(
    "presets are as large as their names say",
    arguments: [
      ("Samba_421M", 421e6), ("Samba_1.3B", 1.3e9), ("Mamba_430M", 430e6), ("Mamba_1.3B", 1.3e9),
      ("LLaMA_438M", 438e6), ("LLaMA_1.3B", 1.3e9),
    ])
  func sizes(name: String, size: Double) throws {
    // The names are rounded; a missing or doubled projection would be off by far more.
    let found = Double(try Self.parameters(name))
    #expect(abs(found - size) / size < 0.08, "\(found)")
  }
}
