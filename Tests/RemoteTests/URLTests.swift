import Tensors
import TestSupport
import Testing

@testable import Remote

/// What a URL is taken for.
@Suite("URLs")
struct URLTests {
  @Test(
    "are taken apart, and shown without what may be a signature",
    arguments: [
      ("https://host/a/model.safetensors", "https://host/a/model.safetensors"),
      ("HTTPS://Host:443/a?X-Sig=secret#top", "https://host/a"),
      ("http://127.0.0.1:8080", "http://127.0.0.1:8080/"),
      ("https://[::1]:9/x", "https://[::1]:9/x"),
      ("https://host/a b/ü", "https://host/a%20b/%C3%BC"),
    ])
  func shown(text: String, expected: String) throws {
    #expect(try RemoteURL(text).shown == expected)
  }

  @Test("keep their query for the server")
  func query() throws {
    let url = try RemoteURL("https://host/a?sig=1&x=2#part")
    #expect(url.text == "https://host/a?sig=1&x=2")
    #expect(url.with(path: "/b", query: url.query).text == "https://host/b?sig=1&x=2")
  }

  @Test(
    "that could mislead are refused",
    arguments: [
      "https://user:password@host/x", "ftp://host/x", "https:///x", "https://host:0/x",
      "https://host:99999/x", "https://ho st/x", "https://host/\r\nX: y", "https://host\\@other/x",
      "file:///etc/passwd", "https://höst/x",
    ])
  func refused(text: String) {
    let problem = #expect(throws: Diagnostic.self) { try RemoteURL(text) }
    #expect(problem?.code == "source.url")
    #expect(problem?.description.contains("user:password") == false)
  }

  @Test("only loopback and https are private")
  func isPrivate() throws {
    #expect(try RemoteURL("http://127.0.0.1/x").isPrivate)
    #expect(try RemoteURL("http://localhost:1/x").isPrivate)
    #expect(try RemoteURL("http://[::1]/x").isPrivate)
    #expect(try RemoteURL("https://host/x").isPrivate)
    #expect(try !RemoteURL("http://host/x").isPrivate)
    #expect(try !RemoteURL("http://127.0.0.1.example.org/x").isPrivate)
    #expect(try !RemoteURL("http://127.evil.example/x").isPrivate)
  }

  @Test(
    "of the hub's own scheme name model, revision and file",
    arguments: [
      ("hf://org/model", "org/model", nil, nil),
      ("hf://org/model@v1.0", "org/model", "v1.0", nil),
      (
        "hf://org/model@refs/pr/7/sub/model.safetensors", "org/model", "refs/pr/7",
        "sub/model.safetensors"
      ),
      ("hf://org/model@a%2Fb/x.gguf", "org/model", "a/b", "x.gguf"),
      ("hf://org/model/config.json", "org/model", nil, "config.json"),
      ("hf://gpt2", "gpt2", nil, nil),
      ("hf://gpt2@main/model.safetensors", "gpt2", "main", "model.safetensors"),
    ] as [(String, String, String?, String?)])
  func hub(text: String, model: String, revision: String?, file: String?) throws {
    let address = try HubAddress(text)
    #expect(address.model == model)
    #expect(address.revision == revision)
    #expect(address.file == file)
  }

  @Test(
    "of the hub's pages are the model's",
    arguments: [
      ("https://huggingface.co/org/model", "hf://org/model"),
      ("https://huggingface.co/org/model/tree/v2", "hf://org/model@v2"),
      (
        "https://huggingface.co/org/model/resolve/main/a/b.safetensors?download=true",
        "hf://org/model@main/a/b.safetensors"
      ),
      ("https://huggingface.co/org/model/blob/refs/pr/3/x.bin", "hf://org/model@refs/pr/3/x.bin"),
      ("https://huggingface.co/datasets/org/data/resolve/main/x", nil),
      ("https://huggingface.co.evil.example/org/model", nil),
      ("http://huggingface.co/org/model", nil),
      ("https://huggingface.co/org/model/discussions", nil),
    ] as [(String, String?)])
  func pages(text: String, expected: String?) throws {
    let endpoint = try RemoteURL("https://huggingface.co")
    #expect(HubAddress(try RemoteURL(text), endpoint: endpoint)?.path == expected)
  }

