import Foundation
import TestSupport
import Tensors
import Testing

/// Many shards, and few descriptors.
@Suite("Many shards", .tags(.slow))
struct ManyShardsTests {
  let home = TemporaryDirectory()

  /// Runs the tool with limits of open files.
  func limited(_ limits: String, _ arguments: String...) throws -> ToolRun {
    let quoted = ([BuiltTool.path] + arguments).map { "'\($0)'" }.joined(separator: " ")
    return try BuiltTool.run(["-c", "\(limits) && exec \(quoted)"], tool: "/bin/sh")
  }

  @Test(
    "more shards than descriptors are read and converted, with a raised limit and without",
    arguments: ["ulimit -Sn 64", "ulimit -n 48"])
  func manyShards(limits: String) throws {
    let fixture = ModelFixture.named("mamba-tied/hf").path
    let shards = home.file("shards")
    let made = try BuiltTool.run(
      "convert", fixture, home.file("whole"), "--to", "hf", "--no-fsync")
    #expect(made.status == 0)
    // One tensor in each shard.
    let split = try BuiltTool.run(
      "convert", fixture, shards, "--to", "hf", "--max-shard-size", "1", "--no-fsync")
    #expect(split.status == 0)
    let count = Files.names(in: shards).filter { $0.hasSuffix(".safetensors") }.count
    #expect(count > 30)
    let run = try limited(
      limits, "convert", shards, home.file("out"), "--to", "hf", "--no-fsync")
    #expect(run.status == 0, "\(run.error)")
    #expect(
      Files.read(home.file("out/model.safetensors"))
        == Files.read(home.file("whole/model.safetensors")))
  }

  @Test("hundreds of shards under a low hard limit are listed", arguments: [40, 300])
  func hundreds(limit: Int) throws {
    var map: [String] = []
    for number in 1...200 {
      var builder = SafetensorsBuilder()
      builder.add("t.\(number)", [1], [Float(number)])
      Files.write(builder.bytes, to: home.file("s\(number).safetensors"))
      map.append("\"t.\(number)\":\"s\(number).safetensors\"")
    }
    Files.write(
      "{\"metadata\":{},\"weight_map\":{\(map.joined(separator: ","))}}",
      to: home.file("model.safetensors.index.json"))
    let run = try limited("ulimit -n \(limit)", "inspect", home.path, "--json", "--stats")
    let tensors = try run.document()["tensors"]?.array ?? []
    #expect(tensors.count == 200, "\(run.error)")
    #expect(
      tensors.allSatisfy { tensor in
        tensor["name"]?.string == tensor["max"]?.double.map { "t.\(Int($0))" }
      })
    #expect(!run.error.contains("Too many open files"))
  }

  @Test("when not even a few files can be opened, one message names ulimit")
  func none() throws {
    let fixture = ModelFixture.named("mamba-tied/hf").path
    let run = try limited(
      "ulimit -n 24", "convert", fixture, home.file("out"), "--to", "hf", "--max-shard-size", "1",
      "--no-fsync")
    #expect(run.status == 2)
    #expect(run.error.contains("error[io.descriptors]: "), "\(run.error)")
    #expect(run.error.contains("ulimit -n"))
    #expect(run.error.split(separator: "\n").count < 6)
    #expect(!Files.exists(home.file("out")))
  }

  @Test(
    "under a handful of descriptors a run ends with one message and leaves nothing, or succeeds",
    arguments: [8, 12, 16, 18, 20, 24])
  func handful(limit: Int) throws {
    let shards = home.file("shards")
    let split = try BuiltTool.run(
      "convert", ModelFixture.named("mamba-tied/hf").path, shards, "--to", "hf",
      "--max-shard-size", "1", "--no-fsync")
    #expect(split.status == 0)
    let before = Files.names(in: home.path)
    let run = try limited(
      "ulimit -n \(limit)", "convert", shards, home.file("out"), "--to", "hf", "--no-fsync")
    let left = Files.names(in: home.path).filter { !before.contains($0) }
    if run.status == 0 {
      #expect(limit > 12)
      #expect(left == ["out"])
    } else {
      #expect(run.status == 2, "\(run.error)")
      #expect(run.error.hasPrefix("error[io.descriptors]: "), "\(run.error)")
      #expect(run.error.components(separatedBy: "error[").count == 2)
      #expect(left == [])
    }
  }
}
