import Checkpoints
import Foundation
import Tensors
import Testing

@Suite("Writing PyTorch checkpoints")
struct TorchWriterTests {
  /// What torch 2.13 reads from files of this writer was compared by hand; here the reader, whose
  /// agreement with torch is tested on torch's own files, stands in for it.
  @Test(
    "what is written is read back, byte for byte",
    arguments: ["types.pt", "views.pt", "tied.pt", "training.pth", "mamba-bias-untied.bin"],
    [nil, "model"])
  func roundTrip(name: String, nesting: String?) throws {
    let source = try TorchReader(path: TorchFixtures.good(name))
    try TorchFixtures.withDirectory { directory in
      let writer = try TorchWriter(
        manifest: OutputManifest(tensors: tensors(of: source), nesting: nesting),
        directory: directory, fileName: "out.pt")
      #expect(writer.outputs == [directory + "/out.pt"])
      for index in source.tensors.indices {
        let bytes = try source.bytes(of: index)
        try bytes.withUnsafeBytes { try writer.write(index, at: 0, $0) }
      }
      try writer.finish(sync: true)

      let copy = try TorchReader(path: directory + "/out.pt")
      #expect(copy.tensors.map(\.name) == source.tensors.map(\.name))
      for (index, info) in copy.tensors.enumerated() {
        #expect(info.dtype == source.tensors[index].dtype)
        #expect(info.shape == source.tensors[index].shape)
        #expect(try copy.bytes(of: index) == source.bytes(of: index), "\(info.name)")
        // Dense, and where torch's own files would have it.
        if info.byteCount > 0 { #expect(try #require(info.extent).offset % 64 == 0) }
      }
      #expect(copy.attachments == .null)
      #expect(copy.warnings.isEmpty)
      try copy.verifyChecksums()
    }
  }

  private func tensors(of source: TorchReader) -> [OutputTensor] {
    source.tensors.map {
      OutputTensor(name: $0.name, dtype: $0.dtype, shape: $0.shape, byteCount: $0.byteCount)
    }
  }

  @Test("tied tensors share one storage")
  func shared() throws {
    try TorchFixtures.withDirectory { directory in
      let manifest = OutputManifest(tensors: [
        OutputTensor(name: "embed", dtype: .bf16, shape: [3, 2], byteCount: 12),
        OutputTensor(name: "norm", dtype: .f32, shape: [2], byteCount: 8),
        OutputTensor(
          name: "head", dtype: .bf16, shape: [3, 2], byteCount: 12, sharesStorageWith: 0),
        OutputTensor(
          name: "rows", dtype: .bf16, shape: [2, 2], byteCount: 8, sharesStorageWith: 0),
      ])
      let writer = try TorchWriter(manifest: manifest, directory: directory, fileName: "a.b.pt")
      try put(writer, 0, 0, Array(1...12))
      try put(writer, 1, 0, Array(21...28))
      let refused = #expect(throws: Diagnostic.self) { try put(writer, 2, 0, [1]) }
      #expect(refused?.code == "pytorch.manifest")
      try writer.finish(sync: false)

      let reader = try TorchReader(path: directory + "/a.b.pt")
      #expect(reader.tensors[0].extent == reader.tensors[2].extent)
      #expect(reader.tensors[0].extent == reader.tensors[3].extent)
      #expect(try reader.bytes(of: 2) == Array(1...12))
      #expect(try reader.bytes(of: 3) == Array(1...8))
      let zip = try ZipDirectory(file: reader.files[0])
      #expect(
        zip.entries.map(\.name) == [
          "a.b/data.pkl", "a.b/.format_version", "a.b/.storage_alignment", "a.b/byteorder",
          "a.b/data/0", "a.b/data/1", "a.b/version",
        ])
    }
  }

  @Test("bytes may come in any order, in any pieces, from several threads and twice")
  func anyOrder() async throws {
    let directory = FileManager.default.temporaryDirectory.path + "/torch-\(UUID().uuidString)"
    try FileManager.default.createDirectory(
      atPath: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: directory) }
    var random = SplitMix(state: 99)
    let data = (0..<5).map { _ in
      (0..<100_000).map { _ in UInt8.random(in: 0...255, using: &random) }
    }
    let manifest = OutputManifest(
      tensors: data.indices.map {
        OutputTensor(
          name: TensorName("t\($0)"), dtype: .u8, shape: [data[$0].count],
          byteCount: data[$0].count)
      })
    let writer = try TorchWriter(manifest: manifest, directory: directory, fileName: "any.pt")
    var jobs: [(Int, Range<Int>)] = []
    for index in data.indices {
      var at = 0
      while at < data[index].count {
        let end = min(data[index].count, at + Int.random(in: 1...9000, using: &random))
        jobs.append((index, at..<end))
        at = end
      }
    }
    // Written twice: the sums of the pieces no longer say the sum of the whole.
    jobs.append((3, 500..<70_000))
    jobs.shuffle(using: &random)
    try await withThrowingTaskGroup(of: Void.self) { group in
      for (index, range) in jobs {
        group.addTask {
          try data[index][range].withUnsafeBytes {
            try writer.write(index, at: range.lowerBound, $0)
          }
        }
      }
      try await group.waitForAll()
    }
    try writer.finish(sync: false)
    let reader = try TorchReader(path: directory + "/any.pt")
    try reader.verifyChecksums()
    for index in data.indices { #expect(try reader.bytes(of: index) == data[index]) }
  }

