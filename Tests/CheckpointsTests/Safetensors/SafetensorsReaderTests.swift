import Checkpoints
import Tensors
import TestSupport
import Testing

@Suite("Safetensors reader")
struct SafetensorsReaderTests {
  let directory = TemporaryDirectory()

  func open(_ name: String) throws -> SafetensorsReader {
    try SafetensorsReader(path: Fixtures.path("good/safetensors/\(name).safetensors"))
  }

  func open(header: String, data: [UInt8] = []) throws(Problems) -> SafetensorsReader {
    let path = directory.file("x.safetensors")
    Files.write(SafetensorsBuilder.file(header: header, data: data), to: path)
    return try SafetensorsReader(path: path)
  }

  @Test("every malformed file gives exactly the code in its name")
  func corpus() {
    let files = Fixtures.list("bad/safetensors")
    #expect(files.count > 150)
    for path in files {
      let found = problems { () throws(Problems) in _ = try SafetensorsReader(path: path) }
      let codes = Set(found.map(\.code))
      #expect(codes == [Fixtures.expectedCode(path)], "\(path): \(found)")
      #expect(found.allSatisfy { $0.subject.hasPrefix(path) && !$0.message.isEmpty })
    }
  }

  @Test("every odd but valid file is read")
  func oddities() throws {
    let files = Fixtures.list("good/safetensors")
    #expect(files.count >= 14)
    for path in files {
      let reader = try SafetensorsReader(path: path)
      for index in reader.tensors.indices {
        #expect(try reader.bytes(of: index).count == reader.tensors[index].byteCount)
      }
    }
  }

