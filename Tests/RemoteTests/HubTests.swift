import Synchronization
import Tensors
import TestSupport
import Testing

@testable import Remote

/// Models of a hub.
// One at a time: opened places are known to the whole process, and all these have one name.
@Suite("The hub", .serialized)
struct HubTests {
  typealias Answer = HTTPServer.Answer

  static let commit = String(repeating: "0123456789", count: 4)
  static let weights = FaultTests.bytes(60_000)
  static let config = Array(#"{"model_type": "mamba"}"#.utf8)

  /// A hub with one model, and the store that it sends on to for weights.
  struct Hub {
    let hub: HTTPServer
    let store: HTTPServer
    let home = TemporaryDirectory()

    init(
      store answer: @escaping @Sendable (HTTPServer.Request, Int) -> Answer = { request, _ in
        .file(HubTests.weights, request, etag: "\"store\"")
      },
      change: @escaping @Sendable (HTTPServer.Request, Answer) -> Answer = { $1 }
    ) {
      store = HTTPServer(answer)
      let lent = store.url("/blob?signature=secret")
      hub = HTTPServer { request, _ in
        let target = request.target
        let base = "/org/model/resolve/\(HubTests.commit)/"
        let good: Answer
        switch target {
        case "/api/models/org/model/revision/main?blobs=true",
          "/api/models/org/model/revision/refs%2Fpr%2F1?blobs=true",
          "/api/models/org/model/revision/\(HubTests.commit)?blobs=true":
          good = Answer(200, body: Array(HubTests.list.utf8))
        case base + "model.safetensors": good = .redirect(lent)
        case base + "config.json", base + "sub/a%20b.json": good = .file(HubTests.config, request)
        default: good = Answer(404, [("X-Error-Code", "EntryNotFound")])
        }
        return change(request, good)
      }
    }

    func environment(_ more: [String: String] = [:]) throws -> HubEnvironment {
      var values = ["HF_ENDPOINT": hub.url(""), "HF_HOME": home.path]
      values.merge(more) { $1 }
      return try HubEnvironment { values[$0] }
    }

    func open(_ url: String, _ more: [String: String] = [:]) throws -> (
      path: String, notes: [Diagnostic]
    ) {
      try Remote.open(url, environment: environment(more), policy: FaultTests.policy)
    }

    func file(_ url: String, _ more: [String: String] = [:]) throws -> RandomAccessFile {
      try Remote.file(url, environment: environment(more), policy: FaultTests.policy)
    }
  }

  static let list = """
    {"id": "org/model", "sha": "\(commit)", "siblings": [
      {"rfilename": "config.json", "size": \(config.count)},
      {"rfilename": "model.safetensors", "size": 60000, "lfs": {"sha256": "x", "size": 60000}},
      {"rfilename": "sub/a b.json"}, {"rfilename": "../evil"}, {"rfilename": "/etc/passwd"}]}
    """

  static func all(_ file: RandomAccessFile) throws -> [UInt8] {
    try file.bytes(at: 0, count: file.byteCount)
  }

  @Test("a model is its files at the commit that the revision is, and that is told")
  func model() throws {
    let hub = Hub()
    let opened = try hub.open("hf://org/model")
    #expect(opened.path == "hf://org/model")
    #expect(FilePath.kind(opened.path) == .directory)
    #expect(
      try FilePath.names(in: opened.path) == ["config.json", "model.safetensors", "sub"])
    #expect(FilePath.kind(opened.path + "/sub") == .directory)
    #expect(try FilePath.names(in: opened.path + "/sub") == ["a b.json"])
    #expect(FilePath.kind(opened.path + "/../evil") == .nothing)
    #expect(FilePath.kind(opened.path + "/none") == .nothing)
    #expect(try Self.all(RandomAccessFile(path: opened.path + "/config.json")) == Self.config)
    #expect(try Self.all(RandomAccessFile(path: opened.path + "/sub/a b.json")) == Self.config)
    #expect(
      try Self.all(RandomAccessFile(path: opened.path + "/model.safetensors")) == Self.weights)
    let notes = RemotePlaces.notes(of: opened.path)
    #expect(notes.map(\.code) == ["source.revision"])
    #expect(notes[0].message == "main is commit \(Self.commit), at which every file is read")
    // The revision is asked for once; everything after that is of the commit.
    #expect(hub.hub.requests.filter { $0.target.hasPrefix("/api/") }.count == 1)
    #expect(
      hub.hub.requests.dropFirst().allSatisfy {
        $0.target.hasPrefix("/org/model/resolve/\(Self.commit)/")
      })
  }

  @Test(
    "a file, a revision with slashes, a commit, and a page's URL name it as well",
    arguments: [
      "hf://org/model/model.safetensors", "hf://org/model@refs/pr/1/model.safetensors",
      "hf://org/model@\(commit)/model.safetensors",
    ])
  func names(url: String) throws {
    let hub = Hub()
    #expect(try Self.all(hub.file(url)) == Self.weights)
    let page = hub.hub.url("/org/model/blob/main/model.safetensors")
    #expect(try Self.all(hub.file(page)) == Self.weights)
  }

  @Test("a commit that was asked for needs no note")
  func commitNote() throws {
    let hub = Hub()
    let opened = try hub.open("hf://org/model@\(Self.commit)")
    #expect(RemotePlaces.notes(of: opened.path) == [])
  }

  @Test("the token goes to the hub and to nobody else")
  func token() throws {
    let hub = Hub()
    #expect(
      try Self.all(hub.file("hf://org/model/model.safetensors", ["HF_TOKEN": "hf_secret"]))
        == Self.weights)
    #expect(hub.hub.requests.count == 2)
    #expect(hub.hub.requests.allSatisfy { $0.headers["authorization"] == "Bearer hf_secret" })
    #expect(!hub.store.requests.isEmpty)
    #expect(hub.store.requests.allSatisfy { $0.headers["authorization"] == nil })
    // A web server that is no hub gets none.
    let other = HTTPServer { request, _ in .file(Self.weights, request) }
    #expect(
      try Self.all(hub.file(other.url("/model.bin"), ["HF_TOKEN": "hf_secret"])) == Self.weights)
    #expect(other.requests.allSatisfy { $0.headers["authorization"] == nil })
  }

  @Test("the store may not send on to a third host")
  func thirdHost() throws {
    let third = HTTPServer { request, _ in .file(Self.weights, request) }
    let target = third.url("/x")
    let hub = Hub(store: { _, _ in .redirect(target) })
    let problem = #expect(throws: Diagnostic.self) {
      try hub.file("hf://org/model/model.safetensors")
    }
    #expect(problem?.code == "source.redirect")
    #expect(third.requests.isEmpty)
  }

  @Test("the list of files may not come from another host")
  func listElsewhere() throws {
    let other = HTTPServer { _, _ in Answer(200, body: Array(Self.list.utf8)) }
    let target = other.url("/list")
    let hub = Hub(change: { request, answer in
      request.target.hasPrefix("/api/") ? .redirect(target) : answer
    })
    let problem = #expect(throws: Diagnostic.self) { try hub.open("hf://org/model") }
    #expect(problem?.code == "source.redirect")
    #expect(other.requests.isEmpty)
  }

  @Test("a lent address that has run out is asked for anew")
  func lent() throws {
    let isOver = Mutex(false)
    let hub = Hub(store: { request, _ in
      let over = isOver.withLock { over in
        defer { over = false }
        return over
      }
      return over ? Answer(403) : .file(Self.weights, request)
    })
    let file = try hub.file("hf://org/model/model.safetensors")
    isOver.withLock { $0 = true }
    #expect(try Self.all(file) == Self.weights)
    #expect(hub.hub.requests.filter { $0.target.hasSuffix("model.safetensors") }.count == 2)
  }

  @Test("what may not be read says what to do", arguments: [401, 403])
  func denied(status: Int) throws {
    let hub = Hub(change: { _, _ in
      Answer(
        status,
        [
          ("X-Error-Code", "GatedRepo"),
          ("X-Error-Message", "Access to model org/model is restricted"),
        ])
    })
    let without = #expect(throws: Diagnostic.self) { try hub.open("hf://org/model") }
    #expect(without?.code == "source.denied")
    #expect(without?.help?.contains("set HF_TOKEN") == true)
    #expect(without?.notes == ["it says: Access to model org/model is restricted"])
    let with = #expect(throws: Diagnostic.self) {
      try hub.open("hf://org/model", ["HF_TOKEN": "hf_secret"])
    }
    #expect(with?.code == "source.denied")
    #expect(with?.help?.contains("the token of HF_TOKEN may not read it") == true)
    #expect(with?.description.contains("hf_secret") == false)
  }

  @Test("a revision and a file that are not there are told apart")
  func missing() throws {
    let hub = Hub(change: { request, answer in
      answer.status == 404 ? Answer(404, [("X-Error-Code", "RevisionNotFound")]) : answer
    })
    let revision = #expect(throws: Diagnostic.self) { try hub.open("hf://org/model@v9") }
    #expect(revision?.code == "source.not-found")
    #expect(revision?.message.hasPrefix("has no such revision") == true)
    let file = #expect(throws: Diagnostic.self) { try hub.open("hf://org/model/none.safetensors") }
    #expect(file?.code == "source.not-found")
    #expect(file?.message == "is not in the repository")
  }

  @Test(
    "what is no list of files is refused",
    arguments: [
      "<html>", "{}", #"{"sha": "main", "siblings": []}"#, #"{"sha": 1}"#,
      "{\"sha\": \"\(commit)\"}", "[1",
    ])
  func noList(text: String) throws {
    let hub = Hub(change: { request, answer in
      request.target.hasPrefix("/api/") ? Answer(200, body: Array(text.utf8)) : answer
    })
    let problem = #expect(throws: Diagnostic.self) { try hub.open("hf://org/model") }
    #expect(problem?.code == "source.list")
  }

  @Test("another commit than the one that was asked for is refused")
  func otherCommit() throws {
    let other = String(repeating: "a", count: 40)
    let hub = Hub(change: { request, answer in
      request.target.hasPrefix("/api/") ? Answer(200, body: Array(Self.list.utf8)) : answer
    })
    let problem = #expect(throws: Diagnostic.self) { try hub.open("hf://org/model@\(other)") }
    #expect(problem?.code == "source.changed")
  }

  @Test("a file of another size than the list says has changed")
  func otherSize() throws {
    let hub = Hub(store: { request, _ in .file(Array(Self.weights.dropLast()), request) })
    let problem = #expect(throws: Diagnostic.self) {
      try hub.file("hf://org/model/model.safetensors")
    }
    #expect(problem?.code == "source.changed")
    #expect(problem?.message.contains("59999 bytes, where the list of files says 60000") == true)
  }

  /// An entry of the cache as huggingface_hub keeps it: links to blobs.
  static func cache(_ home: String, _ files: [String: [UInt8]]) {
    let entry = home + "/hub/models--org--model"
    for path in [
      home + "/hub", entry, entry + "/blobs", entry + "/refs", entry + "/snapshots",
      entry + "/snapshots/" + commit,
    ] { Files.makeDirectory(path) }
    Files.write(commit, to: entry + "/refs/main")
    for (number, (name, bytes)) in files.enumerated() {
      Files.write(bytes, to: entry + "/blobs/\(number)")
      Files.link(entry + "/snapshots/\(commit)/" + name, to: "../../blobs/\(number)")
    }
  }

  @Test("what the cache has of the revision is not fetched, and that is told")
  func cached() throws {
    let hub = Hub()
    Self.cache(hub.home.path, ["model.safetensors": Self.weights])
    let opened = try hub.open("hf://org/model")
    let file = try RandomAccessFile(path: opened.path + "/model.safetensors")
    #expect(try Self.all(file) == Self.weights)
    #expect(!file.isRemote)
    #expect(hub.store.requests.isEmpty)
    #expect(try Self.all(RandomAccessFile(path: opened.path + "/config.json")) == Self.config)
    let notes = RemotePlaces.notes(of: opened.path)
    #expect(notes.map(\.code) == ["source.revision", "source.cached"])
    #expect(notes[1].message.hasPrefix("1 file of this revision is read from \(hub.home.path)"))
  }

  @Test("a copy of another size, or a link out of the cache, is not used")
  func badCache() throws {
    let short = Hub()
    Self.cache(short.home.path, ["model.safetensors": [1, 2, 3]])
    #expect(try Self.all(short.file("hf://org/model/model.safetensors")) == Self.weights)
    let linked = Hub()
    Self.cache(linked.home.path, [:])
    let other = FaultTests.bytes(60_000, seed: 9)
    Files.write(other, to: linked.home.file("elsewhere"))
    Files.link(
      linked.home.path + "/hub/models--org--model/snapshots/\(Self.commit)/model.safetensors",
      to: linked.home.file("elsewhere"))
    #expect(try Self.all(linked.file("hf://org/model/model.safetensors")) == Self.weights)
  }

  @Test("HF_HUB_OFFLINE asks nobody: the cache, or an error")
  func offline() throws {
    let hub = Hub()
    let none = #expect(throws: Diagnostic.self) {
      try hub.open("hf://org/model", ["HF_HUB_OFFLINE": "1"])
    }
    #expect(none?.code == "source.offline")
    Self.cache(hub.home.path, ["config.json": Self.config])
    for name in ["", "@main", "@" + Self.commit] {
      let opened = try hub.open("hf://org/model\(name)", ["HF_HUB_OFFLINE": "1"])
      #expect(opened.path.hasSuffix("/models--org--model/snapshots/\(Self.commit)"))
      #expect(opened.notes.map(\.code) == ["source.cached"])
      #expect(try Self.all(RandomAccessFile(path: opened.path + "/config.json")) == Self.config)
    }
    #expect(hub.hub.requests.isEmpty && hub.store.requests.isEmpty)
  }

  @Test("a hub below a path is asked there")
  func below() throws {
    let server = HTTPServer { request, _ in
      request.target == "/base/api/models/org/model/revision/main?blobs=true"
        ? Answer(200, body: Array(Self.list.utf8))
        : request.target == "/base/org/model/resolve/\(Self.commit)/config.json"
          ? .file(Self.config, request) : Answer(404)
    }
    let environment = try HubEnvironment { ["HF_ENDPOINT": server.url("/base/")][$0] }
    let file = try Remote.file(
      "hf://org/model/config.json", environment: environment, policy: FaultTests.policy)
    #expect(try Self.all(file) == Self.config)
  }
}