  @Test("a tensor that was not written whole is refused at the end")
  func incomplete() throws {
    try TorchFixtures.withDirectory { directory in
      let manifest = OutputManifest(tensors: [
        OutputTensor(name: "w", dtype: .f32, shape: [4], byteCount: 16)
      ])
      let writer = try TorchWriter(manifest: manifest, directory: directory, fileName: "w.pt")
      try put(writer, 0, 0, [1, 2, 3, 4])
      try put(writer, 0, 8, [1, 2, 3, 4, 5, 6, 7, 8])
      let beyond = #expect(throws: Diagnostic.self) { try put(writer, 0, 15, [1, 2]) }
      #expect(beyond?.code == "pytorch.manifest")
      let error = #expect(throws: Diagnostic.self) { try writer.finish(sync: false) }
      #expect(error?.code == "pytorch.incomplete")
      #expect(error?.message == "was not written whole: byte 4 of 16 is missing")
    }
  }

  @Test("a manifest that cannot be a state dict is refused before any file is made")
  func manifests() throws {
    func code(_ tensors: [OutputTensor], _ fileName: String = "x.pt") throws -> String? {
      try TorchFixtures.withDirectory { directory in
        let error = #expect(throws: Diagnostic.self) {
          try TorchWriter(
            manifest: OutputManifest(tensors: tensors), directory: directory, fileName: fileName)
        }
        let left = try FileManager.default.contentsOfDirectory(atPath: directory)
        #expect(left.isEmpty)
        return error?.code
      }
    }
    let w = OutputTensor(name: "w", dtype: .f32, shape: [2], byteCount: 8)
    for dtype in [DType.f4, .f6E2M3, .f6E3M2] {
      let packed = OutputTensor(
        name: "w", dtype: dtype, shape: [8], byteCount: dtype.bitWidth)
      #expect(try code([packed]) == "pytorch.dtype")
    }
    #expect(try code([w, w]) == "pytorch.manifest")
    #expect(
      try code([OutputTensor(name: "w", dtype: .f32, shape: [2], byteCount: 4)])
        == "pytorch.manifest")
    var tied = w
    tied.name = "v"
    tied.sharesStorageWith = 1
    #expect(try code([w, tied]) == "pytorch.manifest")
    tied.sharesStorageWith = 0
    tied.dtype = .i32
    #expect(try code([w, tied]) == "pytorch.manifest")
    #expect(try code([w], "a/b.pt") == "pytorch.manifest")
    #expect(try code([w], "") == "pytorch.manifest")
  }

  @Test("an existing file is not overwritten")
  func existing() throws {
    try TorchFixtures.withDirectory { directory in
      _ = try TorchWriter(
        manifest: OutputManifest(tensors: []), directory: directory, fileName: "x.pt")
      let error = #expect(throws: Diagnostic.self) {
        try TorchWriter(
          manifest: OutputManifest(tensors: []), directory: directory, fileName: "x.pt")
      }
      #expect(error?.code == "io.create")
    }
  }

  @Test("storages and files past 4 GiB are written by zip64 and read back")
  func large() throws {
    try TorchFixtures.withDirectory { directory in
      // Sparse: what is written are the first and last bytes, and the checksum is never asked for.
      let count = (4 << 30) + 4096
      let layout = try sparse(directory + "/large.pt", count)
      let file = try RandomAccessFile(path: directory + "/large.pt")
      let zip = try ZipDirectory(file: file)
      #expect(zip.entries.map(\.byteCount) == [3, count, 5])
      #expect(zip.entries[2].headerOffset > 4 << 30)
      #expect(zip.entries.map(\.dataOffset) == layout.entries.map(\.dataOffset))
      #expect(zip.entries.allSatisfy { $0.dataOffset % 64 == 0 })
    }
  }

  private func sparse(_ path: String, _ count: Int) throws -> ZipLayout {
    var layout = ZipLayout()
    for (name, size) in [("m/a", 3), ("m/data/0", count), ("m/b", 5)] {
      _ = try layout.add(name, byteCount: size)
    }
    let output = try ZipOutput(path: path)
    for index in layout.entries.indices {
      try output.write(layout.localHeader(index), at: layout.entries[index].headerOffset)
    }
    try output.write(layout.trailer(), at: layout.end)
    return layout
  }

  @Test("more entries than 65,535 are written and read back")
  func many() throws {
    try TorchFixtures.withDirectory { directory in
      let manifest = OutputManifest(
        tensors: (0..<66_000).map {
          OutputTensor(name: TensorName("layers.\($0).w"), dtype: .u8, shape: [], byteCount: 1)
        })
      let writer = try TorchWriter(manifest: manifest, directory: directory, fileName: "many.pt")
      for index in manifest.tensors.indices {
        try put(writer, index, 0, [UInt8(truncatingIfNeeded: index)])
      }
      try writer.finish(sync: false)
      let reader = try TorchReader(path: directory + "/many.pt")
      #expect(reader.tensors.count == 66_000)
      #expect(try reader.bytes(of: 65_999) == [UInt8(truncatingIfNeeded: 65_999)])
    }
  }

  private func put(_ writer: TorchWriter, _ index: Int, _ offset: Int, _ bytes: [UInt8]) throws {
    try bytes.withUnsafeBytes { try writer.write(index, at: offset, $0) }
  }
}