  @Test("all dtypes are listed with their sizes and read byte for byte")
  func allTypes() throws {
    let reader = try open("all-dtypes")
    #expect(reader.metadata == ["format": "pt"])
    #expect(
      reader.tensors.map(\.dtype) == [
        .bool, .f4, .f6E2M3, .f6E3M2, .u8, .i8, .f8E5M2, .f8E4M3, .f8E8M0, .f8E4M3FNUZ, .f8E5M2FNUZ,
        .i16, .u16, .f16, .bf16, .i32, .u32, .f32, .c64, .f64, .i64, .u64,
      ])
    for (i, tensor) in reader.tensors.enumerated() {
      #expect(tensor.shape == [2, 4])
      #expect(tensor.byteCount == tensor.dtype.bitWidth)
      #expect(
        try reader.bytes(of: i)
          == (0..<tensor.byteCount).map {
            UInt8((i * 16 + $0) % (tensor.dtype == .bool ? 2 : 256))
          })
    }
  }

  @Test("metadata of null, as MLX writes it, is none")
  func nullMetadata() throws {
    let reader = try open("metadata-null")
    #expect(reader.metadata.isEmpty && reader.warnings.isEmpty)
    #expect(reader.tensors.map(\.name.string) == ["a"])
    #expect(try reader.floats("a") == [3, 4])
  }

  @Test("values arrive whatever the order, alignment and emptiness of the tensors")
  func values() throws {
    let reverse = try open("reverse-order")
    #expect(reverse.tensors.map(\.name.string) == ["last", "middle", "first"])
    #expect(try reverse.floats("first") == [1])
    #expect(try reverse.floats("last") == [3])
    let scalar = try open("scalar")
    #expect(scalar.tensors[0].shape == [])
    #expect(try scalar.floats("s") == [1.5])
    #expect(try open("unaligned").floats("f") == [-2.5])
    #expect(try open("unaligned-header").floats("f") == [7])
    let empty = try open("empty-tensors")
    #expect(empty.tensors.map(\.shape) == [[0], [2], [3, 0, 5]])
    #expect(try empty.floats("a") == [1, 2])
    #expect(try empty.floats("e") == [])
    #expect(try open("fields-in-other-order").floats("a") == [5, 6])
  }

  @Test("names that are only canonically equivalent stay apart")
  func names() throws {
    let reader = try open("names")
    #expect(reader.tensors.count == 6)
    #expect(try reader.bytes(of: reader.index("\u{E9}")!) == [0])
    #expect(try reader.bytes(of: reader.index("e\u{301}")!) == [1])
    #expect(try open("escaped-name").tensors[0].name == "a\n😀")
  }

  @Test("part of a tensor is read from its offset on")
  func ranges() throws {
    let reader = try open("all-dtypes")
    var buffer = [UInt8](repeating: 0, count: 3)
    let index = try #require(reader.index("t.U8"))
    try buffer.withUnsafeMutableBytes { try reader.read(index, bytes: 2..<5, into: $0) }
    #expect(buffer == [66, 67, 68])
  }

  @Test("all independent problems are told at once, each with its tensor")
  func several() {
    let header = """
      {"__metadata__":{"k":1},\
      "a":{"dtype":"f32","shape":[2],"data_offsets":[0,8]},\
      "b":{"dtype":"F32","shape":[3],"data_offsets":[8,16]},\
      "c":{"dtype":"F32","shape":[1.0],"data_offsets":[16,20]},\
      "d":{"dtype":"F32","shape":[1],"data_offsets":[24,28]},\
      "e":{"dtype":"F32","shape":[1],"data_offsets":[28,32],"x":1}}
      """
    let found = problems { () throws(Problems) in
      _ = try open(header: header, data: [UInt8](repeating: 0, count: 30))
    }
    let codes = [
      "metadata", "dtype", "size", "integer", "field-unknown", "hole", "truncated",
    ]
    #expect(found.map(\.code) == codes.map { "safetensors." + $0 })
    #expect(found[2].subject.hasSuffix("x.safetensors: tensor \"b\""))
    #expect(
      found[2].message == "data_offsets [8, 16] span 8 bytes, but F32 [3] takes 12")
    #expect(found[1].help == "the names are upper case")
  }

  @Test("messages neither carry control characters nor grow with a name")
  func shownNames() {
    let name = "\\u001b[2J\\u202e" + String(repeating: "x", count: 5000)
    let found = problems { () throws(Problems) in
      _ = try open(header: "{\"\(name)\":{}}")
    }
    #expect(found.count == 1)
    #expect(found[0].subject.contains("\\u{1b}[2J\\u{202e}xxx"))
    #expect(found[0].subject.utf8.count < 1000)
  }

  @Test("a header of exactly 100,000,000 bytes is read")
  func longestHeader() throws {
    let path = directory.file("long.safetensors")
    var bytes = [UInt8](repeating: 0x20, count: 100_000_008)
    bytes.replaceSubrange(0..<8, with: [0x00, 0xE1, 0xF5, 0x05, 0, 0, 0, 0])
    bytes.replaceSubrange(8..<10, with: Array("{}".utf8))
    Files.write(bytes, to: path)
    #expect(try SafetensorsReader(path: path).tensors.isEmpty)
  }

  @Test("every truncation and every flipped byte gives an error or a clean read")
  func damage() throws {
    var builder = SafetensorsBuilder()
    builder.add("a.weight", [2, 3], [1, 2, 3, 4, 5, 6])
    builder.add("b", .bf16, [], [0x80, 0x3F])
    builder.add("e", .i64, [0, 4], [])
    let good = builder.bytes
    let path = directory.file("d.safetensors")
    var refused = 0
    func attempt(_ bytes: [UInt8], _ rules: SafetensorsHeader.Rules) {
      Files.write(bytes, to: path)
      let found = problems { () throws(Problems) in
        let reader = try SafetensorsReader(path: path, rules: rules)
        for (index, tensor) in reader.tensors.enumerated() {
          #expect(tensor.byteCount <= bytes.count)
          do throws(Diagnostic) { _ = try reader.bytes(of: index) } catch {
            throw Problems([error])
          }
        }
      }
      refused += found.isEmpty ? 0 : 1
    }
    for count in 0..<good.count { attempt(Array(good[..<count]), .strict) }
    #expect(refused == good.count)
    for i in good.indices {
      for value in Set([good[i] ^ 1, good[i] ^ 0x80, good[i] ^ 0x20, 0, 0xFF, UInt8(ascii: "\"")]) {
        var bytes = good
        bytes[i] = value
        attempt(bytes, .strict)
        attempt(bytes, .compat)
      }
    }
    #expect(refused > good.count * 4)
  }

  @Test("compat reads what the reference implementation reads beyond its specification")
  func compat() throws {
    let laxer = [
      "header-start__space-in-front", "header-start__line-break-in-front",
      "header-padding__line-break-behind", "header-padding__tab-among-spaces",
      "field-unknown__strides", "field-unknown__upper-case-dtype-beside", "field-unknown__nested",
      "duplicate__same-tensor", "duplicate__escaped-alike", "duplicate-key__metadata-key",
      "entry__is-list", "name__empty", "name__nul", "name__parent",
      "name__parent-inside", "name__absolute", "name__dot", "name__only-parent",
      "overflow__product-behind-a-zero",
    ]
    for path in Fixtures.list("bad/safetensors") {
      let found = problems { () throws(Problems) in
        _ = try SafetensorsReader(path: path, rules: .compat)
      }
      let lax = laxer.contains { path.hasSuffix("/safetensors.\($0).safetensors") }
      #expect(found.isEmpty == lax, "\(path): \(found)")
    }
  }

  @Test("in compat the last of two tensors of one name counts")
  func lastCounts() throws {
    let path = directory.file("twice.safetensors")
    let entry = { (dtype: String) in
      "\"a\":{\"dtype\":\"\(dtype)\",\"shape\":[1],\"data_offsets\":[0,4]}"
    }
    Files.write(
      SafetensorsBuilder.file(
        header: "{\(entry("F32")),\(entry("I32"))}", data: [1, 2, 3, 4]), to: path)
    let reader = try SafetensorsReader(path: path, rules: .compat)
    #expect(reader.tensors.map(\.dtype) == [.i32])
  }

  @Test("ten thousand tensors are listed at once")
  func many() throws {
    var builder = SafetensorsBuilder()
    for i in 0..<10_000 {
      builder.add("model.layers.\(i).mixer.in_proj.weight", .bf16, [1, 2], [0, 0, 0, 0])
    }
    let path = directory.file("many.safetensors")
    Files.write(builder.bytes, to: path)
    var reader = try SafetensorsReader(path: path)
    let time = try ContinuousClock().measure { reader = try SafetensorsReader(path: path) }
    #expect(reader.tensors.count == 10_000)
    #expect(reader.tensors[9_999].name == "model.layers.9999.mixer.in_proj.weight")
    #expect(time < .milliseconds(500), "\(time)")
  }

  @Test("a file that is not there is told by name")
  func absent() {
    let found = problems { () throws(Problems) in
      _ = try SafetensorsReader(path: directory.file("no.safetensors"))
    }
    #expect(found.map(\.code) == ["io.open"])
  }
}
