import Checkpoints
import Output
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

  func status(_ name: String) -> stat {
    var info = stat()
    #expect(lstat(home.file(name), &info) == 0, "\(name) is gone")
    return info
  }

  @Test("force replaces what is written, and everything else stays: the same files")
  func force() throws {
    make("out", ["model.safetensors": "old", "extra": "mine", "best.pth": "other"])
    make("out/logs", ["run.log": "lines"])
    make("out/logs/deep", ["events": "e"])
    chmod(home.file("out/logs"), 0o750)
    Files.link(home.file("out/latest"), to: "best.pth")
    Files.link(home.file("out/nowhere"), to: "/no/such/place")
    #expect(mkfifo(home.file("out/pipe"), 0o600) == 0)
    let stay = [
      "extra", "best.pth", "logs/run.log", "logs/deep/events", "latest", "nowhere", "pipe",
    ]
    let before = stay.map { status("out/" + $0) }
    let times = status("out/logs")
    let output = try OutputDirectory(destination: home.file("out"), force: true)
    Files.write("new", to: output.path + "/model.safetensors")
    #expect(Files.read(home.file("out/model.safetensors")) == Array("old".utf8))
    let notes = try output.commit()
    #expect(notes.map(\.code) == ["output.kept"])
    #expect(notes.first?.message.contains("\"best.pth\", \"extra\", \"latest\"") == true)
    #expect(Files.names(in: home.path) == ["out"])
    #expect(
      Files.names(in: home.file("out"))
        == ["best.pth", "extra", "latest", "logs", "model.safetensors", "nowhere", "pipe"])
    #expect(Files.read(home.file("out/model.safetensors")) == Array("new".utf8))
    for (name, old) in zip(stay, before) {
      let now = status("out/" + name)
      #expect(now.st_ino == old.st_ino && now.st_nlink == old.st_nlink, "\(name)")
    }
    #expect(Files.read(home.file("out/logs/deep/events")) == Array("e".utf8))
    let now = status("out/logs")
    #expect(now.st_mode == times.st_mode && now.st_mode & 0o777 == 0o750)
    #if !canImport(Darwin)
      #expect(now.st_mtim.tv_sec == times.st_mtim.tv_sec)
      #expect(now.st_mtim.tv_nsec == times.st_mtim.tv_nsec)
    #endif
  }

  @Test("a directory of a file's name is in the way, and is told of before the work begins")
  func directoryInTheWay() {
    make("out", ["model.safetensors": "old"])
    make("out/config.json", ["mine": "x"])
    let found = problem { () throws(Diagnostic) in
      _ = try OutputDirectory(
        destination: home.file("out"), force: true, names: ["model.safetensors", "config.json"])
    }
    #expect(found?.code == "output.in-the-way")
    #expect(found?.message.contains("\"config.json\"") == true)
    #expect(Files.read(home.file("out/config.json/mine")) == Array("x".utf8))
    #expect(Files.names(in: home.path) == ["out"])
  }

  @Test(
    "weights that would be read instead of the new ones are named, and nothing is changed",
    arguments: [
      (["model.safetensors"], ["pytorch_model.bin"], ["model.safetensors"]),
      (["model.safetensors.index.json"], ["model.safetensors"], ["model.safetensors.index.json"]),
      (["model.safetensors"], ["model.safetensors.index.json"], ["model.safetensors"]),
      (["model.safetensors", "lit_model.pth"], ["lit_model.pth"], ["model.safetensors"]),
      (["w.bin.index.json"], ["w.bin"], ["w.bin.index.json"]),
    ])
  func shadows(old: [String], new: [String], named: [String]) throws {
    make("out", Dictionary(uniqueKeysWithValues: (old + ["a.pt"]).map { ($0, "old") }))
    let early = problem { () throws(Diagnostic) in
      _ = try OutputDirectory(destination: home.file("out"), force: true, names: new)
    }
    let output = try OutputDirectory(destination: home.file("out"), force: true)
    for name in new { Files.write("new", to: output.path + "/" + name) }
    let late = problem { () throws(Diagnostic) in try output.commit() }
    for found in [early, late] {
      #expect(found?.code == "output.in-the-way")
      for name in named { #expect(found?.message.contains("\"\(name)\"") == true) }
    }
    #expect(Files.names(in: home.path) == ["out"])
    #expect(Files.names(in: home.file("out")) == (old + ["a.pt"]).sorted())
    for name in old { #expect(Files.read(home.file("out/" + name)) == Array("old".utf8)) }
  }

  @Test("files of an earlier conversion go unless they were changed meanwhile")
  func owned() throws {
    make("out", ["model.safetensors": "old", "pytorch_model.bin": "old", "vocab.json": "old"])
    let output = try OutputDirectory(
      destination: home.file("out"), force: true, names: ["pytorch_model.bin"]
    ) { _ in ["model.safetensors", "vocab.json"] }
    Files.write("new", to: output.path + "/pytorch_model.bin")
    Files.write("changed since", to: home.file("out/vocab.json"))
    #expect(try output.commit().map(\.code) == ["output.kept"])
    #expect(Files.names(in: home.file("out")) == ["pytorch_model.bin", "vocab.json"])
    #expect(Files.read(home.file("out/vocab.json")) == Array("changed since".utf8))
  }

  @Test("an empty directory is a fine destination, and its permissions stay")
  func empty() throws {
    make("out", [:])
    chmod(home.file("out"), 0o2750)
    let output = try OutputDirectory(destination: home.file("out///"))
    Files.write("x", to: output.path + "/model.safetensors")
    #expect(try output.commit() == [])
    #expect(status("out").st_mode & 0o7777 == 0o2750)
    #expect(Files.names(in: home.path) == ["out"])
    #expect(Files.read(home.file("out/model.safetensors")) == Array("x".utf8))
  }

  @Test("an empty directory that is filled meanwhile stays as it is")
  func filled() throws {
    make("out", [:])
    let output = try OutputDirectory(destination: home.file("out"))
    Files.write("x", to: output.path + "/model.safetensors")
    Files.write("theirs", to: home.file("out/note"))
    let found = problem { () throws(Diagnostic) in try output.commit() }
    #expect(found?.code == "output.exists")
    #expect(Files.names(in: home.path) == ["out"])
    #expect(Files.names(in: home.file("out")) == ["note"])
  }

  @Test("a link to a directory stays a link, and what it points to is replaced")
  func linked() throws {
    make("real", ["model.safetensors": "old", "note": "mine"])
    Files.link(home.file("out"), to: "real")
    let output = try OutputDirectory(destination: home.file("out/"), force: true)
    Files.write("new", to: output.path + "/model.safetensors")
    try output.commit()
    #expect(status("out").st_mode & S_IFMT == S_IFLNK)
    #expect(Files.read(home.file("real/model.safetensors")) == Array("new".utf8))
    #expect(Files.read(home.file("real/note")) == Array("mine".utf8))
  }

  @Test("missing parents are created, said, and removed again when nothing comes of it")
  func parents() throws {
    do {
      let output = try OutputDirectory(destination: home.file("a/b/out"))
      #expect(output.notes.map(\.code) == ["output.parent"])
      #expect(output.notes.first?.subject == home.file("a"))
      output.discard()
    }
    #expect(Files.names(in: home.path) == [])
    let output = try OutputDirectory(destination: home.file("a/b/out"))
    Files.write("x", to: output.path + "/model.safetensors")
    try output.commit()
    #expect(Files.read(home.file("a/b/out/model.safetensors")) == Array("x".utf8))
    make("src", ["model.safetensors": ""])
    #expect(failure("src/new/out", sources: ["src"]) == "output.inside-source")
    Files.write("", to: home.file("file"))
    #expect(failure("file/new/out") == "output.parent")
    #expect(Files.names(in: home.path) == ["a", "file", "src"])
    #expect(Files.names(in: home.file("src")) == ["model.safetensors"])
  }

  /// The sibling of an interrupted replacement, with the files of `old` in its list.
  func interrupted(old: [String]) -> String {
    let name = ".out.weighbridge-2147483000-1-swap.partial"
    var list: [UInt8] = []
    for file in old {
      list += Array("\(status("\(name)/tree/\(file)").st_ino)/\(file)".utf8) + [0]
    }
    Files.write(list, to: home.file(name + "/list"))
    return name
  }

  @Test("after an interrupted replacement only what is listed, or stands twice, goes")
  func swapped() throws {
    make("out", ["model.safetensors": "new", "mine": "mine"])
    make("out/logs", ["a": "a"])
    let swap = ".out.weighbridge-2147483000-1-swap.partial"
    make(swap, [:])
    make(swap + "/tree", ["model.safetensors": "old", "appeared": "dear"])
    make(swap + "/tree/logs", ["late": "late"])
    #expect(link(home.file("out/mine"), home.file(swap + "/tree/mine")) == 0)
    #expect(link(home.file("out/logs/a"), home.file(swap + "/tree/logs/a")) == 0)
    _ = interrupted(old: ["model.safetensors"])
    let output = try OutputDirectory(destination: home.file("out"), force: true)
    #expect(output.notes.map(\.code) == ["output.kept", "output.leftover"])
    #expect(output.notes.last?.subject == home.file(swap))
    output.discard()
    #expect(Files.names(in: home.path) == ["out"])
    #expect(Files.names(in: home.file("out")) == ["appeared", "logs", "mine", "model.safetensors"])
    #expect(Files.names(in: home.file("out/logs")) == ["a", "late"])
    #expect(Files.read(home.file("out/model.safetensors")) == Array("new".utf8))
    #expect(Files.read(home.file("out/appeared")) == Array("dear".utf8))
    #expect(status("out/mine").st_nlink == 1)
  }

  @Test("what can neither go nor be moved stays in the sibling, with a warning, run after run")
  func stays() throws {
    make("out", ["model.safetensors": "new", "note": "one"])
    let swap = ".out.weighbridge-2147483000-1-swap.partial"
    make(swap, [:])
    make(swap + "/tree", ["model.safetensors": "old", "note": "another"])
    _ = interrupted(old: ["model.safetensors"])
    for _ in 0..<2 {
      let output = try OutputDirectory(destination: home.file("out"), force: true)
      #expect(output.notes.map(\.code) == ["output.leftover"])
      #expect(output.notes.first?.severity == .warning)
      #expect(output.notes.first?.message.contains("\"note\"") == true)
      output.discard()
      #expect(Files.names(in: home.file(swap + "/tree")) == ["note"])
      #expect(Files.read(home.file(swap + "/tree/note")) == Array("another".utf8))
    }
  }

  @Test("killed between the two renames, the old directory comes back and the new one goes")
  func restoredFromSwap() throws {
    let swap = ".out.weighbridge-2147483000-1-swap.partial"
    make(swap, [:])
    make(swap + "/old", ["model.safetensors": "old", "mine": "mine"])
    make(swap + "/tree", ["model.safetensors": "new"])
    #expect(link(home.file(swap + "/old/mine"), home.file(swap + "/tree/mine")) == 0)
    _ = interrupted(old: ["model.safetensors"])
    #expect(failure("out") == "output.exists")
    #expect(Files.names(in: home.path) == ["out"])
    #expect(Files.read(home.file("out/model.safetensors")) == Array("old".utf8))
    #expect(status("out/mine").st_nlink == 1)
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
    #expect(failure("src/x/../out", sources: ["src"])?.hasPrefix("output.") == true)
    #expect(
      failure("src", sources: ["src/model.safetensors"], force: true) == "output.contains-source")
    #expect(failure("src2", sources: ["src"]) == nil)
    Files.link(home.file("alias"), to: "src")
    #expect(failure("alias", sources: ["src"], force: true) == "output.is-source")
    #expect(failure("alias/out", sources: ["src"]) == "output.inside-source")
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
    let names =
      [1, 2].map { ".out.weighbridge-2147483000-\($0).partial" }
      + [".out.weighbridge-mine.partial"]
    Files.link(home.file(names[0]), to: "precious")
    Files.write("x", to: home.file(names[1]))
    make(names[2], ["thesis.tex": "x"])
    let output = try OutputDirectory(destination: home.file("out"))
    #expect(output.notes.map(\.code) == Array(repeating: "output.leftover", count: 3))
    #expect(output.notes.allSatisfy { $0.severity == .warning && $0.message.hasSuffix("it stays") })
    #expect(names.allSatisfy { Files.exists(home.file($0)) })
    #expect(Files.names(in: home.file("precious")) == ["thesis.tex"])
  }

  @Test("a replaced directory's permissions stay", arguments: [0o700, 0o750] as [mode_t])
  func permissions(mode: mode_t) throws {
    make("out", ["model.safetensors": "old"])
    chmod(home.file("out"), mode)
    let output = try OutputDirectory(destination: home.file("out"), force: true)
    Files.write("new", to: output.path + "/model.safetensors")
    try output.commit()
    var info = stat()
    #expect(stat(home.file("out"), &info) == 0 && info.st_mode & 0o777 == mode)
    #expect(Files.read(home.file("out/model.safetensors")) == Array("new".utf8))
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
    Files.write("x", to: first.path + "/model.safetensors")
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
