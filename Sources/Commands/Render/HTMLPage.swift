import Hub
import Tensors
import WeighbridgeKit

/// A whole document: the verdict first, then sections, then how it was made.
struct HTMLPage {
  /// What the verdict amounts to; it is said in words as well.
  enum Tone: String { case good, bad, warn }

  /// The title, for the tab.
  let title: String
  /// What kind of report it is.
  let kicker: String
  /// The verdict in one sentence.
  let verdict: String
  let tone: Tone
  /// What stands under the verdict.
  var lead = HTML()
  private var sections: [HTML] = []

  init(title: String, kicker: String, verdict: String, tone: Tone) {
    self.title = title
    self.kicker = kicker
    self.verdict = verdict
    self.tone = tone
  }

  /// Adds a section under a heading.
  mutating func add(_ heading: String, _ body: HTML) {
    let id = "s\(sections.count + 1)"
    sections.append(
      """
      <section aria-labelledby="\(id)"><h2 id="\(id)">\(heading)</h2>
      \(body)</section>

      """)
  }

  /// The document. It asks for nothing from anywhere and runs nothing, and says so to the browser.
  func text(command: String) -> String {
    let html: HTML = """
      <!doctype html>
      <html lang="en">
      <head>
      <meta charset="utf-8">
      <meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src \
      'unsafe-inline'; img-src data:">
      <meta name="viewport" content="width=device-width, initial-scale=1">
      <meta name="color-scheme" content="light dark">
      <meta name="generator" content="weighbridge \(Weighbridge.version)">
      <link rel="icon" href="data:,">
      <title>\(title)</title>
      <style>
      \(HTML.style)
      </style>
      </head>
      <body>
      <a class="skip" href="#content">Skip to the details</a>
      <header>
      <p class="kicker">\(kicker)</p>
      <div class="verdict \(tone.rawValue)"><h1>\(verdict)</h1>
      \(lead)</div>
      </header>
      <main id="content" tabindex="-1">
      \(sections)</main>
      <footer>
      <p>Made by weighbridge \(Weighbridge.version) with this command:</p>
      <pre><code>\(command)</code></pre>
      </footer>
      </body>
      </html>

      """
    return html.markup
  }
}

extension HTML {
  /// A table that scrolls by itself where the window is narrow, and by keyboard.
  ///
  /// - Parameters:
  ///   - caption: what it shows.
  ///   - columns: the headings; a number's column is aligned to the right.
  ///   - rows: `<tr>` elements.
  ///   - isTall: whether the rows are too many to stand between other things.
  static func table(
    _ caption: String, _ columns: [(title: String, isNumber: Bool)], _ rows: [HTML],
    style: String = "", isTall: Bool = false
  ) -> HTML {
    let heads: [HTML] = columns.map {
      "<th scope=\"col\"\($0.isNumber ? " class=\"n\"" as HTML : "")>\($0.title)</th>"
    }
    return region(
      caption,
      """
      <table class="\(style)"><caption>\(caption)</caption>
      <thead><tr>\(heads)</tr></thead>
      <tbody>
      \(rows)</tbody></table>
      """, isTall: isTall)
  }

  /// A part that scrolls sideways by itself, and up and down if it is tall.
  static func region(_ label: String, _ content: HTML, isTall: Bool = false) -> HTML {
    """
    <div class="scroll\(isTall ? " tall" : "")" role="region" tabindex="0" aria-label="\(label)">\(content)</div>

    """
  }

  /// Facts in a list.
  static func facts(_ facts: [(name: String, value: HTML)], isSmall: Bool = false) -> HTML {
    let rows: [HTML] = facts.map { "<div><dt>\($0.name)</dt><dd>\($0.value)</dd></div>\n" }
    return "<dl class=\"facts\(isSmall ? " small" : "")\">\n\(rows)</dl>\n"
  }

  /// Names in code, one a line.
  static func names(_ names: [String]) -> HTML {
    let items: [HTML] = names.map { "<li><code>\($0)</code></li>\n" }
    return "<ul class=\"plain\">\n\(items)</ul>\n"
  }

  /// Everything noticed, once for each cause.
  static func problems(_ problems: [Diagnostic]) -> HTML {
    let summary = ProblemSummary(problems)
    let items: [HTML] = (summary.groups + summary.consequences).map { group in
      let problem = group.first
      let more: HTML =
        group.count > 1 ? "<br>\(group.more(names: ProblemSummary.Group.mostNames))" : ""
      let notes: [HTML] = problem.notes.map { "<br>note: \($0)" }
      let help: HTML = problem.help.map { "<br>help: \($0)" } ?? ""
      return """
        <li><span class="word \(problem.severity == .error ? "bad" : "warn")">\
        \(problem.severity.rawValue)</span> <code>\(problem.code)</code> \
        <code>\(problem.subject)</code>: \(problem.message)\(notes)\(help)\(more)</li>

        """
    }
    return "<ul class=\"plain\">\n\(items)</ul>\n"
  }

  /// A tensor's name, which a narrow column breaks behind its points and underscores.
  static func name(_ name: String) -> HTML {
    var parts: [HTML] = []
    var part = ""
    for character in name {
      part.append(character)
      if character == "." || character == "_" {
        parts.append("\(part)<wbr>")
        part = ""
      }
    }
    return "\(parts)\(part)"
  }

  /// Several names in a cell.
  static func name(_ names: [String]) -> HTML {
    HTML(names.enumerated().map { "\($0 > 0 ? " + " as HTML : "")\(name($1))" })
  }

  /// A number of an svg's geometry, two digits behind the point.
  static func coordinate(_ value: Double) -> String {
    let hundredths = Int((value * 100).rounded())
    let fraction = abs(hundredths % 100)
    let sign = hundredths < 0 ? "-" : ""
    return "\(sign)\(abs(hundredths) / 100).\(fraction < 10 ? "0" : "")\(fraction)"
  }
}
