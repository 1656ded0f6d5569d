import Checkpoints
import Foundation
import Tensors
import TestSupport
import Testing

@Suite("Hostile PyTorch checkpoints", .tags(.slow))
struct TorchHostileTests {
  @Test("every malformed file yields exactly the code in its name")
  func corpus() {
    let names = TorchFixtures.names("bad").filter { $0.hasSuffix(".pt") }
    #expect(names.count > 200)
    for name in names {
      let code = name.components(separatedBy: "__")[0]
      #expect(codes(opening: TorchFixtures.bad(name)) == [code], "\(name)")
    }
  }

  /// What opening a file and reading every tensor ends in, whatever container it is taken for.
  func codes(opening path: String) -> Set<String> {
    do throws(Problems) {
      let reader = try openCheckpoint(at: path)
      for index in reader.tensors.indices {
        do throws(Diagnostic) { _ = try reader.bytes(of: index) } catch {
          throw Problems([error])
        }
      }
      return []
    } catch { return Set(error.diagnostics.map(\.code)) }
  }

  @Test(
    "what is no zip file is refused by the reader itself too",
    arguments: [
      ("container.empty__no-bytes", "not-zip"), ("container.git-lfs__pointer", "not-zip"),
      ("container.legacy-torch__magic-number", "legacy"), ("container.pickle__bare", "legacy"),
      ("container.tar__storages", "legacy"),
      ("container.unknown__zip-behind-a-stub", "zip-prefixed"),
    ])
  func noZip(name: String, code: String) {
    #expect(TorchFixtures.codes(ofFile: TorchFixtures.bad(name + ".pt")) == ["pytorch." + code])
  }

  @Test("a pickle's stack, marks and memo are bounded like its values")
  func bounded() throws {
    let most = 1 << 24
    func codes(_ bytes: [UInt8]) -> [String] {
      problems { () throws(Problems) in _ = try PickleMachine.run(bytes, subject: "pickle") }
        .map(\.code)
    }
    let none = UInt8(ascii: "N")
    for operation in [[UInt8(ascii: "(")], [UInt8(ascii: "2")], [none]] {
      let bytes = [none] + [UInt8](repeating: operation[0], count: most + 1) + [0x2e]
      #expect(codes(bytes) == ["pytorch.pickle-size"], "\(operation)")
    }
    let memo = [none] + [UInt8](repeating: 0x94, count: most) + [0x2e]
    #expect(codes(memo) == [])
    #expect(codes(Array(memo.dropLast()) + [0x94, 0x2e]) == ["pytorch.pickle-size"])
  }

  @Test("a memo may be written in any order and anew, and tells its places apart")
  func memo() throws {
    // 1, 2, 3 go to places 5, 0 and 1; then 4 to place 5, and 5 to the next free one, which is 3.
    var bytes: [UInt8] = [0x80, 4]
    for (value, place) in [(1, 5), (2, 0), (3, 1), (4, 5)] as [(UInt8, UInt8)] {
      bytes += [0x4b, value, UInt8(ascii: "q"), place, UInt8(ascii: "0")]
    }
    bytes += [0x4b, 5, 0x94, UInt8(ascii: "0"), UInt8(ascii: "(")]
    for place in [0, 1, 3, 5] as [UInt8] { bytes += [UInt8(ascii: "h"), place] }
    let graph = try PickleMachine.run(bytes + [UInt8(ascii: "t"), 0x2e], subject: "pickle")
    #expect(graph.tuple(graph.root)?.map { graph.int($0) } == [2, 3, 5, 4])
  }

