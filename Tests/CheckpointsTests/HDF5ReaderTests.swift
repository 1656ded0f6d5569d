import Checkpoints
import Foundation
import Tensors
import Testing

@Suite("Reading HDF5")
struct HDF5ReaderTests {
  static let sameTensors = HDF5Support.files("good").filter { $0 != "everything.h5" }

  @Test("the fixtures are there")
  func fixtures() {
    #expect(Self.sameTensors.count >= 15)
  }

  @Test(
    "every way of storing the same tensors gives the same names, shapes and values",
    arguments: sameTensors)
  func values(file: String) throws {
    let reader = try HDF5Support.open(file)
    #expect(reader.container == .hdf5)
    #expect(Set(reader.tensors.map(\.name)) == Set(HDF5Support.shapes.keys))
    for (index, info) in reader.tensors.enumerated() {
      #expect(info.shape == HDF5Support.shapes[info.name])
      #expect(info.byteCount == info.shape.byteCount(of: info.dtype))
      let count = info.shape.elementCount ?? -1
      let found = HDF5Support.floats(try reader.bytes(of: index), info.dtype)
      #expect(found == (0..<count).map { HDF5Support.value($0, of: count) })
    }
  }

  @Test(
    "dtypes are told by bits: bfloat16 as Keras's opaque and as a float type, either order",
    arguments: [
      ("keras-bfloat16.h5", DType.bf16), ("bfloat16.h5", .bf16),
      ("bfloat16-big-endian.h5", .bf16), ("half-big-endian.h5", .f16), ("big-endian.h5", .f32),
    ])
  func dtypes(file: String, dtype: DType) throws {
    #expect(try HDF5Support.open(file).tensors.allSatisfy { $0.dtype == dtype })
  }

  @Test(
    "string attributes of the root are metadata, and config is a JSON value",
    arguments: sameTensors)
  func attributes(file: String) throws {
    let reader = try HDF5Support.open(file)
    #expect(reader.metadata == ["format": "pt", "fixed": "padded"])
    #expect(reader.attachments["config"]?["hidden_size"] == 6)
    #expect(reader.attachments["config"]?["rms_norm_eps"] == 1e-5)
    #expect(reader.attachments["config"]?["name"] == "ü")
    #expect(reader.warnings.isEmpty)
  }

  @Test(
    "an extent is where the bytes lie, behind a user block too",
    arguments: ["nested.h5", "flat.h5", "v110.h5", "userblock.h5", "keras-bfloat16.h5"])
  func extents(file: String) throws {
    let reader = try HDF5Support.open(file)
    for (index, info) in reader.tensors.enumerated() where info.byteCount > 0 {
      let extent = try #require(info.extent)
      let bytes = try reader.files[extent.file].bytes(at: extent.offset, count: info.byteCount)
      #expect(try bytes == reader.bytes(of: index))
    }
  }

  @Test(
    "packed, big-endian and compact tensors have no extent",
    arguments: ["gzip.h5", "big-endian.h5", "compact.h5", "chunked-userblock.h5"])
  func noExtents(file: String) throws {
    let reader = try HDF5Support.open(file)
    let index = try #require(reader.tensors.firstIndex { $0.name == "embed.weight" })
    #expect(reader.tensors[index].extent == nil)
  }

  @Test(
    "any range of bytes is that range of the whole tensor",
    arguments: [
      "nested.h5", "big-endian.h5", "half-big-endian.h5", "gzip-shuffle.h5", "compact.h5",
      "chunked-v110.h5", "arrays.h5", "lzf-shuffle-fletcher32.h5",
    ])
  func ranges(file: String) throws {
    let reader = try HDF5Support.open(file)
    for (index, info) in reader.tensors.enumerated() where info.shape.rank > 0 {
      let whole = try reader.bytes(of: index)
      for start in 0...whole.count {
        for end in stride(from: start, through: whole.count, by: 7) {
          var part = [UInt8](repeating: 0xAA, count: end - start)
          try part.withUnsafeMutableBytes { try reader.read(index, bytes: start..<end, into: $0) }
          guard part == Array(whole[start..<end]) else {
            Issue.record("\(info.name) differs in \(start)..<\(end)")
            return
          }
        }
      }
    }
  }

