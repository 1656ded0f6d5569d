/// Lines of words.
enum Paragraph {
  /// `text` in lines of at most `width` characters, `indent` spaces before the first and `hanging`
  /// before the others; a word that is too long has a line of its own.
  static func fold(_ text: String, width: Int, indent: Int, hanging: Int? = nil) -> [String] {
    guard indent + text.count > width else { return [String(repeating: " ", count: indent) + text] }
    var lines: [String] = []
    var line = String(repeating: " ", count: indent)
    var isEmpty = true
    for word in text.split(separator: " ", omittingEmptySubsequences: false) {
      if !isEmpty, line.count + 1 + word.count > width {
        lines.append(line)
        line = String(repeating: " ", count: hanging ?? indent)
        isEmpty = true
      }
      line += (isEmpty ? "" : " ") + word
      isEmpty = isEmpty && word.isEmpty
    }
    return lines + [line]
  }

  /// A line of a report on a terminal, where it would be cut in the middle of a word; a pipe has it
  /// whole.
  static func shown(_ line: String) -> [String] {
    guard Standard.outputIsTerminal else { return [line] }
    let indent = line.prefix { $0 == " " }.count
    return fold(
      String(line.dropFirst(indent)), width: Standard.width, indent: indent, hanging: indent + 4)
  }
}
