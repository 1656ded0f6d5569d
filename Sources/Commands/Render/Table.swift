/// Columns of text.
struct Table {
  /// Where a column's text stands. What is left gives way in its middle, what is folded goes on in
  /// another line, what is whole does not give way.
  enum Alignment { case left, right, whole, folded }

  private let columns: [(title: String, alignment: Alignment)]
  /// Columns that a narrow terminal does without, the first to go first.
  private let spare: [Int]
  /// Row after row; a table has tens of thousands.
  private var cells: [Cell] = []
  private var inks: [Ink?] = []

  private struct Cell {
    var text: String
    /// Characters.
    var width: Int
    /// Whether each of its bytes is a character.
    var isPlain: Bool

    init(_ text: String) {
      isPlain = text.isPrintableASCII
      self.text = isPlain ? text : text.visible(lines: false)
      width = isPlain ? text.utf8.count : self.text.count
    }
  }

  init(_ columns: [(title: String, alignment: Alignment)], spare: [Int] = []) {
    self.columns = columns
    self.spare = spare
  }

  /// Makes room for `count` rows.
  mutating func reserve(_ count: Int) {
    cells.reserveCapacity(count * columns.count)
    inks.reserveCapacity(count)
  }

  /// Adds a row; `ink` colours its last cell where the terminal takes colours.
  mutating func add(_ row: [String], ink: Ink? = nil) {
    for i in columns.indices { cells.append(Cell(row[i])) }
    inks.append(ink)
  }

  /// The table, at most `width` characters wide where that is possible: spare columns go until the
  /// others can be read, then the widest columns of text give way.
  func text(width: Int, isColoured: Bool = false) -> String {
    let titles = columns.map { Cell($0.title) }
    var widths = titles.map(\.width)
    for row in inks.indices {
      for i in columns.indices {
        widths[i] = max(widths[i], cells[row * columns.count + i].width)
      }
    }
    var shown = Array(columns.indices)
    func excess(_ widths: [Int]) -> Int {
      shown.reduce(2 * (shown.count - 1) - width) { $0 + widths[$1] }
    }
    // What a column may shrink to: the names in the first differ at both their ends.
    let least = columns.indices.map { i in
      switch columns[i].alignment {
      case .left, .folded: min(widths[i], i == 0 ? 28 : 16)
      case .right, .whole: widths[i]
      }
    }
    for column in spare where excess(least) > 0 { shown.removeAll { $0 == column } }
    let steps: [(Alignment, Int)] = [(.left, 28), (.folded, 16), (.left, 16)]
    for (alignment, floor) in steps {
      while excess(widths) > 0,
        let widest = shown.filter({
          columns[$0].alignment == alignment && widths[$0] > ($0 == 0 ? floor : 16)
        }).max(by: { (widths[$0], $0) < (widths[$1], $1) })
      {
        widths[widest] -= 1
      }
    }
    var text: [UInt8] = []
    text.reserveCapacity((inks.count + 1) * shown.reduce(0) { $0 + widths[$1] + 4 })
    append(titles[...], ink: nil, shown, widths, to: &text)
    for (row, ink) in inks.enumerated() {
      text.append(UInt8(ascii: "\n"))
      append(
        cells[row * columns.count..<(row + 1) * columns.count], ink: isColoured ? ink : nil, shown,
        widths, to: &text)
    }
    return String(decoding: text, as: UTF8.self)
  }

  /// Adds a row: more than one line where a cell is folded.
  private func append(
    _ row: ArraySlice<Cell>, ink: Ink?, _ shown: [Int], _ widths: [Int], to text: inout [UInt8]
  ) {
    let first = row.startIndex
    guard
      shown.contains(where: {
        columns[$0].alignment == .folded && row[first + $0].width > widths[$0]
      })
    else { return line(row, ink: ink, shown, widths, to: &text) }
    let cells = row.enumerated().map { i, cell in
      columns[i].alignment == .folded
        ? Paragraph.fold(cell.text, width: widths[i], indent: 0).map { Cell($0) } : [cell]
    }
    for number in 0..<(cells.map(\.count).max() ?? 0) {
      if number > 0 { text.append(UInt8(ascii: "\n")) }
      line(
        cells.map { number < $0.count ? $0[number] : Cell("") }[...], ink: number == 0 ? ink : nil,
        shown, widths, to: &text)
    }
  }

  /// Adds a line without spaces at its end.
  private func line(
    _ row: ArraySlice<Cell>, ink: Ink?, _ shown: [Int], _ widths: [Int], to text: inout [UInt8]
  ) {
    // Spaces are owed until something stands behind them.
    var owed = 0
    for i in shown {
      let cell = row[row.startIndex + i]
      let space = max(0, widths[i] - cell.width)
      if i != shown.first { owed += 2 }
      if columns[i].alignment == .right { owed += space }
      if !cell.text.isEmpty {
        for _ in 0..<owed { text.append(UInt8(ascii: " ")) }
        if let ink, i == columns.count - 1 {
          text += Array(ink.paint(shorten(cell, widths[i])).utf8)
        } else {
          add(cell, widths[i], to: &text)
        }
        owed = 0
      }
      if columns[i].alignment != .right { owed += space }
    }
  }

  private func add(_ cell: Cell, _ width: Int, to text: inout [UInt8]) {
    guard cell.isPlain else { return text += Array(shorten(cell, width).utf8) }
    var copy = cell.text
    copy.withUTF8 { bytes in
      if bytes.count <= width {
        text.append(contentsOf: bytes)
      } else {
        let (head, tail) = Self.ends(width)
        text.append(contentsOf: bytes[..<head])
        text.append(contentsOf: "…".utf8)
        text.append(contentsOf: bytes[(bytes.count - tail)...])
      }
    }
  }

  private func shorten(_ cell: Cell, _ width: Int) -> String {
    guard cell.width > width else { return cell.text }
    let (head, tail) = Self.ends(width)
    return "\(cell.text.prefix(head))…\(cell.text.suffix(tail))"
  }

  /// What is left of a text in `width` characters, one of them for what is left out: names differ by
  /// their ends more than by their beginnings.
  private static func ends(_ width: Int) -> (head: Int, tail: Int) {
    let head = (width - 1) / 3
    return (head, width - 1 - head)
  }
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