  @Test("every type of numpy that tensors have is read, in either byte order")
  func everyType() throws {
    let reader = try HDF5Support.open("everything.h5")
    let contents = try HDF5Support.contents(reader)
    let dtypes = Dictionary(uniqueKeysWithValues: reader.tensors.map { ($0.name, $0.dtype) })
    let integers: [(String, DType)] = [
      ("i1", .i8), ("u1", .u8), ("i2", .i16), ("u2", .u16), ("i4", .i32), ("u4", .u32),
      ("i8", .i64), ("u8", .u64),
    ]
    for (name, dtype) in integers {
      let expected = (-2..<4).flatMap { value in
        withUnsafeBytes(of: Int64(value).littleEndian) { Array($0.prefix(dtype.bitWidth / 8)) }
      }
      for order in ["le", "be"] {
        #expect(dtypes[TensorName("\(name).\(order)")] == dtype)
        #expect(contents[TensorName("\(name).\(order)")] == expected)
      }
    }
    for (name, dtype) in [("f2", DType.f16), ("f4", .f32), ("f8", .f64)] {
      for order in ["le", "be"] {
        #expect(dtypes[TensorName("\(name).\(order)")] == dtype)
        let bytes = try #require(contents[TensorName("\(name).\(order)")])
        #expect(HDF5Support.floats(bytes, dtype) == [-2, -1, 0, 1, 2, 3])
      }
    }
    for order in ["le", "be"] {
      #expect(dtypes[TensorName("bool.\(order)")] == .bool)
      #expect(contents[TensorName("bool.\(order)")] == [1, 0, 1, 0, 1, 0])
      #expect(dtypes[TensorName("c8.\(order)")] == .c64)
      let bytes = try #require(contents[TensorName("c8.\(order)")])
      #expect(
        HDF5Support.floats(bytes, .f32) == [-2, 0.5, -1, 0.5, 0, 0.5, 1, 0.5, 2, 0.5, 3, 0.5])
    }
  }

  @Test("what was never written is the fill value")
  func fillValues() throws {
    let reader = try HDF5Support.open("everything.h5")
    let contents = try HDF5Support.contents(reader)
    func floats(_ name: TensorName) -> [Float]? {
      contents[name].map { HDF5Support.floats($0, .f32) }
    }
    #expect(floats("unwritten") == [Float](repeating: 0, count: 6))
    #expect(floats("filled") == [Float](repeating: 2.5, count: 6))
    #expect(
      floats("sparse") == [Float](repeating: -1, count: 8) + [Float](repeating: 7, count: 8)
        + [Float](repeating: -1, count: 4))
  }

  @Test("two names of one dataset are two tensors with one extent")
  func ties() throws {
    let reader = try HDF5Support.open("everything.h5")
    let tied = reader.tensors.filter { ["tied.a", "tied.b"].contains($0.name) }
    #expect(tied.count == 2)
    #expect(tied[0].extent != nil && tied[0].extent == tied[1].extent)
    #expect(try HDF5Support.contents(reader)["tied.a"] == HDF5Support.contents(reader)["tied.b"])
  }

  @Test("dots, slashes and letters beyond ASCII make names")
  func names() throws {
    let names = Set(try HDF5Support.open("everything.h5").tensors.map(\.name))
    #expect(names.isSuperset(of: ["dotted.name.inner.name", "µ", "f4.le"]))
  }

  @Test("what is passed over is said")
  func notes() throws {
    let warnings = try HDF5Support.open("everything.h5").warnings
    #expect(warnings.map(\.code).sorted() == ["hdf5.attribute", "hdf5.passed-over"])
    #expect(warnings.contains { $0.message.contains(#""/a named type" (named datatype)"#) })
  }

  @Test(
    "what stands beside the weights and can be none is passed over with one warning",
    arguments: [
      (
        "texts", 5,
        [
          "/config_json (text)", "/fixed (text)", "/layers/0.norm.weight (text)",
          "/tokenizer/vocabulary (text)", "/tokens (text)",
        ]
      ),
      (
        "odd-types", 13,
        [
          "/bits (bits)", "/colour (enumeration)", "/history (table)",
          "/lists (lists of varying length)", "/names (text)", "/nothing (dataset without a value)",
          "/objects (references)", "/pair (table)",
        ]
      ),
      (
        "links-and-scales", 5,
        [
          "/a named type (named datatype)", "/behind (soft link that leads nowhere)",
          "/channel (scale of an axis)", "/group/beside (soft link that leads nowhere)",
          "/nowhere (soft link that leads nowhere)",
        ]
      ),
      (
        "pandas", 8,
        [
          "/axis0 (part of a pandas table)", "/axis1 (part of a pandas table)",
          "/block0_items (part of a pandas table)", "/block0_values (part of a pandas table)",
          "/log (pandas table)", "/objects (lists of varying length)",
          "/runs/_i_table (index of a PyTables table)", "/runs/table (table)",
        ]
      ),
      (
        "matlab", 4,
        [
          "/#refs# (group of MATLAB's)", "/cells (references)", "/name (text of MATLAB's)",
          "/nothing (empty array of MATLAB's)",
        ]
      ),
    ])
  func company(file: String, count: Int, first: [String]) throws {
    let reader = try HDF5Support.open("company/\(file).h5")
    #expect(Set(reader.tensors.map(\.name)) == Set(HDF5Support.shapes.keys))
    for (index, info) in reader.tensors.enumerated() {
      #expect(info.shape == HDF5Support.shapes[info.name])
      let count = info.shape.elementCount ?? -1
      let found = HDF5Support.floats(try reader.bytes(of: index), info.dtype)
      #expect(found == (0..<count).map { HDF5Support.value($0, of: count) })
    }
    let other = file == "matlab" ? ["hdf5.matlab"] : []
    #expect(reader.warnings.map(\.code) == ["hdf5.passed-over"] + other)
    #expect(reader.warnings.allSatisfy { $0.severity == .warning })
    let noun = count == 1 ? "1 object that is no tensor" : "\(count) objects that are no tensors"
    #expect(
      reader.warnings.first?.message.replacingOccurrences(of: "\"", with: "")
        == "holds \(noun): \(first.joined(separator: ", "))\(count > 8 ? ", …" : "")")
  }

  @Test(
    "lzf is undone: long and short copies, copies of themselves, chunks that could not be packed")
  func lzf() throws {
    let contents = try HDF5Support.contents(HDF5Support.open("lzf/runs.h5"))
    func expect(_ name: TensorName, _ value: (UInt64) -> UInt64) {
      let bytes = (0..<5000).flatMap { index in
        withUnsafeBytes(of: UInt32(value(index)).littleEndian) { Array($0) }
      }
      #expect(contents[name] == bytes, "\(name)")
    }
    expect("constant") { _ in 7 }
    expect("steps") { $0 / 37 }
    expect("period") { $0 % 5 }
    expect("far") { $0 % 1100 }
    expect("noise") { $0 * $0 * 2_654_435_761 % 4_294_967_291 }
    #expect(contents.count == 5)
  }

  @Test(
    "16-bit integers that an attribute calls bfloat16 are bfloat16, in either byte order",
    arguments: ["uint16-bfloat16.h5", "uint16-bfloat16-big-endian.h5"])
  func namedIntegers(file: String) throws {
    #expect(try HDF5Support.open(file).tensors.allSatisfy { $0.dtype == .bf16 })
  }

  @Test("several tasks read one file at once")
  func concurrency() async throws {
    let reader = try HDF5Support.open("gzip-shuffle.h5")
    let contents = try HDF5Support.contents(reader)
    try await withThrowingTaskGroup(of: Void.self) { group in
      for _ in 0..<8 {
        group.addTask {
          for _ in 0..<20 {
            let found = try HDF5Support.contents(reader)
            #expect(found == contents)
          }
        }
      }
      try await group.waitForAll()
    }
  }

  @Test("a file that is not there is an error of the system")
  func missing() {
    #expect(HDF5Support.codes("/nowhere/at/all.h5") == ["io.open"])
    #expect(HDF5Support.codes(HDF5Support.directory("good")) == ["io.not-a-file"])
  }
}
