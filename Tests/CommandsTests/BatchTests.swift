import Checkpoints
import Foundation
import TestSupport
import Tensors
import Testing

/// A copy of a fixture in which one value tells it from others.
enum Marked {
  /// Writes `value` as the first of `tensor` of the safetensors file at `path`.
  static func set(_ value: Float, of tensor: String, in path: String) throws {
    let source = try openCheckpoint(at: path)
    let info = try #require(source.tensors.first { $0.name.string == tensor })
    let place = try #require(info.extent?.offset)
    var bytes = Files.read(path)
    for byte in 0..<4 {
      bytes[place + byte] = UInt8(truncatingIfNeeded: value.bitPattern >> (byte * 8))
    }
    Files.write(bytes, to: path)
  }

  /// Copies the files of a directory.
  static func copy(_ from: String, to: String) {
    Files.makeDirectory(to)
    for name in Files.names(in: from) {
      Files.write(Files.read("\(from)/\(name)"), to: "\(to)/\(name)")
    }
  }

  /// A copy of the fixture mamba-bias-untied/hf whose final norm begins with `value`.
  static func mamba(_ value: Float, at path: String) throws {
    copy(ModelFixture.named("mamba-bias-untied/hf").path, to: path)
    try set(value, of: "backbone.norm_f.weight", in: path + "/model.safetensors")
  }
}

/// A file's number and time, which change when it is written anew.
func fileState(_ path: String) throws -> [String] {
  let values = try FileManager.default.attributesOfItem(atPath: path)
  return [FileAttributeKey.systemFileNumber, .modificationDate, .size].map { "\(values[$0] ?? "")" }
}

/// The bytes of every file below a directory, by name.
func contents(_ directory: String) -> [String: [UInt8]] {
  Dictionary(
    uniqueKeysWithValues: Files.names(in: directory).map { ($0, Files.read("\(directory)/\($0)")) })
}

@Suite("Many conversions")
struct BatchTests {
  let home = TemporaryDirectory()

  private func run(_ arguments: String...) throws -> ToolRun {
    try BuiltTool.run(["convert"] + arguments + ["--no-fsync"], in: home.path)
  }

