import Checkpoints
import Conversion
import Hub
import Synchronization
import TestSupport
import Tensors
import Testing
import WeighbridgeKit

@Suite("Faults while converting")
struct FaultTests {
  let home = TemporaryDirectory()

  /// A copy of a fixture that may be spoilt.
  func copy(_ name: String) -> String {
    let path = home.file("source")
    let fixture = ModelFixture.named(name).path
    Files.makeDirectory(path)
    for name in Files.names(in: fixture) {
      Files.write(Files.read("\(fixture)/\(name)"), to: "\(path)/\(name)")
    }
    return path
  }

  func request(_ source: String, _ name: String = "out") -> ConversionRequest {
    var request = ConversionRequest(
      input: CheckpointInput(path: source), destination: home.file(name), to: "mamba_ssm")
    request.container = .safetensors
    request.sync = false
    return request
  }

  @Test(
    "a source that changes while it is read is noticed, and nothing is left",
    arguments: ["written", "cut", "replaced", "removed"])
  func changing(how: String) {
    let source = copy("mamba-tied/hf")
    let weights = source + "/model.safetensors"
    let once = Once()
    let change: @Sendable (Executor.Progress) -> Void = { _ in
      guard once.isFirst else { return }
      let bytes = Files.read(weights)
      switch how {
      case "written": Files.write(bytes + [0], to: weights)
      case "cut": Files.write(Array(bytes.prefix(bytes.count / 2)), to: weights)
      case "replaced":
        Files.remove(weights)
        Files.write(bytes, to: weights)
      default: Files.remove(weights)
      }
    }
    let problems = failure { _ = try weighbridge.convert(request(source), progress: change) }
    #expect(problems.map(\.code) == ["io.changed"])
    #expect(problems.first?.subject == weights)
    #expect(Files.names(in: home.path) == ["source"])
  }

