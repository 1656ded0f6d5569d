import Foundation
import Synchronization
import TestSupport
import Tensors
import Testing

/// Checkpoints behind URLs.
@Suite("Checkpoints behind URLs")
struct URLTests {
  static let samba = ModelFixture.named("samba-fla/fla").path
  static let lit = ModelFixture.named("lit-samba/lit_gpt").path
  static let mamba = ModelFixture.named("mamba-tied/hf").path

  /// What every run here has: no home of the machine's user, whose token and cache are his.
  static func run(_ arguments: [String], _ more: [String: String] = [:]) throws -> ToolRun {
    let home = TemporaryDirectory()
    return try BuiltTool.run(
      arguments,
      environment: ["HF_HOME": home.path, "HF_TOKEN": "", "HF_HUB_OFFLINE": ""].merging(more) { $1 }
    )
  }

  /// The tensors of `inspect --json`, as text.
  static func tensors(_ path: String, _ more: [String: String] = [:]) throws -> JSONValue {
    let run = try run(["inspect", path, "--json"], more)
    #expect(run.status == 0, "\(run.error)")
    return try run.document()["tensors"] ?? .null
  }

  /// A checkpoint in a container that a conversion writes, in a directory.
  static func written(_ options: String...) throws -> TemporaryDirectory {
    let folder = TemporaryDirectory()
    let made = try BuiltTool.run(["convert", samba, folder.file("m")] + options)
    #expect(made.status == 0, "\(made.error)")
    return folder
  }

  @Test(
    "inspect shows the same tensors as of the local file",
    arguments: [
      (["--to", "fla"], "m/model.safetensors"), (["--to", "fla"], "m/"),
      (["--to", "fla", "--max-shard-size", "300KB"], "m/model.safetensors.index.json"),
      (["--to", "fla", "--max-shard-size", "300KB"], "m/"),
      (["--to", "fla", "--container", "pytorch"], "m/pytorch_model.bin"),
      (["--to", "fla", "--container", "pytorch", "--max-shard-size", "300KB"], "m/"),
      (["--to", "fla", "--container", "npz"], "m/model.npz"),
    ])
  func inspect(options: [String], place: String) throws {
    let folder = TemporaryDirectory()
    let made = try BuiltTool.run(["convert", Self.samba, folder.file("m")] + options)
    #expect(made.status == 0, "\(made.error)")
    let server = HTTPServer(directory: folder.path)

    let path = folder.file(place)
    let target = String(path.dropFirst(folder.path.count))
    #expect(try Self.tensors(server.url(target)) == Self.tensors(path))
    #expect(server.requests.allSatisfy { $0.method == "GET" && $0.range != nil })
  }