  private func statuses(_ run: ToolRun) throws -> [String] {
    try #require(try run.document()["conversions"]?.array).map {
      "\($0["source"]?.string ?? "?") \($0["status"]?.string ?? "?")"
    }
  }

  @Test(
    "forty checkpoints, one of them damaged: the others are converted, and skipped the next time")
  func forty() throws {
    for folder in ["run", "run/checkpoint"] { Files.makeDirectory(home.file(folder)) }
    for step in 1...40 {
      try Marked.mamba(Float(step), at: home.file("run/checkpoint/step-\(step)"))
    }
    let damaged = home.file("run/checkpoint/step-17/model.safetensors")
    Files.write(Array(Files.read(damaged).dropLast(1000)), to: damaged)

    let first = try run("run/checkpoint/step-*", "out", "--to", "mamba_ssm")
    #expect(first.status == 2)
    let lines = first.output.split(separator: "\n").map(String.init)
    #expect(lines.count == 41)
    for step in 1...40 {
      let place = "run/checkpoint/step-\(step)"
      #expect(
        step == 17
          ? lines[16] == "failed     \(place): safetensors.truncated"
          : lines[step - 1].hasPrefix(
            "converted  \(place) -> out/step-\(step): bitwise, 27 tensors"))
    }
    #expect(lines[40] == "40 sources: 39 converted, 1 failed")
    #expect(first.error.contains("error[safetensors.truncated]: run/checkpoint/step-17/"))
    #expect(!first.error.contains("note["))
    let expected = (1...40).filter { $0 != 17 }.map { "step-\($0)" }.sorted()
    #expect(Files.names(in: home.file("out")) == expected)
    let original = try StoredCheckpoint(ModelFixture.named("mamba-bias-untied/hf").path)
    for step in (1...40) where step != 17 {
      let made = try StoredCheckpoint(home.file("out/step-\(step)"))
      let norm = made["backbone.norm_f.weight"].values
      #expect(norm[0] == Float(step))
      #expect(norm.dropFirst() == original["backbone.norm_f.weight"].values.dropFirst())
      #expect(
        made["backbone.layers.1.mixer.in_proj.weight"]
          == original["backbone.layers.1.mixer.in_proj.weight"])
    }

    let before = try fileState(home.file("out/step-5/pytorch_model.bin"))
    let second = try run("run/checkpoint/step-*", "out", "--to", "mamba_ssm", "--json")
    #expect(second.status == 2)
    #expect(
      try statuses(second)
        == (1...40).map { "run/checkpoint/step-\($0) \($0 == 17 ? "failed" : "skipped")" })
    #expect(try second.document()["skipped"] == 39)
    #expect(try second.document()["failed"] == 1)
    #expect(
      try second.problems().filter { $0.hasPrefix("safetensors.") } == [
        "safetensors.truncated run/checkpoint/step-17/model.safetensors"
      ])
    #expect(try fileState(home.file("out/step-5/pytorch_model.bin")) == before)
  }

  @Test("only the same bytes and the same options are done already")
  func changes() throws {
    for step in [1, 2] { try Marked.mamba(Float(step), at: home.file("step-\(step)")) }
    #expect(try run("step-*", "out", "--to", "mamba_ssm").status == 0)
    // Another value, another type.
    try Marked.set(7, of: "backbone.norm_f.weight", in: home.file("step-2/model.safetensors"))
    let changed = try run("step-*", "out", "--to", "mamba_ssm", "--json")
    #expect(changed.status == 2)
    #expect(try statuses(changed) == ["step-1 skipped", "step-2 failed"])
    #expect(try changed.problems() == ["convert.other-there out/step-2"])
    #expect(changed.error.contains("it was made from other bytes of model.safetensors"))
    let options = try run("step-1", "step-2", "out", "--to", "mamba_ssm", "--dtype", "bfloat16")
    #expect(options.status == 2)
    #expect(
      options.error.contains(
        "out/step-1: holds another conversion: dtype was null, and is \"BF16\""))
    #expect(try StoredCheckpoint(home.file("out/step-2"))["backbone.norm_f.weight"].values[0] == 2)

    let forced = try run("step-*", "out", "--to", "mamba_ssm", "--force", "--json")
    #expect(forced.status == 0)
    #expect(try statuses(forced) == ["step-1 skipped", "step-2 converted"])
    #expect(try StoredCheckpoint(home.file("out/step-2"))["backbone.norm_f.weight"].values[0] == 7)

    // What was written is damaged.
    let file = home.file("out/step-1/pytorch_model.bin")
    var bytes = Files.read(file)
    bytes[bytes.count / 2] ^= 1
    Files.write(bytes, to: file)
    let damaged = try run("step-*", "out", "--to", "mamba_ssm", "--json")
    #expect(damaged.status == 2)
    #expect(try statuses(damaged) == ["step-1 failed", "step-2 skipped"])
    #expect(try damaged.problems().contains("check.digest out/step-1/pytorch_model.bin"))
    #expect(try run("step-*", "out", "--to", "mamba_ssm", "--force").status == 0)
    #expect(try StoredCheckpoint(home.file("out/step-1"))["backbone.norm_f.weight"].values[0] == 1)
  }

  @Test("a directory without weighbridge.json is never taken for done")
  func unknown() throws {
    try Marked.mamba(1, at: home.file("step-1"))
    try Marked.mamba(2, at: home.file("step-2"))
    #expect(try run("step-1", "out/step-1", "--to", "mamba_ssm").status == 0)
    let again = try run("step-*", "out", "--to", "mamba_ssm", "--json")
    #expect(again.status == 2)
    #expect(try statuses(again) == ["step-1 failed", "step-2 converted"])
    #expect(try again.problems().contains("output.exists out/step-1"))
    // One by itself leaves the digests when told to, and counts.
    Files.remove(home.file("out/step-1"))
    #expect(try run("step-1", "out/step-1", "--to", "mamba_ssm", "--sha256").status == 0)
    #expect(
      try statuses(run("step-*", "out", "--to", "mamba_ssm", "--json")) == [
        "step-1 skipped", "step-2 skipped",
      ])
  }

  @Test("refusals alone are 1, and a failure beside them is 2")
  func status() throws {
    Files.link(home.file("samba"), to: ModelFixture.named("samba-fla/fla").path)
    Files.link(home.file("retnet"), to: ModelFixture.named("retnet-torchscale/torchscale").path)
    let refused = try run("samba", "retnet", "out", "--to", "torchscale", "--json")
    #expect(refused.status == 1)
    #expect(try statuses(refused) == ["samba refused", "retnet converted"])
    let failed = try run("samba", "nothing", "retnet", "out", "--to", "torchscale", "--json")
    #expect(failed.status == 2)
    #expect(try statuses(failed) == ["samba refused", "nothing failed", "retnet skipped"])
    #expect(try failed.problems().contains("checkpoint.not-found nothing"))
    let empty = try run("none-*", "retnet", "out", "--to", "torchscale", "--json")
    #expect(empty.status == 2)
    #expect(try statuses(empty) == ["none-* failed", "retnet skipped"])
    #expect(try empty.problems().contains("convert.no-match none-*"))
  }

  @Test("names are the sources', without a file's ending; two of one name are errors")
  func names() throws {
    for folder in ["a", "b", "files"] { Files.makeDirectory(home.file(folder)) }
    try Marked.mamba(1, at: home.file("a/model"))
    try Marked.mamba(2, at: home.file("b/model"))
    try Marked.mamba(3, at: home.file("b/other"))
    let same = try run("a/model", "b/model/", "b/other", "out", "--to", "hf", "--json")
    #expect(same.status == 2)
    #expect(try statuses(same) == ["a/model failed", "b/model/ failed", "b/other converted"])
    #expect(
      try same.problems().filter { $0.hasPrefix("convert.same-name") } == [
        "convert.same-name a/model", "convert.same-name b/model/",
      ])
    #expect(Files.names(in: home.file("out")) == ["other"])
    // Files, and the destination among what the pattern finds.
    for (name, value) in [("iter-9", Float(9)), ("iter-10", Float(10))] {
      try Marked.mamba(value, at: home.file("made"))
      Files.write(
        Files.read(home.file("made/model.safetensors")), to: home.file("files/\(name).safetensors"))
      Files.remove(home.file("made"))
    }
    let config = ModelFixture.named("mamba-bias-untied/hf").path + "/config.json"
    Files.makeDirectory(home.file("files/iter-out"))
    Files.link(home.file("files/iter-latest"), to: "iter-10.safetensors")
    let files = try run(
      "files/iter-*", "files/iter-out", "--to", "hf", "--config", config, "--json")
    #expect(files.status == 0, "\(files.error)")
    #expect(
      try statuses(files) == [
        "files/iter-9.safetensors converted", "files/iter-10.safetensors converted",
      ])
    #expect(
      try files.problems().filter { $0.hasPrefix("convert.") } == [
        "convert.same-source files/iter-latest", "convert.destination-matched files/iter-out",
      ])
    #expect(Files.names(in: home.file("files/iter-out")) == ["iter-10", "iter-9"])
    #expect(
      try StoredCheckpoint(home.file("files/iter-out/iter-10"))["backbone.norm_f.weight"].values[0]
        == 10)
  }

  @Test("--dry-run tells what would be done and writes nothing")
  func dryRun() throws {
    for step in [1, 2] { try Marked.mamba(Float(step), at: home.file("step-\(step)")) }
    #expect(try run("step-1", "out/step-1", "--to", "hf", "--sha256").status == 0)
    let dry = try run("step-*", "out", "--to", "hf", "--dry-run", "--json")
    #expect(dry.status == 0)
    #expect(try statuses(dry) == ["step-1 skipped", "step-2 planned"])
    #expect(Files.names(in: home.file("out")) == ["step-1"])
  }

  @Test("options that do not go together are usage errors")
  func usage() throws {
    for arguments in [
      ["a"], ["a*", "out", "--part", "1/2"], ["a", "b", "out", "--finish"],
      ["a", "out", "--part", "1/2", "--finish"], ["a", "out", "--part", "0/2"],
      ["a", "out", "--part", "3/2"], ["a", "out", "--part", "1"], ["a", "out", "--part", "+1/2"],
      ["a", "out", "--until-idle", "3"], ["a", "out", "--watch", "--until-idle", "0"],
      ["a", "out", "--watch", "--dry-run"], ["a", "out", "--part", "1/2", "--resume"],
    ] {
      let run = try BuiltTool.run(["convert"] + arguments + ["--to", "hf"], in: home.path)
      #expect(run.status == 64, "\(arguments): \(run.status)")
    }
    #expect(Files.names(in: home.path).isEmpty)
  }
}
