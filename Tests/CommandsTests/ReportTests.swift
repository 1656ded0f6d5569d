import Foundation
import TestSupport
import Tensors
import Testing

/// The reports to look at, made by the built tool.
@Suite("HTML reports", .tags(.slow))
struct ReportTests {
  static let samba = ModelFixture.named("samba-fla/fla").path
  static let changed = "backbone.layers.2.mixer.out_proj.weight"

  /// A report, and the run that wrote it.
  static func report(_ arguments: [String]) throws -> (html: String, run: ToolRun) {
    let directory = TemporaryDirectory()
    let file = directory.file("report.html")
    let run = try BuiltTool.run(arguments + ["--report", file])
    // Nothing but the report is left beside it.
    #expect(Files.names(in: directory.path) == ["report.html"], "\(run.error)")
    return (Files.text(file), run)
  }

  /// A page as it is read: without the places where a long name may break.
  static func read(_ html: String) -> String {
    html.replacingOccurrences(of: "<wbr>", with: "")
  }

  /// A Samba with the signs of one row turned, in a directory with a name that is markup.
  static func faulty(in directory: TemporaryDirectory) throws -> String {
    var builder = SafetensorsBuilder()
    for (key, tensor) in try StoredCheckpoint(samba).tensors.sorted(by: { $0.key < $1.key }) {
      var bytes = tensor.bytes
      if key == changed { for i in 0..<128 { bytes[4 * i + 3] ^= 0x80 } }
      builder.add(key, tensor.dtype, tensor.shape, bytes)
    }
    let path = directory.file("<i>b&'")
    Files.makeDirectory(path)
    Files.write(builder.bytes, to: path + "/model.safetensors")
    Files.write(Files.read(samba + "/config.json"), to: path + "/config.json")
    return path
  }

