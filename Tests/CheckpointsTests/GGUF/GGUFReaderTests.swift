import Checkpoints
import OrderedCollections
import Tensors
import TestSupport
import Testing

@Suite("Reading GGUF")
struct GGUFReaderTests {
  static func open(_ name: String) throws -> GGUFReader {
    try GGUFReader(path: Fixtures.path("good/gguf/\(name).gguf"))
  }

  @Test(
    "two tensors are read with their shapes the other way round",
    arguments: ["plain", "version-2", "no-last-padding", "alignment-64"])
  func plain(name: String) throws {
    let source = try Self.open(name)
    #expect(source.tensors.map(\.name) == ["a", "b"])
    #expect(source.tensors.map(\.shape) == [[2, 4], [6]])
    #expect(try source.floats("a") == [0, 1, 2, 3, 4, 5, 6, 7])
    #expect(try source.floats("b") == [0, 1, 2, 3, 4, 5])
    #expect(source.attachments["general.architecture"] == "mamba")
    #expect(source.tensors.allSatisfy { $0.extent != nil && $0.stored == nil })
  }

  @Test("files without tensors and tensors without numbers are read")
  func empty() throws {
    #expect(try Self.open("no-tensors").tensors.isEmpty)
    let source = try Self.open("empty-tensor")
    #expect(source.tensors.map(\.shape) == [[3, 0], [6]])
    #expect(try source.bytes(of: 0) == [])
    #expect(try source.floats("b") == [0, 1, 2, 3, 4, 5])
  }

  @Test("values of every type are read, and the keys are written again as they were")
  func keys() throws {
    let source = try Self.open("keys")
    let expected: JSONObject = [
      "general.architecture": "mamba", "one.0": 200, "one.1": -2, "one.2": 60000, "one.3": -3,
      "one.4": 4_000_000_000, "one.5": -4, "one.6": 1e-5, "one.7": true, "one.8": "ü",
      "one.10": .double(0x1p63), "one.11": .int(-(1 << 62)), "one.12": 0.1,
      "list.0": [200, 200], "list.1": [-2, -2], "list.2": [60000, 60000], "list.3": [-3, -3],
      "list.4": [4_000_000_000, 4_000_000_000], "list.5": [-4, -4], "list.6": [1e-5, 1e-5],
      "list.7": [true, true],
      "list.10": [.double(0x1p63), .double(0x1p63)],
      "list.11": [.int(-(1 << 62)), .int(-(1 << 62))], "list.12": [0.1, 0.1], "list.empty": [],
    ]
    let found = try #require(source.attachments.object)
    #expect(Set(found.keys) == Set(expected.keys))
    for (key, value) in expected { #expect(found[key] == value, "\(key)") }
    // Bytes that are no UTF-8 stay what they are.
    #expect(try source.texts("tokenizer.ggml.tokens") == [[0xFF, 0xFE], [0x61]])
    #expect(source.metadata["one.8"] == "ü")

    let directory = TemporaryDirectory()
    var manifest = OutputManifest(tensors: [])
    manifest.fields = try source.fields()
    let writer = try GGUFWriter(
      manifest: manifest, directory: directory.path, fileName: "again.gguf")
    try writer.finish(sync: false)
    let again = try GGUFReader(path: directory.file("again.gguf"))
    #expect(try again.fields() == manifest.fields)
    // The table of keys is the same bytes: behind the counts, up to the end of the shorter head.
    let first = Files.read(Fixtures.path("good/gguf/keys.gguf"))
    let count = manifest.fields.reduce(0) { $0 + 8 + $1.key.utf8.count + $1.bytes.count }
    #expect(
      Array(first[24..<24 + count])
        == Array(Files.read(directory.file("again.gguf"))[24..<24 + count]))
  }

  @Test("numbers of every plain type are read")
  func types() throws {
    let source = try Self.open("types")
    #expect(source.tensors.map(\.dtype) == [.f32, .f16, .f64, .i8, .i16, .i32, .i64, .bf16])
    for (number, info) in source.tensors.enumerated() {
      #expect(info.shape == [2, 3])
      let bytes = try source.bytes(of: number)
      let values: [Double] = (0..<6).map { i in
        bytes.withUnsafeBytes { bytes in
          func at<T>(_: T.Type) -> T {
            bytes.loadUnaligned(fromByteOffset: i * MemoryLayout<T>.size, as: T.self)
          }
          return switch info.dtype {
          case .f32: Double(at(Float.self))
          case .f64: at(Double.self)
          case .i8: Double(at(Int8.self))
          case .i16: Double(at(Int16.self))
          case .i32: Double(at(Int32.self))
          case .i64: Double(at(Int64.self))
          case .f16: Double(at(Float16.self))
          default: Double(Float(bitPattern: UInt32(at(UInt16.self)) << 16))
          }
        }
      }
      #expect(values == [1, -2, 3, 0, 5, -6], "\(info.name)")
    }
  }

