import Checkpoints
import Conversion
import Hub
import OrderedCollections
import TestSupport
import Tensors
import Testing
import WeighbridgeKit

@Suite("The same layout in other containers", .tags(.slow))
struct SameLayoutTests {
  @Test("hdf5, pytorch, shards, a single file: every byte comes back", arguments: ModelFixture.all)
  func hops(fixture: ModelFixture) throws {
    let source = try stored(fixture)
    var path = fixture.path
    var kept: [Converted] = []
    let hops: [(Container, Int?)] = [
      (.hdf5, nil), (.pytorch, nil), (.safetensors, 100_000), (.hdf5, nil), (.safetensors, nil),
      (.pytorch, 150_000),
    ]
    for (container, limit) in hops {
      let hop = try Converted(path, to: fixture.framework) {
        $0.container = container
        $0.maxShardBytes = limit
      }
      #expect(hop.result.plan.exactness == .bitwise)
      // The first hop may take wrappers' prefixes off the names, and says so.
      #expect(hop.result.plan.reasons.count <= (kept.isEmpty ? 1 : 0))
      #expect(hop.checkpoint.container == container)
      #expect(Set(hop.checkpoint.tensors.keys) == Set(source.tensors.keys))
      for (name, tensor) in source.tensors {
        #expect(hop.checkpoint.tensors[name] == tensor, "\(container): \(name)")
      }
      path = hop.path
      kept.append(hop)
    }
    // The config goes along as it is, key by key.
    let own = try readConfig(CheckpointLocation(finding: fixture.path).config!)
    for hop in kept { #expect(hop.config == own) }
  }

  @Test("an HDF5 file alone is a whole model", arguments: ModelFixture.all)
  func wholeModel(fixture: ModelFixture) throws {
    let hop = try Converted(fixture.path, to: fixture.framework) { $0.container = .hdf5 }
    let directory = TemporaryDirectory()
    Files.write(Files.read(hop.path + "/model.h5"), to: directory.file("alone.h5"))
    let inspection = try weighbridge.inspect(CheckpointInput(path: directory.file("alone.h5")))
    #expect(inspection.layoutName == fixture.layout)
    #expect(inspection.parameters == fixture.parameters)
    #expect(inspection.problems == [])
  }

  @Test("shards have the usual names, and an index with every tensor and the true size")
  func shards() throws {
    let fixture = ModelFixture.named("samba-fla/fla")
    let hop = try Converted(fixture.path, to: "fla") { $0.maxShardBytes = 300_000 }
    let shards = hop.names.filter { $0.hasSuffix(".safetensors") }
    let count = shards.count
    #expect(count >= 4 && count < 10)
    #expect(shards == (1...count).map { "model-0000\($0)-of-0000\(count).safetensors" })
    let index = try readConfig(hop.path + "/model.safetensors.index.json")
    let source = try stored(fixture)
    #expect(
      index["metadata"]?["total_size"]?.int
        == source.tensors.values.reduce(0) { $0 + $1.bytes.count })
    let map = try #require(index["weight_map"]?.object)
    #expect(Set(map.keys) == Set(source.tensors.keys))
    #expect(Set(map.values.compactMap(\.string)) == Set(shards))
    for shard in shards {
      let bytes = try StoredCheckpoint(hop.path + "/" + shard).tensors.values
        .reduce(0) { $0 + $1.bytes.count }
      let single = map.filter { $0.value.string == shard }.count == 1
      #expect(bytes <= 300_000 || single, "\(shard)")
    }
  }

  @Test("safetensors files say that they are PyTorch's, and keep other texts")
  func metadata() throws {
    var builder = SafetensorsBuilder()
    let fixture = ModelFixture.named("mamba-tied/hf")
    for (name, tensor) in try stored(fixture).tensors.sorted(by: { $0.key < $1.key }) {
      builder.add(name, tensor.dtype, tensor.shape, tensor.bytes)
    }
    let directory = TemporaryDirectory()
    let bytes = builder.bytes
    // The header with metadata put in front of its first tensor.
    let header = "{\"__metadata__\":{\"author\":\"somebody\",\"format\":\"tf\"},"
    let length = bytes[..<8].enumerated().reduce(0) { $0 | Int($1.1) << (8 * $1.0) }
    Files.write(
      SafetensorsBuilder.file(
        header: header + String(decoding: bytes[9..<8 + length], as: UTF8.self),
        data: Array(bytes[(8 + length)...])), to: directory.file("model.safetensors"))
    Files.write(Files.read(fixture.path + "/config.json"), to: directory.file("config.json"))
    let hop = try Converted(directory.path, to: "fla")
    #expect(hop.checkpoint.metadata == ["author": "somebody", "format": "pt"])
    let other = try Converted(directory.path, to: "hf") { $0.container = .hdf5 }
    #expect(other.checkpoint.metadata["author"] == "somebody")
  }

