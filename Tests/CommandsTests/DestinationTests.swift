import Foundation
import TestSupport
import Tensors
import Testing

/// Destinations as people give them, at the command line.
@Suite("Destinations at the command line", .tags(.slow))
struct DestinationCommandTests {
  let home = TemporaryDirectory()
  let source = ModelFixture.named("mamba-tied/hf").path
  let other = ModelFixture.named("mamba-tied/mamba_ssm").path

  func copy(_ path: String, to name: String) {
    Files.makeDirectory(home.file(name))
    for file in Files.names(in: path) {
      Files.write(Files.read(path + "/" + file), to: home.file("\(name)/\(file)"))
    }
  }

  func contents(_ name: String) -> [String: [UInt8]] {
    Dictionary(
      uniqueKeysWithValues: Files.names(in: home.file(name)).map {
        ($0, Files.read(home.file("\(name)/\($0)")))
      })
  }

  func convert(_ from: String, _ to: String, _ layout: String, _ more: String...) throws -> ToolRun
  {
    try BuiltTool.run(
      ["convert", from, to, "--to", layout, "--no-fsync"] + more, in: home.path)
  }

  @Test("a dry run refuses the destinations that the run refuses, and creates nothing")
  func dry() throws {
    copy(other, to: "there")
    Files.write("x", to: home.file("file"))
    try FileManager.default.createSymbolicLink(
      atPath: home.file("lost"), withDestinationPath: home.file("nowhere"))
    let before = Files.names(in: home.path)
    for (to, word) in [
      ("there", "exists already"), ("file", "is a file"), ("lost", "is a link that leads nowhere"),
      ("file/in", "is no directory"), (source + "/in", "inside the source"),
    ] {
      let dry = try convert(source, to, "fla", "--dry-run")
      #expect(dry.status == 2, "\(to)")
      #expect(dry.error.contains(word), "\(to): \(dry.error)")
      #expect(dry.error == (try convert(source, to, "fla")).error, "\(to)")
    }
    #expect(try convert(source, "there", "fla", "--dry-run", "--force").status == 0)
    #expect(try convert(source, "new/deep", "fla", "--dry-run").status == 0)
    #expect(Files.names(in: home.path) == before)
  }

  @Test("--force into a run's directory keeps other checkpoints, configs and logs")
  func runDirectory() throws {
    copy(source, to: "out")
    let mine = ["step-100.pth": "one", "step-200.safetensors": "two", "train.yaml": "lr: 1"]
    for (name, text) in mine { Files.write(text, to: home.file("out/" + name)) }
    Files.makeDirectory(home.file("out/logs"))
    Files.write("line", to: home.file("out/logs/run.log"))
    let run = try convert(source, "out", "fla", "--force")
    #expect(run.status == 0, "\(run.error)")
    #expect(run.error.contains("note[output.kept]: "))
    for (name, text) in mine {
      #expect(Files.read(home.file("out/" + name)) == Array(text.utf8), "\(name)")
    }
    #expect(Files.read(home.file("out/logs/run.log")) == Array("line".utf8))
    let found = try BuiltTool.run("inspect", home.file("out"), "--json").document()
    #expect(found["layout"]?.string?.contains("fla") == true)
    #expect(Files.names(in: home.path) == ["out"])
  }

