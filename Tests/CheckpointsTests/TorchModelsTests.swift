import Checkpoints
import Foundation
import Tensors
import TestSupport
import Testing

@Suite("Which of several models in a file is read")
struct TorchModelsTests {
  private static let model: [Float] = [1, 2, 3, 4, 5, 6]
  private static let other: [Float] = [10, 20, 30, 40, 50, 60]

  private func odd(_ name: String, key: String? = nil) throws(Problems) -> any TensorSource {
    try openCheckpoint(at: TorchFixtures.good("odd__\(name).pt"), key: key)
  }

  private func failure(_ name: String, key: String? = nil) -> Diagnostic? {
    problems { () throws(Problems) in
      _ = try openCheckpoint(at: TorchFixtures.bad(name + ".pt"), key: key)
    }.first
  }

  @Test(
    "tensors of the model's shapes that lie elsewhere are told, with a key where one reaches",
    arguments: [
      ("list", "ema.shadow_params", false), ("list-of-dicts", "emas[0].w", false),
      ("deep-dict", "avg.a.b.c.d", true),
      ("list-among-optimizers", "optimizer_states[0].ema", false),
    ])
  func collections(file: String, place: String, isReached: Bool) throws {
    let source = try odd("model-beside-a-" + file)
    #expect(try source.floats("w") == Self.model)
    let said = source.warnings.filter { $0.code == "checkpoint.other-model" }
    #expect(said.map(\.severity) == [.warning])
    let under = place.hasSuffix(".w") ? String(place.dropLast(2)) : place
    #expect(
      said.first?.message.contains("1 further tensor of the same shapes lies under `\(under)`")
        == true)
    #expect(said.first?.help?.hasPrefix("--key \(place) ") == isReached)
    if isReached {
      #expect(try odd("model-beside-a-" + file, key: place).floats("w") == Self.other)
    }
  }

  @Test(
    "where no key reaches the tensors, none is offered, and the way to save them is",
    arguments: [
      ("a-list-of-two", "[0]"), ("a-tuple", "[0]"), ("models-in-a-list", "[\"models\"][0]"),
      ("numbers-as-keys", "[0]"),
    ])
  func unreached(name: String, way: String) throws {
    let problem = try #require(failure("pytorch.no-state-dict__" + name))
    #expect(problem.code == "pytorch.no-state-dict")
    #expect(problem.help?.contains("--key") == false)
    #expect(problem.help?.contains(".pt\")\(way), \"model.pt\")") == true, "\(problem)")
  }

  @Test("a program is called one before its code is called compressed")
  func program() {
    #expect(failure("pytorch.torchscript__deflated-code")?.code == "pytorch.torchscript")
  }

  @Test("entries that are no tensors are known by name, each with what it is")
  func others() throws {
    let source = try odd("entries-that-are-no-tensors")
    #expect(source.others["version"] == "an int")
    #expect(source.others["w"] == nil)
  }

  @Test(
    "the only dict of tensors is read, and a key that is not usual is said",
    arguments: [
      ("net", "net"), ("params", "params"), ("generator", "generator"), ("weights", "weights"),
      ("backbone", "backbone"), ("model_state", "model_state"), ("ema", "ema"),
      ("params_ema", "params_ema"), ("app-model", "app.model"),
      ("net-beside-an-optimizer", "net"),
    ])
  func onlyOne(file: String, key: String) throws {
    let source = try odd("under-" + file)
    #expect(try source.floats("w") == Self.model)
    #expect(source.warnings.map(\.code) == ["pytorch.state-dict-key"])
    #expect(source.warnings.map(\.severity) == [.note])
    #expect(source.warnings[0].message.contains("`\(key)`"))
    // Who names it needs no word.
    let named = try odd("under-" + file, key: key)
    #expect(try named.floats("w") == Self.model)
    #expect(named.warnings.isEmpty)
  }

  @Test(
    "a model beside its average is read, the average is named, and its key reads it",
    arguments: [
      ("model", "model_ema"), ("state_dict", "ema_state_dict"), ("model", "shadow"),
      ("generator", "generator_ema"), ("net", "ema"), ("params", "params_ema"),
    ])
  func average(model: String, average: String) throws {
    let name = "\(model)-beside-\(average)"
    let source = try odd(name)
    #expect(try source.floats("w") == Self.model)
    let said = try #require(source.warnings.first { $0.code == "checkpoint.other-model" })
    #expect(said.severity == .warning)
    #expect(
      said.message == "`\(model)` is read; `\(average)` holds the same 1 names and is left")
    #expect(said.help == "--key \(average) reads it")
    #expect(try odd(name, key: average).floats("w") == Self.other)
    #expect(try odd(name, key: model).floats("w") == Self.model)
  }

  @Test("an average among callbacks, a teacher and a whole module are said too")
  func aside() throws {
    for (name, key) in [
      ("model-beside-an-average-among-callbacks", "callbacks.EMACallback.ema_weights"),
      ("model-beside-a-teacher", "teacher"),
    ] {
      let source = try odd(name)
      #expect(source.warnings.map(\.code) == ["checkpoint.other-model"], "\(name)")
      #expect(source.warnings[0].help == "--key \(key) reads it", "\(name)")
      #expect(try odd(name, key: key).floats("w") == Self.other, "\(name)")
    }
    let whole = try odd("model-beside-a-whole-average")
    #expect(whole.warnings.map(\.code) == ["checkpoint.other-model"])
    #expect(whole.warnings[0].message.contains("mypackage.model.Samba"))
  }

  @Test("two equal models are an error that names both, and a key chooses")
  func ambiguous() throws {
    for (name, keys) in [
      ("student-and-teacher", ["student", "teacher"]), ("model-and-module", ["model", "module"]),
      ("two-averages", ["ema_1", "ema_2"]), ("nested-peers", ["train.student", "train.teacher"]),
    ] {
      let file = "pytorch.ambiguous-state-dict__" + name
      let error = try #require(failure(file))
      #expect(error.code == "pytorch.ambiguous-state-dict")
      for key in keys { #expect(error.message.contains("`\(key)`"), "\(name)") }
      #expect(error.help?.contains("--key \(keys[0])") == true, "\(name)")
      for (key, values) in zip(keys, [Self.model, Self.other]) {
        let source = try openCheckpoint(at: TorchFixtures.bad(file + ".pt"), key: key)
        #expect(try source.floats("w") == values, "\(name) \(key)")
      }
    }
  }

  @Test("an unknown key is an error that lists what there is")
  func unknownKey() throws {
    let plain = problems { () throws(Problems) in _ = try odd("plain", key: "ema") }
    #expect(plain.map(\.code) == ["checkpoint.unknown-key"])
    let both = problems { () throws(Problems) in
      _ = try TorchReader(
        path: TorchFixtures.good("odd__model-beside-model_ema.pt"), key: "model_avg")
    }
    #expect(both.map(\.code) == ["checkpoint.unknown-key"])
    #expect(both.first?.help == "keys that it holds: model_ema, model")
    let peers = failure("pytorch.ambiguous-state-dict__student-and-teacher", key: "mentor")
    #expect(peers?.help == "keys that it holds: student, teacher")
  }

  // MARK: By the names' beginnings, in every container

  /// Opens a safetensors file of these tensors of two values each.
  private func stored(
    _ tensors: [(String, [Float])], key: String? = nil
  ) throws(Problems) -> any TensorSource {
    var file = SafetensorsBuilder()
    for (name, values) in tensors { file.add(name, [values.count], values) }
    let path = FileManager.default.temporaryDirectory
      .appending(path: "models-\(UUID().uuidString).safetensors").path
    #expect(FileManager.default.createFile(atPath: path, contents: Data(file.bytes)))
    defer { try? FileManager.default.removeItem(atPath: path) }
    return try openCheckpoint(at: path, key: key)
  }

  private static let names = ["embed.weight", "layers.0.A_log", "layers.0.D", "layers.1.A_log"]

  private func twice(_ first: String, _ second: String) -> [(String, [Float])] {
    Self.names.enumerated().map { (first + $1, [Float($0), 1]) }
      + Self.names.enumerated().map { (second + $1, [Float($0) + 10, 1]) }
  }

  @Test(
    "an average under a prefix is left and said, and its prefix reads it without the prefix",
    arguments: [
      ("", "ema."), ("", "model_ema."), ("", "ema_model.module."), ("model.", "ema."),
      ("online_model.", "ema_model."), ("model.", "model.ema."), ("net.", "net_ema."),
    ])
  func prefixes(model: String, average: String) throws {
    let tensors = twice(model, average) + [(average + "decay", [0.999])]
    let source = try stored(tensors)
    #expect(source.tensors.map(\.name.string) == Self.names.map { model + $0 })
    #expect(try source.floats(TensorName(model + "layers.0.A_log")) == [1, 1])
    #expect(source.warnings.map(\.code) == ["checkpoint.other-model"])
    #expect(source.warnings[0].message.contains("the same 4 names"))
    let key = average == "model.ema." ? "ema" : String(average.prefix { $0 != "." })
    let chosen = try stored(tensors, key: key)
    let kept = average == "model.ema." ? "model." : ""
    #expect(chosen.tensors.map(\.name.string) == Self.names.map { kept + $0 })
    #expect(try chosen.floats(TensorName(kept + "layers.0.A_log")) == [11, 1])
    #expect(chosen.warnings.map(\.severity) == [.note])
  }

  @Test("an average whose names lost their dots gets them back")
  func dotless() throws {
    let tensors =
      Self.names.map { ("model." + $0, [Float(1), 2]) }
      + Self.names.map { ("model_ema." + $0.filter { $0 != "." }, [Float(3), 4]) }
      + [("model_ema.num_updates", [7])]
    let source = try stored(tensors)
    #expect(source.tensors.map(\.name.string) == Self.names.map { "model." + $0 })
    let chosen = try stored(tensors, key: "model_ema")
    #expect(chosen.tensors.map(\.name.string) == Self.names)
    #expect(try chosen.floats("layers.1.A_log") == [3, 4])
  }

  @Test("student and teacher under prefixes are an error that names both")
  func peers() throws {
    for (a, b) in [("student", "teacher"), ("online", "target")] {
      let tensors = twice(a + ".", b + ".")
      let found = problems { () throws(Problems) in _ = try stored(tensors) }
      #expect(found.map(\.code) == ["checkpoint.ambiguous-model"])
      #expect(found[0].message.contains("`\(a)`") && found[0].message.contains("`\(b)`"))
      let first = try stored(tensors, key: a)
      #expect(try first.floats("layers.0.D") == [2, 1])
      let second = try stored(tensors, key: b)
      #expect(try second.floats("layers.0.D") == [12, 1])
    }
  }

  @Test("parts of one model that mirror each other are no two models")
  func ordinary() throws {
    let cases: [[(String, [Float])]] = [
      twice("encoder.", "decoder."), twice("0.", "1."), twice("layers.0.", "layers.1."),
      twice("model.", "head."), twice("fwd.", "bwd."),
      // A part that is called so and mirrors nothing.
      [
        ("target_embed.weight", [1, 2]), ("layers.0.weight", [1, 2]), ("ema_gate.weight", [1, 2]),
      ],
      // Other shapes under the same names.
      [("a.w", [1, 2]), ("b.w", [1, 2]), ("ema.a.w", [1, 2, 3]), ("ema.b.w", [1, 2, 3])],
    ]
    for tensors in cases {
      let source = try stored(tensors)
      #expect(source.tensors.count == tensors.count)
      #expect(source.warnings.isEmpty)
    }
  }

  @Test("placeholders and flat parameters are told in any container")
  func shards() {
    let zero = problems { () throws(Problems) in
      _ = try stored([("a.weight", []), ("b.weight", []), ("c.bias", [])])
    }
    #expect(zero.map(\.code) == ["pytorch.zero3-placeholders"])
    #expect(zero[0].message.contains("all 3 tensors are empty"))
    #expect(zero[0].help?.contains("zero_to_fp32.py") == true)
    let flat = problems { () throws(Problems) in
      _ = try stored([("layers.0._flat_param", [1, 2]), ("flat_param_scale", [1])])
    }
    #expect(flat.map(\.code) == ["pytorch.flat-parameters"])
  }
}