  /// Whether a page is sound and asks for nothing.
  static func check(_ html: String) throws {
    let page = try Markup(html)
    #expect(html.hasPrefix("<!doctype html>\n<html lang=\"en\">"))
    for tag in page.tags {
      #expect(!["script", "img", "iframe", "object", "base", "form"].contains(tag.name))
      for (name, value) in tag.attributes {
        #expect(name != "src" && !name.hasPrefix("on"), "\(tag.name) \(name)")
        if name == "href" { #expect(value == "data:," || value == "#content") }
      }
    }
    #expect(!html.contains("http://") && !html.contains("https://") && !html.contains("url("))
    #expect(page.count("h1") == 1 && page.count("main") == 1 && page.count("title") >= 1)
    #expect(page.count("caption") == page.count("table"))
    // Every picture has a name and a description, or a name within one that has.
    for picture in page.tags where picture.name == "svg" && picture.attributes["role"] == "img" {
      let ids = (picture.attributes["aria-labelledby"] ?? "").split(separator: " ")
      #expect(ids.count == 2)
      for id in ids { #expect(page.tags.count { $0.attributes["id"] == String(id) } == 1) }
    }
    for color in ["prefers-color-scheme:dark", "@media print", "max-width"] {
      #expect(html.contains(color))
    }
  }

  @Test("parity's report says the verdict first, where the two part, and what each predicts")
  func parity() throws {
    let directory = TemporaryDirectory()
    let (html, run) = try Self.report([
      "parity", Self.samba, try Self.faulty(in: directory), "--random", "2x16", "--seed", "5",
      "--generate", "3",
    ])
    #expect(run.status == 1 && run.output.hasPrefix("FAIL"))
    try Self.check(html)
    #expect(html.contains("<h1>Fail: A and B part in the mamba of layer 2.</h1>"))
    for stage in ["hidden_states.0", "hidden_states.4", "final_norm", "logits"] {
      #expect(Self.read(html).contains(">\(stage)</th>"), "\(stage)")
    }
    #expect(html.contains("<code>\(Self.changed)</code>"))
    #expect(html.contains("mamba: 1 differs") && html.contains("attention: none differs"))
    #expect(html.contains("furthest apart") && html.contains("weighbridge parity "))
    #expect(html.contains("&lt;i&gt;b&amp;&#39;") && !html.contains("<i>b"))
  }

  @Test("a report of parity with a trace has no weights to compare")
  func trace() throws {
    let (html, run) = try Self.report([
      "parity", Self.samba, "--trace", Fixtures.path("models/samba-fla/trace.safetensors"),
      "--json",
    ])
    #expect(run.status == 0)
    #expect(try run.document()["verdict"] == "pass")
    try Self.check(html)
    #expect(html.contains("<h1>Pass: A and the trace compute the same function.</h1>"))
    #expect(!html.contains(">Weights</h2>"))
  }

  @Test("diff's report names what differs")
  func diff() throws {
    let directory = TemporaryDirectory()
    let (html, run) = try Self.report(["diff", Self.samba, try Self.faulty(in: directory)])
    #expect(run.status == 1)
    try Self.check(html)
    #expect(html.contains("<h1>Different: 1 of 55 pieces of weight differ.</h1>"))
    #expect(Self.read(html).contains(Self.changed) && html.contains("only in A</li>"))
  }

  @Test("inspect's report draws the stack and the values", arguments: ModelFixture.all)
  func inspect(fixture: ModelFixture) throws {
    let (html, run) = try Self.report(["inspect", fixture.path, "--json"])
    #expect(run.status == 0)
    // The document has statistics only when they are asked for.
    #expect(try run.document()["tensors"]?.array?.first?["std"] == nil)
    try Self.check(html)
    #expect(html.components(separatedBy: "<li class=\"block k-").count == fixture.kinds.count + 1)
    // One norm of this model was drawn with a spread unlike the others'.
    let start = fixture.name == "as-sambaywdr-yarn" ? "A" : "Sound: a"
    #expect(html.contains("<h1>\(start) \(fixture.family) model in the layout \(fixture.layout)"))
  }

  @Test("a broken tensor is named in the verdict and marked by a word")
  func broken() throws {
    let directory = TemporaryDirectory()
    var builder = SafetensorsBuilder()
    builder.add("layers.0.w", [3], [1, -1, 0.5])
    builder.add("layers.1.w", [3], [1, .nan, 0.5])
    builder.add("layers.2.w", [3], [100, -100, 50])
    builder.add("layers.3.w", [3], [1, -1, .infinity])
    builder.add("layers.4.w", [3], [0, 0, 0])
    Files.write(builder.bytes, to: directory.file("model.safetensors"))
    let (html, _) = try Self.report(["inspect", directory.file("model.safetensors")])
    try Self.check(html)
    #expect(html.contains("<h1>Broken: 2 tensors hold NaN or infinite values.</h1>"))
    for words in [
      "<code>layers.1.w</code>: 1 NaN of 3 values",
      "<code>layers.3.w</code>: 1 infinite of 3 values",
      "<code>layers.4.w</code>: all zeros, unlike its peers", "✕NaN", "✕inf", "▲flat",
    ] {
      #expect(Self.read(html).contains(words), "\(words)")
    }
  }

  @Test("parity with a model that has a NaN stands beyond the axis, and predicts nothing")
  func notANumber() throws {
    let directory = TemporaryDirectory()
    var builder = SafetensorsBuilder()
    for (key, tensor) in try StoredCheckpoint(Self.samba).tensors.sorted(by: { $0.key < $1.key }) {
      var bytes = tensor.bytes
      if key == Self.changed { bytes.replaceSubrange(0..<4, with: [0, 0, 0xC0, 0x7F]) }
      builder.add(key, tensor.dtype, tensor.shape, bytes)
    }
    Files.write(builder.bytes, to: directory.file("model.safetensors"))
    Files.write(Files.read(Self.samba + "/config.json"), to: directory.file("config.json"))
    let (html, run) = try Self.report([
      "parity", Self.samba, directory.path, "--random", "1x16", "--json",
    ])
    #expect(run.status == 1)
    try Self.check(html)
    #expect(html.contains("<h1>Fail: A and B part in the mamba of layer 2.</h1>"))
    #expect(html.contains(">inf</text>") && html.contains("nothing is predicted"))
    #expect(html.contains("differs by NaN or infinity, in 1 of 8192"))
    let logits = try run.document()["logits"]
    #expect(logits?["kl_max"] == .null && logits?["kl_mean"] == .null)
    #expect(logits?["top1_agreement"] == 0.0)
  }

  @Test("many tensors that are broken alike are told in a line")
  func many() throws {
    let directory = TemporaryDirectory()
    var builder = SafetensorsBuilder()
    for layer in 0..<12 {
      builder.add("model.layers.\(layer).w", [2], layer % 2 == 0 ? [1, .nan] : [1, 2])
      builder.add("model.layers.\(layer).v", [2], [1, 2])
    }
    Files.write(builder.bytes, to: directory.file("model.safetensors"))
    let (html, _) = try Self.report(["inspect", directory.file("model.safetensors")])
    try Self.check(html)
    #expect(html.contains("<h1>Broken: 6 tensors hold NaN or infinite values.</h1>"))
    let page = Self.read(html)
    #expect(
      page.contains(
        "<code>model.layers.*.w</code> in layers 0, 2, 4, 6, 8, 10: NaN, in 6 of 12 tensors"))
    #expect(page.contains("All begin with <code>model.layers.*.</code>"))
    #expect(html.components(separatedBy: "✕NaN</text>").count == 2)
  }

  @Test("names in a checkpoint are text, whatever they hold")
  func hostile() throws {
    let directory = TemporaryDirectory()
    var builder = SafetensorsBuilder()
    builder.add("<script>alert(1)</script>", [1], [1])
    builder.add("'><img src=x onerror=alert(1)>&amp;\u{202E}", [1], [.nan])
    Files.write(builder.bytes, to: directory.file("model.safetensors"))
    let (html, _) = try Self.report(["inspect", directory.file("model.safetensors")])
    try Self.check(html)
    #expect(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;"))
    #expect(html.contains("&#39;&gt;&lt;img src=x onerror=alert(1)&gt;&amp;amp;\u{FFFD}"))
    #expect(!html.contains("<script") && !html.contains("<img") && !html.contains("\u{202E}"))
  }

  @Test("a report replaces a report, and nothing else")
  func place() throws {
    let directory = TemporaryDirectory()
    let file = directory.file("a.html")
    for _ in 0..<2 {
      #expect(try BuiltTool.run("inspect", Self.samba, "--report", file).status == 0)
    }
    var builder = SafetensorsBuilder()
    builder.add("w", [1], [1])
    let weights = directory.file("model.safetensors")
    Files.write(builder.bytes, to: weights)
    for (path, code) in [
      (weights, "report.exists"), (directory.path, "report.path"),
      ("/no/such/a.html", "report.path"),
      ("/dev/null", "report.path"),
    ] {
      let run = try BuiltTool.run("inspect", Self.samba, "--report", path)
      #expect(run.status == 2 && run.error.hasPrefix("error[\(code)]: "), "\(path): \(run.error)")
      #expect(run.output == "")
    }
    #expect(Files.read(weights) == builder.bytes)
    #expect(Files.names(in: directory.path) == ["a.html", "model.safetensors"])
  }
}

/// Colours, bars and progress.
@Suite("Terminal")
struct TerminalTests {
  static let arguments = [
    "parity", ReportTests.samba, "--trace", Fixtures.path("models/samba-fla/trace.safetensors"),
  ]

