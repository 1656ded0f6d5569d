import Foundation
import TestSupport
import Tensors
import Testing

/// Somebody who has only the tool writes a layout for a framework that nobody has heard of.
@Suite("A stranger's hour")
struct StrangersHourTests {
  static let file = "Fixtures/layouts/three-mistakes.yaml"
  static let mistakes = [
    (line: 53, column: 40, wrong: "looks", meant: "look"),
    (line: 87, column: 23, wrong: "dwon.weight", meant: "down.weight"),
    (line: 104, column: 15, wrong: "d_stat", meant: "d_state"),
  ]

  @Test("the words that it is written with are the tool's own")
  func words() throws {
    let kinds = try #require(try BuiltTool.run("kinds", "--json").document()["kinds"]?.array)
    func names(_ kind: String, _ list: String, _ key: String) -> Set<String> {
      let found = kinds.first { $0["name"]?.string == kind }
      return Set(found?[list]?.array?.compactMap { $0[key]?.string } ?? [])
    }
    #expect(names("mamba", "attributes", "name").isSuperset(of: ["d_inner", "d_state", "dt_rank"]))
    #expect(
      names("attention", "pieces", "role").isSuperset(
        of: ["q.weight", "k.weight", "v.weight", "o.weight"]))
    #expect(
      names("mlp", "pieces", "role").isSuperset(of: ["gate.weight", "up.weight", "down.weight"]))
    let conv = kinds.first { $0["name"] == "mamba" }?["pieces"]?.array?
      .first { $0["role"] == "conv.weight" }
    #expect(conv?["shape"] == ["d_inner", "d_conv"] && conv?["identity"] == .null)
    let bias = kinds.first { $0["name"] == "mamba" }?["pieces"]?.array?
      .first { $0["role"] == "dt.bias" }
    #expect(bias?["keeps_float32"] == true)
    // What it extends can be looked at too.
    let hf = try BuiltTool.run("layouts", "mamba-hf", "--yaml").output
    #expect(hf.contains("A_log: a_log") && !hf.contains("extends"))
  }

  @Test("--check finds the three mistakes by line and column, and the nearest words mend them")
  func check() throws {
    let run = try BuiltTool.run(["layouts", "--check", Self.file, "--json"])
    #expect(run.status == 2)
    let document = try run.document()
    #expect(document["valid"] == false && document["name"] == "burrow")
    let problems = try #require(document["problems"]?.array)
    #expect(problems.count == 3)
    var lines = Self.text.components(separatedBy: "\n")
    for (problem, mistake) in zip(problems, Self.mistakes) {
      #expect(
        problem["subject"]?.string == "\(Self.file):\(mistake.line):\(mistake.column)", "\(problem)"
      )
      #expect(problem["message"]?.string?.contains(mistake.wrong) == true)
      #expect(problem["help"]?.string == "did you mean \(mistake.meant)?")
      lines[mistake.line - 1] = lines[mistake.line - 1]
        .replacingOccurrences(of: mistake.wrong, with: mistake.meant)
    }
    let text = try BuiltTool.run(["layouts", "--check", Self.file])
    #expect(text.status == 2 && text.output == "\(Self.file): 3 mistakes\n")
    #expect(text.error.components(separatedBy: "error[").count == 4)

    let directory = TemporaryDirectory()
    Files.write(lines.joined(separator: "\n"), to: directory.file("burrow.yaml"))
    let mended = try BuiltTool.run(["layouts", "--check", "burrow.yaml"], in: directory.path)
    #expect(mended.status == 0 && mended.error == "")
    #expect(mended.output.hasPrefix("burrow.yaml: sound\n"))

    let samba = ModelFixture.named("samba-fla/fla").path
    let there = try BuiltTool.run(
      ["convert", samba, "burrow", "--to", "meadow", "--layout-file", "burrow.yaml"],
      in: directory.path)
    #expect(there.status == 0, "\(there.error)")
    // Its config is called otherwise than any that the tool knows, and is found.
    let back = try BuiltTool.run(
      ["convert", "burrow", "back", "--to", "fla", "--layout-file", "burrow.yaml"],
      in: directory.path)
    #expect(back.status == 0, "\(back.error)")
    let diff = try BuiltTool.run(["diff", samba, "back"], in: directory.path)
    #expect(diff.status == 0 && diff.output.hasSuffix("equal\n"), "\(diff.output)")
  }

  private static let text = Files.text("\(BuiltTool.package)/\(file)")
  /// The same layout without mistakes, as the guide has it.
  private static let good = Files.text("\(BuiltTool.package)/docs/examples/burrow.yaml")

  @Test("a command that is given the file tells the same, and does nothing")
  func given() throws {
    let directory = TemporaryDirectory()
    let samba = ModelFixture.named("samba-fla/fla").path
    let run = try BuiltTool.run([
      "convert", samba, directory.file("out"), "--to", "meadow", "--layout-file", Self.file,
      "--json",
    ])
    #expect(run.status == 2)
    #expect(
      try run.problems().map { String($0.split(separator: " ")[1]) }
        == Self.mistakes.map { "\(Self.file):\($0.line):\($0.column)" })
    #expect(!Files.exists(directory.file("out")))
  }

  @Test("a container that is none is an error of the file, and every container has a name")
  func containers() throws {
    let directory = TemporaryDirectory()
    let samba = ModelFixture.named("samba-fla/fla").path
    Files.write(
      Self.good.replacingOccurrences(of: "container: safetensors", with: "container: safetensor"),
      to: directory.file("bad.yaml"))
    let bad = try BuiltTool.run(
      ["convert", samba, "out", "--to", "meadow", "--layout-file", "bad.yaml"], in: directory.path)
    #expect(bad.status == 2)
    #expect(bad.error.contains("bad.yaml:8:14") && bad.error.contains("did you mean safetensors?"))

    // A container for which the file has no name is written under one by which it is found again.
    Files.write(
      Self.good.replacingOccurrences(of: ", pytorch: burrow.pt", with: ""),
      to: directory.file("burrow.yaml"))
    let options = ["--layout-file", "burrow.yaml"]
    let run = try BuiltTool.run(
      ["convert", samba, "out", "--to", "meadow", "--container", "pytorch"] + options,
      in: directory.path)
    #expect(run.status == 0, "\(run.error)")
    #expect(try BuiltTool.run(["diff", samba, "out"] + options, in: directory.path).status == 0)
  }

  @Test("a layout that would not recognise what it writes refuses to write it")
  func unreadable() throws {
    let directory = TemporaryDirectory()
    let samba = ModelFixture.named("samba-fla/fla").path
    Files.write(
      Self.good.replacingOccurrences(
        of: "detect:\n", with: "detect:\n  config: config.width == 65\n"),
      to: directory.file("burrow.yaml"))
    let run = try BuiltTool.run(
      ["convert", samba, "out", "--to", "meadow", "--layout-file", "burrow.yaml"],
      in: directory.path)
    #expect(run.status == 1)
    #expect(run.error.contains("error[convert.unreadable]: burrow"))
    #expect(run.error.contains("config.width == 65"))
    #expect(!Files.exists(directory.file("out")))
  }

  @Test("one's own layout is the first of those that come close")
  func closest() throws {
    let directory = TemporaryDirectory()
    Files.write(Self.good, to: directory.file("burrow.yaml"))
    let samba = ModelFixture.named("samba-fla/fla").path
    let made = try BuiltTool.run(
      ["convert", samba, "out", "--to", "meadow", "--layout-file", "burrow.yaml"],
      in: directory.path)
    #expect(made.status == 0, "\(made.error)")
    // Another prefix inside the names: nothing of the file fits but the embedding.
    Files.write(
      Self.good.replacingOccurrences(of: "burrow.tunnel.", with: "burrow.passage."),
      to: directory.file("burrow.yaml"))
    let run = try BuiltTool.run(
      ["inspect", "out", "--layout-file", "burrow.yaml", "--json"], in: directory.path)
    let problems = try #require(try run.document()["problems"]?.array)
    let problem = try #require(problems.first { $0["code"] == "layout.unknown" }, "\(problems)")
    let notes = run.output
    #expect(notes.contains("layout.unknown"))
    let text = try BuiltTool.run(
      ["inspect", "out", "--layout-file", "burrow.yaml"], in: directory.path)
    let first = text.error.components(separatedBy: "closest: ").dropFirst().first ?? ""
    #expect(first.hasPrefix("burrow knows "), "\(text.error)")
    #expect(text.error.contains("burrow.passage.*.rest.weight"), "\(problem)")
  }

  @Test("the options of layouts that exclude each other, and a kind that is none")
  func usage() throws {
    #expect(try BuiltTool.run("layouts", "--yaml").status == 64)
    #expect(try BuiltTool.run("layouts", "fla", "--check", Self.file).status == 64)
    let several = try BuiltTool.run("layouts", "fla", "--yaml")
    #expect(several.status == 64 && several.error.contains("samba-fla"))
    let kind = try BuiltTool.run("kinds", "atention")
    #expect(kind.status == 64 && kind.error.contains("did you mean attention?"))
    let missing = try BuiltTool.run("layouts", "--check", "nobody.yaml", "--json")
    #expect(missing.status == 2)
    #expect(try missing.document()["problems"]?.array?.count == 1)
  }
}