  @Test(
    "of other things of the hub are refused",
    arguments: [
      ("hf://datasets/org/data", "source.kind"), ("hf://spaces/org/app", "source.kind"),
      ("hf://", "source.url"), ("hf://org/mo del", "source.url"), ("hf://org/..", "source.url"),
      ("hf://org/model@", "source.url"), ("hf://org/model@a..b", "source.url"),
      ("hf://org/model/../../x", "source.url"), ("hf://org/model@main/a/../b", "source.url"),
    ])
  func others(text: String, code: String) {
    #expect((#expect(throws: Diagnostic.self) { try HubAddress(text) })?.code == code)
  }

  @Test(
    "Retry-After is a number of seconds or a time",
    arguments: [
      ("7", 7.0), ("Thu, 01 Jan 1970 00:00:00 GMT", 0), ("soon", nil), ("", nil), ("-1", nil),
    ] as [(String, Double?)])
  func retryAfter(text: String, expected: Double?) {
    #expect(RetryAfter.seconds(text) == expected)
  }

  @Test(
    "Content-Range is read strictly",
    arguments: [
      ("bytes 0-99/1000", 0..<100, 1000), ("bytes 5-5/6", 5..<6, 6), ("bytes */7", nil, 7),
      ("bytes 0-9/*", 0..<10, nil),
    ] as [(String, Range<Int>?, Int?)])
  func contentRange(text: String, range: Range<Int>?, total: Int?) throws {
    var head = HTTPHead()
    head.headers = [("content-range", text)]
    let found = try #require(head.contentRange)
    #expect(found.range == range)
    #expect(found.total == total)
  }

  @Test(
    "a Content-Range that is none is none",
    arguments: [
      "bytes 9-0/10", "bytes 0-10/10", "items 0-1/2", "bytes 0-1", "bytes -1-2/3", "bytes a-b/c",
      "bytes 0-99999999999999999999/1", "",
    ])
  func noContentRange(text: String) {
    var head = HTTPHead()
    head.headers = [("content-range", text)]
    #expect(head.contentRange == nil)
  }
}

/// What the environment says of the hub.
@Suite("Environment of the hub")
struct HubEnvironmentTests {
  @Test("has the names and the precedence of huggingface_hub")
  func precedence() throws {
    func environment(_ values: [String: String]) throws -> HubEnvironment {
      try HubEnvironment { values[$0] }
    }
    let plain = try environment(["HOME": "/nowhere"])
    #expect(plain.endpoint.text == "https://huggingface.co/")
    #expect(plain.cache == "/nowhere/.cache/huggingface/hub")
    #expect(plain.token == nil && !plain.isOffline)
    let xdg = try environment(["HOME": "/nowhere", "XDG_CACHE_HOME": "/x"])
    #expect(xdg.cache == "/x/huggingface/hub")
    let home = try environment(["HOME": "/nowhere", "HF_HOME": "~/hf", "XDG_CACHE_HOME": "/x"])
    #expect(home.cache == "/nowhere/hf/hub")
    let cache = try environment(["HF_HOME": "/h", "HF_HUB_CACHE": "/c", "HF_HUB_OFFLINE": "yes"])
    #expect(cache.cache == "/c" && cache.isOffline)
    #expect(try environment(["TRANSFORMERS_OFFLINE": "1"]).isOffline)
    #expect(try !environment(["HF_HUB_OFFLINE": "0"]).isOffline)
    #expect(
      try environment(["HF_ENDPOINT": "https://hub.example/base/"]).endpoint.text
        == "https://hub.example/base")
  }

  @Test("a token comes from HF_TOKEN, else from its file, else from none")
  func tokens() throws {
    let folder = TemporaryDirectory()
    Files.write("hf_file\n", to: folder.file("token"))
    Files.write("hf_other", to: folder.file("elsewhere"))
    func token(_ values: [String: String]) throws -> String? {
      try HubEnvironment { values[$0] }.token?.value
    }
    #expect(try token(["HF_HOME": folder.path]) == "hf_file")
    #expect(try token(["HF_HOME": folder.path, "HF_TOKEN": "hf_env\n"]) == "hf_env")
    #expect(
      try token(["HF_HOME": folder.path, "HF_TOKEN_PATH": folder.path + "/elsewhere"])
        == "hf_other")
    #expect(
      try token(["HF_HOME": folder.path, "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"]) == nil)
    #expect(try token(["HF_HOME": folder.path + "/none"]) == nil)
  }

  @Test("what cannot be a token is refused without being shown")
  func noToken() throws {
    let problem = #expect(throws: Diagnostic.self) {
      try HubEnvironment { $0 == "HF_TOKEN" ? "hf_secret X: y" : nil }
    }
    #expect(problem?.code == "source.token")
    #expect(problem?.description.contains("secret") == false)
  }
}
