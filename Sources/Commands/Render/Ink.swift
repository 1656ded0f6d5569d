/// Colours of a terminal. They never say anything that a word or sign beside them does not.
enum Ink: String {
  case good = "32"
  case bad = "1;31"

  /// `text` in this colour.
  func paint(_ text: String) -> String {
    "\(Ink.start)\(rawValue)m\(text)\(Ink.start)\(Ink.end)"
  }

  /// How every change of colour starts.
  static let start = "\u{1B}["
  private static let end = "0m"

  /// What may stand after a start.
  static var codes: [String] { [good.rawValue + "m", bad.rawValue + "m", end] }
}
