import Checkpoints
import OrderedCollections
import Tensors
import Testing

@Suite("Reading PyTorch checkpoints")
struct TorchReaderTests {
  @Test(
    "every tensor has the name, type, size and bytes that torch says",
    arguments: [
      "types.pt", "views.pt", "tied.pt", "training.pth", "namespace-protocol2.pt",
      "namespace-protocol4.pt", "without-checksums.pt", "mamba-bias-untied.bin",
    ])
  func agreesWithTorch(name: String) throws {
    let reader = try TorchReader(path: TorchFixtures.good(name))
    let expected = try TorchFixtures.expected(name)
    #expect(reader.tensors.map(\.name.string) == expected.map(\.name))
    for (index, want) in expected.enumerated() {
      let info = reader.tensors[index]
      #expect(info.dtype.rawValue == want.dtype, "\(want.name)")
      #expect(info.shape == want.shape, "\(want.name)")
      let bytes = try reader.bytes(of: index)
      var sum = ZipChecksum()
      sum.update(bytes)
      #expect(sum.value == want.checksum, "\(want.name)")
      #expect(Array(bytes.prefix(64)) == want.head, "\(want.name)")
      if let extent = info.extent {
        let raw = try reader.files[extent.file].bytes(at: extent.offset, count: info.byteCount)
        #expect(raw == bytes, "\(want.name)")
      }
    }
    try reader.verifyChecksums()
    #expect(reader.warnings.isEmpty)
  }

  @Test("any range of a strided tensor is the same range of its dense bytes")
  func ranges() throws {
    let reader = try TorchReader(path: TorchFixtures.good("views.pt"))
    var random = SplitMix(state: 7)
    for index in reader.tensors.indices {
      let whole = try reader.bytes(of: index)
      guard !whole.isEmpty else { continue }
      for _ in 0..<60 {
        let low = Int.random(in: 0...whole.count, using: &random)
        let high = Int.random(in: low...whole.count, using: &random)
        #expect(
          try part(reader, index, low..<high) == Array(whole[low..<high]),
          "\(reader.tensors[index].name) \(low)..<\(high)")
      }
      // From front to back, as a conversion reads.
      var joined: [UInt8] = []
      for low in stride(from: 0, to: whole.count, by: 37) {
        joined += try part(reader, index, low..<min(low + 37, whole.count))
      }
      #expect(joined == whole, "\(reader.tensors[index].name)")
    }
  }

  private func part(_ reader: TorchReader, _ index: Int, _ range: Range<Int>) throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0xaa, count: range.count)
    try bytes.withUnsafeMutableBytes { try reader.read(index, bytes: range, into: $0) }
    return bytes
  }

  @Test("tied tensors have one extent, strided and empty ones none")
  func extents() throws {
    let tied = try TorchReader(path: TorchFixtures.good("tied.pt"))
    #expect(tied.tensors[0].extent != nil)
    #expect(tied.tensors[0].extent == tied.tensors[1].extent)
    #expect(tied.tensors[2].extent != tied.tensors[0].extent)
    #expect(tied.tensors[3].extent == nil)

    let views = try TorchReader(path: TorchFixtures.good("views.pt"))
    let dense = views.tensors.filter { $0.extent != nil }.map(\.name.string)
    #expect(dense == ["base", "row", "element"])
  }

  @Test("what a training loop leaves around the weights is kept as plain values")
  func training() throws {
    let reader = try TorchReader(path: TorchFixtures.good("training.pth"))
    let around = reader.attachments
    #expect(around["iter_num"] == 128)
    #expect(
      around["hparams"]
        == ["learning_rate": 0.0004, "name": "Samba_421M", "resume": false, "out": nil])
    #expect(around["model"] == nil)
    #expect(around["rng"] == .null)
    #expect(
      around["optimizer"]?["state"]?["0"] == ["step": nil, "exp_avg": nil, "exp_avg_sq": nil])
    #expect(around["optimizer"]?["param_groups"]?.array?[0]["betas"] == [0.9, 0.999])
    #expect(reader.tensors[0].name == "_forward_module.0.weight")
  }

  @Test("a namespace is an object, in old and new protocols", arguments: [2, 4])
  func namespace(number: Int) throws {
    let path = TorchFixtures.good("namespace-protocol\(number).pt")
    let around = try TorchReader(path: path).attachments
    #expect(
      around["args"] == [
        "arch": "retnet_base", "decoder_embed_dim": 64, "dropout": 0.1, "betas": [0.9, 0.98],
        "dtype": "torch.bfloat16", "path": "/data/x", "size": [2, 3],
      ])
    #expect(around["best"] == 1.5)
    #expect(around["steps"] == -7)
    #expect(around["large"] == .null)
    #expect(around["digits"] == [1, 2])
    #expect(around["keys"] == ["1": "one", "null": "none"])
    #expect(around["state"]?.array?[1] == .null)
    #expect(around["model"] == nil)
  }

  @Test(
    "what is odd but legal is read",
    arguments: TorchFixtures.names("good").filter { $0.hasPrefix("odd__") })
  func odd(name: String) throws {
    let reader = try TorchReader(path: TorchFixtures.good(name))
    #expect(reader.tensors.map(\.name.string) == ["w"])
    #expect(reader.tensors[0].shape == [2, 3])
    let values = try reader.bytes(of: 0).withUnsafeBytes { raw in
      (0..<6).map { raw.loadUnaligned(fromByteOffset: 4 * $0, as: Float.self) }
    }
    #expect(values == [1, 2, 3, 4, 5, 6])
  }

  @Test("entries that are no tensors are passed over, and said")
  func passedOver() throws {
    let reader = try TorchReader(
      path: TorchFixtures.good("odd__entries-that-are-no-tensors.pt"))
    #expect(reader.warnings.map(\.code) == ["pytorch.passed-over"])
    #expect(reader.warnings[0].message.contains("\"version\""))
  }

  @Test("attachments that would be endless are cut, and said")
  func cut() throws {
    for name in ["holds-itself", "doubles-sixty-times", "deep-tuples"] {
      let reader = try TorchReader(path: TorchFixtures.good("odd__\(name)-beside.pt"))
      #expect(reader.warnings.map(\.code) == ["pytorch.attachments"], "\(name)")
    }
  }

  @Test("a missing file and a directory are told apart")
  func noFile() {
    #expect(TorchFixtures.codes(ofFile: "/nowhere/model.pt") == ["io.open"])
    #expect(TorchFixtures.codes(ofFile: "/") == ["io.not-a-file"])
  }
}