  private typealias Status = @convention(c) (Int32) -> Int32
  private typealias Named = @convention(c) (Int32) -> UnsafeMutablePointer<CChar>?

  /// A function of the C library that its header hides from Swift.
  private static func function<F>(_ name: String, as type: F.Type) throws -> F {
    unsafeBitCast(try #require(dlsym(nil, name)), to: type)
  }

  /// The leading end of a new pseudo-terminal.
  private static func open() throws -> Int32 {
    let leader = try function("posix_openpt", as: Status.self)(O_RDWR | O_NOCTTY)
    try #require(leader >= 0)
    for name in ["grantpt", "unlockpt"] {
      let status = try function(name, as: Status.self)(leader)
      #expect(status == 0)
    }
    return leader
  }

  /// What the tool writes to a terminal.
  static func onTerminal(_ environment: [String: String]) throws -> String {
    let leader = try open()
    let name = try #require(try function("ptsname", as: Named.self)(leader))
    let follower = FileHandle(
      fileDescriptor: Foundation.open(String(cString: name), O_RDWR | O_NOCTTY),
      closeOnDealloc: false)
    let process = Process()
    process.executableURL = URL(fileURLWithPath: BuiltTool.path)
    process.arguments = arguments
    process.environment = environment
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = follower
    process.standardError = FileHandle.nullDevice
    try process.run()
    close(follower.fileDescriptor)
    var output: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    while case let count = read(leader, &buffer, buffer.count), count > 0 {
      output += buffer[..<count]
    }
    close(leader)
    process.waitUntilExit()
    return String(decoding: output, as: UTF8.self)
  }

  @Test("colours are for terminals, and NO_COLOR takes them away")
  func colours() throws {
    let coloured = try Self.onTerminal(["TERM": "xterm"])
    #expect(coloured.contains("\u{1B}[32mpass\u{1B}[0m") && coloured.contains("\u{1B}[32mok"))
    for environment in [["TERM": "xterm", "NO_COLOR": "1"], ["TERM": "dumb"]] {
      let plain = try Self.onTerminal(environment)
      #expect(plain.contains("pass: ") && !plain.contains("\u{1B}"))
    }
    #expect(try !BuiltTool.run(Self.arguments).output.contains("\u{1B}"))
  }

  @Test("a bar shows the error against its bound, and a word says the same")
  func bars() throws {
    let same = try BuiltTool.run(Self.arguments).output.split(separator: "\n")
    #expect(same.contains { $0.hasPrefix("logits ") && $0.hasSuffix("│      ok") })
    let directory = TemporaryDirectory()
    let other = try ReportTests.faulty(in: directory)
    let run = try BuiltTool.run("parity", ReportTests.samba, other, "--random", "1x8")
    let logits = run.output.split(separator: "\n").first { $0.hasPrefix("logits ") } ?? ""
    #expect(logits.contains("██████████┃█") && logits.hasSuffix("OUT"))
  }

  @Test(
    "progress comes as JSON lines",
    arguments: [
      ["convert", "A", "OUT", "--to", "fla", "--no-fsync", "--progress-json"],
      ["convert", "A", "OUT", "--to", "fla", "--no-fsync", "--progress=json"],
      ["inspect", "A", "--stats", "--progress=json"], ["diff", "A", "A", "--progress=json"],
      ["parity", "A", "A", "--random", "1x4", "--progress=json"],
      ["trace", "A", "OUT", "--random", "1x4", "--progress=json"],
    ])
  func progress(arguments: [String]) throws {
    let directory = TemporaryDirectory()
    let run = try BuiltTool.run(
      arguments.map { $0 == "A" ? ReportTests.samba : $0 == "OUT" ? directory.file("out") : $0 })
    #expect(run.status == 0, "\(run.error)")
    let lines = run.error.split(separator: "\n")
    // A small model is one piece of work.
    #expect(!lines.isEmpty)
    for line in lines {
      let object = try JSONParser.parse(Array(line.utf8), file: "progress")
      #expect(object["event"] == "progress")
      #expect(object["bytes_per_second"]?.int != nil && object["tensor"]?.string != nil)
      #expect(object["seconds_left"]?.double != nil)
      let done = try #require(object["done"]?.int)
      let total = try #require(object["total"]?.int)
      #expect(done > 0 && done <= total)
    }
  }

  @Test("progress is for terminals: a pipe gets none")
  func quiet() throws {
    let pair = ["parity", ReportTests.samba, ReportTests.samba, "--random", "1x8"]
    #expect(try BuiltTool.run(pair).error == "")
  }
}
