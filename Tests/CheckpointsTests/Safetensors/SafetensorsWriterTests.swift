import Checkpoints
import Tensors
import TestSupport
import Testing

@Suite("Safetensors writer")
struct SafetensorsWriterTests {
  let directory = TemporaryDirectory()

  func tensor(_ name: TensorName, _ dtype: DType, _ shape: Shape) -> OutputTensor {
    OutputTensor(
      name: name, dtype: dtype, shape: shape, byteCount: shape.byteCount(of: dtype) ?? -1)
  }

  func write(_ manifest: OutputManifest) throws(Diagnostic) -> SafetensorsWriter {
    try SafetensorsWriter(
      manifest: manifest, directory: directory.path, fileName: "model.safetensors")
  }

  @Test("what was written is read back: names, order, types, values, metadata")
  func roundTrip() throws {
    let manifest = OutputManifest(
      tensors: [
        tensor("b", .bf16, [3]), tensor("é\"\n", .f32, [2, 1]), tensor("s", .f64, []),
        tensor("e", .i64, [0, 2]), tensor("u", .u8, [1]),
      ], metadata: ["by": "weighbridge", "format": "np"])
    let writer = try write(manifest)
    let contents: [[UInt8]] = [
      [1, 2, 3, 4, 5, 6], Array(10..<18), Array(20..<28), [], [99],
    ]
    // Backwards and in two parts.
    for (i, bytes) in contents.enumerated().reversed() {
      try bytes.withUnsafeBytes { all in
        let half = all.count / 2
        try writer.write(i, at: half, UnsafeRawBufferPointer(rebasing: all[half...]))
        try writer.write(i, at: 0, UnsafeRawBufferPointer(rebasing: all[..<half]))
      }
    }
    try writer.finish(sync: false)
    let reader = try SafetensorsReader(path: directory.file("model.safetensors"))
    #expect(reader.tensors.map(\.name) == manifest.tensors.map(\.name))
    #expect(reader.tensors.map(\.dtype) == manifest.tensors.map(\.dtype))
    #expect(reader.tensors.map(\.shape) == manifest.tensors.map(\.shape))
    #expect(reader.metadata == ["by": "weighbridge", "format": "np"])
    for (i, bytes) in contents.enumerated() { #expect(try reader.bytes(of: i) == bytes) }
    #expect(writer.extents == reader.tensors.map(\.extent))
    #expect(writer.byteCount == Files.read(writer.outputs[0]).count)
  }

  @Test("data begins at a multiple of 8 and each tensor at a multiple of its element")
  func alignment() throws {
    for length in 1...9 {
      let writer = try SafetensorsWriter(
        manifest: OutputManifest(tensors: [
          tensor(TensorName(String(repeating: "n", count: length)), .u8, [3]),
          tensor("f", .f32, [1]), tensor("h", .f16, [1]), tensor("d", .f64, [1]),
        ]), directory: directory.path, fileName: "\(length).safetensors")
      let places = writer.extents.map { $0!.offset }
      #expect(places.min()! % 8 == 0)
      #expect(places[1] % 4 == 0 && places[2] % 2 == 0 && places[3] % 8 == 0)
      #expect(Files.read(writer.outputs[0])[8] == UInt8(ascii: "{"))
      _ = try SafetensorsReader(path: writer.outputs[0])
    }
  }

  @Test("equal manifests give equal files")
  func deterministic() throws {
    let metadata = Dictionary(uniqueKeysWithValues: (0..<20).map { ("key\($0)", "v") })
    let files = try ["a", "b"].map { name in
      let writer = try SafetensorsWriter(
        manifest: OutputManifest(tensors: [tensor("x", .u8, [2])], metadata: metadata),
        directory: directory.path, fileName: name)
      try writer.finish(sync: false)
      return Files.read(writer.outputs[0])
    }
    #expect(files[0] == files[1])
  }

  @Test("what the format cannot hold is refused before a file is made")
  func refusals() {
    var shared = tensor("b", .f32, [1])
    shared.sharesStorageWith = 0
    var wrong = tensor("b", .f32, [1])
    wrong.byteCount = 5
    let cases: [(OutputTensor, String)] = [
      (shared, "safetensors.shared-storage"), (wrong, "safetensors.size"),
      (tensor("a", .f32, [1]), "safetensors.duplicate"),
      (tensor("__metadata__", .f32, [1]), "safetensors.duplicate"),
      (tensor("../b", .f32, [1]), "safetensors.name"),
      (tensor("b", .f4, [1]), "safetensors.size"),
    ]
    for (second, code) in cases {
      let found = problem { () throws(Diagnostic) in
        _ = try write(OutputManifest(tensors: [tensor("a", .f32, [1]), second]))
      }
      #expect(found?.code == code)
      #expect(Files.names(in: directory.path).isEmpty)
    }
  }

  @Test("an existing file is never overwritten")
  func existing() {
    Files.write("precious", to: directory.file("model.safetensors"))
    let found = problem { () throws(Diagnostic) in _ = try write(OutputManifest(tensors: [])) }
    #expect(found?.code == "io.write")
    #expect(Files.read(directory.file("model.safetensors")) == Array("precious".utf8))
  }
}
