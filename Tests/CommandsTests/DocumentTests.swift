import Foundation
import TestSupport
import Tensors
import Testing

/// What the documents show is what the tool does.
@Suite("Documents", .tags(.slow))
struct DocumentTests {
  /// A command of a `console` block, and the lines shown below it.
  struct Shown: Sendable {
    var command: String
    var lines: [String] = []
  }

  /// Every document with commands in it, or with links.
  static let documents: [String] =
    ["README.md", "CONTRIBUTING.md", "SECURITY.md", "formats/README.md", "Fixtures/README.md"]
    + Files.names(in: BuiltTool.package + "/docs").filter { $0.hasSuffix(".md") }.map {
      "docs/\($0)"
    }

  static func text(_ document: String) -> String {
    Files.text("\(BuiltTool.package)/\(document)")
  }

  static func shown(_ document: String) -> [Shown] {
    var all: [Shown] = []
    var inside = false
    for line in text(document).split(separator: "\n", omittingEmptySubsequences: false) {
      if line.hasPrefix("```") {
        inside = line == "```console"
      } else if inside, line.hasPrefix("$ ") {
        all.append(Shown(command: String(line.dropFirst(2))))
      } else if inside, !all.isEmpty {
        all[all.count - 1].lines.append(String(line))
      }
    }
    return all
  }

  /// Whether `lines` are `shown`, in which `…` alone stands for any number of lines.
  static func agrees(_ lines: ArraySlice<String>, _ shown: ArraySlice<String>) -> Bool {
    guard let first = shown.first else { return lines.isEmpty }
    if first.drop(while: { $0 == " " }) == "…" {
      return (lines.startIndex...lines.endIndex).contains {
        agrees(lines[$0...], shown.dropFirst())
      }
    }
    guard let line = lines.first, isSame(line, first) else { return false }
    return agrees(lines.dropFirst(), shown.dropFirst())
  }

  /// Whether two lines are the same but for what the processor decides: OpenBLAS picks kernels by it,
  /// whose sums are rounded differently. So measured numbers agree to 1 in 100, those below 0.01 (errors
  /// of rounding) to a factor of ten, and bars to a cell; columns may be wider. What computed them is
  /// another thing on another machine.
  static func isSame(_ a: String, _ b: String) -> Bool {
    if a == b || a.hasPrefix("computed by: ") && b.hasPrefix("computed by: ") { return true }
    let (x, y) = (a.split(separator: " "), b.split(separator: " "))
    return x.count == y.count && zip(x, y).allSatisfy(isSameWord)
  }

  private static func isSameWord(_ a: Substring, _ b: Substring) -> Bool {
    if a == b { return true }
    let bars = "▏▎▍▌▋▊▉█"
    let isBar: (Substring) -> Bool = {
      $0.contains("┃") || $0.contains("│") || bars.contains($0.first!)
    }
    if isBar(a), isBar(b) {
      return a.contains("┃") == b.contains("┃") && abs(a.count - b.count) <= 1
    }
    func number(_ word: Substring) -> Double? {
      guard word.contains(".") || word.contains("e-") else { return nil }
      return Double(word.trimmingCharacters(in: [","]))
    }
    guard let p = number(a), let q = number(b) else { return false }
    let (small, large) = (min(abs(p), abs(q)), max(abs(p), abs(q)))
    return large < 0.01 ? large <= 10 * small : abs(p - q) <= 0.01 * large
  }

  static func lines(_ text: String) -> [String] {
    var lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    while lines.last?.isEmpty == true { lines.removeLast() }
    return lines
  }

