/// A text from a file as a message shows it: quoted, control and direction characters escaped, cut
/// after 120 characters, so that a name can neither rewrite a terminal nor fill it. In quotes, quotes
/// and backslashes are escaped too.
package func shown(_ text: String, quoted: Bool = true) -> String {
  var out = ""
  for (count, scalar) in text.unicodeScalars.enumerated() {
    if count == 120 {
      out += "…"
      break
    }
    switch scalar.properties.generalCategory {
    case _ where quoted && (scalar == "\"" || scalar == "\\"): out += "\\\(scalar)"
    case .control, .format, .lineSeparator, .paragraphSeparator, .unassigned, .privateUse:
      out += "\\u{" + String(scalar.value, radix: 16) + "}"
    default: out.unicodeScalars.append(scalar)
    }
  }
  return quoted ? "\"\(out)\"" : out
}