  @Test(
    "HDF5 as people write it with h5py holds the same model",
    arguments: ["nested-gzip-shuffle.h5"])
  func fromH5py(file: String) throws {
    let path = Fixtures.path("hdf5/samba-fla/\(file)")
    let source = try stored(.named("samba-fla/fla"))
    let hop = try Converted(path, to: "fla", config: Fixtures.path("hdf5/samba-fla/config.json"))
    #expect(hop.checkpoint.tensors == source.tensors)
  }

  @Test("Keras's opaque bfloat16 comes out as bfloat16, the rounded weights")
  func fromKeras() throws {
    let path = Fixtures.path("hdf5/samba-fla/nested-bfloat16-keras.h5")
    let source = try stored(.named("samba-fla/fla"))
    let hop = try Converted(path, to: "fla", config: Fixtures.path("hdf5/samba-fla/config.json"))
    #expect(Set(hop.checkpoint.tensors.keys) == Set(source.tensors.keys))
    var narrow = 0
    for (name, tensor) in source.tensors {
      let found = hop.checkpoint[name]
      if found.dtype == .bf16 {
        narrow += 1
        #expect(found.bytes == bfloat16(tensor), "\(name)")
      } else {
        #expect(found == tensor, "\(name)")
      }
    }
    #expect(narrow > 30)
  }
}

/// Float32 bytes rounded to bfloat16, to nearest and ties to even: half of the last place is added,
/// less one where the last place is even.
func bfloat16(_ tensor: StoredCheckpoint.Tensor) -> [UInt8] {
  tensor.values.flatMap { value -> [UInt8] in
    let bits = value.bitPattern
    let rounded = value.isNaN ? bits | 0x40_0000 : bits + 0x7FFF + (bits >> 16 & 1)
    return [UInt8(truncatingIfNeeded: rounded >> 16), UInt8(truncatingIfNeeded: rounded >> 24)]
  }
}

@Suite("Casts")
struct CastTests {
  static func staysFloat32(_ name: String) -> Bool {
    name.hasSuffix(".A_log") || name.hasSuffix(".D") || name.hasSuffix("dt_proj.bias")
  }

  static let models = [
    ModelFixture.named("mamba-tied/hf"), .named("mamba-bias-untied/mamba_ssm"),
    .named("samba-fla/fla"), .named("lit-samba/lit_gpt"), .named("gla-conv-gqa-clamp/fla"),
  ]

  @Test("bfloat16 rounds to nearest even and leaves A_log, D and dt biases", arguments: models)
  func bfloat16Weights(fixture: ModelFixture) throws {
    let source = try stored(fixture)
    let cast = try Converted(fixture.path, to: fixture.framework) { $0.dtype = .bf16 }
    #expect(cast.result.plan.exactness == .rounding)
    #expect(cast.result.plan.reasons.map(\.text) == ["F32 is rounded to BF16, to nearest even"])
    for (name, tensor) in source.tensors {
      let found = cast.checkpoint[name]
      if Self.staysFloat32(name) {
        #expect(found == tensor, "\(name)")
      } else {
        #expect(found.dtype == .bf16 && found.shape == tensor.shape, "\(name)")
        #expect(found.bytes == bfloat16(tensor), "\(name)")
      }
    }
    #expect(source.tensors.keys.contains(where: Self.staysFloat32) == fixture.stack.contains("M"))
    if fixture.framework == "hf" || fixture.framework == "fla" {
      #expect(cast.config["dtype"] == "bfloat16")
    }
  }