  @Test("blocks are the numbers that the gguf package makes of them, whatever range is asked for")
  func blocks() throws {
    let source = try Self.open("blocks")
    let expected = try openCheckpoint(at: Fixtures.path("good/gguf/blocks.safetensors"))
    #expect(expected.tensors.count == 10)
    for (number, info) in expected.tensors.enumerated() {
      let place = try #require(source.index(info.name))
      let found = source.tensors[place]
      #expect(found.dtype == .f32 && found.shape == info.shape && found.extent == nil)
      #expect(found.typeName == info.name.string && found.storedByteCount < found.byteCount / 3)
      let whole = try expected.bytes(of: number)
      #expect(try source.bytes(of: place) == whole, "\(info.name)")
      for range in [3..<3, 5..<6, 126..<131, 1..<whole.count - 1] {
        var part = [UInt8](repeating: 0, count: range.count)
        var failure: Diagnostic?
        part.withUnsafeMutableBytes { buffer in
          do throws(Diagnostic) {
            try source.read(place, bytes: range, into: buffer)
          } catch { failure = error }
        }
        #expect(failure == nil && part == Array(whole[range]), "\(info.name) \(range)")
      }
    }
    // A type that is known by name only.
    let unread = try #require(source.index("unread"))
    #expect(source.tensors[unread].typeName == "IQ4_XS")
    #expect(source.warnings.map(\.code) == ["gguf.unread-type"])
    #expect(
      problem { () throws(Diagnostic) in _ = try source.bytes(of: unread) }?.code
        == "gguf.unread-type")
  }

  @Test("the parts of a checkpoint are read as one, from the first or from their directory")
  func parts() throws {
    let source = try Self.open("parts-00001-of-00002")
    #expect(source.files.count == 2)
    #expect(source.tensors.map(\.name) == ["a", "b"])
    #expect(try source.floats("a") == [0, 1, 2, 3, 4, 5, 6, 7])
    #expect(try source.floats("b") == [0, 1, 2, 3, 4, 5])

    let directory = TemporaryDirectory()
    for number in 1...2 {
      let name = "parts-0000\(number)-of-00002.gguf"
      Files.write(Files.read(Fixtures.path("good/gguf/" + name)), to: directory.file(name))
    }
    #expect(try openCheckpoint(at: directory.path).tensors.count == 2)
    // The second under the first's name, and the first's count.
    Files.write(
      Files.read(directory.file("parts-00001-of-00002.gguf")),
      to: directory.file("parts-00002-of-00002.gguf"))
    #expect(
      problems { () throws(Problems) in
        _ = try GGUFReader(path: directory.file("parts-00001-of-00002.gguf"))
      }.map(\.code) == ["gguf.split-number"])
  }
}

@Suite("Hostile GGUF", .tags(.slow))
struct GGUFHostileTests {
  @Test(
    "a bad file gives the code in its name, and nothing else", arguments: Fixtures.list("bad/gguf"))
  func corpus(path: String) {
    let found = problems { () throws(Problems) in _ = try openCheckpoint(at: path) }
    #expect(found.map(\.code) == [Fixtures.expectedCode(path)])
    #expect(found.allSatisfy { $0.severity == .error && !$0.message.isEmpty })
  }

  @Test("the corpus has its files")
  func corpusCount() {
    #expect(Fixtures.list("bad/gguf").count >= 79)
  }

  @Test(
    "every truncation and every flipped byte gives an error or a clean read",
    arguments: ["plain", "keys", "alignment-64"])
  func damage(name: String) throws {
    let directory = TemporaryDirectory()
    let path = directory.file("damaged.gguf")
    let good = Files.read(Fixtures.path("good/gguf/\(name).gguf"))
    func codes() -> [String] {
      problems { () throws(Problems) in
        let source = try GGUFReader(path: path)
        for number in source.tensors.indices {
          do throws(Diagnostic) { _ = try source.bytes(of: number) } catch {
            throw Problems([error])
          }
        }
      }.map(\.code)
    }
    // The last tensor's padding may be missing.
    for count in 0..<good.count - 8 {
      Files.write(Array(good[..<count]), to: path)
      let found = codes()
      #expect(!found.isEmpty && found.allSatisfy { $0.hasPrefix("gguf.") }, "\(count) bytes")
    }
    for at in good.indices {
      var bytes = good
      bytes[at] ^= 0xFF
      Files.write(bytes, to: path)
      #expect(codes().allSatisfy { $0.hasPrefix("gguf.") }, "byte \(at)")
    }
  }
}
