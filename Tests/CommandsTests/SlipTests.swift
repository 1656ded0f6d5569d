import Foundation
import TestSupport
import Tensors
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Slips of the hand, and places in which nothing can be put.
@Suite("Slips at the command line")
struct SlipTests {
  let home = TemporaryDirectory()
  let source = ModelFixture.named("mamba-tied/hf").path

  func codes(_ run: ToolRun) throws -> [String] {
    try run.problems().map { String($0.prefix { $0 != " " }) }
  }

  @Test("an empty path is told as that, and no file is suggested")
  func emptyPath() throws {
    Files.write("", to: home.file("a"))
    let run = try BuiltTool.run("inspect", "", in: home.path)
    #expect(run.status == 2)
    #expect(run.error.contains("is no path"))
    #expect(!run.error.contains("did you mean"))
    // A name of one letter is one slip from every other.
    let letter = try BuiltTool.run("inspect", "b", in: home.path)
    #expect(letter.status == 2 && !letter.error.contains("did you mean"), "\(letter.error)")
  }

  @Test("--inert of a key that the config does not have is told, with the nearest")
  func inert() throws {
    let slip = try BuiltTool.run("inspect", source, "--inert", "hiden_act", "--json")
    #expect(slip.status == 0)
    #expect(try codes(slip) == ["config.inert-unused"])
    #expect(slip.output.contains("did you mean hidden_act?"))
    // For two checkpoints it is enough that one has it.
    Files.makeDirectory(home.file("b"))
    for name in Files.names(in: source) where name != "config.json" {
      Files.write(Files.read("\(source)/\(name)"), to: home.file("b/\(name)"))
    }
    let path = source + "/config.json"
    var config = try JSONParser.parse(Files.read(path), file: path).object!
    config["colour"] = "red"
    Files.write(JSONValue.object(config).text(), to: home.file("b/config.json"))
    for pair in [[source, home.file("b")], [home.file("b"), source]] {
      let both = try BuiltTool.run(["diff"] + pair + ["--inert", "colour", "--json"])
      #expect(both.status == 0)
      #expect(try !codes(both).contains("config.inert-unused"), "\(both.output)")
    }
    let neither = try BuiltTool.run("diff", source, source, "--inert", "colour", "--json")
    #expect(try codes(neither) == ["config.inert-unused"])
  }

  @Test("without a config the sizes, the presets that fit and what no shape tells are said")
  func withoutConfig() throws {
    func bare(_ fixture: String, _ file: String) throws -> ToolRun {
      Files.write(
        Files.read("\(ModelFixture.named(fixture).path)/\(file)"), to: home.file(file))
      return try BuiltTool.run("inspect", home.file(file))
    }
    let gla = try bare("gla-base/fla", "model.safetensors")
    #expect(gla.status == 0)
    for words in ["d_model 64, embedding rows 100, layers 3", "norm_eps"] {
      #expect(gla.error.contains(words), "\(words): \(gla.error)")
    }
    let lit = try bare("lit-samba/lit_gpt", "iter-000128-ckpt.pth")
    #expect(lit.status == 0)
    #expect(lit.error.contains("presets fits them"), "\(lit.error)")
  }

  @Test("an entry of a cache inside a directory is told in one note")
  func cache() throws {
    let entry = "hub/models--o--n"
    for path in ["refs", "snapshots/aa11", "snapshots/bb22"] {
      try FileManager.default.createDirectory(
        atPath: home.file("\(entry)/\(path)"), withIntermediateDirectories: true)
    }
    Files.write("bb22", to: home.file("\(entry)/refs/main"))
    for name in Files.names(in: source) {
      Files.write(
        Files.read("\(source)/\(name)"), to: home.file("\(entry)/snapshots/bb22/\(name)"))
    }
    let run = try BuiltTool.run("inspect", home.file("hub"), "--json")
    #expect(run.status == 0)
    #expect(try codes(run) == ["checkpoint.inside"])
    #expect(run.output.contains("the revision of its refs/main"))
    #expect(!run.output.contains("the only checkpoint"))
  }

  #if os(Linux)
    @Test("a mount point is no destination, and says so before the work")
    func mountPoint() throws {
      let run = try BuiltTool.run(
        "convert", source, "/proc", "--to", "mamba_ssm", "--dry-run", "--json")
      #expect(run.status == 2)
      #expect(try codes(run) == ["output.mount"])
    }
  #endif

  @Test("an empty directory whose parent cannot be written is an error with a way out")
  func readOnlyParent() throws {
    Files.makeDirectory(home.file("parent"))
    Files.makeDirectory(home.file("parent/out"))
    chmod(home.file("parent"), 0o555)
    defer { chmod(home.file("parent"), 0o755) }
    let run = try BuiltTool.run(
      "convert", source, home.file("parent/out"), "--to", "mamba_ssm", "--no-fsync")
    // Root may write everywhere.
    guard geteuid() != 0 else {
      #expect(run.status == 0)
      return
    }
    #expect(run.status == 2)
    #expect(run.error.contains("output.parent"))
    #expect(run.error.contains("give a new directory in it"))
  }
}
