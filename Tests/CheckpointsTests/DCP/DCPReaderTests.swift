import Checkpoints
import Tensors
import TestSupport
import Testing

@Suite("Sharded checkpoints: reading")
struct DCPReaderTests {
  static let directories: [(name: String, path: String, config: String?, container: Container)] = [
    (
      "flame-3r", "dcp/flame-3r/exp/checkpoint/step-7", "dcp/flame-3r/exp/config.json", .dcp
    ),
    ("grid-2x2", "dcp/grid-2x2/step-10", "dcp/grid-2x2/step-10/config.json", .dcp),
    (
      "titan-5r", "dcp/titan-5r/outputs/checkpoint/step-100",
      "dcp/titan-5r/outputs/configs/mamba.json", .dcp
    ),
    (
      "lightning-2r", "dcp/lightning-2r/iter-000128-ckpt.pth", "dcp/lightning-2r/config.json", .dcp
    ),
    ("torch21-3r", "dcp/torch21-3r", "dcp/torch21-3r/config.json", .dcp),
    (
      "safetensors-2r", "dcp/safetensors-2r/sharded", "dcp/safetensors-2r/config.json",
      .safetensors
    ),
    ("zstd-2r", "dcp/zstd-2r", "dcp/zstd-2r/config.json", .dcp),
  ]

  /// The names as the model has them, without what wrappers put in.
  static func plain(_ name: String) -> String {
    name.split(separator: ".").filter { !["_orig_mod", "_checkpoint_wrapped_module"].contains($0) }
      .joined(separator: ".")
  }

