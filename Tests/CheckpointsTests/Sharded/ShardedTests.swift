import Checkpoints
import Tensors
import TestSupport
import Testing

@Suite("Sharded checkpoints")
struct ShardedTests {
  let directory = TemporaryDirectory()

  func manifest(_ sizes: [Int]) -> OutputManifest {
    OutputManifest(
      tensors: sizes.enumerated().map { i, size in
        OutputTensor(name: TensorName("t.\(i)"), dtype: .u8, shape: [size], byteCount: size)
      })
  }

  @Test("every malformed index gives exactly the code in its folder's name")
  func corpus() {
    let folders = Fixtures.list("bad/shard-index")
    #expect(folders.count >= 28)
    for folder in folders {
      for path in [folder, folder + "/model.safetensors.index.json"] {
        let found = problems { () throws(Problems) in _ = try openCheckpoint(at: path) }
        #expect(
          Set(found.map(\.code)) == [Fixtures.expectedCode(folder)], "\(folder): \(found)")
      }
    }
  }

  @Test("odd but good indexes are read; a wrong total is a warning")
  func oddities() throws {
    let folders = Fixtures.list("good/shard-index")
    #expect(folders.count >= 9)
    for folder in folders {
      let source = try openCheckpoint(at: folder)
      #expect(try source.floats("a") == [1, 2], "\(folder)")
      #expect(try source.floats("b") == [3, 4], "\(folder)")
      let isWrong = folder.contains("/shards.total-size__")
      #expect(source.warnings.map(\.code) == (isWrong ? ["shards.total-size"] : []), "\(folder)")
    }
  }

  @Test("every truncation and every flipped byte of index and shards: an error or a clean read")
  func damage() throws {
    let folder = Fixtures.path("good/shard-index/metadata-last")
    let names = Files.names(in: folder)
    for name in names { Files.write(Files.read("\(folder)/\(name)"), to: directory.file(name)) }
    func codes() -> [String] {
      problems { () throws(Problems) in
        let source = try openCheckpoint(at: directory.path)
        for index in source.tensors.indices {
          do throws(Diagnostic) { _ = try source.bytes(of: index) } catch {
            throw Problems([error])
          }
        }
      }.map(\.code)
    }
    #expect(codes() == [])
    var refused = 0
    var flips = 0
    for name in names {
      let good = Files.read("\(folder)/\(name)")
      for count in 0..<good.count {
        Files.write(Array(good[..<count]), to: directory.file(name))
        // The index may lose its last line break.
        let isWhole = count == good.count - 1 && name.hasSuffix(".json")
        #expect(codes().isEmpty == isWhole, "\(count) bytes of \(name)")
      }
      for at in good.indices {
        for flip in [0x01, 0x20, 0x80, 0xFF] as [UInt8] {
          var bytes = good
          bytes[at] ^= flip
          Files.write(bytes, to: directory.file(name))
          flips += 1
          refused += codes().isEmpty ? 0 : 1
        }
      }
      Files.write(good, to: directory.file(name))
    }
    #expect(refused > flips / 2 && refused < flips)
  }

  @Test("tensors are dealt out greedily in order")
  func split() {
    #expect(
      ShardedWriter.split(manifest([6, 6, 9, 2]), maxShardBytes: 10) == [[0], [1], [2], [3]])
    #expect(ShardedWriter.split(manifest([6, 6, 9, 2]), maxShardBytes: 12) == [[0, 1], [2, 3]])
    #expect(ShardedWriter.split(manifest([50, 1, 1]), maxShardBytes: 10) == [[0], [1, 2]])
    #expect(ShardedWriter.split(manifest([]), maxShardBytes: 10) == [[]])
    var tied = manifest([6, 6, 6])
    tied.tensors[2].sharesStorageWith = 0
    #expect(ShardedWriter.split(tied, maxShardBytes: 6) == [[0, 2], [1]])
  }

  @Test("shards and index have transformers' names and are read back as they were")
  func roundTrip() throws {
    let manifest = manifest([6, 6, 9, 2])
    let sink = try makeSink(
      container: .safetensors, manifest: manifest, directory: directory.path,
      fileName: "model.safetensors", maxShardBytes: 12)
    for (i, tensor) in manifest.tensors.enumerated() {
      let bytes = (0..<tensor.byteCount).map { UInt8(i * 10 + $0) }
      try bytes.withUnsafeBytes { try sink.write(i, at: 0, $0) }
    }
    #expect(!Files.exists(directory.file("model.safetensors.index.json")))
    try sink.finish(sync: false)
    #expect(
      Files.names(in: directory.path) == [
        "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
      ])
    #expect(sink.outputs.map { Files.exists($0) } == [true, true, true])
    #expect(
      Files.text(directory.file("model.safetensors.index.json"))
        == """
        {
          "metadata": {
            "total_size": 23
          },
          "weight_map": {
            "t.0": "model-00001-of-00002.safetensors",
            "t.1": "model-00001-of-00002.safetensors",
            "t.2": "model-00002-of-00002.safetensors",
            "t.3": "model-00002-of-00002.safetensors"
          }
        }

        """)
    let source = try openCheckpoint(at: directory.path)
    #expect(source.container == .safetensors)
    #expect(source.tensors.map(\.name) == manifest.tensors.map(\.name))
    #expect(source.tensors.map(\.extent) == sink.extents)
    #expect(source.tensors.map { $0.extent!.file } == [0, 0, 1, 1])
    #expect(source.warnings.isEmpty)
    #expect(source.metadata == ["format": "pt"])
    for i in source.tensors.indices {
      #expect(
        try source.bytes(of: i) == (0..<source.tensors[i].byteCount).map { UInt8(i * 10 + $0) })
    }
  }

  @Test("what fits one shard is a single file without an index")
  func single() throws {
    let sink = try makeSink(
      container: .safetensors, manifest: manifest([3]), directory: directory.path,
      fileName: "model.safetensors", maxShardBytes: 12)
    try sink.finish(sync: false)
    #expect(Files.names(in: directory.path) == ["model.safetensors"])
  }

  @Test("an index that names a million files is refused before any is looked for")
  func millionFiles() {
    let lines = (0..<1_000_000).map { "\"t\($0)\": \"m-\($0).safetensors\"" }
    let text = "{\"weight_map\": {\(lines.joined(separator: ","))}}"
    let error = #expect(throws: Problems.self) {
      try ShardIndex(parsing: Array(text.utf8), path: "index.json")
    }
    #expect(error?.diagnostics.map(\.code) == ["shards.index"])
  }

  @Test("a wrong total is a warning")
  func total() throws {
    var builder = SafetensorsBuilder()
    builder.add("a", [1], [2])
    Files.write(builder.bytes, to: directory.file("x.safetensors"))
    Files.write(
      #"{"metadata": {"total_size": 5}, "weight_map": {"a": "x.safetensors"}}"#,
      to: directory.file("model.safetensors.index.json"))
    let source = try openCheckpoint(at: directory.path)
    #expect(source.warnings.map(\.code) == ["shards.total-size"])
    #expect(source.warnings.map(\.severity) == [.warning])
    #expect(try source.floats("a") == [2])
  }

  @Test("both kinds of index parse, a total as a float included")
  func indexes() throws {
    let text = #"{"metadata": {"total_size": 8.0}, "weight_map": {"b": "p-2.bin", "a": "p-1.bin"}}"#
    let index = try ShardIndex(parsing: Array(text.utf8), path: "pytorch_model.bin.index.json")
    #expect(index.totalSize == 8)
    #expect(index.files == ["p-1.bin", "p-2.bin"])
    #expect(index.entries.map(\.name) == ["b", "a"])
    let again = try ShardIndex(parsing: Array(index.text.utf8), path: "x")
    #expect(again.entries.map(\.name) == ["a", "b"])
    #expect(again.totalSize == 8)
  }

  @Test("links of the Hugging Face cache are followed, others out of the directory are not")
  func cache() throws {
    var builder = SafetensorsBuilder()
    builder.add("a", [1], [4])
    for folder in ["blobs", "snapshots", "snapshots/rev"] {
      Files.makeDirectory(directory.file(folder))
    }
    Files.write(builder.bytes, to: directory.file("blobs/0123"))
    let index = #"{"weight_map": {"a": "model-00001-of-00001.safetensors"}}"#
    Files.write(index, to: directory.file("snapshots/rev/model.safetensors.index.json"))
    let shard = directory.file("snapshots/rev/model-00001-of-00001.safetensors")
    Files.link(shard, to: "../../blobs/0123")
    #expect(try openCheckpoint(at: directory.file("snapshots/rev")).floats("a") == [4])
    Files.write(builder.bytes, to: directory.file("elsewhere"))
    Files.remove(shard)
    Files.link(shard, to: "../../elsewhere")
    let found = problems { () throws(Problems) in
      _ = try openCheckpoint(at: directory.file("snapshots/rev"))
    }
    #expect(found.map(\.code) == ["shards.symlink"])
  }

  func shard(_ name: String, _ tensors: [(String, Float)]) {
    var builder = SafetensorsBuilder()
    for (tensor, value) in tensors { builder.add(tensor, [1], [value]) }
    Files.write(builder.bytes, to: directory.file(name))
  }

  func codes() -> [String] {
    problems { () throws(Problems) in _ = try openCheckpoint(at: directory.path) }.map(\.code)
  }

  @Test("shards without an index are read together; a tensor in two of them is an error")
  func withoutIndex() throws {
    shard("model-00001-of-00002.safetensors", [("a", 1), ("b", 2)])
    shard("model-00002-of-00002.safetensors", [("c", 3)])
    let source = try openCheckpoint(at: directory.path)
    #expect(source.tensors.map(\.name.string) == ["a", "b", "c"])
    #expect(try ["a", "b", "c"].map { try source.floats($0) } == [[1], [2], [3]])
    shard("model-00002-of-00002.safetensors", [("c", 3), ("a", 4)])
    #expect(codes() == ["shards.duplicate"])
  }

  @Test("renamed shards that hold exactly the index's tensors are read, with a warning")
  func renamed() throws {
    let index = ShardIndex(
      entries: [
        ("a", "model-00001-of-00002.safetensors"), ("b", "model-00002-of-00002.safetensors"),
      ]
      .map { ShardIndex.Entry(name: TensorName($0.0), file: $0.1) }, totalSize: nil)
    Files.write(index.text, to: directory.file("model.safetensors.index.json"))
    shard("part-a.safetensors", [("a", 1)])
    #expect(codes() == ["shards.missing-file", "shards.missing-file"])
    shard("part-b.safetensors", [("b", 2)])
    let source = try openCheckpoint(at: directory.path)
    #expect(source.warnings.map(\.code) == ["shards.renamed"])
    #expect(try ["a", "b"].map { try source.floats($0) } == [[1], [2]])
    // One renamed, one not.
    shard("model-00001-of-00002.safetensors", [("a", 5)])
    Files.remove(directory.file("part-a.safetensors"))
    #expect(try openCheckpoint(at: directory.path).floats("a") == [5])
    // Another tensor, one too many, one twice: these are other files.
    for tensors in [[("c", 2)], [("b", 2), ("c", 2)], [("b", 2), ("a", 2)]] as [[(String, Float)]] {
      shard("part-b.safetensors", tensors)
      let found = problems { () throws(Problems) in _ = try openCheckpoint(at: directory.path) }
      #expect(found.map(\.code) == ["shards.missing-file"])
      #expect(found.first?.notes.first?.contains("\"part-b.safetensors\"") == true)
    }
  }
}