  @Test("every command runs, in order, and prints what is shown", arguments: documents)
  func commands(document: String) throws {
    let directory = TemporaryDirectory()
    for name in ["Fixtures", "docs", "formats"] {
      Files.link(directory.file(name), to: "\(BuiltTool.package)/\(name)")
    }
    for shown in Self.shown(document) {
      var words = shown.command.split(separator: " ").map {
        $0.trimmingCharacters(in: ["'"])
      }
      #expect(words.removeFirst() == "weighbridge", "\(shown.command)")
      let run = try BuiltTool.run(words, in: directory.path)
      // Problems are shown where a terminal shows them: above or instead of the report.
      let found = Self.lines(run.error) + Self.lines(run.output)
      let isNo = shown.lines.contains {
        $0.hasPrefix("error[") || $0.hasPrefix("FAIL") || $0 == "different"
      }
      #expect(run.status == (isNo ? 1 : 0), "\(shown.command): \(run.error)")
      #expect(
        Self.agrees(found[...], Self.lines(shown.lines.joined(separator: "\n"))[...]),
        "\(shown.command)\n\(found.joined(separator: "\n"))")
    }
  }

  @Test("README shows inspect, convert and parity, each in under a screen")
  func readme() throws {
    let shown = Self.shown("README.md")
    for command in ["inspect", "convert", "parity"] {
      let runs = shown.filter { $0.command.hasPrefix("weighbridge \(command) ") }
      #expect(!runs.isEmpty && runs.allSatisfy { $0.lines.count <= 36 }, "\(command)")
    }
  }

  @Test("numbers of rounding may differ, others may not")
  func comparison() {
    #expect(
      Self.isSame("logits  3.634  1.109e-4 ██████┃██▎ OUT", "logits 3.63 2.2e-4 ██████┃██▍ OUT"))
    #expect(!Self.isSame("logits 3.634 OUT", "logits 3.7 OUT"))
    #expect(!Self.isSame("tensors 48, 1.21 MB", "tensors 49, 1.21 MB"))
    #expect(!Self.isSame("bound 1e-4", "bound 1e-6"))
  }

  @Test("every file that a document links to is there", arguments: documents)
  func links(document: String) throws {
    let folder = document.split(separator: "/").dropLast().map { $0 + "/" }.joined()
    for piece in Self.text(document).split(separator: "](").dropFirst() {
      let target = String(piece.prefix { $0 != ")" && $0 != "#" })
      if target.isEmpty || target.hasPrefix("http") { continue }
      #expect(Files.exists("\(BuiltTool.package)/\(folder)\(target)"), "\(document): \(target)")
    }
  }

  @Test("the workflow that the guide shows is the one in the file")
  func workflow() {
    let workflow = Self.text("docs/examples/parity.yml")
    #expect(Self.text("docs/use-it-in-ci.md").contains("```yaml\n\(workflow)```"))
  }

  @Test("the workflow's commands run, in order")
  func workflowCommands() throws {
    let directory = TemporaryDirectory()
    Files.makeDirectory(directory.file("model"))
    let lit = ModelFixture.named("lit-samba/lit_gpt").path
    Files.link(directory.file("model/checkpoint.pth"), to: lit + "/iter-000128-ckpt.pth")
    Files.link(directory.file("model/lit_config.json"), to: lit + "/lit_config.json")
    // `>-` joins the lines below it.
    let text = Self.text("docs/examples/parity.yml").replacingOccurrences(
      of: "run: >-\n          ", with: "run: "
    ).replacingOccurrences(of: "\n          --", with: " --")
    let commands = Self.lines(text).compactMap { line -> [String]? in
      let words = line.split(separator: " ").map(String.init)
      guard let start = words.firstIndex(of: "run:"), words[start + 1] == "weighbridge" else {
        return nil
      }
      return Array(words[(start + 2)...].prefix { $0 != ">" })
    }
    #expect(commands.map(\.first) == ["convert", "parity"])
    for command in commands {
      let run = try BuiltTool.run(command, in: directory.path)
      #expect(run.status == 0, "\(command): \(run.error)")
    }
    #expect(Files.exists(directory.file("parity.html")))
  }

  @Test("commands that are shown without their output are none that the tool does not know")
  func shellBlocks() throws {
    let directory = TemporaryDirectory()
    Files.link(directory.file("Fixtures"), to: BuiltTool.package + "/Fixtures")
    var count = 0
    for document in Self.documents {
      for block in Self.text(document).components(separatedBy: "```sh\n").dropFirst() {
        let lines = Self.lines(block.components(separatedBy: "```")[0])
        for line in lines where line.hasPrefix("weighbridge ") {
          let words = line.split(separator: " ").dropFirst().map(String.init)
          let run = try BuiltTool.run(Array(words), in: directory.path)
          #expect(run.status != 64, "\(document): \(line): \(run.error)")
          count += 1
        }
      }
    }
    #expect(count >= 9)
  }

  @Test("the example that embeds the libraries does what the command does")
  func embed() throws {
    let directory = TemporaryDirectory()
    let folder = BuiltTool.path.split(separator: "/").dropLast().joined(separator: "/")
    let run = try BuiltTool.run(
      [ModelFixture.named("lit-mamba-only/lit_gpt").path, directory.file("out")],
      tool: "/\(folder)/embed")
    #expect(run.status == 0, "\(run.error)")
    #expect(
      Self.lines(run.output) == [
        "mamba 106368", "bitwise []", "true []",
        "16384", "lm_head.weight f32 [128, 64]", "32768", "lit_gpt mamba true", "rounding 32",
        "[75, 56, 44, 114]", "true logits",
      ])
  }

  @Test("what the libraries' documentation shows is in the example that is built and run")
  func snippets() {
    let sources = "Examples/embed/Sources/embed"
    let built = Set(
      Files.names(in: "\(BuiltTool.package)/\(sources)").flatMap {
        Self.lines(Self.text("\(sources)/\($0)")).map { $0.trimmingCharacters(in: [" "]) }
      })
    let libraries = Files.names(in: BuiltTool.package + "/Sources").filter {
      Files.exists("\(BuiltTool.package)/Sources/\($0)/Documentation.docc")
    }
    #expect(libraries.count == 7)
    let pages = libraries.map { "Sources/\($0)/Documentation.docc/\($0).md" }
    for page in pages + ["docs/use-it-from-swift.md"] {
      let blocks = Self.text(page).components(separatedBy: "```swift\n").dropFirst().map {
        $0.components(separatedBy: "```")[0]
      }
      #expect(!blocks.isEmpty, "\(page)")
      for block in blocks where !block.hasPrefix(".package") {
        for line in Self.lines(block).map({ $0.trimmingCharacters(in: [" "]) }) {
          #expect(line.isEmpty || built.contains(line), "\(page): \(line)")
        }
      }
    }
  }

  @Test("every layout and framework is in README")
  func layouts() throws {
    let text = Self.text("README.md")
    let document = try BuiltTool.run("layouts", "--json").document()
    for layout in document["layouts"]?.array ?? [] {
      for key in ["name", "framework"] {
        let name = layout[key]?.string ?? "?"
        #expect(text.contains("`\(name)`"), "\(name)")
      }
    }
  }

  @Test("README's table of conversions is the planner's own")
  func table() throws {
    let run = try BuiltTool.run("layouts", "--table")
    #expect(run.status == 0)
    #expect(
      Self.text("README.md").contains("<!-- conversions -->\n\(run.output)<!-- /conversions -->"))
  }

  /// The models of the table that a framework saved.
  @Test("what the table promises is what becomes of the frameworks' own files")
  func promises() throws {
    let document = try BuiltTool.run("layouts", "--json").document()
    let directory = TemporaryDirectory()
    var compared = 0
    for row in document["conversions"]?.array ?? [] {
      guard let fixture = row["fixture"]?.string else { continue }
      for (framework, promise) in row["to"]?.object ?? [:] {
        let run = try BuiltTool.run(
          "convert", ModelFixture.named(fixture).path, directory.file("out"), "--to", framework,
          "--dry-run",
          "--json")
        let found = try run.document()
        #expect(found["exactness"] == promise["exactness"], "\(fixture) to \(framework)")
        compared += 1
      }
    }
    #expect(compared >= 100)
  }
}
