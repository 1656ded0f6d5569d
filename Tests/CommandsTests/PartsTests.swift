import Checkpoints
import Dispatch
import Foundation
import Synchronization
import TestSupport
import Tensors
import Testing

@Suite("Conversions in parts")
struct PartsTests {
  let home = TemporaryDirectory()

  private func run(_ arguments: [String]) throws -> ToolRun {
    try BuiltTool.run(["convert"] + arguments + ["--no-fsync"], in: home.path)
  }

  /// What is there besides the destinations.
  private var hidden: [String] { Files.names(in: home.path).filter { $0.hasPrefix(".") } }

  private static let modes: [[String]] = [
    ["samba-fla/fla", "--to", "fla", "--max-shard-size", "100kB"],
    ["samba-fla/fla", "--to", "lit_gpt", "--max-shard-size", "200kB"],
    ["mamba-tied/hf", "--to", "mamba_ssm", "--max-shard-size", "50kB", "--dtype", "bfloat16"],
    ["samba-fla/fla", "--to", "fla", "--container", "dcp", "--ranks", "5"],
    [
      "mamba-tied/hf", "--to", "hf", "--container", "dcp", "--ranks", "7", "--dcp-prefix", "model",
      "--dtype", "float16",
    ],
    ["lit-samba/lit_gpt", "--to", "lit_gpt", "--container", "dcp", "--ranks", "3"],
    ["gla-conv-gqa-clamp/fla", "--to", "fla", "--vocab-size", "160", "--max-shard-size", "1GB"],
  ]

  @Test(
    "the parts, written at once, twice and in any order, are byte for byte the whole",
    arguments: modes)
  func equal(mode: [String]) throws {
    let source = ModelFixture.named(mode[0]).path
    let options = Array(mode.dropFirst())
    #expect(try run([source, "whole"] + options + ["--sha256"]).status == 0)
    let count = 4
    // Each of them twice at the same moment, as a scheduler does that thinks a task is lost.
    let parts = [3, 1, 4, 2, 2, 4, 1, 3]
    let runs = Mutex([ToolRun]())
    DispatchQueue.concurrentPerform(iterations: parts.count) { number in
      if let run = try? run([source, "parts", "--part", "\(parts[number])/\(count)"] + options) {
        runs.withLock { $0.append(run) }
      }
    }
    let all = runs.withLock { $0 }
    #expect(all.map(\.status) == Array(repeating: 0, count: parts.count), "\(all.map(\.error))")
    let pieces = home.file(".parts.weighbridge-parts")
    let written = (1...count).flatMap {
      Files.names(in: "\(pieces)/part-0000\($0)-of-00004").filter { $0 != "part.json" }
    }
    let whole = contents(home.file("whole"))
    let weights = whole.keys.filter {
      $0.hasSuffix(".distcp") || $0.contains("-of-") || $0 == "model.safetensors"
    }
    #expect(written.sorted() == weights.sorted())
    #expect(!Files.exists(home.file("parts")))

    let finish = try run([source, "parts", "--finish", "--sha256", "--verify"] + options)
    #expect(finish.status == 0, "\(finish.error)")
    let found = contents(home.file("parts"))
    #expect(found.keys.sorted() == whole.keys.sorted())
    for (name, bytes) in whole { #expect(found[name] == bytes, "\(name)") }
    #expect(hidden.isEmpty)
    #expect(try BuiltTool.run("check", home.file("parts")).status == 0)
  }

  @Test("a part lists its files; more parts than files leave some with nothing to do")
  func share() throws {
    let source = ModelFixture.named("mamba-bias-untied/hf").path
    let options = ["--to", "hf", "--container", "dcp", "--ranks", "3"]
    var files: [String] = []
    for number in 1...5 {
      let part = ["--part", "\(number)/5", "--json"]
      let dry = try run([source, "out"] + options + part + ["--dry-run"])
      let made = try run([source, "out"] + options + part)
      #expect(made.status == 0)
      let document = try made.document()
      #expect(document["part"]?.string == "\(number)/5")
      let outputs = document["outputs"]?.array?.compactMap { $0.string } ?? []
      let names = outputs.map { String($0.split(separator: "/").last ?? "") }
      #expect(outputs.allSatisfy { Files.exists($0) })
      #expect(
        try dry.document()["outputs"]?.array?.compactMap { $0.string } == names.map { "out/\($0)" })
      #expect(try made.problems().contains("part.empty part \(number) of 5") == names.isEmpty)
      files += names
    }
    #expect(files.sorted() == ["__0_0.distcp", "__1_0.distcp", "__2_0.distcp"])
    #expect(try run([source, "out", "--finish"] + options).status == 0)
    #expect(try StoredCheckpoint(home.file("out")).tensors.count == 27)
  }