  @Test("--cast-all casts these too", arguments: models)
  func castAll(fixture: ModelFixture) throws {
    let source = try stored(fixture)
    let cast = try Converted(fixture.path, to: fixture.framework) {
      $0.dtype = .bf16
      $0.castsAll = true
    }
    for (name, tensor) in source.tensors {
      #expect(cast.checkpoint[name].dtype == .bf16, "\(name)")
      #expect(cast.checkpoint[name].bytes == bfloat16(tensor), "\(name)")
    }
  }

  @Test("tables that torchscale keeps in the file stay float32, whatever is asked for")
  func tables() throws {
    let fixture = ModelFixture.named("retnet-torchscale/torchscale")
    let source = try stored(fixture)
    let cast = try Converted(fixture.path, to: "torchscale") {
      $0.dtype = .f16
      $0.castsAll = true
    }
    for (name, tensor) in source.tensors {
      if name.contains("retnet_rel_pos") {
        #expect(cast.checkpoint[name] == tensor, "\(name)")
      } else {
        #expect(cast.checkpoint[name].dtype == .f16, "\(name)")
      }
    }
  }

  @Test("what was cast to bfloat16 before is cast to float16 like the rest")
  func narrowToNarrow() throws {
    let fixture = ModelFixture.named("mamba-fla/fla")
    let narrow = try Converted(fixture.path, to: "fla") {
      $0.dtype = .bf16
      $0.castsAll = true
    }
    let cast = try Converted(narrow.path, to: "fla") { $0.dtype = .f16 }
    for (name, tensor) in narrow.checkpoint.tensors {
      let found = cast.checkpoint[name]
      #expect(found.dtype == .f16, "\(name)")
      #expect(found.values == tensor.values.map { Float(Float16($0)) }, "\(name)")
    }
  }

  @Test("a cast goes along with another layout")
  func castAndConvert() throws {
    let fixture = ModelFixture.named("lit-mamba-only/lit_gpt")
    let expected = Expect.litMambaOnly(
      try stored(fixture), embedding: "backbone.embeddings.weight", head: false)
    let cast = try Converted(fixture.path, to: "hf") { $0.dtype = .f16 }
    #expect(cast.config["dtype"] == "float16")
    for (name, matrix) in expected {
      let found = cast.checkpoint[name]
      if Self.staysFloat32(name) {
        #expect(found.dtype == .f32 && found.values == matrix.values, "\(name)")
      } else {
        #expect(found.dtype == .f16, "\(name)")
        #expect(found.values == matrix.values.map { Float(Float16($0)) }, "\(name)")
      }
    }
  }

  @Test("widening keeps every value, and narrowing it again every bit")
  func widen() throws {
    let fixture = ModelFixture.named("lit-llama-mqa-bf16/lit_gpt")
    let source = try stored(fixture)
    let wide = try Converted(fixture.path, to: "lit_gpt") { $0.dtype = .f32 }
    #expect(wide.result.plan.exactness == .exact)
    for (name, tensor) in source.tensors {
      #expect(wide.checkpoint[name].dtype == .f32)
      #expect(wide.checkpoint[name].values == tensor.values)
    }
    let narrow = try Converted(wide.path, to: "lit_gpt") { $0.dtype = .bf16 }
    #expect(narrow.checkpoint.tensors == source.tensors)
  }

  @Test("what overflows float16 is counted by tensor, and NaN stays NaN")
  func overflow() throws {
    let fixture = ModelFixture.named("mamba-tied/hf")
    var tensors = try stored(fixture).tensors
    let name = "backbone.layers.1.mixer.out_proj.weight"
    var values = tensors[name]!.values
    values[0] = 65520
    values[1] = -1e30
    values[2] = .nan
    values[3] = .infinity
    values[4] = 65519
    tensors[name] = tensor(tensors[name]!.shape, values)
    let directory = TemporaryDirectory()
    write(
      tensors, config: try readConfig(fixture.path + "/config.json"), to: directory.file("source"))
    let cast = try Converted(directory.file("source"), to: "hf") {
      $0.dtype = .f16
      $0.allowsLossy = true
    }
    #expect(cast.result.plan.exactness == .lossy)
    let warnings = cast.result.problems.filter { $0.code == "convert.overflow" }
    #expect(warnings.map(\.subject) == [name])
    #expect(warnings.first?.severity == .warning)
    // 65520 is the first that rounds to infinity; the infinity that was there is none of them.
    #expect(warnings.first?.message.hasPrefix("2 ") == true)
    let found = cast.checkpoint[name].values
    #expect(found[0] == .infinity && found[1] == -.infinity && found[2].isNaN)
    #expect(found[3] == .infinity && found[4] == 65504)
    let brain = try Converted(directory.file("source"), to: "hf") { $0.dtype = .bf16 }
    #expect(brain.result.plan.exactness == .rounding)
    #expect(brain.result.problems.map(\.code) == ["convert.not-finite"])
    #expect(brain.result.problems.map(\.subject) == [name])
    #expect(brain.result.problems[0].message.hasPrefix("2 of "))
    #expect(brain.checkpoint[name].values[2].isNaN)
    // Not asked for, infinities are not made, and nothing is left.
    #expect {
      try Converted(directory.file("source"), to: "hf") {
        $0.dtype = .f16
        $0.destination = directory.file("refused")
      }
    } throws: { error in
      let problems = (error as? Refusal)?.problems ?? []
      return problems.map(\.code) == ["convert.overflow"] && problems[0].subject == name
        && problems[0].message.hasPrefix("2 ") && problems[0].severity == .error
    }
    #expect(!Files.exists(directory.file("refused")))
  }
}

