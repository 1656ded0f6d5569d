import Checkpoints
import Hub
import OrderedCollections
import Parity
import TestSupport
import Tensors
import Testing
import WeighbridgeKit

@Suite("Loading and inspecting")
struct KitTests {
  @Test("inspection of each fixture", arguments: ModelFixture.all)
  func inspect(fixture: ModelFixture) throws {
    let inspection = try weighbridge.inspect(CheckpointInput(path: fixture.path))
    #expect(inspection.framework == fixture.framework)
    #expect(inspection.layoutName == fixture.layout)
    #expect(inspection.family == fixture.family)
    #expect(inspection.parameters == fixture.parameters)
    #expect(inspection.spec?.sublayers.map(\.kind) == fixture.kinds)
    // DeepSpeed's module and fairseq's decoder are around these; the note says so.
    let prefix: String? =
      fixture.framework == "torchscale"
      ? "decoder." : fixture.name == "lit-llama-mqa-bf16" ? "_forward_module." : nil
    #expect(
      inspection.problems.filter { $0.code != "archscale.eval" }
        .map { "\($0.severity) \($0.code) \($0.subject)" }
        == [prefix].compactMap { $0.map { "note layout.prefix-stripped \($0)" } })
    #expect(inspection.parametersByKind.values.reduce(0, +) == fixture.parameters)
    #expect(
      inspection.bytes == (try stored(fixture)).tensors.values.reduce(0) { $0 + $1.bytes.count })
    // A tie that is visible in the file: both names are there.
    let names = try stored(fixture).tensors.keys
    let both = fixture.tied && names.contains("lm_head.weight")
    #expect(inspection.tied.count == (both ? 1 : 0))
    if both { #expect(inspection.tied[0].contains("lm_head.weight")) }
  }

  @Test("statistics are those of the values")
  func statistics() throws {
    let directory = TemporaryDirectory()
    var builder = SafetensorsBuilder()
    builder.add("a", [4], [1, 2, 3, 6])
    builder.add("b", [5], [0, .nan, .infinity, -.infinity, -2])
    builder.add("c", [0, 3], [])
    builder.add("i", .i64, [1], [UInt8](repeating: 1, count: 8))
    Files.write(builder.bytes, to: directory.file("model.safetensors"))
    let inspection = try weighbridge.inspect(
      CheckpointInput(path: directory.path), withStatistics: true)
    #expect(inspection.framework == nil)
    var stats: [String: TensorStatistics] = [:]
    for tensor in inspection.tensors { stats[tensor.info.name.string] = tensor.stats }
    #expect(Set(stats.keys) == ["a", "b", "c"])
    let a = try #require(stats["a"])
    #expect(a.min == 1 && a.max == 6 && a.mean == 3)
    // Variance (4 + 1 + 0 + 9) / 4.
    #expect(abs(try #require(a.std) - 3.5.squareRoot()) < 1e-12)
    let b = try #require(stats["b"])
    #expect(b.nan == 1 && b.inf == 2 && b.zeros == 1)
    #expect(b.min == -.infinity && b.max == .infinity && b.mean == -1 && b.std == 1)
    let c = try #require(stats["c"])
    #expect(c.min == nil && c.mean == nil)
  }

  @Test("a filter lists only tensors whose name matches")
  func filter() throws {
    let path = ModelFixture.named("mamba-tied/hf").path
    let inspection = try weighbridge.inspect(CheckpointInput(path: path), filter: "*.A_log")
    #expect(
      inspection.tensors.map(\.info.name.string)
        == (0..<3).map { "backbone.layers.\($0).mixer.A_log" })
    #expect(inspection.parameters == 65376)
  }

  @Test("an unknown model is listed, with the closest layouts")
  func unknown() throws {
    let directory = TemporaryDirectory()
    var builder = SafetensorsBuilder()
    builder.add("encoder.weight", [2], [1, 2])
    builder.add("lm_head.weight", [1, 2], [1, 2])
    Files.write(builder.bytes, to: directory.file("model.safetensors"))
    let inspection = try weighbridge.inspect(CheckpointInput(path: directory.path))
    #expect(inspection.tensors.count == 2 && inspection.parameters == 4)
    #expect(inspection.problems.map(\.code) == ["layout.unknown"])
    #expect(inspection.problems[0].notes.count == 3)
    #expect(
      inspection.problems[0].notes.allSatisfy {
        $0.hasPrefix("closest: ") && $0.contains(" knows 1 of 2 names; ")
      })
  }

  @Test("of a model that no layout knows anything of, none is called close")
  func stranger() throws {
    let directory = TemporaryDirectory()
    var builder = SafetensorsBuilder()
    builder.add("encoder.weight", [2], [1, 2])
    Files.write(builder.bytes, to: directory.file("model.safetensors"))
    let inspection = try weighbridge.inspect(CheckpointInput(path: directory.path))
    #expect(inspection.problems.map(\.code) == ["layout.unknown"])
    #expect(
      inspection.problems[0].notes
        == ["no layout knows any of its names, such as encoder.weight"])
  }

  @Test("a checkpoint without a config says which layouts it may be")
  func noConfig() throws {
    let directory = TemporaryDirectory()
    let fixture = ModelFixture.named("mamba-tied/hf")
    Files.write(
      Files.read(fixture.path + "/model.safetensors"), to: directory.file("model.safetensors"))
    let inspection = try weighbridge.inspect(CheckpointInput(path: directory.path))
    #expect(inspection.problems.map(\.code) == ["config.missing"])
    #expect(inspection.problems[0].message.contains("mamba-hf"))
    #expect(inspection.problems[0].help?.contains("--config") == true)
    // Given by option, it is a model.
    let given = try weighbridge.inspect(
      CheckpointInput(path: directory.path, configPath: fixture.path + "/config.json"))
    #expect(given.problems == [] && given.layoutName == "mamba-hf")
  }

  @Test("an unknown preset and an unknown layout get a suggestion")
  func suggestions() {
    let path = ModelFixture.named("lit-samba/lit_gpt").path
    let preset = failure {
      _ = try weighbridge.load(CheckpointInput(path: path, preset: "Samba_412M"))
    }
    #expect(preset.map(\.code) == ["preset.unknown"])
    #expect(preset.first?.help == "did you mean Samba_421M?")
  }

  @Test("a preset of another size is one error that names both sizes")
  func wrongPreset() throws {
    let path = ModelFixture.named("lit-samba/lit_gpt").path
    let inspection = try weighbridge.inspect(CheckpointInput(path: path, preset: "Samba_421M"))
    let errors = inspection.problems.filter { $0.severity == .error }
    #expect(errors.map(\.code) == ["config.mismatch"])
    // lit-samba is 4 layers of 64 channels; microsoft/Samba's 421M is 12 of 1536.
    for word in ["d_model 1536", "12 layers", "64", "4"] {
      #expect(errors.first?.message.contains(word) == true, "\(errors)")
    }
    #expect(inspection.spec == nil)
  }
}

