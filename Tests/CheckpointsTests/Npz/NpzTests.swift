import Checkpoints
import Tensors
import TestSupport
import Testing

@Suite("npz")
struct NpzTests {
  static func path(_ name: String) -> String { Fixtures.path("good/npz/\(name).npz") }

  @Test(
    "stored and deflated arrays of any order are read row by row",
    arguments: ["stored", "deflated"])
  func orders(name: String) throws {
    let source = try openCheckpoint(at: Self.path(name))
    #expect(source.container == .npz)
    #expect(Set(source.tensors.map(\.name)) == ["a.weight", "t", "v", "s", "i", "e"])
    #expect(try source.floats("a.weight") == (0..<15).map { Float($0) })
    let t = try #require(source.index("t"))
    #expect(source.tensors[t].shape == [5, 3] && source.tensors[t].extent == nil)
    // Column-major in the file.
    #expect(try source.floats("t") == (0..<15).map { Float($0 % 3 * 5 + $0 / 3) })
    let i = try #require(source.index("i"))
    #expect(source.tensors[i].dtype == .i32 && source.tensors[i].shape == [2, 1])
    // Big-endian in the file.
    #expect(try source.bytes(of: i) == [3, 0, 0, 0, 0xFC, 0xFF, 0xFF, 0xFF])
    let s = try #require(source.index("s"))
    #expect(source.tensors[s].dtype == .f64 && source.tensors[s].shape == [])
    #expect(try source.bytes(of: s) == [0, 0, 0, 0, 0, 0, 4, 0x40])
    let e = try #require(source.index("e"))
    #expect(source.tensors[e].shape == [0, 3])
    #expect(try source.bytes(of: e) == [])
    // Any stretch, also across elements.
    var part = [UInt8](repeating: 0, count: 9)
    try part.withUnsafeMutableBytes { try source.read(t, bytes: 3..<12, into: $0) }
    #expect(part == Array(try source.bytes(of: t)[3..<12]))
  }

  @Test("long matches and all kinds of blocks are unpacked")
  func long() throws {
    let packed = try openCheckpoint(at: Self.path("long"))
    let plain = try openCheckpoint(at: Self.path("long-stored"))
    #expect(packed.tensors[0].shape == [70, 100])
    #expect(try packed.floats("big") == plain.floats("big"))
    #expect(try packed.floats("big").count == 7000)
  }

  @Test("MLX's headers, later versions, and bfloat16 as two opaque bytes are read")
  func mlx() throws {
    let source = try openCheckpoint(at: Self.path("mlx"))
    #expect(try source.floats("x") == [1, -2])
    #expect(try source.floats("w") == [1, -2])
    let h = try #require(source.index("h"))
    #expect(source.tensors[h].dtype == .bf16)
    #expect(try source.bytes(of: h) == [0x80, 0x3F, 0, 0xC0])
    #expect(source.warnings.map(\.code) == ["npz.bfloat16"])
    #expect(try source.bytes(of: try #require(source.index("u"))) == [1, 2, 3])
  }

  @Test(
    "a bad file gives the code in its name, and nothing else", arguments: Fixtures.list("bad/npz"))
  func corpus(path: String) {
    let found = problems { () throws(Problems) in
      let source = try openCheckpoint(at: path)
      for number in source.tensors.indices {
        do throws(Diagnostic) { _ = try source.bytes(of: number) } catch { throw Problems([error]) }
      }
    }
    #expect(found.map(\.code) == [Fixtures.expectedCode(path)])
  }

  @Test("what is written is read again, and has numpy's own header")
  func written() throws {
    let directory = TemporaryDirectory()
    let tensors: [(String, DType, Shape)] = [
      ("a.weight", .f32, [2, 3]), ("h", .bf16, [2]), ("s", .f64, []), ("e", .f16, [0, 2]),
    ]
    let manifest = OutputManifest(
      tensors: tensors.map {
        OutputTensor(
          name: TensorName($0), dtype: $1, shape: $2, byteCount: $2.byteCount(of: $1)!)
      })
    let sink = try makeSink(
      container: .npz, manifest: manifest, directory: directory.path, fileName: "m.npz")
    let bytes = manifest.tensors.map { tensor in (0..<tensor.byteCount).map { UInt8($0) } }
    // The first in two pieces, the later first.
    try bytes[0][8...].withUnsafeBytes { try sink.write(0, at: 8, $0) }
    try bytes[0][..<8].withUnsafeBytes { try sink.write(0, at: 0, $0) }
    for number in 1..<4 { try bytes[number].withUnsafeBytes { try sink.write(number, at: 0, $0) } }
    try sink.finish(sync: false)
    let source = try openCheckpoint(at: directory.file("m.npz"))
    #expect(source.tensors.map(\.name) == manifest.tensors.map(\.name))
    #expect(source.tensors.map(\.shape) == manifest.tensors.map(\.shape))
    #expect(source.tensors.map(\.dtype) == manifest.tensors.map(\.dtype))
    for number in 0..<4 { #expect(try source.bytes(of: number) == bytes[number]) }
    let place = try #require(source.tensors[0].extent).offset
    var head =
      "\u{93}NUMPY\u{1}\u{0}v\u{0}{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"
    while head.unicodeScalars.count < 127 { head += " " }
    head += "\n"
    let expected = head.unicodeScalars.map { UInt8(truncatingIfNeeded: $0.value) }
    let file = Files.read(directory.file("m.npz"))
    #expect(Array(file[place - 128..<place]) == expected)
    // The checksum of the first entry is that of its bytes.
    var sum = ZipChecksum()
    sum.update(expected + bytes[0])
    #expect(
      file[14..<18].enumerated().reduce(UInt32(0)) {
        $0 | UInt32($1.element) << UInt32(8 * $1.offset)
      } == sum.value)
  }

  @Test("an array that was not written whole is told")
  func incomplete() throws {
    let directory = TemporaryDirectory()
    let manifest = OutputManifest(
      tensors: [OutputTensor(name: "x", dtype: .f32, shape: [2], byteCount: 8)])
    let sink = try NpzWriter(manifest: manifest, directory: directory.path, fileName: "m.npz")
    try [UInt8](repeating: 1, count: 4).withUnsafeBytes { try sink.write(0, at: 0, $0) }
    #expect(
      problem { () throws(Diagnostic) in try sink.finish(sync: false) }?.code == "npz.incomplete")
  }
}
