import Foundation
import TestSupport
import Tensors
import Testing

@Suite("Hostile files at the command line", .tags(.slow))
struct HostileCommandTests {
  /// A checkpoint whose names and config hold what takes a terminal over.
  private func checkpoint() -> TemporaryDirectory {
    let home = TemporaryDirectory()
    var file = SafetensorsBuilder()
    file.add(#"a\u001b[2J\nerror[x]: y"#, [1], [1])
    file.add("b\u{202E}c\u{9B}31m", [1], [2])
    Files.write(file.bytes, to: home.file("model.safetensors"))
    Files.write(
      #"{"model_type": "\u001b]0;owned\u0007", "\u001b[31mkey": "\u001b[1m"}"#,
      to: home.file("config.json"))
    return home
  }

  private func isPlain(_ text: String) -> Bool {
    text.unicodeScalars.allSatisfy {
      $0 == "\n" || $0.value >= 0x20 && !(0x7F..<0xA0).contains($0.value) && $0 != "\u{202E}"
    }
  }

  @Test("names from a file reach no terminal, and make no line of their own")
  func terminal() throws {
    let home = checkpoint()
    for arguments in [
      ["inspect", home.path], ["inspect", home.path, "--stats"], ["inspect", home.path, "--json"],
      ["convert", home.path, home.file("out"), "--to", "hf"],
      ["diff", home.path, home.path], ["inspect", home.path + "/\u{1B}[31m"],
    ] {
      let run = try BuiltTool.run(arguments)
      #expect(isPlain(run.output), "\(arguments)")
      #expect(isPlain(run.error), "\(arguments)")
      let lines = (run.output + run.error).split(separator: "\n")
      #expect(!lines.contains { $0.hasPrefix("error[x]") }, "\(arguments)")
    }
  }

  @Test("in a document the names are what they are")
  func document() throws {
    let home = checkpoint()
    let tensors = try BuiltTool.run("inspect", home.path, "--json").document()["tensors"]?.array
    #expect(
      tensors?.map { $0["name"]?.string } == [
        "a\u{1B}[2J\nerror[x]: y", "b\u{202E}c\u{9B}31m",
      ])
  }

  @Test("a pipe, a device or a directory in a file's place is refused and not waited for")
  func notFiles() throws {
    let home = TemporaryDirectory()
    for (name, make) in [
      ("pipe", { _ = mkfifo($0, 0o600) }),
      ("zero", { _ = symlink("/dev/zero", $0) }),
      ("directory", { _ = mkdir($0, 0o700) }),
    ] as [(String, (String) -> Void)] {
      _ = mkdir(home.file(name), 0o700)
      make(home.file(name + "/model.safetensors"))
      let run = try BuiltTool.run("inspect", home.file(name), "--json")
      #expect(run.status == 2)
      #expect(try run.problems() == ["io.not-a-file \(home.file(name))/model.safetensors"])
      make(home.file(name + ".json"))
      let tokens = try BuiltTool.run(
        "generate", ModelFixture.named("mamba-tied/hf").path, "--tokens", home.file(name + ".json"),
        "--max-new-tokens", "1", "--json")
      #expect(tokens.status == 2)
    }
  }

  @Test("a trace of a trillion sequences without a token is refused")
  func emptyTrace() throws {
    let home = TemporaryDirectory()
    var trace = SafetensorsBuilder()
    trace.add("input_ids", .i64, [1 << 40, 0], [])
    Files.write(trace.bytes, to: home.file("trace.safetensors"))
    let run = try BuiltTool.run(
      "parity", ModelFixture.named("samba-fla/fla").path, "--trace",
      home.file("trace.safetensors"), "--json")
    #expect(run.status == 2)
    #expect(try run.problems() == ["trace.tokens \(home.file("trace.safetensors"))"])
  }

  @Test("a trace replaces an older trace, and never weights, tokens or anything else")
  func tracePlace() throws {
    let home = TemporaryDirectory()
    let model = ModelFixture.named("samba-fla/fla").path
    for name in Files.names(in: model) {
      Files.write(Files.read("\(model)/\(name)"), to: home.file(name))
    }
    Files.write("[[1, 2]]", to: home.file("tokens.json"))
    let before = Files.names(in: home.path)
    for name in before {
      let run = try BuiltTool.run(
        "trace", home.path, home.file(name), "--tokens", home.file("tokens.json"), "--json")
      #expect(run.status == 2)
      #expect(try run.problems() == ["trace.exists \(home.file(name))"])
    }
    #expect(Files.names(in: home.path) == before)
    #expect(
      Files.read(home.file("model.safetensors")) == Files.read(model + "/model.safetensors"))
    // What a run that was killed has left of it goes; no process has this number.
    let left = home.file(".t.safetensors.2147483000.partial")
    let out = home.file("t.safetensors")
    for tokens in ["tokens.json", "tokens.json"] {
      Files.write("half", to: left)
      let run = try BuiltTool.run("trace", home.path, out, "--tokens", home.file(tokens))
      #expect(run.status == 0, "\(run.error)")
      #expect(Files.names(in: home.path) == (before + ["t.safetensors"]).sorted())
    }
    let same = try BuiltTool.run("trace", home.path, out, "--tokens", out, "--json")
    #expect(try same.problems() == ["trace.exists \(out)"])
    let none = try BuiltTool.run(
      "trace", home.path, home.file("no/t"), "--random", "1x2", "--json")
    #expect(try none.problems() == ["trace.path \(home.file("no"))"])
  }

  @Test("SECURITY.md counts the files of the corpus as they are")
  func counts() throws {
    let text = Files.text(BuiltTool.package + "/SECURITY.md")
    func count(_ directory: String) -> Int {
      Files.names(in: directory).reduce(0) { sum, name in
        if name.contains("__") { return sum + 1 }
        // A description beside a fixture is no fixture.
        return name.contains(".") ? sum : sum + count(directory + "/" + name)
      }
    }
    let kinds = Files.names(in: Fixtures.root + "/bad")
    #expect(kinds.count >= 6)
    for kind in kinds {
      let line = "| `\(kind)` | \(count(Fixtures.root + "/bad/" + kind)) |"
      #expect(text.contains(line), "SECURITY.md should have: \(line)")
    }
  }
}
