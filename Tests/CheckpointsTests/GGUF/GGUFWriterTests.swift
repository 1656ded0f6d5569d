import Checkpoints
import OrderedCollections
import Tensors
import TestSupport
import Testing

@Suite("Writing GGUF")
struct GGUFWriterTests {
  static func tensor(_ name: String, _ dtype: DType, _ shape: Shape) -> OutputTensor {
    OutputTensor(
      name: TensorName(name), dtype: dtype, shape: shape, byteCount: shape.byteCount(of: dtype)!)
  }

  @Test("a file has the bytes that the format's text asks for")
  func bytes() throws {
    let directory = TemporaryDirectory()
    let manifest = OutputManifest(
      tensors: [Self.tensor("a", .f32, [1, 2]), Self.tensor("b", .f16, [3])],
      config: ["k": 7, "e": 0.5, "t": "é", "n": .null, "l": [1, -2], "f": [1, 2.5]])
    let writer = try GGUFWriter(
      manifest: manifest, directory: directory.path, fileName: "x.gguf")
    try [UInt8](1...8).withUnsafeBytes { try writer.write(0, at: 0, $0) }
    try [UInt8](11...14).withUnsafeBytes { try writer.write(1, at: 2, $0) }
    try [UInt8](9...10).withUnsafeBytes { try writer.write(1, at: 0, $0) }
    try writer.finish(sync: false)
    var expected: [UInt8] = Array("GGUF".utf8)
    func add(_ value: UInt64, _ count: Int) {
      expected += (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * UInt64($0))) }
    }
    func add(_ text: String) {
      add(UInt64(text.utf8.count), 8)
      expected += Array(text.utf8)
    }
    add(3, 4)
    add(2, 8)
    add(5, 8)  // null is no key
    add("k")
    add(4, 4)
    add(7, 4)
    add("e")
    add(6, 4)
    add(0x3F00_0000, 4)
    add("t")
    add(8, 4)
    add("é")
    add("l")
    add(9, 4)
    add(5, 4)
    add(2, 8)
    add(1, 4)
    add(0xFFFF_FFFE, 4)
    add("f")
    add(9, 4)
    add(6, 4)
    add(2, 8)
    add(0x3F80_0000, 4)
    add(0x4020_0000, 4)
    add("a")
    add(2, 4)
    add(2, 8)  // the innermost extent first
    add(1, 8)
    add(0, 4)
    add(0, 8)
    add("b")
    add(1, 4)
    add(3, 8)
    add(1, 4)
    add(32, 8)
    while expected.count % 32 != 0 { expected.append(0) }
    expected += (1...8).map { UInt8($0) } + [UInt8](repeating: 0, count: 24)
    expected += (9...14).map { UInt8($0) } + [UInt8](repeating: 0, count: 26)
    #expect(Files.read(directory.file("x.gguf")) == expected)
  }

  @Test("Q8_0 has the gguf package's bytes: halves, zeros, subnormals, the largest scale")
  func q8() throws {
    let fixture = try openCheckpoint(at: Fixtures.path("good/gguf/q8_0.safetensors"))
    let numbers = try fixture.bytes(of: try #require(fixture.index("x")))
    let expected = try fixture.bytes(of: try #require(fixture.index("q")))
    #expect(expected.count == 16 * 34)
    let directory = TemporaryDirectory()
    var tensor = Self.tensor("x", .f32, [16, 32])
    tensor.blocks = .q8_0
    #expect(tensor.storedByteCount == expected.count)
    let writer = try GGUFWriter(
      manifest: OutputManifest(tensors: [tensor]), directory: directory.path, fileName: "q.gguf")
    #expect(writer.extents == [nil])
    // In two pieces, the second first.
    try numbers[(5 * 128)...].withUnsafeBytes { try writer.write(0, at: 5 * 128, $0) }
    try numbers[..<(5 * 128)].withUnsafeBytes { try writer.write(0, at: 0, $0) }
    try writer.finish(sync: false)
    let path = directory.file("q.gguf")
    let bytes = Files.read(path)
    let padding = (32 - expected.count % 32) % 32
    #expect(Array(bytes.dropLast(padding).suffix(expected.count)) == expected)

    // Rounded numbers are rounded to themselves, where the scale is no subnormal float16.
    let once = try GGUFReader(path: path)
    #expect(once.tensors[0].typeName == "Q8_0")
    let rounded = try once.bytes(of: 0)
    let again = try GGUFWriter(
      manifest: OutputManifest(tensors: [tensor]), directory: directory.path, fileName: "r.gguf")
    try rounded.withUnsafeBytes { try again.write(0, at: 0, $0) }
    try again.finish(sync: false)
    let twice = try GGUFReader(path: directory.file("r.gguf"))
    let other = try twice.bytes(of: 0)
    for row in 0..<16 where ![3, 5, 8].contains(row) {
      #expect(other[row * 128..<(row + 1) * 128] == rounded[row * 128..<(row + 1) * 128], "\(row)")
    }
  }

  @Test(
    "numbers that Q8_0 cannot hold are refused",
    arguments: [Float.nan, .infinity, -.infinity, 1e30])
  func beyond(number: Float) throws {
    let directory = TemporaryDirectory()
    var tensor = Self.tensor("x", .f32, [1, 32])
    tensor.blocks = .q8_0
    let writer = try GGUFWriter(
      manifest: OutputManifest(tensors: [tensor]), directory: directory.path, fileName: "q.gguf")
    var numbers = [Float](repeating: 1, count: 32)
    numbers[7] = number
    let error = problem { () throws(Diagnostic) in
      var failure: Diagnostic?
      numbers.withUnsafeBytes { bytes in
        do throws(Diagnostic) { try writer.write(0, at: 0, bytes) } catch { failure = error }
      }
      if let failure { throw failure }
    }
    #expect(error?.code == "gguf.quantise" && error?.subject == "x")
  }

  @Test("parts have their numbers, and the keys are in the first")
  func parts() throws {
    let directory = TemporaryDirectory()
    let manifest = OutputManifest(
      tensors: (0..<3).map { Self.tensor("t\($0)", .f32, [4]) },
      config: ["general.architecture": "x"])
    let sink = try makeSink(
      container: .gguf, manifest: manifest, directory: directory.path, fileName: "m.gguf",
      maxShardBytes: 32)
    for number in 0..<3 {
      try [Float](repeating: Float(number), count: 4).withUnsafeBytes {
        try sink.write(number, at: 0, $0)
      }
    }
    try sink.finish(sync: false)
    #expect(
      Files.names(in: directory.path).sorted() == [
        "m-00001-of-00002.gguf", "m-00002-of-00002.gguf",
      ])
    let source = try GGUFReader(path: directory.file("m-00001-of-00002.gguf"))
    #expect(source.attachments["split.tensors.count"] == 3)
    #expect(source.attachments["general.architecture"] == "x")
    for number in 0..<3 {
      #expect(
        try source.floats(TensorName("t\(number)")) == [Float](repeating: Float(number), count: 4))
    }
  }

  @Test("what the format cannot hold is refused by name")
  func refused() {
    let directory = TemporaryDirectory()
    func code(_ tensors: [OutputTensor], _ config: JSONValue = .null) -> String? {
      problem { () throws(Diagnostic) in
        _ = try GGUFWriter(
          manifest: OutputManifest(tensors: tensors, config: config), directory: directory.path,
          fileName: "r.gguf")
      }?.code
    }
    #expect(code([Self.tensor("a", .u8, [1])]) == "gguf.tensor-type")
    #expect(code([Self.tensor(String(repeating: "n", count: 64), .f32, [1])]) == "gguf.name")
    #expect(
      code([Self.tensor("a", .f32, [1]), Self.tensor("a", .f32, [1])]) == "gguf.duplicate-tensor")
    #expect(code([Self.tensor("a", .f32, [1, 1, 1, 1, 1])]) == "gguf.dimensions")
    #expect(code([], ["k": ["a": 1]]) == "gguf.value")
    var shared = Self.tensor("b", .f32, [1])
    shared.sharesStorageWith = 0
    #expect(code([Self.tensor("a", .f32, [1]), shared]) == "gguf.shared-storage")
    #expect(Files.names(in: directory.path).isEmpty)
  }
}