@Suite("The vocabulary's size")
struct VocabularyTests {
  @Test(
    "more rows are zeros, in embedding and head together",
    arguments: ["lit-llama-full/lit_gpt", "mamba-tied/hf", "retnet-base/fla", "gla-base/fla"])
  func pad(name: String) throws {
    let fixture = ModelFixture.named(name)
    let source = try stored(fixture)
    let padded = try Converted(fixture.path, to: fixture.framework) { $0.vocabularyRows = 192 }
    #expect(padded.result.plan.exactness == .exact)
    var changed = 0
    for (name, tensor) in source.tensors {
      let found = padded.checkpoint.matrix(name)
      if name.contains("embed") || name.contains("wte") || name.contains("lm_head") {
        #expect(found == tensor.matrix.padded(rows: 192), "\(name)")
        changed += 1
      } else {
        #expect(padded.checkpoint[name] == tensor, "\(name)")
      }
    }
    #expect(changed == (fixture.tied ? 1 : 2))
    let loaded = try weighbridge.load(CheckpointInput(path: padded.path))
    #expect(try loaded.model().spec["vocab_rows"] == 192)
    // Cutting the zeros off again loses nothing, and says nothing.
    let rows = source.tensors.first { $0.key.contains("embed") || $0.key.contains("wte") }!
      .value.shape[0]
    // Where the config knows no padding, the vocabulary has become larger with it.
    let cut = try Converted(padded.path, to: fixture.framework) {
      $0.vocabularyRows = rows
      $0.allowsLossy = true
    }
    #expect(cut.result.problems == [])
    let knowsPadding =
      try loaded.model().spec["vocab_size"].int.map { $0 <= rows } ?? false
    #expect(cut.result.plan.exactness == (knowsPadding ? .exact : .lossy))
    #expect(cut.checkpoint.tensors == source.tensors)
  }

  @Test("rows that are cut off and not zero are a warning with their number")
  func trim() throws {
    let fixture = ModelFixture.named("lit-llama-full/lit_gpt")
    let source = try stored(fixture)
    let cut = try Converted(fixture.path, to: "lit_gpt") {
      $0.vocabularyRows = 120
      $0.allowsLossy = true
    }
    #expect(cut.result.plan.exactness == .lossy)
    for name in ["transformer.wte.weight", "lm_head.weight"] {
      #expect(cut.checkpoint.matrix(name) == source.matrix(name).rows(0..<120))
    }
    let warnings = cut.result.problems.filter { $0.code == "convert.vocab-trimmed" }
    #expect(warnings.count == 2)
    #expect(warnings.allSatisfy { $0.severity == .warning && $0.message.hasPrefix("8 of the 8 ") })
  }

  @Test("it goes along with another layout")
  func convert() throws {
    let fixture = ModelFixture.named("lit-mamba-only/lit_gpt")
    let hf = try Converted(fixture.path, to: "hf") { $0.vocabularyRows = 136 }
    let source = try stored(fixture)
    #expect(
      hf.checkpoint.matrix("backbone.embeddings.weight")
        == source.matrix("transformer.wte.weight").padded(rows: 136))
    #expect(hf.config["vocab_size"] == 136)
  }
}
