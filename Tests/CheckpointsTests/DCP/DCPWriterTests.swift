@testable import Checkpoints
import Tensors
import TestSupport
import Testing

@Suite("Sharded checkpoints: writing")
struct DCPWriterTests {
  private static let shapes: [(TensorName, DType, [Int])] = [
    ("embed.weight", .f32, [10, 4]), ("norm.weight", .bf16, [7]), ("scale", .f64, []),
    ("one.row", .f32, [1, 5]), ("ids", .i64, [3]), ("cube", .f16, [4, 2, 3]),
    ("none", .f32, [0, 4]),
    ("fp8", .f8E4M3, [6, 2]), ("flags", .bool, [5]),
  ]

  private func manifest(ranks: Int, nesting: String?) -> OutputManifest {
    OutputManifest(
      tensors: Self.shapes.map { name, dtype, dims in
        OutputTensor(
          name: name, dtype: dtype, shape: Shape(dims),
          byteCount: Shape(dims).byteCount(of: dtype)!)
      }, nesting: nesting, ranks: ranks)
  }

  private func bytes(_ number: Int, _ count: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ number &* 7) & (number == 8 ? 1 : 255) }
  }

  private func write(_ manifest: OutputManifest, _ directory: String, step: Int) throws {
    let sink = try makeSink(
      container: .dcp, manifest: manifest, directory: directory, fileName: ".metadata",
      maxShardBytes: 1)
    for (number, tensor) in manifest.tensors.enumerated() {
      let all = bytes(number, tensor.byteCount)
      // From behind, in pieces that cross the ranks' borders.
      for start in stride(from: 0, to: all.count, by: step).reversed() {
        try all[start..<min(start + step, all.count)].withUnsafeBytes {
          try sink.write(number, at: start, $0)
        }
      }
    }
    #expect(!Files.exists(directory + "/.metadata"))
    try sink.finish(sync: false)
  }

  @Test(
    "what is written by any number of ranks reads back, under any key",
    arguments: [1, 2, 3, 5, 11], [nil, "model"])
  func roundTrip(ranks: Int, nesting: String?) throws {
    let folder = TemporaryDirectory()
    let manifest = manifest(ranks: ranks, nesting: nesting)
    try write(manifest, folder.path, step: 13)
    #expect(
      Set(Files.names(in: folder.path))
        == Set([".metadata"] + (0..<ranks).map { "__\($0)_0.distcp" }))
    let source = try openCheckpoint(at: folder.path)
    #expect(source.container == .dcp)
    #expect(source.tensors.map(\.name) == manifest.tensors.map(\.name))
    for (number, info) in source.tensors.enumerated() {
      #expect(info.dtype == manifest.tensors[number].dtype)
      #expect(info.shape == manifest.tensors[number].shape)
      #expect(try source.bytes(of: number) == bytes(number, info.byteCount), "\(info.name)")
    }
  }

  @Test("equal tensors make equal files, in whatever order they come")
  func equal() throws {
    let (one, two) = (TemporaryDirectory(), TemporaryDirectory())
    try write(manifest(ranks: 3, nesting: "model"), one.path, step: 5)
    try write(manifest(ranks: 3, nesting: "model"), two.path, step: 1000)
    #expect(Files.names(in: one.path) == Files.names(in: two.path))
    for name in Files.names(in: one.path) {
      #expect(Files.read(one.file(name)) == Files.read(two.file(name)), "\(name)")
    }
  }

  @Test(
    "rows are dealt out as FSDP2 does",
    arguments: [
      // 100 rows by 3, 16 by 7, 3 by 2, 1 by 4: first row and rows of each rank.
      (100, 3, [[0, 34], [34, 34], [68, 32]]),
      (16, 7, [[0, 3], [3, 3], [6, 3], [9, 3], [12, 3], [15, 1], [16, 0]]),
      (3, 2, [[0, 2], [2, 1]]), (1, 4, [[0, 1], [1, 0]]), (5, 1, [[0, 5]]),
    ])
  func rows(rows: Int, ranks: Int, expected: [[Int]]) {
    let tensor = OutputTensor(
      name: "w", dtype: .f32, shape: [rows, 2], byteCount: rows * 8)
    let parts = DCPRanks(count: ranks).parts(of: tensor)
    #expect(parts.map { [$0.box.offsets[0], $0.box.sizes[0]] } == expected)
    #expect(parts.map(\.rank) == Array(0..<expected.count))
    #expect(parts.map(\.start) == expected.map { $0[0] * 8 })
    #expect(parts.map(\.byteCount) == expected.map { $0[1] * 8 })
  }

  @Test("tensors that share storage are written under both names")
  func tied() throws {
    let folder = TemporaryDirectory()
    let tensors = [
      OutputTensor(name: "a", dtype: .f32, shape: [4], byteCount: 16),
      OutputTensor(name: "b", dtype: .f32, shape: [4], byteCount: 16, sharesStorageWith: 0),
    ]
    let sink = try makeSink(
      container: .dcp, manifest: OutputManifest(tensors: tensors, ranks: 2),
      directory: folder.path, fileName: ".metadata")
    try [Float(1), 2, 3, 4].withUnsafeBytes { try sink.write(0, at: 0, $0) }
    try sink.finish(sync: true)
    let source = try openCheckpoint(at: folder.path)
    #expect(try source.floats("a") == [1, 2, 3, 4])
    #expect(try source.floats("b") == [1, 2, 3, 4])
  }

  @Test("what was not written whole has no index")
  func incomplete() throws {
    let folder = TemporaryDirectory()
    let sink = try makeSink(
      container: .dcp,
      manifest: OutputManifest(
        tensors: [OutputTensor(name: "a", dtype: .f32, shape: [4], byteCount: 16)], ranks: 2),
      directory: folder.path, fileName: ".metadata")
    try [Float(1)].withUnsafeBytes { try sink.write(0, at: 0, $0) }
    let found = problem { () throws(Diagnostic) in try sink.finish(sync: false) }
    #expect(found?.code == "dcp.incomplete")
    #expect(!Files.exists(folder.file(".metadata")))
  }
}
