/// Columns of text.
struct Table {
  /// Where a column's text stands.
  enum Alignment { case left, right }

  private let columns: [(title: String, alignment: Alignment)]
  private var rows: [[String]] = []
  private var inks: [Ink?] = []

  init(_ columns: [(title: String, alignment: Alignment)]) { self.columns = columns }

  /// Adds a row; `ink` colours its last cell where the terminal takes colours.
  mutating func add(_ row: [String], ink: Ink? = nil) {
    rows.append(row.map { $0.visible(lines: false) })
    inks.append(ink)
  }

  /// The table, at most `width` characters wide: the widest columns of text give way, in their middle.
  func text(width: Int, isColoured: Bool = false) -> String {
    var widths = columns.enumerated().map { i, column in
      max(column.title.width, rows.map { $0[i].width }.max() ?? 0)
    }
    var excess = widths.reduce(0, +) + 2 * (columns.count - 1) - width
    while excess > 0,
      let widest = columns.indices.filter({ columns[$0].alignment == .left && widths[$0] > 16 })
        .max(by: { (widths[$0], $0) < (widths[$1], $1) })
    {
      widths[widest] -= 1
      excess -= 1
    }
    var text = ""
    text.reserveCapacity((rows.count + 1) * (widths.reduce(0, +) + 2 * columns.count))
    append(columns.map(\.title), ink: nil, widths, to: &text)
    for (row, ink) in zip(rows, inks) {
      text += "\n"
      append(row, ink: isColoured ? ink : nil, widths, to: &text)
    }
    return text
  }

  /// Adds a line without spaces at its end.
  private func append(_ row: [String], ink: Ink?, _ widths: [Int], to text: inout String) {
    // Spaces are owed until something stands behind them.
    var owed = 0
    for (i, cell) in row.enumerated() {
      let shown = cell.width > widths[i] ? shorten(cell, widths[i]) : cell
      let space = max(0, widths[i] - shown.width)
      if i > 0 { owed += 2 }
      if columns[i].alignment == .right { owed += space }
      if !shown.isEmpty {
        if owed > 0 { text += String(repeating: " ", count: owed) }
        text += i == row.count - 1 ? ink?.paint(shown) ?? shown : shown
        owed = 0
      }
      if columns[i].alignment == .left { owed += space }
    }
  }

  private func shorten(_ text: String, _ width: Int) -> String {
    let half = (width - 1) / 2
    return "\(text.prefix(half))…\(text.suffix(width - 1 - half))"
  }
}

extension String {
  /// Characters; a text of ASCII, as nearly all are, is not gone through one by one.
  fileprivate var width: Int { utf8.allSatisfy { $0 < 0x80 && $0 != 13 } ? utf8.count : count }
}

/// Numbers for people.
enum Shown {
  /// `1.24 GB`, in powers of ten.
  static func bytes(_ count: Int) -> String {
    scaled(Double(count), [("B", 1), ("kB", 1e3), ("MB", 1e6), ("GB", 1e9), ("TB", 1e12)])
  }

  /// `421.4 M`.
  static func count(_ count: Int) -> String {
    scaled(Double(count), [("", 1), ("k", 1e3), ("M", 1e6), ("G", 1e9)])
  }

  private static func scaled(_ value: Double, _ units: [(String, Double)]) -> String {
    let unit = units.last { value >= $0.1 } ?? units[0]
    if unit.1 == 1 { return "\(Int(value))\(unit.0.isEmpty ? "" : " \(unit.0)")" }
    let hundredths = Int((value / unit.1 * 100).rounded())
    let fraction = hundredths % 100
    return "\(hundredths / 100).\(fraction < 10 ? "0" : "")\(fraction) \(unit.0)"
  }

  /// Four significant digits.
  static func number(_ value: Double?) -> String {
    guard let value else { return "-" }
    if !value.isFinite || value == 0 { return "\(value)" }
    var exponent = 0
    var mantissa = abs(value)
    while mantissa >= 10 {
      mantissa /= 10
      exponent += 1
    }
    while mantissa < 1 {
      mantissa *= 10
      exponent -= 1
    }
    // Digits as a whole number, so that no binary fraction shows.
    var whole = Int((mantissa * 1000).rounded())
    if whole == 10_000 {
      whole = 1000
      exponent += 1
    }
    let sign = value < 0 ? "-" : ""
    let digits = String(whole)
    func trimmed(_ text: String) -> String {
      var text = text
      while text.hasSuffix("0"), !text.hasSuffix(".0") { text.removeLast() }
      return text
    }
    if (-3..<0).contains(exponent) {
      return sign + trimmed("0." + String(repeating: "0", count: -exponent - 1) + digits)
    }
    if (0...3).contains(exponent) {
      let point = digits.index(digits.startIndex, offsetBy: exponent + 1)
      let fraction = digits[point...]
      return sign + trimmed("\(digits[..<point]).\(fraction.isEmpty ? "0" : fraction)")
    }
    return sign + trimmed("\(digits.prefix(1)).\(digits.dropFirst())") + "e\(exponent)"
  }
}