  @Test("an interrupted conversion of several shards goes on where it was, and ends the same")
  func resume() throws {
    let source = ModelFixture.named("mamba-tied/hf").path
    var whole = request(source, "whole")
    whole.maxShardBytes = 60_000
    whole.writesDigests = true
    let expected = try weighbridge.convert(whole)
    #expect(expected.outputs.count > 4)

    var request = request(source)
    request.maxShardBytes = 60_000
    request.writesDigests = true
    request.resumes = true
    let temporary = try interrupt(request)
    let journal = Files.text(temporary + "/.weighbridge-journal")
    #expect(journal.split(separator: "\n").count == 2)

    let result = try weighbridge.convert(request)
    #expect(result.problems.map(\.code) == ["resume.kept"])
    #expect(Files.names(in: home.path) == ["out", "whole"])
    let names = Files.names(in: home.file("whole"))
    #expect(Files.names(in: home.file("out")) == names)
    for name in names {
      #expect(
        Files.read(home.file("out/\(name)")) == Files.read(home.file("whole/\(name)")), "\(name)")
    }
    #expect(try weighbridge.check(home.file("out")).problems == [])
  }

  @Test("a finished shard is not trusted: one changed bit and it is written again")
  func damaged() throws {
    var request = request(ModelFixture.named("mamba-tied/hf").path)
    request.maxShardBytes = 60_000
    request.resumes = true
    let temporary = try interrupt(request)
    let shard = try #require(
      Files.names(in: temporary).first { $0.hasPrefix("model-00001") || $0.contains("-00001-of-") })
    var bytes = Files.read("\(temporary)/\(shard)")
    let good = bytes
    bytes[bytes.count / 2] ^= 1
    Files.write(bytes, to: "\(temporary)/\(shard)")
    let result = try weighbridge.convert(request)
    #expect(result.problems.map(\.code) == ["resume.damaged"])
    #expect(Files.read(home.file("out/\(shard)")) == good)
  }

  @Test("what another conversion left is not continued, and a run without resume removes it")
  func other() throws {
    var request = request(ModelFixture.named("mamba-tied/hf").path)
    request.maxShardBytes = 60_000
    request.resumes = true
    _ = try interrupt(request)
    request.dtype = .bf16
    let result = try weighbridge.convert(request)
    #expect(result.problems.map(\.code).contains("resume.other"))
    #expect(!result.problems.map(\.code).contains("resume.kept"))
    Files.remove(home.file("out"))

    request.dtype = nil
    let temporary = try interrupt(request)
    request.resumes = false
    #expect(try weighbridge.convert(request).problems.map(\.code) == ["output.leftover"])
    #expect(!Files.exists(temporary))
  }

  @Test("a damaged journal costs work, never a wrong result")
  func journal() throws {
    var request = request(ModelFixture.named("mamba-tied/hf").path)
    request.maxShardBytes = 60_000
    request.resumes = true
    let temporary = try interrupt(request)
    let names = Files.names(in: temporary)
    let kept = names.map { Files.read("\(temporary)/\($0)") }
    let expected = try written(request)
    let journal = try #require(names.firstIndex(of: ".weighbridge-journal"))
    let length = kept[journal].count
    for at in Array(stride(from: 0, to: length, by: 9)) + [length - 1] {
      for change in ["flipped", "cut"] {
        Files.makeDirectory(temporary)
        for (name, bytes) in zip(names, kept) { Files.write(bytes, to: "\(temporary)/\(name)") }
        var bytes = kept[journal]
        if change == "flipped" { bytes[at] ^= 1 } else { bytes.removeSubrange(at...) }
        Files.write(bytes, to: "\(temporary)/\(names[journal])")
        #expect(try written(request) == expected, "\(change) at byte \(at)")
      }
    }
  }

  /// Converts, and takes away what was written.
  private func written(_ request: ConversionRequest) throws -> [String: [UInt8]] {
    _ = try weighbridge.convert(request)
    defer { Files.remove(home.file("out")) }
    return Dictionary(
      uniqueKeysWithValues: Files.names(in: home.file("out")).map {
        ($0, Files.read(home.file("out/\($0)")))
      })
  }

  @Test(
    "a folder in the temporary, which no run writes, is neither removed nor made part of the result"
  )
  func strayFolder() throws {
    var request = request(ModelFixture.named("mamba-tied/hf").path)
    request.maxShardBytes = 60_000
    request.resumes = true
    let temporary = try interrupt(request)
    Files.makeDirectory(temporary + "/runs")
    Files.write("x", to: temporary + "/runs/log")
    let found = failure { _ = try weighbridge.convert(request) }
    #expect(found.map(\.code) == ["resume.foreign"])
    #expect(found.first?.subject == temporary + "/runs")
    #expect(Files.read(temporary + "/runs/log") == Array("x".utf8))
    Files.remove(temporary + "/runs")
    #expect(try weighbridge.convert(request).problems.map(\.code) == ["resume.kept"])
    #expect(!Files.exists(home.file("out/runs")))
  }

  @Test("a tokenizer that is a link out of the source's directory is told of and not copied")
  func linkedTokenizer() throws {
    let source = copy("mamba-tied/hf")
    Files.write("secret", to: home.file("secret"))
    Files.write("{}", to: source + "/words")
    Files.link(source + "/tokenizer.json", to: "../secret")
    Files.link(source + "/vocab.json", to: "words")
    let result = try weighbridge.convert(request(source))
    #expect(result.problems.map(\.code) == ["checkpoint.linked-file"])
    #expect(result.problems[0].subject == source + "/tokenizer.json")
    let names = Files.names(in: home.file("out"))
    #expect(names.contains("vocab.json") && !names.contains("tokenizer.json"))
  }

  @Test("nothing that was read is replaced: the config given, a layout file")
  func sources() throws {
    let source = copy("mamba-tied/hf")
    func code(_ request: ConversionRequest, layouts: [String] = []) -> [String] {
      failure { _ = try Weighbridge(layoutFiles: layouts).convert(request) }.map(\.code)
    }
    var request = request(source)
    request.force = true
    #expect(code(request) == [])
    Files.write(Files.read(source + "/config.json"), to: home.file("out/mine.json"))
    request.input.configPath = home.file("out/mine.json")
    #expect(code(request) == ["output.contains-source"])
    request.input.configPath = nil
    let layout = Files.text(Fixtures.repository + "/formats/mamba2-hf.yaml")
    Files.write(
      layout.replacing("layout: mamba2-hf", with: "layout: mine"), to: home.file("out/mine.yaml"))
    #expect(code(request, layouts: [home.file("out/mine.yaml")]) == ["output.contains-source"])
    #expect(code(request) == [])
    // No conversion wrote it, so it stays.
    #expect(
      Files.read(home.file("out/mine.json")) == Files.read(source + "/config.json"))
  }

  /// Lets a conversion fail after its first shard.
  ///
  /// - Returns: the temporary that it kept.
  func interrupt(_ request: ConversionRequest) throws -> String {
    let temporary = home.file(".out.weighbridge-resume.partial")
    let once = Once()
    // A file in the second shard's place stops the run like a disk that fails.
    let block: @Sendable (Executor.Progress) -> Void = { _ in
      let names = Files.names(in: temporary)
      guard once.isFirst, let first = names.first(where: { $0.contains("-00001-of-") }) else {
        return
      }
      let parts = first.split(separator: "-00001-of-")
      Files.write("", to: "\(temporary)/\(parts[0])-00002-of-\(parts[1])")
    }
    let problems = failure { _ = try weighbridge.convert(request, progress: block) }
    #expect(problems.map(\.code) == ["io.write"])
    #expect(Files.exists(temporary) && !Files.exists(home.file("out")))
    return temporary
  }
}

