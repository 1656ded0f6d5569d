/// Colours of a terminal. They never say anything that a word or sign beside them does not.
enum Ink: String {
  case good = "32"
  case bad = "1;31"

  /// `text` in this colour.
  func paint(_ text: String) -> String { "\u{1B}[\(rawValue)m\(text)\u{1B}[0m" }
}
