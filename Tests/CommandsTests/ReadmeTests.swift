import TestSupport
import Testing

/// What README.md shows is what the tool does.
@Suite("README")
struct ReadmeTests {
  /// A command of a `console` block, and the lines shown below it.
  struct Shown: Sendable {
    var command: String
    var lines: [String] = []
  }

  static let text = String(
    decoding: Files.read(BuiltTool.package + "/README.md"), as: Unicode.UTF8.self)

  static let shown: [Shown] = {
    var all: [Shown] = []
    var inside = false
    for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
      if line.hasPrefix("```") {
        inside = line == "```console"
      } else if inside, line.hasPrefix("$ ") {
        all.append(Shown(command: String(line.dropFirst(2))))
      } else if inside, !all.isEmpty {
        all[all.count - 1].lines.append(String(line))
      }
    }
    return all
  }()

  /// Whether `lines` are `shown`, in which `…` alone stands for any number of lines.
  static func agrees(_ lines: ArraySlice<String>, _ shown: ArraySlice<String>) -> Bool {
    guard let first = shown.first else { return lines.isEmpty }
    if first.drop(while: { $0 == " " }) == "…" {
      return (lines.startIndex...lines.endIndex).contains {
        agrees(lines[$0...], shown.dropFirst())
      }
    }
    return lines.first == first && agrees(lines.dropFirst(), shown.dropFirst())
  }

  static func lines(_ text: String) -> [String] {
    var lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    while lines.last?.isEmpty == true { lines.removeLast() }
    return lines
  }

  @Test("every command runs, in order, and prints what is shown")
  func commands() throws {
    #expect(Self.shown.count >= 4)
    let directory = TemporaryDirectory()
    Files.link(directory.file("Fixtures"), to: Fixtures.root)
    for shown in Self.shown {
      var words = shown.command.split(separator: " ").map(String.init)
      #expect(words.removeFirst() == "weighbridge", "\(shown.command)")
      let run = try BuiltTool.run(words, in: directory.path)
      // Problems are shown where a terminal shows them: above or instead of the report.
      let found = Self.lines(run.error) + Self.lines(run.output)
      let refused = shown.lines.contains { $0.hasPrefix("error[") }
      #expect(run.status == (refused ? 1 : 0), "\(shown.command): \(run.error)")
      #expect(
        Self.agrees(found[...], Self.lines(shown.lines.joined(separator: "\n"))[...]),
        "\(shown.command)\n\(found.joined(separator: "\n"))")
    }
  }

  @Test(
    "every file that README, CONTRIBUTING and formats/README link to is there",
    arguments: ["README.md", "CONTRIBUTING.md", "formats/README.md", "Fixtures/README.md"])
  func links(file: String) throws {
    let text = String(
      decoding: Files.read(BuiltTool.package + "/" + file), as: Unicode.UTF8.self)
    let folder = file.split(separator: "/").dropLast().map { $0 + "/" }.joined()
    for piece in text.split(separator: "](").dropFirst() {
      let target = String(piece.prefix { $0 != ")" && $0 != "#" })
      if target.isEmpty || target.hasPrefix("http") { continue }
      #expect(Files.exists("\(BuiltTool.package)/\(folder)\(target)"), "\(file): \(target)")
    }
  }

  @Test("every layout is in README's table")
  func layouts() throws {
    let document = try BuiltTool.run("layouts", "--json").document()
    for name in (document["layouts"]?.array ?? []).compactMap({ $0["name"]?.string }) {
      #expect(Self.text.contains("`\(name)`"), "\(name)")
    }
  }

  @Test("the frameworks are in README's table as --to takes them")
  func frameworks() {
    for name in ["hf", "fla", "mamba_ssm", "lit_gpt", "torchscale", "berlino"] {
      #expect(Self.text.contains("`\(name)`"), "\(name)")
    }
  }
}