/// Files of a web server.
@Suite("Web servers")
struct WebTests {
  @Test("no path leads to the network that was not opened")
  func closed() {
    let server = HTTPServer { request, _ in .file([1], request) }
    #expect(
      (#expect(throws: Diagnostic.self) {
        try RandomAccessFile(path: server.url("/x"))
      })?.code == "io.open")
    #expect(FilePath.kind(server.url("/x")) == .nothing)
    #expect((try? FilePath.names(in: server.url("/"))) == nil)
    #expect(server.requests.isEmpty)
  }

  @Test("a directory shows the usual files; a page for everything, and 403, are none")
  func directory() throws {
    let server = HTTPServer { request, _ in
      switch request.target {
      case "/m/config.json": .file(HubTests.config, request)
      case "/m/model.safetensors": .file(HubTests.weights, request)
      case "/m/lit_config.json": .init(403)
      case "/m/params.json": .file([60], request, type: "text/html; charset=utf-8")
      default: .init(404)
      }
    }
    let none = try HubEnvironment { _ in nil }
    let opened = try Remote.open(server.url("/m/"), environment: none, policy: FaultTests.policy)
    #expect(opened.path == server.url("/m"))
    #expect(try FilePath.names(in: opened.path) == ["config.json", "model.safetensors"])
    #expect(FilePath.kind(opened.path) == .directory)
    #expect(FilePath.kind(opened.path + "/model.safetensors") == .file)
    #expect(try Remote.companions(of: opened.path + "/model.safetensors") == [])
  }

  @Test("the query that was given goes along to the files beside it, and is not shown")
  func query() throws {
    let server = HTTPServer { request, _ in
      request.target.hasSuffix("?key=secret") ? .file(HubTests.weights, request) : .init(403)
    }
    let none = try HubEnvironment { _ in nil }
    let opened = try Remote.open(
      server.url("/m/model.safetensors?key=secret#x"), environment: none, policy: FaultTests.policy)
    #expect(opened.path == server.url("/m/model.safetensors"))
    let file = try RandomAccessFile(path: server.url("/m/model 2.safetensors"))
    #expect(try HubTests.all(file) == HubTests.weights)
    #expect(server.requests.last?.target == "/m/model%202.safetensors?key=secret")
  }
}
