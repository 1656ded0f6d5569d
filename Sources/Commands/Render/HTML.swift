/// HTML put together so that text is always escaped: a literal is markup, what is interpolated into
/// it is text unless it is `HTML` itself. Names in checkpoints come from anywhere.
///
///     let name = "<script>"
///     let cell: HTML = "<td>\(name)</td>"  // <td>&lt;script&gt;</td>
struct HTML: Sendable, ExpressibleByStringInterpolation {
  /// The markup.
  private(set) var markup: String

  /// Nothing.
  init() { markup = "" }

  init(stringLiteral value: String) { markup = value }

  init(stringInterpolation: StringInterpolation) { markup = stringInterpolation.markup }

  /// Parts in a row.
  init(_ parts: [HTML]) { markup = parts.lazy.map(\.markup).joined() }

  static func += (html: inout HTML, more: HTML) { html.markup += more.markup }

  /// Takes markup for literals, and escapes text.
  struct StringInterpolation: StringInterpolationProtocol {
    fileprivate var markup = ""

    init(literalCapacity: Int, interpolationCount: Int) {
      markup.reserveCapacity(literalCapacity + 16 * interpolationCount)
    }

    mutating func appendLiteral(_ literal: String) { markup += literal }
    mutating func appendInterpolation(_ text: String) { markup += HTML.escaped(text) }
    mutating func appendInterpolation(_ number: Int) { markup += String(number) }
    mutating func appendInterpolation(_ html: HTML) { markup += html.markup }
    mutating func appendInterpolation(_ parts: [HTML]) {
      for part in parts { markup += part.markup }
    }
  }

  /// A text as it may stand between tags and in quoted attributes; what HTML forbids, and what would
  /// turn the direction of the text around it, becomes U+FFFD.
  static func escaped(_ text: String) -> String {
    var result = ""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "&": result += "&amp;"
      case "<": result += "&lt;"
      case ">": result += "&gt;"
      case "\"": result += "&quot;"
      case "'": result += "&#39;"
      case "\t", "\n", " ": result.unicodeScalars.append(scalar)
      default:
        result.unicodeScalars.append(isForbidden(scalar.value) ? "\u{FFFD}" : scalar)
      }
    }
    return result
  }

  /// Control characters, noncharacters, and those that change the direction of text.
  private static func isForbidden(_ scalar: UInt32) -> Bool {
    scalar < 0x20 || (0x7F...0x9F).contains(scalar) || (0x202A...0x202E).contains(scalar)
      || (0x2066...0x2069).contains(scalar) || (0xFDD0...0xFDEF).contains(scalar)
      || scalar & 0xFFFE == 0xFFFE
  }
}