  @Test("every trainer's directory holds the model's weights, bit for bit", arguments: directories)
  func weights(
    _ example: (name: String, path: String, config: String?, container: Container)
  ) throws {
    let expected = try StoredCheckpoint(Fixtures.path("models/mamba-bias-untied/hf"))
    let location = try CheckpointLocation(finding: Fixtures.path(example.path))
    let source = try openCheckpoint(location)
    #expect(source.container == example.container)
    #expect(source.tensors.count == expected.tensors.count)
    for (number, info) in source.tensors.enumerated() {
      let tensor = try #require(
        expected.tensors[Self.plain(info.name.string)], "\(example.name): \(info.name)")
      #expect(info.dtype == tensor.dtype)
      #expect(info.shape.dims == tensor.shape, "\(example.name): \(info.name)")
      #expect(try source.bytes(of: number) == tensor.bytes, "\(example.name): \(info.name)")
    }
    #expect(
      location.config.flatMap { FileIdentity.name(of: $0) }
        == example.config.flatMap { FileIdentity.name(of: Fixtures.path($0)) })
  }

  @Test(
    "any range of any tensor is what the whole has there, by several readers at once",
    arguments: ["dcp/grid-2x2/step-10", "dcp/zstd-2r"])
  func ranges(path: String) async throws {
    let source = try openCheckpoint(at: Fixtures.path(path))
    let whole = try source.tensors.indices.map { try source.bytes(of: $0) }
    try await withThrowingTaskGroup(of: Void.self) { group in
      for seed in 0..<4 {
        group.addTask {
          var random = SeededRandom(UInt64(seed))
          // Opened anew: its checksums are those of these pieces.
          let source = try openCheckpoint(at: Fixtures.path(path))
          for _ in 0..<300 {
            let number = Int.random(in: source.tensors.indices, using: &random)
            let count = source.tensors[number].byteCount
            let start = Int.random(in: 0..<count, using: &random)
            let end = Int.random(in: start...count, using: &random)
            var buffer = [UInt8](repeating: 0, count: end - start)
            try buffer.withUnsafeMutableBytes {
              try source.read(number, bytes: start..<end, into: $0)
            }
            #expect(buffer == Array(whole[number][start..<end]))
          }
        }
      }
      try await group.waitForAll()
    }
  }

  @Test("odd but sound directories are read", arguments: Files.names(in: Fixtures.path("good/dcp")))
  func good(name: String) throws {
    let source = try openCheckpoint(at: Fixtures.path("good/dcp/" + name))
    #expect(try source.floats("w") == (0..<24).map { Float($0) })
    if source.index("b") != nil {
      #expect(try source.floats("b") == (100..<106).map { Float($0) })
    } else {
      #expect(["grid", "uneven-grid"].contains(name))
    }
    if name == "scalar" { #expect(try source.floats("s") == [7]) }
  }

  @Test("what is no model is passed over, and told by the key that it stands under")
  func passedOver() throws {
    let source = try openCheckpoint(
      at: Fixtures.path("dcp/flame-3r/exp/checkpoint/step-7"))
    let told = try #require(source.warnings.first { $0.code == "dcp.passed-over" })
    #expect(told.severity == .note)
    #expect(
      told.notes == [
        "optimizer: 9 tensors of 37.1 kB, 6 other items", "dataloader: 4 other items",
        "lr_scheduler: 2 other items", "train_state: 2 tensors of 12 bytes",
      ])
    let what = try #require(source.warnings.first { $0.code == "dcp.checkpoint" })
    #expect(
      what.message
        == #"is a sharded checkpoint: step 7, 3 ranks, 3 files, the model under "model""#)
  }

  @Test("the grid of each tensor is told")
  func grids() throws {
    let source = try #require(
      try openCheckpoint(at: Fixtures.path("dcp/grid-2x2/step-10")) as? any TiledSource)
    func grid(_ name: TensorName) -> String? { source.index(name).flatMap { source.grid(of: $0) } }
    #expect(grid("backbone.layers.0.mixer.out_proj.weight") == "2 x 2")
    #expect(grid("backbone.layers.0.mixer.in_proj.weight") == "4 x 1")
    #expect(grid("backbone.layers.0.mixer.dt_proj.bias") == nil)
  }

  @Test("Lightning's meta.pt is kept beside the tensors")
  func lightning() throws {
    let source = try openCheckpoint(at: Fixtures.path("dcp/lightning-2r/iter-000128-ckpt.pth"))
    #expect(source.attachments["iter_num"] == 128)
    #expect(source.attachments["hparams"]?["name"] == "none of Samba's")
  }

  @Test("one rank's safetensors stands for all of them, and never for a smaller model")
  func oneRank() throws {
    let name = "shard-00002-model-00001-of-00001.safetensors"
    let source = try openCheckpoint(at: Fixtures.path("dcp/safetensors-2r/sharded/" + name))
    #expect(source.warnings.contains { $0.code == "dcp.checkpoint" })
    let whole = try openCheckpoint(at: Fixtures.path("dcp/safetensors-2r/sharded"))
    #expect(source.tensors == whole.tensors)
    // Without the first rank there is a hole, and the numbers of the files say so.
    let folder = TemporaryDirectory()
    Files.write(
      Files.read(Fixtures.path("dcp/safetensors-2r/sharded/" + name)), to: folder.file(name))
    #expect(
      problems { () throws(Problems) in _ = try openCheckpoint(at: folder.path) }.map(\.code)
        == ["dcp.missing-file"])
    // An index that lists it makes no whole tensor of it either.
    Files.write(
      #"{"weight_map": {"lm_head.weight": "\#(name)"}}"#,
      to: folder.file("model.safetensors.index.json"))
    #expect(
      problems { () throws(Problems) in _ = try openCheckpoint(at: folder.path) }.map(\.code)
        == ["dcp.one-rank"])
  }

  @Test("a safetensors part with an item in front of its header is refused by its cause")
  func spoiled() throws {
    let folder = TemporaryDirectory()
    for number in 1...2 {
      let name = "shard-0000\(number)-model-00001-of-00001.safetensors"
      var bytes = Files.read(Fixtures.path("dcp/safetensors-2r/sharded/" + name))
      if number == 2 { bytes = [0x50, 0x4b, 3, 4] + bytes }
      Files.write(bytes, to: folder.file(name))
    }
    #expect(
      problems { () throws(Problems) in _ = try openCheckpoint(at: folder.path) }.map(\.code)
        == ["dcp.spoiled"])
  }

  @Test("several models are refused by name, and one is read by its key")
  func key() throws {
    let path = Fixtures.path("bad/dcp/dcp.several-models__ema")
    let source = try openCheckpoint(at: path, key: "ema")
    #expect(try source.floats("w") == (0..<24).map { Float($0) })
    let told = problems { () throws(Problems) in _ = try openCheckpoint(at: path, key: "emu") }
    #expect(told.map(\.code) == ["dcp.no-such-key"])
    #expect(told.first?.notes == [#"its keys are "model", "ema""#])
  }

  @Test("the index and accelerate's folder stand for the directory; one rank's file for nothing")
  func paths() throws {
    let directory = Fixtures.path("good/dcp/three-rows")
    #expect(try openCheckpoint(at: directory + "/.metadata").floats("b").count == 6)
    #expect(
      problems { () throws(Problems) in
        _ = try openCheckpoint(at: directory + "/__0_0.distcp")
      }.map(\.code) == ["dcp.one-file"])
    let folder = TemporaryDirectory()
    for name in ["pytorch_model_fsdp_0", "optimizer_0"] {
      Files.makeDirectory(folder.file(name))
      for file in [".metadata", "__0_0.distcp"] {
        Files.write(Files.read(directory + "/" + file), to: folder.file(name) + "/" + file)
      }
    }
    let source = try openCheckpoint(at: folder.path)
    #expect(source.files[0].path == folder.file("pytorch_model_fsdp_0") + "/__0_0.distcp")
  }

  @Test("files that the index does not name are told and not read")
  func stale() throws {
    let folder = TemporaryDirectory()
    for file in [".metadata", "__0_0.distcp"] {
      Files.write(
        Files.read(Fixtures.path("good/dcp/three-rows/" + file)), to: folder.file(file))
    }
    Files.write([1, 2, 3], to: folder.file("__7_0.distcp"))
    let source = try openCheckpoint(at: folder.path)
    let told = source.warnings.filter { $0.code == "dcp.stale-files" }
    #expect(told.count == 1)
    #expect(told.first?.message.contains("__7_0.distcp") == true)
  }

  @Test("several configs beside a run are told, and none is guessed")
  func configs() throws {
    let folder = TemporaryDirectory()
    for path in ["run", "run/configs", "run/checkpoint", "run/checkpoint/step-1"] {
      Files.makeDirectory(folder.file(path))
    }
    for file in [".metadata", "__0_0.distcp"] {
      Files.write(
        Files.read(Fixtures.path("good/dcp/three-rows/" + file)),
        to: folder.file("run/checkpoint/step-1/" + file))
    }
    let path = folder.file("run/checkpoint/step-1")
    Files.write("{}", to: folder.file("run/configs/one.json"))
    var location = try CheckpointLocation(finding: path)
    #expect(location.configs.map { FileIdentity.name(of: $0) } == ["one.json"])
    #expect(location.notes.map(\.code) == ["checkpoint.config-elsewhere"])
    Files.write("{}", to: folder.file("run/configs/two.json"))
    location = try CheckpointLocation(finding: path)
    #expect(location.configs == [])
    #expect(location.notes.map(\.code) == ["checkpoint.several-configs"])
    Files.write("{}", to: folder.file("run/checkpoint/config.json"))
    location = try CheckpointLocation(finding: path)
    #expect(location.configs.map { FileIdentity.name(of: $0) } == ["config.json"])
  }
}

/// The last component of a path.
enum FileIdentity {
  static func name(of path: String) -> String { String(path.split(separator: "/").last ?? "") }
}