/// Says once that it is the first time.
final class Once: Sendable {
  private let isUsed = Atomic(false)
  var isFirst: Bool { !isUsed.exchange(true, ordering: .relaxed) }
}

@Suite("Digests")
struct CheckTests {
  let home = TemporaryDirectory()

  func convert(
    _ container: Container = .safetensors, shards: Int? = nil
  ) throws -> String {
    var request = ConversionRequest(
      input: CheckpointInput(path: ModelFixture.named("samba-fla/fla").path),
      destination: home.file("out"), to: "fla")
    request.container = container
    request.maxShardBytes = shards
    request.writesDigests = true
    request.sync = false
    _ = try weighbridge.convert(request)
    return home.file("out")
  }

  @Test(
    "what was written passes", arguments: [Container.safetensors, .pytorch, .hdf5],
    [nil, 300_000])
  func passes(container: Container, shards: Int?) throws {
    let path = try convert(container, shards: shards)
    let result = try weighbridge.check(path)
    #expect(result.passes && result.problems == [])
    let manifest = try #require(result.manifest)
    #expect(manifest.tool == Weighbridge.version && manifest.exactness == "bitwise")
    let checkpoint = try StoredCheckpoint(path)
    #expect(Set(manifest.tensors.map(\.name.string)) == Set(checkpoint.tensors.keys))
    #expect(manifest.sources.map(\.name) == ["model.safetensors", "config.json"])
    #expect(manifest.plan.utf8.count == 64)
  }

