import Checkpoints
import Foundation
import Tensors
import Testing

@Suite("Writing HDF5")
struct HDF5WriterTests {
  private func tensor(
    _ name: String, _ dtype: DType, _ shape: Shape, sharing: Int? = nil
  ) throws -> OutputTensor {
    OutputTensor(
      name: TensorName(name), dtype: dtype, shape: shape,
      byteCount: try #require(shape.byteCount(of: dtype)), sharesStorageWith: sharing)
  }

  /// Bytes that differ from tensor to tensor and from place to place.
  private func bytes(_ index: Int, _ count: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ index &* 97 &+ $0 / 256) }
  }

  /// Writes a file with `bytes(_:_:)`, and opens it.
  private func roundTrip<R>(
    _ manifest: OutputManifest, _ check: (HDF5Reader) throws -> R
  ) throws -> R {
    try HDF5Support.withDirectory { directory in
      let writer = try HDF5Writer(
        manifest: manifest, directory: directory, fileName: "model.h5")
      for (index, tensor) in manifest.tensors.enumerated() where tensor.sharesStorageWith == nil {
        try bytes(index, tensor.byteCount).withUnsafeBytes { try writer.write(index, at: 0, $0) }
      }
      try writer.finish(sync: true)
      let reader = try HDF5Reader(path: writer.outputs[0])
      for (info, extent) in zip(manifest.tensors, writer.extents) {
        let found = try #require(reader.tensors.first { $0.name == info.name })
        #expect(found.extent == extent)
      }
      return try check(reader)
    }
  }

  @Test("every dtype comes back with its shape and bytes", arguments: DType.allCases)
  func dtypes(dtype: DType) throws {
    // 8 elements of 6 bits are 6 bytes.
    let shapes: [Shape] = [[3, 8], [8], [1, 2, 4, 1], [0], [4, 0, 3]]
    var tensors = try shapes.enumerated().map { try tensor("t\($0).w", dtype, $1) }
    if dtype.bitWidth >= 8 { tensors.append(try tensor("scalar", dtype, [])) }
    try roundTrip(OutputManifest(tensors: tensors)) { reader in
      #expect(reader.tensors.map(\.name) == tensors.map(\.name))
      for (index, info) in reader.tensors.enumerated() {
        #expect(info.dtype == dtype)
        #expect(info.shape == tensors[index].shape)
        #expect(info.byteCount == tensors[index].byteCount)
        let found = try reader.bytes(of: index)
        #expect(found == bytes(index, info.byteCount))
      }
    }
  }

  @Test("every name comes back as it was")
  func names() throws {
    let names = [
      "backbone.layers.0.mixer.A_log", "backbone.layers.0.mixer.A_log.scale", "backbone", "a.b",
      "a.b.c.d", "a", "x..y", ".x", "x.", ".", "..", "...", "", "a/b", "/", "/a", "a/b/c.d", "a_b",
      "a_b~", "unnamed", "dot", "dot.tensor", "ü.ö", "u\u{308}.o", "e\u{301}", "\u{e9}", "日本.語",
      "with space.and\ttab", "line\nbreak", "weighbridge.tensor-name", "a.b/", "q/\u{301}.w",
      String(repeating: "deep.", count: 100) + "w", String(repeating: "long", count: 500),
    ]
    let tensors = try names.map { try tensor($0, .f32, [2, 3]) }
    try roundTrip(OutputManifest(tensors: tensors)) { reader in
      #expect(reader.tensors.count == names.count)
      let contents = try HDF5Support.contents(reader)
      for (index, name) in names.enumerated() {
        #expect(contents[TensorName(name)] == bytes(index, 24), "\(name)")
      }
    }
  }

  @Test("metadata and config come back, also long ones and one that is called config")
  func metadata() throws {
    let config: JSONValue = [
      "model_type": "mamba", "layers": [1, 2.5, nil, true], "text": "ü\u{1F600}\n",
      "long": .string(String(repeating: "0123456789", count: 20_000)),
    ]
    let metadata = [
      "format": "pt", "config": "{}", "empty": "", "a/b.c": "slash", "ü": "\u{308}",
      "long": String(repeating: "abcdefgh", count: 30_000),
    ]
    let manifest = OutputManifest(
      tensors: [try tensor("w", .f32, [2])], metadata: metadata, config: config)
    try roundTrip(manifest) { reader in
      #expect(reader.metadata == metadata)
      #expect(reader.attachments["config"] == config)
      #expect(reader.warnings.isEmpty)
    }
  }

  @Test("no config is no attachment")
  func noConfig() throws {
    try roundTrip(OutputManifest(tensors: [try tensor("w", .f32, [2])])) { reader in
      #expect(reader.attachments == .null)
      #expect(reader.metadata.isEmpty)
    }
  }

  @Test("tied tensors are one dataset under several names")
  func ties() throws {
    let tensors = [
      try tensor("embed.weight", .bf16, [7, 3]),
      try tensor("head.weight", .bf16, [7, 3], sharing: 0),
      try tensor("other", .bf16, [7, 3]), try tensor("odd/name", .bf16, [7, 3], sharing: 1),
    ]
    try roundTrip(OutputManifest(tensors: tensors)) { reader in
      let extents = reader.tensors.map(\.extent)
      #expect(extents[0] != nil && extents[0] == extents[1] && extents[0] == extents[3])
      #expect(extents[2] != extents[0])
      let contents = try HDF5Support.contents(reader)
      #expect(contents["head.weight"] == bytes(0, 42))
      #expect(contents["odd/name"] == bytes(0, 42))
    }
  }

  @Test("tensors are listed in the manifest's order, and start at multiples of 64")
  func order() throws {
    let names = (0..<30).map { "layers.\(29 - $0).w" } + ["a", "z", "m"]
    let tensors = try names.enumerated().map { try tensor($1, .u8, [$0 + 1]) }
    try roundTrip(OutputManifest(tensors: tensors)) { reader in
      #expect(reader.tensors.map(\.name.string) == names)
      #expect(reader.tensors.allSatisfy { ($0.extent?.offset ?? 1) % 64 == 0 })
    }
  }

  @Test("bytes arrive in any order, from several tasks, in pieces, or by the extent")
  func anyOrder() async throws {
    let count = 4
    let tensors = try (0..<count).map { try tensor("layers.\($0).w", .f32, [64, 33]) }
    let directory = NSTemporaryDirectory() + "/hdf5-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: directory) }
    let writer = try HDF5Writer(
      manifest: OutputManifest(tensors: tensors), directory: directory, fileName: "model.h5")
    let size = 64 * 33 * 4
    try await withThrowingTaskGroup(of: Void.self) { group in
      for index in 0..<count - 1 {
        let all = bytes(index, size)
        for start in stride(from: 0, to: size, by: 1000).reversed() {
          group.addTask {
            try all[start..<min(start + 1000, size)].withUnsafeBytes {
              try writer.write(index, at: start, $0)
            }
          }
        }
      }
      try await group.waitForAll()
    }
    // As a copy inside of the kernel would: by path and offset.
    let file = try #require(FileHandle(forWritingAtPath: writer.outputs[0]))
    try file.seek(toOffset: UInt64(try #require(writer.extents[count - 1]).offset))
    try file.write(contentsOf: Data(bytes(count - 1, size)))
    try file.close()
    try writer.finish(sync: false)
    let reader = try HDF5Reader(path: writer.outputs[0])
    for index in 0..<count { #expect(try reader.bytes(of: index) == bytes(index, size)) }
  }

  @Test("equal manifests give equal files")
  func deterministic() throws {
    let manifest = OutputManifest(
      tensors: [try tensor("a.b", .f32, [2, 3]), try tensor("a.c", .bool, [2])],
      metadata: ["x": "1", "y": "2", "z": "3"], config: ["d": 4])
    func file() throws -> Data {
      try roundTrip(manifest) { try Data(contentsOf: URL(fileURLWithPath: $0.files[0].path)) }
    }
    #expect(try file() == file())
  }

  @Test("what HDF5 cannot hold is refused by code")
  func refusals() throws {
    let good = try tensor("w", .f32, [2])
    let cases: [(String, OutputManifest)] = [
      ("hdf5.name", OutputManifest(tensors: [try tensor("a\0b", .f32, [2])])),
      ("hdf5.duplicate", OutputManifest(tensors: [good, good])),
      (
        "hdf5.shape",
        OutputManifest(tensors: [try tensor("w", .u8, Shape([Int](repeating: 1, count: 33)))])
      ),
      (
        "hdf5.tie",
        OutputManifest(tensors: [good, try tensor("v", .f32, [2, 1], sharing: 0)])
      ),
      ("hdf5.tie", OutputManifest(tensors: [try tensor("v", .f32, [2], sharing: 0)])),
      ("hdf5.metadata", OutputManifest(tensors: [good], metadata: ["": "x"])),
      ("hdf5.metadata", OutputManifest(tensors: [good], metadata: ["x": "a\0"])),
    ]
    try HDF5Support.withDirectory { directory in
      for (code, manifest) in cases {
        #expect {
          try HDF5Writer(manifest: manifest, directory: directory, fileName: "model.h5")
        } throws: { ($0 as? Diagnostic)?.code == code }
        #expect(!FileManager.default.fileExists(atPath: directory + "/model.h5"))
      }
    }
  }

  @Test("a file that is there, and a directory that is not, are errors")
  func places() throws {
    let manifest = OutputManifest(tensors: [try tensor("w", .f32, [2])])
    try HDF5Support.withDirectory { directory in
      _ = try HDF5Writer(manifest: manifest, directory: directory, fileName: "model.h5")
      for place in [directory, directory + "/nowhere"] {
        #expect {
          try HDF5Writer(manifest: manifest, directory: place, fileName: "model.h5")
        } throws: { ($0 as? Diagnostic)?.code == "hdf5.write" }
      }
    }
  }

  @Test("writing after the end is an error")
  func afterFinish() throws {
    let manifest = OutputManifest(tensors: [try tensor("w", .f32, [2])])
    try HDF5Support.withDirectory { directory in
      let writer = try HDF5Writer(manifest: manifest, directory: directory, fileName: "model.h5")
      try writer.finish(sync: false)
      try writer.finish(sync: false)
      #expect {
        try bytes(0, 8).withUnsafeBytes { try writer.write(0, at: 0, $0) }
      } throws: { ($0 as? Diagnostic)?.code == "io.write" }
    }
  }
}