  @Test("weights that would be read instead of the new ones are named; a manifest frees its own")
  func otherContainer() throws {
    for digests in [false, true] {
      let out = "out-\(digests)"
      let first =
        digests
        ? try convert(source, out, "hf", "--sha256") : try convert(source, out, "hf")
      #expect(first.status == 0)
      let before = contents(out)
      let run = try convert(source, out, "mamba_ssm", "--force")
      if digests {
        #expect(run.status == 0, "\(run.error)")
        #expect(
          Files.names(in: home.file(out)) == [
            "config.json", "generation_config.json", "pytorch_model.bin",
          ])
      } else {
        #expect(run.status == 2)
        #expect(run.error.contains("error[output.in-the-way]: "))
        #expect(run.error.contains("\"model.safetensors\""))
        #expect(contents(out) == before)
      }
    }
  }

  @Test("a sharded checkpoint is written into a run, read from there, and replaced")
  func sharded() throws {
    let options = ["--container", "dcp", "--dcp-prefix", "model", "--sha256", "--verify"]
    func write(_ ranks: Int, _ more: String...) throws {
      let run = try BuiltTool.run(
        ["convert", source, home.file("run/step-5"), "--to", "fla", "--no-fsync"] + options
          + ["--ranks", "\(ranks)"] + more)
      #expect(run.status == 0, "\(run.error)")
      #expect(
        Files.names(in: home.file("run/step-5")).filter { $0.hasSuffix(".distcp") }
          == (0..<ranks).map { "__\($0)_0.distcp" })
    }
    try write(3)
    // Its third rank's file is one that the manifest lists.
    try write(2, "--force")
    #expect(try BuiltTool.run("check", home.file("run/step-5")).status == 0)
    #expect(try BuiltTool.run("diff", home.file("run"), source).status == 0)
    let found = try BuiltTool.run("inspect", home.file("run"), "--json").document()
    #expect(found["container"] == "dcp")
    #expect(found["layout"] == "fla")
    let back = try convert("run", "back", "hf")
    #expect(back.status == 0, "\(back.error)")
    let (read, expected) = (try StoredCheckpoint(home.file("back")), try StoredCheckpoint(source))
    #expect(Set(read.tensors.keys) == Set(expected.tensors.keys))
    for (name, tensor) in expected.tensors {
      #expect(read.tensors[name]?.bytes == tensor.bytes, "\(name)")
    }
  }

  @Test("swapped arguments are asked about, and --force is not offered", arguments: [false, true])
  func swapped(exists: Bool) throws {
    copy(other, to: "src")
    let before = contents("src")
    if exists { #expect(try convert("src", "out", "hf").status == 0) }
    let run = try convert("out", "src", "hf")
    #expect(run.status == 2)
    #expect(run.error.contains("swapped?"), "\(run.error)")
    #expect(!run.error.contains("--force"), "\(run.error)")
    #expect(contents("src") == before)
  }

  @Test("an empty source directory beside a destination with weights: were they swapped?")
  func emptySource() throws {
    copy(source, to: "src")
    Files.makeDirectory(home.file("out"))
    let run = try convert("out", "src", "fla")
    #expect(run.status == 2)
    #expect(run.error.contains("swapped?") && !run.error.contains("--force"), "\(run.error)")
  }

  @Test("what a conversion of the same kind wrote is offered --force")
  func same() throws {
    #expect(try convert(source, "out", "fla").status == 0)
    let run = try convert(source, "out", "fla")
    #expect(run.status == 2)
    #expect(run.error.contains("error[output.exists]: ") && run.error.contains("--force"))
  }

  @Test(
    "a file's name is no destination, with advice",
    arguments: ["x.safetensors", "sub/x.pth", "x.h5/", "x.gguf"])
  func fileName(name: String) throws {
    let run = try convert(source, name, "fla")
    #expect(run.status == 2)
    #expect(run.error.contains("error[output.file-name]: "))
    #expect(
      run.error.contains("give a directory: \(name.split(separator: ".")[0])"), "\(run.error)")
    #expect(Files.names(in: home.path) == [])
  }

  @Test("the working directory is no destination, empty or not", arguments: [".", "./", "sub/.."])
  func workingDirectory(name: String) throws {
    Files.makeDirectory(home.file("sub"))
    let run = try convert(source, name, "fla")
    #expect(run.status == 2)
    #expect(run.error.contains("is no name for a new directory"), "\(run.error)")
    #expect(Files.names(in: home.path) == ["sub"])
  }

  @Test("an existing file is never replaced")
  func file() throws {
    for name in ["x.safetensors", "notes"] {
      Files.write("dear", to: home.file(name))
      for more in [[], ["--force"]] {
        let run = try BuiltTool.run(
          ["convert", source, name, "--to", "fla"] + more, in: home.path)
        #expect(run.status == 2)
        #expect(!run.error.contains("--force"), "\(run.error)")
        #expect(Files.read(home.file(name)) == Array("dear".utf8))
      }
    }
  }

  @Test("an empty directory, a missing parent and slashes at the end are fine")
  func fine() throws {
    Files.makeDirectory(home.file("empty"))
    for out in ["empty", "a/b/c/", "plain//"] {
      let run = try convert(source, out, "fla")
      #expect(run.status == 0, "\(run.error)")
      #expect(Files.exists(home.file(out + "/model.safetensors")))
    }
    // A refusal leaves no parents.
    let refused = try convert(
      ModelFixture.named("lit-samba-gqa-nope/lit_gpt").path, "new/parent/out", "fla")
    #expect(refused.status == 1)
    #expect(!Files.exists(home.file("new")))
  }
}