  @Test("inspect reads a GGUF file, and the parts that its first one names")
  func gguf() throws {
    let folder = TemporaryDirectory()
    for (name, options) in [("one", []), ("parts", ["--max-shard-size", "60KB"])] {
      let made = try BuiltTool.run(
        ["convert", Self.mamba, folder.file(name), "--to", "gguf"] + options)
      #expect(made.status == 0, "\(made.error)")
    }
    let server = HTTPServer(directory: folder.path)
    for name in ["one", "parts"] {
      let file = try #require(Files.names(in: folder.file(name)).first { $0.hasSuffix(".gguf") })
      #expect(
        try Self.tensors(server.url("/\(name)/\(file)"))
          == Self.tensors(folder.file("\(name)/\(file)")))
    }
  }

  @Test("inspect reads heads only, in few requests")
  func headsOnly() throws {
    // 8 MB of weights behind a short header.
    let folder = TemporaryDirectory()
    let count = 2_000_000
    let header = #"{"a":{"dtype":"F32","shape":[\#(count)],"data_offsets":[0,\#(4 * count)]}}"#
    var bytes: [UInt8] = (0..<8).map { UInt8(truncatingIfNeeded: header.utf8.count >> (8 * $0)) }
    bytes += Array(header.utf8) + [UInt8](repeating: 0, count: 4 * count)
    Files.write(bytes, to: folder.file("model.safetensors"))
    let server = HTTPServer(directory: folder.path)
    let run = try Self.run(["inspect", server.url("/model.safetensors"), "--json"])
    // No layout knows it; its tensor is told all the same.
    #expect(run.status == (try Self.run(["inspect", folder.file("model.safetensors")]).status))
    #expect(try run.document()["tensors"]?.array?.first?["shape"] == [.int(count)])
    let asked = server.requests.filter { $0.target == "/model.safetensors" }
    #expect(asked.count == 1)
    #expect(asked.reduce(0) { $0 + $1.range!.count } <= 256 << 10)
  }

  @Test(
    "convert writes the very files that it writes from the local source",
    arguments: [
      (samba, "hf-like", ["--to", "fla"]), (lit, "lit", ["--to", "fla"]),
      (samba, "half", ["--to", "fla", "--dtype", "bfloat16"]),
      (mamba, "gguf", ["--to", "gguf"]),
    ])
  func convert(source: String, name: String, options: [String]) throws {
    let folder = TemporaryDirectory()
    let server = HTTPServer(directory: source)
    let weights = try #require(
      Files.names(in: source).first { $0.hasSuffix(".safetensors") || $0.hasSuffix(".pth") })
    let local = try Self.run(
      ["convert", source + "/" + weights, folder.file("local")] + options)
    #expect(local.status == 0, "\(local.error)")
    let remote = try Self.run(
      ["convert", server.url("/" + weights), folder.file("remote")] + options)
    #expect(remote.status == 0, "\(remote.error)")
    #expect(Files.names(in: folder.file("remote")) == Files.names(in: folder.file("local")))
    for file in Files.names(in: folder.file("local")) {
      let isSame =
        Files.read(folder.file("remote/\(file)")) == Files.read(folder.file("local/\(file)"))
      #expect(isSame, "\(file)")
    }
  }

  @Test("convert brings the tokenizer's files along")
  func companions() throws {
    let source = TemporaryDirectory()
    for name in Files.names(in: Self.samba) {
      Files.write(Files.read(Self.samba + "/" + name), to: source.file(name))
    }
    Files.write("{\"version\": \"1.0\"}", to: source.file("tokenizer.json"))
    Files.write("a b\n", to: source.file("merges.txt"))
    let server = HTTPServer(directory: source.path)
    let folder = TemporaryDirectory()
    let run = try Self.run(
      ["convert", server.url("/model.safetensors"), folder.file("out"), "--to", "fla"])
    #expect(run.status == 0, "\(run.error)")
    #expect(
      Files.names(in: folder.file("out")) == [
        "config.json", "generation_config.json", "merges.txt", "model.safetensors",
        "tokenizer.json",
      ])
    #expect(Files.read(folder.file("out/merges.txt")) == Array("a b\n".utf8))
  }

  @Test("parity and diff read from URLs on both sides")
  func parity() throws {
    let server = HTTPServer(directory: Fixtures.path("models"))
    let url = server.url("/samba-fla/fla/model.safetensors")
    let parity = try Self.run(["parity", Self.samba, url, "--random", "1x8", "--json"])
    #expect(parity.status == 0, "\(parity.error)")
    let diff = try Self.run(["diff", url, server.url("/samba-fla/fla/"), "--json"])
    #expect(diff.status == 0, "\(diff.error)")
    #expect(try diff.document()["equal"] == true)
    for place in [
      Fixtures.path("models/samba-fla/trace.safetensors"),
      server.url("/samba-fla/trace.safetensors"),
    ] {
      let trace = try Self.run(["parity", url, "--trace", place])
      #expect(trace.status == 0, "\(trace.error)")
    }
  }

  @Test("--config may be a URL")
  func config() throws {
    let server = HTTPServer(directory: Fixtures.path("models"))
    let folder = TemporaryDirectory()
    Files.write(Files.read(Self.samba + "/model.safetensors"), to: folder.file("x.safetensors"))
    let run = try Self.run([
      "inspect", folder.file("x.safetensors"), "--config",
      server.url("/samba-fla/fla/config.json"), "--json",
    ])
    #expect(run.status == 0, "\(run.error)")
    #expect(server.requests.count == 1)
  }

  /// A hub whose one model is a directory.
  static func hub(_ directory: String, etag: String = "\"1\"") -> (
    hub: HTTPServer, store: HTTPServer
  ) {
    let commit = String(repeating: "ab", count: 20)
    let store = HTTPServer { request, _ in
      .file(Files.read(directory + "/" + request.target.dropFirst()), request, etag: etag)
    }
    let origin = store.url("/")
    let hub = HTTPServer { request, _ in
      let start = "/org/model/resolve/\(commit)/"
      if request.target == "/api/models/org/model/revision/main?blobs=true" {
        let names = Files.names(in: directory).map { "{\"rfilename\": \"\($0)\"}" }
        return .init(
          200,
          body: Array(
            "{\"sha\": \"\(commit)\", \"siblings\": [\(names.joined(separator: ","))]}".utf8))
      }
      guard request.target.hasPrefix(start) else { return .init(404) }
      let name = String(request.target.dropFirst(start.count))
      guard Files.exists(directory + "/" + name) else { return .init(404) }
      return name.hasSuffix(".json")
        ? .file(Files.read(directory + "/" + name), request) : .redirect(origin + name)
    }
    return (hub, store)
  }

  @Test("hf:// is inspected, converted and compared, with the commit told")
  func hub() throws {
    let (hub, store) = Self.hub(Self.samba)
    let environment = ["HF_ENDPOINT": hub.url(""), "HF_TOKEN": "hf_secret"]
    #expect(try Self.tensors("hf://org/model", environment) == Self.tensors(Self.samba))
    let folder = TemporaryDirectory()
    let run = try Self.run(
      ["convert", "hf://org/model", folder.file("out"), "--to", "fla"], environment)
    #expect(run.status == 0, "\(run.error)")
    #expect(
      run.error.contains(
        "note[source.revision]: hf://org/model: main is commit "
          + "abababababababababababababababababababab"))
    #expect(!(run.output + run.error).contains("hf_secret"))
    let diff = try Self.run(["diff", folder.file("out"), "hf://org/model"], environment)
    #expect(diff.status == 0, "\(diff.error)")
    #expect(store.requests.allSatisfy { $0.headers["authorization"] == nil })
    #expect(hub.requests.contains { $0.headers["authorization"] == "Bearer hf_secret" })
  }

  @Test("a source that changes ends the conversion, and nothing is written")
  func changes() throws {
    let bytes = Files.read(Self.samba + "/model.safetensors")
    let config = Files.read(Self.samba + "/config.json")
    let count = Mutex(0)
    let server = HTTPServer { request, _ in
      switch request.target {
      case "/config.json": return .file(config, request)
      case "/model.safetensors":
        let number = count.withLock { count in
          count += 1
          return count
        }
        return .file(bytes, request, etag: number < 2 ? "\"1\"" : "\"2\"")
      default: return .init(404)
      }
    }
    let folder = TemporaryDirectory()
    let run = try Self.run(
      ["convert", server.url("/model.safetensors"), folder.file("out"), "--to", "fla", "--json"])
    #expect(run.status == 2)
    #expect(try run.problems() == ["source.changed \(server.url("/model.safetensors"))"])
    #expect(Files.names(in: folder.path) == [])
  }

  @Test("what cannot be read from a URL is refused with the way out")
  func refused() throws {
    let hdf5 = try Self.written("--to", "fla", "--container", "hdf5")
    let name = try #require(
      Files.names(in: hdf5.file("m")).first { $0.hasSuffix(".h5") || $0.hasSuffix(".hdf5") })
    let server = HTTPServer(directory: hdf5.path)
    let first = try Self.run(["inspect", server.url("/m/\(name)"), "--json"])
    #expect(first.status == 2)
    #expect(try first.problems() == ["source.container \(server.url("/m/\(name)"))"])
    let dcp = try Self.written("--to", "fla", "--container", "dcp", "--ranks", "2")
    let (hub, _) = Self.hub(dcp.file("m"))
    let second = try Self.run(
      ["inspect", "hf://org/model", "--json"], ["HF_ENDPOINT": hub.url("")])
    #expect(second.status == 2)
    #expect(try second.problems().first?.hasPrefix("source.container") == true, "\(second.output)")
  }

  @Test("a URL is no destination, and is not asked")
  func destination() throws {
    let server = HTTPServer { _, _ in .init(404) }
    let run = try Self.run(["convert", Self.samba, server.url("/out"), "--to", "fla", "--json"])
    #expect(run.status == 2)
    #expect(try run.problems() == ["output.url \(server.url("/out"))"])
    #expect(server.requests.isEmpty)
  }

  @Test("a signature in a URL is in no output and no report")
  func signature() throws {
    let samba = Self.samba
    let server = HTTPServer { request, _ in
      let parts = request.target.split(separator: "?", maxSplits: 1)
      let path = samba + parts[0]
      guard parts.count == 2, parts[1] == "sig=SECRET", Files.exists(path) else {
        return .init(403)
      }
      return .file(Files.read(path), request)
    }
    let folder = TemporaryDirectory()
    let url = server.url("/model.safetensors?sig=SECRET")
    let inspect = try Self.run(["inspect", url, "--json", "--report", folder.file("r.html")])
    #expect(inspect.status == 0, "\(inspect.error)")
    let parity = try Self.run(
      ["parity", url, Self.samba, "--random", "1x4", "--report", folder.file("p.html")])
    #expect(parity.status == 0, "\(parity.error)")
    for text in [
      inspect.output, inspect.error, parity.output, parity.error,
      String(decoding: Files.read(folder.file("r.html")), as: UTF8.self),
      String(decoding: Files.read(folder.file("p.html")), as: UTF8.self),
    ] {
      #expect(!text.contains("SECRET"))
    }
  }

  @Test("without libcurl a URL is an error, and everything local goes on")
  func noLibrary() throws {
    let folder = TemporaryDirectory()
    for name in ["libcurl.so.4", "libcurl-gnutls.so.4", "libcurl-nss.so.4"] {
      Files.write("no library", to: folder.file(name))
    }
    let environment = ["LD_LIBRARY_PATH": folder.path]
    let remote = try Self.run(["inspect", "http://127.0.0.1:1/x", "--json"], environment)
    #expect(remote.status == 2)
    #expect(try remote.problems() == ["source.library libcurl.so.4"])
    #expect(try Self.run(["inspect", Self.samba], environment).status == 0)
  }

  @Test("a shard that the index names and the server lacks is an error")
  func missingShard() throws {
    let folder = try Self.written("--to", "fla", "--max-shard-size", "300KB")
    let shard = try #require(
      Files.names(in: folder.file("m")).first { $0.hasPrefix("model-00002-of") })
    Files.remove(folder.file("m/" + shard))
    let server = HTTPServer(directory: folder.path)
    let run = try Self.run(
      ["inspect", server.url("/m/model.safetensors.index.json"), "--json"])
    #expect(run.status == 2)
    #expect(
      try run.problems() == [
        "shards.missing-file \(server.url("/m/model.safetensors.index.json"))"
      ])
  }
}
