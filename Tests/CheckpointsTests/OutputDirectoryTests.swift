import Checkpoints
import Tensors
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

@Suite("Output directory")
struct OutputDirectoryTests {
  let home = TemporaryDirectory()

  func failure(
    _ destination: String, sources: [String] = [], force: Bool = false
  ) -> String? {
    problem { () throws(Diagnostic) in
      _ = try OutputDirectory(
        destination: home.file(destination), sources: sources.map(home.file), force: force)
    }?.code
  }

  func make(_ name: String, _ files: [String: String]) {
    Files.makeDirectory(home.file(name))
    for (file, text) in files { Files.write(text, to: home.file("\(name)/\(file)")) }
  }

  @Test(
    "the directory appears whole when committed, with what was written", arguments: [true, false])
  func appears(sync: Bool) throws {
    let output = try OutputDirectory(destination: home.file("out/"))
    Files.write("x", to: output.path + "/a.safetensors")
    Files.makeDirectory(output.path + "/sub")
    Files.write("y", to: output.path + "/sub/b")
    #expect(!Files.exists(home.file("out")))
    try output.commit(sync: sync)
    #expect(Files.names(in: home.path) == ["out"])
    #expect(Files.read(home.file("out/sub/b")) == Array("y".utf8))
  }

  @Test("nothing is left when it is discarded or dropped")
  func leavesNothing() throws {
    let output = try OutputDirectory(destination: home.file("out"))
    Files.write("x", to: output.path + "/a")
    output.discard()
    #expect(Files.names(in: home.path) == [])
    do {
      let dropped = try OutputDirectory(destination: home.file("out"))
      Files.write("x", to: dropped.path + "/a")
    }
    #expect(Files.names(in: home.path) == [])
  }

  @Test("an existing destination is refused without force")
  func exists() {
    make("out", ["model.safetensors": "old"])
    #expect(failure("out") == "output.exists")
    Files.write("", to: home.file("file"))
    #expect(failure("file") == "output.exists")
    #expect(failure("file", force: true) == "output.not-a-directory")
    #expect(Files.names(in: home.path) == ["file", "out"])
  }

  @Test("force replaces a checkpoint, and what was there is gone")
  func force() throws {
    make("out", ["model.safetensors": "old", "extra": "old"])
    let output = try OutputDirectory(destination: home.file("out"), force: true)
    Files.write("new", to: output.path + "/model.safetensors")
    #expect(Files.read(home.file("out/model.safetensors")) == Array("old".utf8))
    #expect(try output.commit() == [])
    #expect(Files.names(in: home.path) == ["out"])
    #expect(Files.names(in: home.file("out")) == ["model.safetensors"])
    #expect(Files.read(home.file("out/model.safetensors")) == Array("new".utf8))
  }

  @Test("force never deletes a directory that holds no checkpoint")
  func foreign() {
    make("home", ["thesis.tex": ""])
    #expect(failure("home", force: true) == "output.foreign")
    make("empty", [:])
    #expect(failure("empty", force: true) == nil)
  }