  @Test("a diagnostic names the file, the tensor, what was found and what to do")
  func words() throws {
    let error = #expect(throws: Problems.self) {
      try TorchReader(path: TorchFixtures.bad("pytorch.tensor-bounds__size-past-the-end.pt"))
    }
    let diagnostic = try #require(error?.diagnostics.first)
    #expect(diagnostic.subject == #"pytorch.tensor-bounds__size-past-the-end.pt: tensor "w""#)
    #expect(
      diagnostic.message == "has size [3, 3], stride [3, 1] and offset 0, which do not fit its"
        + " storage: element 8 is needed, but the storage has 6")
    #expect(diagnostic.help?.contains("fetch it again") == true)

    let danger = #expect(throws: Problems.self) {
      try TorchReader(path: TorchFixtures.bad("pytorch.dangerous-global__stack-global-dotted.pt"))
    }
    #expect(danger?.diagnostics[0].message.contains("torch.serialization.os.system") == true)

    let oddNesting = #expect(throws: Problems.self) {
      try TorchReader(path: TorchFixtures.bad("pytorch.no-state-dict__one-level-too-odd.pt"))
    }
    #expect(oddNesting?.diagnostics[0].notes == [#"its top level holds "state": a dict"#])
  }

  @Test("all broken tensors of a file are told of at once")
  func allAtOnce() throws {
    let error = #expect(throws: Problems.self) {
      try TorchReader(path: TorchFixtures.bad("pytorch.expanded__many-names.pt"))
    }
    #expect(error?.diagnostics.count == 2)
  }

  @Test(
    "every truncation of a small good file is an error",
    arguments: ["odd__plain.pt", "odd__zip64.pt", "odd__zip-comment.pt", "tied.pt"])
  func truncations(name: String) throws {
    let bytes = try [UInt8](Data(contentsOf: URL(filePath: TorchFixtures.good(name))))
    try TorchFixtures.withDirectory { directory in
      for count in 0..<bytes.count {
        let codes = try TorchFixtures.codes(of: Array(bytes[..<count]), in: directory)
        #expect(!codes.isEmpty, "\(count) of \(bytes.count) bytes")
      }
    }
  }

  @Test(
    "every flip of a byte of a small good file is an error or a clean read",
    arguments: ["odd__plain.pt", "odd__without-checksums.pt", "odd__zip64.pt"])
  func flips(name: String) throws {
    let bytes = try [UInt8](Data(contentsOf: URL(filePath: TorchFixtures.good(name))))
    try TorchFixtures.withDirectory { directory in
      for at in bytes.indices {
        for flip in [UInt8(0xff), 0x01, 0x80, 0x10] {
          var changed = bytes
          changed[at] ^= flip
          let codes = try TorchFixtures.codes(of: changed, in: directory)
          #expect(codes.allSatisfy { $0.hasPrefix("pytorch.") || $0.hasPrefix("io.") }, "\(at)")
        }
      }
    }
  }

  @Test("random changes of a checkpoint's pickle never trap and never take long")
  func mutations() throws {
    let names = ["odd__plain.pt", "namespace-protocol2.pt", "namespace-protocol4.pt", "views.pt"]
    let seeds = try names.map(entries(of:))
    var random = SplitMix(state: 2024)
    let start = ContinuousClock.now
    try TorchFixtures.withDirectory { directory in
      for round in 0..<20_000 {
        var entries = seeds.randomElement(using: &random)!
        mutate(&entries[0].bytes, &random)
        _ = try? PickleMachine.run(entries[0].bytes, subject: "mutated")
        // Whole checkpoints cost a file each.
        guard round % 8 == 0 else { continue }
        try write(entries, to: directory + "/\(round).pt")
        let codes = TorchFixtures.codes(ofFile: directory + "/\(round).pt")
        #expect(codes.allSatisfy { $0.hasPrefix("pytorch.") }, "round \(round): \(codes)")
      }
    }
    #expect(ContinuousClock.now - start < .seconds(120))
  }

  /// The entries of a fixture, its pickle first.
  private func entries(of name: String) throws -> [(name: String, bytes: [UInt8])] {
    let file = try RandomAccessFile(path: TorchFixtures.good(name))
    let directory = try ZipDirectory(file: file)
    let entries = try directory.entries.map {
      (name: $0.name, bytes: try directory.bytes(of: $0, in: file))
    }
    return entries.filter { $0.name.hasSuffix("/data.pkl") }
      + entries.filter { !$0.name.hasSuffix("/data.pkl") }
  }

  private func mutate(_ bytes: inout [UInt8], _ random: inout SplitMix) {
    for _ in 0..<Int.random(in: 1...6, using: &random) {
      let at = Int.random(in: 0..<bytes.count, using: &random)
      switch Int.random(in: 0..<4, using: &random) {
      case 0: bytes[at] = UInt8.random(in: 0...255, using: &random)
      case 1: bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &random)
      case 2: bytes.insert(bytes.randomElement(using: &random)!, at: at)
      default: bytes.remove(at: at)
      }
    }
  }

  private func write(_ entries: [(name: String, bytes: [UInt8])], to path: String) throws {
    var layout = ZipLayout()
    for entry in entries { _ = try layout.add(entry.name, byteCount: entry.bytes.count) }
    let output = try ZipOutput(path: path)
    for (index, entry) in entries.enumerated() {
      let place = layout.entries[index]
      try output.write(layout.localHeader(index) + entry.bytes, at: place.headerOffset)
    }
    try output.write(layout.trailer(), at: layout.end)
  }

  @Test("a million nested containers are built and freed without recursion")
  func nesting() throws {
    let million = 1_000_000
    // TUPLE1, and a list or dict around each value: MARK … LIST, MARK key … DICT.
    let tuples = [0x80, 2, 0x4e] + [UInt8](repeating: 0x85, count: million) + [0x2e]
    #expect(try PickleMachine.run(tuples, subject: "tuples").values.count == million + 1)
    let lists =
      [UInt8](repeating: 0x28, count: million) + [UInt8](repeating: 0x6c, count: million) + [0x2e]
    #expect(try PickleMachine.run(lists, subject: "lists").lists.count == million)
    var dicts: [UInt8] = []
    for _ in 0..<million { dicts += [0x28, 0x4b, 1] }
    dicts += [0x4e] + [UInt8](repeating: 0x64, count: million) + [0x2e]
    #expect(try PickleMachine.run(dicts, subject: "dicts").dicts.count == million)
  }

  @Test("a tall stack does not make each operation slower")
  func tallStack() throws {
    // A slice of the stack taken for each TUPLE would copy the million values below it each time.
    var bytes = [UInt8](repeating: 0x4e, count: 1_000_000)
    for _ in 0..<500_000 { bytes += [0x28, 0x74] }
    bytes.append(0x2e)
    let start = ContinuousClock.now
    _ = try PickleMachine.run(bytes, subject: "tall")
    #expect(ContinuousClock.now - start < .seconds(10))
  }

  @Test("names that reach the system are dangerous, names of data and layers are not")
  func danger() {
    let dangerous = [
      ("os", "system"), ("os.path", "join"), ("builtins", "eval"), ("builtins", "str.join"),
      ("__builtin__", "apply"), ("torch.serialization", "os.system"), ("torch", "sys"),
      ("torch.nn", "Linear.__init__"), ("numpy.f2py.diagnose", "run"), ("mine", "exec"),
      ("cloudpickle.cloudpickle", "_make_function"), ("torch.hub", "load"),
      ("mine", "__pyx_unpickle_X.os"), ("numpy.random._pickle", "__import__"),
    ]
    for (module, name) in dangerous {
      #expect(PickleGlobal(module: module, name: name).isDangerous, "\(module).\(name)")
    }
    let harmless = [
      ("torch", "FloatStorage"), ("torch._utils", "_rebuild_tensor_v2"), ("builtins", "set"),
      ("collections", "OrderedDict"), ("argparse", "Namespace"), ("pathlib", "PosixPath"),
      ("numpy.core.multiarray", "scalar"), ("__main__", "TrainConfig"), ("_codecs", "encode"),
      ("omegaconf.dictconfig", "DictConfig"), ("builtins", "KeyError"),
      ("copyreg", "_reconstructor"),
      ("mypackage.code.model", "Config"), ("functools", "partial"), ("torch.optim.adamw", "AdamW"),
      ("numpy.random._pickle", "__randomstate_ctor"), ("builtins", "print"),
      ("numpy.random.bit_generator", "__pyx_unpickle_SeedSequence"), ("copyreg", "__newobj__"),
    ]
    for (module, name) in harmless {
      #expect(!PickleGlobal(module: module, name: name).isDangerous, "\(module).\(name)")
    }
  }

  @Test("a damaged storage is found by its checksum")
  func damagedStorage() throws {
    var bytes = try [UInt8](Data(contentsOf: URL(filePath: TorchFixtures.good("tied.pt"))))
    let reader = try TorchReader(path: TorchFixtures.good("tied.pt"))
    bytes[try #require(reader.tensors[0].extent).offset + 5] ^= 4
    try TorchFixtures.withDirectory { directory in
      try Data(bytes).write(to: URL(filePath: directory + "/damaged.pt"))
      let damaged = try TorchReader(path: directory + "/damaged.pt")
      let error = #expect(throws: Problems.self) { try damaged.verifyChecksums() }
      #expect(error?.diagnostics.map(\.code) == ["pytorch.zip-checksum"])
    }
  }
}