@Suite("What is no weight, and what is no state dict")
struct TorchHonestTests {
  @Test(
    "entries that hold no weights are passed over with one warning",
    arguments: TorchFixtures.names("good").filter { $0.hasPrefix("odd__harmless-") })
  func harmless(name: String) throws {
    let reader = try TorchReader(path: TorchFixtures.good(name))
    #expect(reader.tensors.map(\.name.string) == ["w"])
    #expect(reader.warnings.map(\.code) == ["pytorch.passed-over"])
    #expect(reader.warnings[0].severity == .warning)
    #expect(try reader.floats("w") == [1, 2, 3, 4, 5, 6])
  }

  @Test("a module's extra state is passed over, be it bytes or a tensor of bytes")
  func extraState() throws {
    let reader = try TorchReader(path: TorchFixtures.good("odd__extra-state-of-bytes.pt"))
    #expect(reader.tensors.map(\.name.string) == ["w"])
    #expect(reader.warnings.map(\.code) == ["pytorch.passed-over"])
    #expect(reader.warnings[0].message.contains("m._extra_state"))
  }

  @Test(
    "a whole module is called so and names its class",
    arguments: [
      ("with-a-hook", "mypackage.model.Samba"),
      ("distributed", "torch.nn.parallel.distributed.DistributedDataParallel"),
      ("under-net-beside-an-optimizer", "mypackage.model.Samba"),
      ("of-protocol-0", "mypackage.model.Samba"), ("as-root", "mypackage.model.Samba"),
    ])
  func wholeModule(name: String, type: String) {
    let found = problems { () throws(Problems) in
      _ = try TorchReader(path: TorchFixtures.bad("pytorch.whole-module__\(name).pt"))
    }
    #expect(found.map(\.code) == ["pytorch.whole-module"])
    #expect(found.first?.message.contains("holds a whole \(type) instead") == true)
    #expect(found.first?.help?.contains("save `model.state_dict()`") == true)
  }