  @Test("the source is never the destination, inside it, or around it")
  func sources() {
    make("src", ["model.safetensors": ""])
    #expect(failure("src", sources: ["src"], force: true) == "output.is-source")
    #expect(failure("src/out", sources: ["src"]) == "output.inside-source")
    #expect(failure("src/x/../out", sources: ["src"]) == "output.parent")
    #expect(
      failure("src", sources: ["src/model.safetensors"], force: true) == "output.contains-source")
    #expect(failure("src2", sources: ["src"]) == nil)
    Files.link(home.file("alias"), to: "src")
    #expect(failure("alias", sources: ["src"], force: true) == "output.is-source")
    #expect(failure("alias/out", sources: ["src"]) == "output.inside-source")
  }

  @Test("a parent that does not exist is told")
  func parent() {
    #expect(failure("no/out") == "output.parent")
  }

  @Test("leftovers of a dead process are named and removed")
  func leftovers() throws {
    // No process has this number: it is over the system's largest.
    let name = ".out.weighbridge-2147483000-1.partial"
    make(name, ["half.safetensors": "half"])
    let output = try OutputDirectory(destination: home.file("out"))
    #expect(output.notes.map(\.code) == ["output.leftover"])
    #expect(output.notes.first?.subject.hasSuffix(name) == true)
    #expect(!Files.exists(home.file(name)))
  }

  @Test("what is removed is only what is in it: links are not followed, odd names go")
  func links() throws {
    let name = ".out.weighbridge-2147483000-1.partial"
    make("precious", ["thesis.tex": "x"])
    make(name, ["half.safetensors": "half"])
    Files.makeDirectory(home.file(name + "/sub"))
    Files.link(home.file(name + "/link"), to: home.file("precious"))
    Files.link(home.file(name + "/sub/link"), to: "../../precious")
    // A name that is no UTF-8.
    let odd = home.file(name).utf8CString.dropLast() + [0x2F, -1, -2, 0]
    let descriptor = open(Array(odd), O_WRONLY | O_CREAT, 0o600)
    if descriptor >= 0 { close(descriptor) }
    let output = try OutputDirectory(destination: home.file("out"))
    #expect(output.notes.map(\.code) == ["output.leftover"])
    #expect(!Files.exists(home.file(name)))
    #expect(Files.names(in: home.file("precious")) == ["thesis.tex"])
  }

  @Test("a link or a file that is named like a leftover stays, and is told of")
  func planted() throws {
    make("precious", ["thesis.tex": "x"])
    let names = [1, 2].map { ".out.weighbridge-2147483000-\($0).partial" }
    Files.link(home.file(names[0]), to: "precious")
    Files.write("x", to: home.file(names[1]))
    let output = try OutputDirectory(destination: home.file("out"))
    #expect(output.notes.map(\.code) == ["output.leftover", "output.leftover"])
    #expect(output.notes.allSatisfy { $0.severity == .warning && $0.message.hasSuffix("it stays") })
    #expect(names.allSatisfy { Files.exists(home.file($0)) })
    #expect(Files.names(in: home.file("precious")) == ["thesis.tex"])
  }

  @Test("a replaced directory's permissions stay", arguments: [0o700, 0o750] as [mode_t])
  func permissions(mode: mode_t) throws {
    make("out", ["model.safetensors": "old"])
    chmod(home.file("out"), mode)
    let output = try OutputDirectory(destination: home.file("out"), force: true)
    try output.commit()
    var info = stat()
    #expect(stat(home.file("out"), &info) == 0 && info.st_mode & 0o777 == mode)
    #expect(Files.names(in: home.file("out")) == [])
  }

  @Test(
    "a destination that shares files with the source by hard links is replaced, the source is not")
  func hardLinks() throws {
    make("src", ["model.safetensors": "weights"])
    make("out", [:])
    let pair = ["src", "out"].map { home.file($0 + "/model.safetensors") }
    #expect(link(pair[0], pair[1]) == 0)
    let output = try OutputDirectory(
      destination: home.file("out"), sources: [home.file("src"), pair[0]], force: true)
    Files.write("new", to: output.path + "/model.safetensors")
    try output.commit()
    #expect(Files.read(pair[0]) == Array("weights".utf8))
    #expect(Files.read(pair[1]) == Array("new".utf8))
  }

  @Test("a source that a link leads out of its directory is found where it is")
  func linkedSource() {
    make("blobs", ["model.safetensors": ""])
    make("src", [:])
    Files.link(home.file("src/model.safetensors"), to: "../blobs/model.safetensors")
    let sources = ["src", "src/model.safetensors"]
    #expect(failure("blobs", sources: sources, force: true) == "output.contains-source")
    #expect(failure("blobs/model.safetensors/x", sources: sources) == "output.parent")
    Files.link(home.file("elsewhere"), to: "blobs")
    #expect(failure("elsewhere", sources: sources, force: true) == "output.contains-source")
  }

  @Test("a replaced directory that an interruption left aside comes back")
  func restored() throws {
    make(".out.weighbridge-2147483000-1-old.partial", ["model.safetensors": "old"])
    #expect(failure("out") == "output.exists")
    #expect(Files.read(home.file("out/model.safetensors")) == Array("old".utf8))
  }

  @Test("two runs into one destination: the second says so")
  func busy() throws {
    let first = try OutputDirectory(destination: home.file("out"))
    #expect(failure("out") == "output.busy")
    #expect(failure("other") == nil)
    try first.commit(sync: false)
    #expect(failure("out") == "output.exists")
  }

  @Test("what appears meanwhile is not replaced without force")
  func meanwhile() throws {
    let output = try OutputDirectory(destination: home.file("out"))
    make("out", ["theirs": ""])
    let found = problem { () throws(Diagnostic) in try output.commit(sync: false) }
    #expect(found?.code == "output.exists")
    #expect(Files.names(in: home.path) == ["out"])
    #expect(Files.names(in: home.file("out")) == ["theirs"])
  }

  @Test("a destination whose parent vanishes is an error")
  func vanished() throws {
    make("parent", [:])
    let output = try OutputDirectory(destination: home.file("parent/out"))
    Files.remove(home.file("parent"))
    let found = problem { () throws(Diagnostic) in try output.commit(sync: false) }
    #expect(found?.code == "io.write")
  }
}