  @Test("--finish tells what is missing, and leaves everything as it is")
  func missing() throws {
    let source = ModelFixture.named("samba-fla/fla").path
    let options = ["--to", "fla", "--max-shard-size", "100kB"]
    let none = try run([source, "out", "--finish", "--json"] + options)
    #expect(none.status == 2)
    #expect(try none.problems().contains("part.none out"))
    for number in [1, 4] {
      #expect(try run([source, "out", "--part", "\(number)/4"] + options).status == 0)
    }
    let before = Files.names(in: home.file(".out.weighbridge-parts"))
    let finish = try run([source, "out", "--finish", "--json"] + options)
    #expect(finish.status == 2)
    #expect(finish.error.contains("of 4 parts these are not there: 2, 3"))
    #expect(finish.error.contains("--part 2/4, --part 3/4"))
    #expect(!Files.exists(home.file("out")))
    #expect(Files.names(in: home.file(".out.weighbridge-parts")) == before)
    #expect(hidden == [".out.weighbridge-parts"])
  }

  @Test("a killed part leaves nothing that counts, and is written again")
  func killed() throws {
    let source = ModelFixture.named("mamba-tied/hf").path
    let options = ["--to", "hf", "--max-shard-size", "40kB"]
    #expect(try run([source, "whole"] + options).status == 0)
    #expect(try run([source, "out", "--part", "2/2"] + options).status == 0)
    let pieces = home.file(".out.weighbridge-parts")
    func begun() -> [String] { Files.names(in: pieces).filter { $0.hasPrefix(".part-00001") } }
    for signal in [SIGKILL, SIGTERM] {
      let before = begun()
      let part = try StalledConversion(
        [source, home.file("out"), "--part", "1/2"] + options, output: home.file("stdout"))
      wait("the part's temporary") {
        begun().contains {
          !before.contains($0) && !Files.names(in: "\(pieces)/\($0)").isEmpty
        }
      }
      kill(part.process.processIdentifier, signal)
      // It stands still until its progress is read; the signal is worked on meanwhile.
      if signal == SIGTERM { wait("the clean-up") { begun().isEmpty } }
      let error = part.finish()
      #expect(part.process.terminationReason == .uncaughtSignal)
      #expect(begun().isEmpty == (signal == SIGTERM))
      if signal == SIGTERM { #expect(error.contains("is removed")) }
      let finish = try run([source, "out", "--finish"] + options)
      #expect(finish.status == 2)
      #expect(finish.error.contains("part 1 of 2 is not there"))
      #expect(finish.error.contains("part 1 was begun") == (signal == SIGKILL))
      #expect(!Files.exists(home.file("out")))
    }
    Files.remove(home.file("stdout"))
    #expect(try run([source, "out", "--part", "1/2"] + options).status == 0)
    #expect(begun().isEmpty)
    #expect(try run([source, "out", "--finish"] + options).status == 0)
    #expect(contents(home.file("out")) == contents(home.file("whole")))
    #expect(hidden.isEmpty)
  }

  @Test("a part that is damaged is told, and replaced by the next run of it")
  func damaged() throws {
    let source = ModelFixture.named("samba-fla/fla").path
    let options = ["--to", "fla", "--max-shard-size", "300kB"]
    #expect(try run([source, "whole"] + options).status == 0)
    for number in 1...2 {
      #expect(try run([source, "out", "--part", "\(number)/2"] + options).status == 0)
    }
    let part = home.file(".out.weighbridge-parts/part-00002-of-00002")
    let file = try #require(Files.names(in: part).first { $0.hasPrefix("model-") })
    let good = Files.read("\(part)/\(file)")
    let faults: [([UInt8]) -> [UInt8]?] = [
      {
        var bytes = $0; bytes[bytes.count - 1] ^= 1; return bytes
      }, { Array($0.dropLast()) },
      { _ in nil },
    ]
    for (fault, words) in zip(faults, ["does not have the bytes", "were written", "is gone"]) {
      if let bytes = fault(good) {
        Files.write(bytes, to: "\(part)/\(file)")
      } else {
        Files.remove("\(part)/\(file)")
      }
      let finish = try run([source, "out", "--finish", "--json"] + options)
      #expect(finish.status == 2)
      #expect(try finish.problems().contains("part.damaged \(part)"))
      #expect(finish.error.contains(words) && finish.error.contains("--part 2/2"))
      #expect(!Files.exists(home.file("out")))
      let again = try run([source, "out", "--part", "2/2"] + options)
      #expect(again.status == 0)
      #expect(again.error.contains("warning[part.damaged]"))
      #expect(Files.read("\(part)/\(file)") == good)
    }
    #expect(try run([source, "out", "--finish"] + options).status == 0)
    #expect(contents(home.file("out")) == contents(home.file("whole")))
  }

  @Test("parts of another source or of other options are errors that name what differs")
  func mixed() throws {
    try Marked.mamba(1, at: home.file("model"))
    let options = ["--to", "hf", "--max-shard-size", "40kB"]
    #expect(try run(["model", "out", "--part", "1/2"] + options).status == 0)
    let place = home.file(".out.weighbridge-parts")
    for (other, words) in [
      (
        ["--part", "2/2", "--to", "hf", "--max-shard-size", "50kB"],
        "max_shard_size: 40000 there, 50000 here"
      ),
      (["--part", "2/2", "--dtype", "bfloat16"] + options, "dtype: null there, \"BF16\" here"),
      (["--part", "2/3"] + options, "in 2 parts, not in 3"),
      (["--finish", "--dtype", "bfloat16"] + options, "dtype: null there, \"BF16\" here"),
    ] {
      let run = try run(["model", "out", "--json"] + other)
      #expect(run.status == 2)
      #expect(try run.problems().contains("part.other \(place)"), "\(run.error)")
      #expect(run.error.contains(words), "\(run.error)")
    }
    // Of the same size: only its values differ.
    try Marked.set(2, of: "backbone.norm_f.weight", in: home.file("model/model.safetensors"))
    for share in [["--part", "2/2"], ["--finish"]] {
      let run = try run(["model", "out", "--json"] + share + options)
      #expect(run.status == 2)
      #expect(try run.problems().contains("part.source-changed \(place)"))
      #expect(run.error.contains("model.safetensors has other bytes"))
      #expect(run.error.contains("remove \(place) to begin anew"))
    }
    try Marked.set(1, of: "backbone.norm_f.weight", in: home.file("model/model.safetensors"))
    let touched = try run(["model", "out", "--part", "2/2"] + options)
    #expect(touched.status == 2)
    #expect(touched.error.contains("model.safetensors was written to: its time has changed"))
    #expect(!Files.exists(home.file("out")))
    // A config that says something else.
    Files.remove(place)
    #expect(try run(["model", "out", "--part", "1/2"] + options).status == 0)
    var config = String(decoding: Files.read(home.file("model/config.json")), as: UTF8.self)
    config = config.replacingOccurrences(of: "1e-05", with: "1e-06")
    Files.write(config, to: home.file("model/config.json"))
    let other = try run(["model", "out", "--part", "2/2"] + options)
    #expect(other.status == 2)
    #expect(other.error.contains("the source's config or the layouts have changed"))
  }

  @Test("what is one file is refused by name")
  func oneFile() throws {
    let source = ModelFixture.named("mamba-tied/hf").path
    for (options, code) in [
      (["--to", "hf"], "part.one-file model.safetensors"),
      (["--to", "mamba_ssm"], "part.one-file pytorch_model.bin"),
      (["--to", "hf", "--container", "dcp"], "part.one-file .metadata"),
      (["--to", "hf", "--container", "hdf5"], "part.container hdf5"),
      (["--to", "hf", "--container", "npz"], "part.container npz"),
      (["--to", "gguf", "--max-shard-size", "40kB"], "part.container gguf"),
    ] {
      let run = try run([source, "out", "--part", "1/2", "--json"] + options)
      #expect(run.status == 2)
      #expect(try run.problems().contains(code), "\(options): \(run.error)")
      #expect(Files.names(in: home.path).isEmpty)
    }
    // One part of one is the whole.
    #expect(try run([source, "out", "--part", "1/1", "--to", "hf"]).status == 0)
    #expect(try run([source, "out", "--finish", "--to", "hf"]).status == 0)
    #expect(try run([source, "whole", "--to", "hf"]).status == 0)
    #expect(contents(home.file("out")) == contents(home.file("whole")))
  }

  @Test("a destination that exists is told before a part is written, and --force replaces it")
  func existing() throws {
    let source = ModelFixture.named("samba-fla/fla").path
    let options = ["--to", "fla", "--max-shard-size", "300kB"]
    #expect(try run([source, "out", "--to", "fla", "--sha256"]).status == 0)
    let old = contents(home.file("out"))
    let part = try run([source, "out", "--part", "1/1", "--json"] + options)
    #expect(part.status == 2)
    #expect(try part.problems().contains("output.exists out"))
    #expect(hidden.isEmpty)
    #expect(try run([source, "out", "--part", "1/1", "--force"] + options).status == 0)
    #expect(contents(home.file("out")) == old)
    #expect(try run([source, "out", "--finish"] + options).status == 2)
    #expect(contents(home.file("out")) == old)
    #expect(try run([source, "out", "--finish", "--force"] + options).status == 0)
    #expect(hidden.isEmpty)
    #expect(Files.names(in: home.file("out")).filter { $0.hasPrefix("model") }.count == 6)
    #expect(try StoredCheckpoint(home.file("out")).tensors.count == 49)
  }

  @Test("a finish that was ended before it removed the parts is finished by the next")
  func published() throws {
    let source = ModelFixture.named("samba-fla/fla").path
    let options = ["--to", "fla", "--max-shard-size", "300kB"]
    for number in 1...2 {
      #expect(try run([source, "out", "--part", "\(number)/2"] + options).status == 0)
    }
    let pieces = home.file(".out.weighbridge-parts")
    Files.makeDirectory(home.file("kept"))
    for name in Files.names(in: pieces) where name != "conversion.json" {
      Marked.copy("\(pieces)/\(name)", to: home.file("kept/\(name)"))
    }
    let head = Files.read("\(pieces)/conversion.json")
    #expect(try run([source, "out", "--finish"] + options).status == 0)
    let made = contents(home.file("out"))
    Files.makeDirectory(pieces)
    for name in Files.names(in: home.file("kept")) {
      Marked.copy(home.file("kept/\(name)"), to: "\(pieces)/\(name)")
    }
    Files.write(head, to: "\(pieces)/conversion.json")
    Files.write("mine", to: "\(pieces)/notes.txt")
    let again = try run([source, "out", "--finish"] + options)
    #expect(again.status == 0, "\(again.error)")
    #expect(again.output.contains("by an earlier run"))
    #expect(contents(home.file("out")) == made)
    // What no part has written stays.
    #expect(again.error.contains("warning[part.leftover]"))
    #expect(Files.names(in: pieces) == ["notes.txt"])
  }

  @Test(
    "values that a type cannot hold are refused by the part, and told by --finish with --allow-lossy"
  )
  func casts() throws {
    try Marked.mamba(70_000, at: home.file("model"))
    let options = ["--to", "hf", "--max-shard-size", "40kB", "--dtype", "float16"]
    let runs = try (1...2).map {
      try run(["model", "out", "--part", "\($0)/2", "--json"] + options)
    }
    #expect(runs.map(\.status).sorted() == [0, 1])
    let refused = try #require(runs.first { $0.status == 1 })
    #expect(try refused.problems() == ["convert.overflow backbone.norm_f.weight"])
    let number = runs[0].status == 1 ? 1 : 2
    #expect(
      try run(["model", "out", "--part", "\(number)/2", "--allow-lossy"] + options).status == 0)
    #expect(try run(["model", "out", "--finish"] + options).status == 1)
    let finish = try run(["model", "out", "--finish", "--allow-lossy", "--json"] + options)
    #expect(finish.status == 0)
    #expect(try finish.document()["exactness"]?.string == "lossy")
    #expect(try finish.problems().contains("convert.overflow backbone.norm_f.weight"))
  }
}