  @Test("all sharded tensors of a file are one error with the way out")
  func sharded() {
    let found = problems { () throws(Problems) in
      _ = try TorchReader(
        path: TorchFixtures.bad("pytorch.sharded-tensor__dtensor-over-two-ranks.pt"))
    }
    #expect(found.count == 1)
    #expect(found.first?.message.contains("2 tensors") == true)
    #expect(found.first?.message.contains("DTensors sharded over 2 ranks") == true)
    #expect(found.first?.help?.contains("full_state_dict=True") == true)
  }

  @Test("whole numbers of any length are read, and those beyond 64 bits are kept as such")
  func longNumbers() throws {
    func value(_ bytes: [UInt8]) throws -> PickleValue {
      let graph = try PickleMachine.run([0x80, 2] + bytes + [0x2e], subject: "number")
      return graph[graph.root]
    }
    func long1(_ bytes: [UInt8]) -> [UInt8] { [0x8a, UInt8(bytes.count)] + bytes }
    let cases: [([UInt8], Int?)] = [
      (long1([5] + [UInt8](repeating: 0, count: 15)), 5),
      (long1([UInt8](repeating: 0xff, count: 16)), -1),
      (long1([0xfb] + [UInt8](repeating: 0xff, count: 9)), -5),
      (long1([UInt8](repeating: 0xff, count: 7) + [0x7f, 0, 0]), Int.max),
      (long1([UInt8](repeating: 0, count: 7) + [0x80, 0xff]), Int.min),
      (long1([UInt8](repeating: 0, count: 7) + [0x80, 0]), nil),
      (long1([UInt8](repeating: 0xff, count: 8) + [0x7f]), nil),
      ([0x8b, 12, 0, 0, 0, 7] + [UInt8](repeating: 0, count: 11), 7),
      (Array("L0000000000000000000000000005L\n".utf8), 5),
      (Array("L-0000000000000000000000000005L\n".utf8), -5),
      (Array("L-0L\n".utf8), 0),
    ]
    for (bytes, want) in cases {
      switch try value(bytes) {
      case .int(let found): #expect(found == want, "\(bytes)")
      case .hugeInt: #expect(want == nil, "\(bytes)")
      default: Issue.record("\(bytes) is no number")
      }
    }
  }
}