@Suite("Diff")
struct DiffTests {
  static func diff(_ a: String, _ b: String) throws -> CheckpointDiff {
    try weighbridge.diff(CheckpointInput(path: a), CheckpointInput(path: b))
  }

  @Test(
    "every conversion that folds nothing is equal to its source",
    arguments: ConversionCase.all.filter { $0.tolerance == 0 && $0.change.isEmpty })
  func equal(test: ConversionCase) throws {
    let converted = try ConversionTests.convert(test)
    let diff = try Self.diff(ModelFixture.named(test.source).path, converted.path)
    #expect(
      diff.isEqual, "\(diff.attributes) \(diff.pieces.filter { $0.status != .equal }.prefix(3))")
  }

  @Test("one changed value is found, with its tensor and its size")
  func changed() throws {
    let fixture = ModelFixture.named("lit-samba/lit_gpt")
    let fla = try Converted(fixture.path, to: "fla")
    var tensors = fla.checkpoint.tensors
    let name = "backbone.layers.1.mixer.k_proj.weight"
    var values = tensors[name]!.values
    values[5] += 0.25
    tensors[name] = tensor(tensors[name]!.shape, values)
    let directory = TemporaryDirectory()
    write(tensors, config: fla.config, to: directory.file("b"))
    let diff = try Self.diff(fixture.path, directory.file("b"))
    #expect(!diff.isEqual)
    let differing = diff.pieces.filter { $0.status != .equal && $0.status != .neutral }
    #expect(differing.count == 1)
    let piece = try #require(differing.first)
    #expect(piece.id.description == "2.k.weight")
    #expect(piece.tensorsA == ["transformer.h.1.attn.attn.weight"] && piece.tensorsB == [name])
    guard case .differs(let largest, let count, let total) = piece.status else {
      Issue.record("should differ: \(piece.status)")
      return
    }
    #expect(abs(largest - 0.25) < 1e-6 && count == 1 && total == 64 * 64)
  }

  @Test("a cast is told as one")
  func cast() throws {
    let fixture = ModelFixture.named("mamba-tied/hf")
    let narrow = try Converted(fixture.path, to: "hf") { $0.dtype = .bf16 }
    let diff = try Self.diff(fixture.path, narrow.path)
    #expect(!diff.isEqual)
    for piece in diff.pieces {
      let kept = ["a_log", "d", "dt.bias"].contains { piece.id.description.hasSuffix(".\($0)") }
      #expect(piece.status == (kept ? .equal : .cast(from: .f32, to: .bf16)), "\(piece.id)")
    }
  }

  @Test("two frameworks' files of one model are equal; other models cannot be compared")
  func frameworks() throws {
    #expect(
      try Self.diff(
        ModelFixture.named("mamba-tied/hf").path, ModelFixture.named("mamba-tied/mamba_ssm").path
      ).isEqual)
    let found = failure {
      _ = try Self.diff(
        ModelFixture.named("mamba-tied/hf").path, ModelFixture.named("gla-base/fla").path)
    }
    #expect(found.map(\.code) == ["diff.stacks"])
  }

  @Test("an attribute that differs makes models differ, whatever the weights")
  func attributes() throws {
    let directory = TemporaryDirectory()
    let fixture = ModelFixture.named("samba-fla/fla")
    let config = try changedConfig(fixture, in: directory) { $0["norm_eps"] = 1e-6 }
    let diff = try weighbridge.diff(
      CheckpointInput(path: fixture.path), CheckpointInput(path: fixture.path, configPath: config))
    #expect(!diff.isEqual)
    #expect(diff.pieces.allSatisfy { $0.status == .equal })
    #expect(diff.attributes.contains { $0.name == "final_norm_eps" && $0.b.double == 1e-6 })
  }
}
