import Tensors
import Testing

/// Texts from files on their way to a terminal.
@Suite("Texts made visible")
struct VisibleTests {
  /// What `visible` means, scalar by scalar.
  static func mustBeShown(_ value: UInt32, lines: Bool) -> Bool {
    switch value {
    case 0x09, 0x0A: !lines
    case 0..<0x20, 0x7F..<0xA0, 0x61C, 0x200E, 0x200F, 0x2028...0x202E, 0x2066...0x2069: true
    default: false
    }
  }

  @Test(
    "every scalar of the ranges in which some are made visible is told apart, wherever it stands",
    arguments: [true, false])
  func scalars(lines: Bool) {
    var values = Array(UInt32(0)...0x0FF) + Array(0x600...0x640) + Array(0x1FF0...0x2080)
    values += [0x3B1, 0xD7FF, 0xE000, 0xFEFF, 0xFFFD, 0x1F600]
    for value in values {
      let scalar = String(Character(Unicode.Scalar(value)!))
      // Blocks of 64 bytes are looked at in one: before, across and behind their borders.
      for before in [0, 1, 61, 62, 63, 64, 130] {
        let text = String(repeating: "a", count: before) + scalar + "…é"
        let isShown = text.visible(lines: lines) != text
        #expect(
          isShown == Self.mustBeShown(value, lines: lines),
          "U+\(String(value, radix: 16)) behind \(before) characters")
      }
    }
  }

  @Test("the ellipsis of shortened names and ASCII are known by their bytes alone")
  func plain() {
    #expect("backbone.la…8.mixer".isPlain(lines: false))
    #expect(!"a\nb".isPlain(lines: false))
    #expect("a\nb\tc".isPlain(lines: true))
    #expect(!"a\u{1B}[0m".isPlain(lines: true))
    #expect("abc ~".isPrintableASCII)
    #expect(!"ab…".isPrintableASCII)
    #expect("".isPrintableASCII)
  }
}