  @Test("every flipped bit is found: in the tensors by the tensor's name, elsewhere by the file's")
  func flips() throws {
    let path = try convert()
    let weights = path + "/model.safetensors"
    let good = Files.read(weights)
    let source = try openCheckpoint(at: weights)
    var random = SeededRandom(5)
    for number in stride(from: 0, to: source.tensors.count, by: 7) {
      let tensor = source.tensors[number]
      let start = try #require(tensor.extent?.offset)
      var bytes = good
      let at = start + Int.random(in: 0..<tensor.byteCount, using: &random)
      bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &random)
      Files.write(bytes, to: weights)
      let result = try weighbridge.check(path)
      #expect(!result.passes)
      #expect(result.badTensors == [tensor.name.string])
      #expect(result.badFiles == ["model.safetensors"])
    }
    Files.write(good, to: weights)
    for name in ["config.json", "weighbridge.json"] {
      let good = Files.read("\(path)/\(name)")
      for at in stride(from: 0, to: good.count, by: max(1, good.count / 40)) {
        var bytes = good
        bytes[at] ^= 4
        Files.write(bytes, to: "\(path)/\(name)")
        let result = try weighbridge.check(path)
        #expect(!result.passes, "byte \(at) of \(name)")
        #expect(result.problems.first?.subject == "\(path)/\(name)")
      }
      Files.write(good, to: "\(path)/\(name)")
    }
    #expect(try weighbridge.check(path).passes)
  }

  @Test("every truncation and every flipped byte of weighbridge.json is found")
  func manifest() throws {
    let path = try convert()
    let whole = try WrittenManifest(parsing: Files.read(path + "/weighbridge.json"), path: path)
    // Short, so that each of its bytes has its turn.
    var manifest = whole
    manifest.tensors = Array(manifest.tensors.prefix(2))
    let good = Array(manifest.text.utf8)
    #expect(try WrittenManifest(parsing: good, path: path) == manifest)
    func code(_ bytes: [UInt8]) -> String? {
      do throws(Diagnostic) {
        _ = try WrittenManifest(parsing: bytes, path: path)
        return nil
      } catch { return error.code }
    }
    for count in 0..<good.count {
      #expect(code(Array(good[..<count])) == "check.manifest", "\(count) bytes")
    }
    for at in good.indices {
      for bit in 0..<8 {
        var bytes = good
        bytes[at] ^= 1 << UInt8(bit)
        #expect(code(bytes) == "check.manifest", "bit \(bit) of byte \(at)")
      }
    }
  }

  @Test("a manifest that somebody made up is an error, whatever it claims")
  func forged() throws {
    let path = try convert()
    let manifest = try WrittenManifest(parsing: Files.read(path + "/weighbridge.json"), path: path)
    func code(_ change: (inout WrittenManifest) -> Void) throws -> String? {
      var forged = manifest
      change(&forged)
      Files.write(forged.text, to: path + "/weighbridge.json")
      var weighbridge = weighbridge
      weighbridge.progress = { _ in }
      let result = try weighbridge.check(path)
      #expect(!result.passes)
      return result.problems.first { $0.severity == .error }?.code
    }
    for bytes in [.max, .min, -1, .max / 2 + 1] as [Int] {
      #expect(try code { $0.files[0].byteCount = bytes } == "check.manifest", "\(bytes)")
    }
    #expect(try code { $0.files[0].byteCount = 1 << 60 } == "check.size")
    #expect(try code { $0.sources[0].byteCount = .max } == "check.manifest")
    #expect(try code { $0.sources[0].byteCount = -1 } == "check.manifest")
    #expect(try code { $0.files[0].name = "../config.json" } == "check.manifest")
    #expect(try code { $0.weights = "/etc/passwd" } == "check.manifest")
    #expect(try code { $0.files.append($0.files[0]) } == "check.manifest")
    #expect(try code { $0.tensors.append($0.tensors[0]) } == "check.manifest")
    #expect(try code { $0.tensors[0].shape = [-1, .max] } == "check.tensor")
    #expect(try code { $0.tensors.removeLast() } == "check.tensor")
    #expect(try code { $0.weights = "weighbridge.json" } == "container.text")
  }

  @Test("a file that is gone, cut or new is told of")
  func files() throws {
    let path = try convert(shards: 300_000)
    let shard = try #require(Files.names(in: path).first { $0.contains("-00002-") })
    Files.write("x", to: path + "/notes.txt")
    var result = try weighbridge.check(path)
    #expect(result.passes && result.problems.map(\.code) == ["check.unlisted"])
    let bytes = Files.read("\(path)/\(shard)")
    Files.write(Array(bytes.dropLast()), to: "\(path)/\(shard)")
    result = try weighbridge.check(path)
    #expect(!result.passes && result.badFiles == [shard])
    #expect(result.problems[0].code == "check.size")
    Files.remove("\(path)/\(shard)")
    result = try weighbridge.check(path)
    #expect(!result.passes && result.problems[0].code == "check.missing")
    Files.remove(path + "/weighbridge.json")
    #expect(throws: Diagnostic.self) { try weighbridge.check(path) }
  }
}
