import Tensors
import Testing

@Suite("JSON parser")
struct JSONParserTests {
  func parse(_ text: String, _ mode: JSONParser.Mode = .strict) throws -> JSONValue {
    try JSONParser.parse(text, file: "config.json", mode: mode)
  }

  func failure(_ bytes: [UInt8], _ mode: JSONParser.Mode = .strict) -> Diagnostic? {
    do throws(Diagnostic) {
      _ = try JSONParser.parse(bytes, file: "f", mode: mode)
      return nil
    } catch { return error }
  }

  @Test("values of every kind are read, keys in order")
  func values() throws {
    let value = try parse(
      #" {"z": [1, -2, 0, 3.5, 1e3, true, false, null], "a": {"": "x"}, "m": []} "#)
    #expect(
      value == [
        "z": [1, -2, 0, 3.5, 1000.0, true, false, nil], "a": ["": "x"], "m": [],
      ])
  }

  @Test("whole numbers are kept apart from doubles, and large ones become doubles")
  func numbers() throws {
    #expect(try parse("9223372036854775807") == .int(.max))
    #expect(try parse("-9223372036854775808") == .int(.min))
    #expect(try parse("9223372036854775808") == .double(0x1p63))
    #expect(try parse("1.0") == .double(1))
    #expect(try parse("-0.0") == .double(-0.0))
    #expect(try parse("1e-05") == .double(1e-5))
  }

  @Test("thirty combining marks in a row are read, one more is refused, however they are written")
  func marks() throws {
    let thirty = "a" + String(repeating: "\u{301}\u{316}", count: 15)
    let escaped = "a" + String(repeating: #"\u0301\u0316"#, count: 15)
    #expect(
      try parse("{\"\(thirty)\": \"\(thirty)b\(thirty)\"}")[thirty]?.string?.utf8.count == 123)
    #expect(try parse("{\"\(escaped)\": 1}")[thirty] == 1)
    for text in [
      "{\"\(thirty)\u{345}\": 1}", "\"\(escaped)\u{301}\"", "\"\(thirty)\\u0316\"",
      "[\"\(thirty)\u{1D165}\"]",
    ] { #expect(failure(Array(text.utf8))?.code == "json.marks", "\(text)") }
  }

  @Test("escapes and surrogate pairs are decoded")
  func escapes() throws {
    #expect(
      try parse(#""\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00é😀""#).string
        == "\"\\/\u{8}\u{C}\n\r\té😀é😀")
    #expect(try parse(#""\u0000""#).string == "\0")
  }

  @Test(
    "what JSON forbids is refused with its rule and place",
    arguments: [
      ("", "json.truncated", "f:1:1"), ("{", "json.truncated", "f:1:2"),
      ("[1,]", "json.trailing-comma", "f:1:3"), ("{\"a\":1,}", "json.trailing-comma", "f:1:7"),
      ("[1]x", "json.trailing", "f:1:4"), ("[1]\0", "json.trailing", "f:1:4"),
      ("{\n  \"a\": 1,\n  \"a\": 2}", "json.duplicate-key", "f:3:3"),
      ("[{\"é\":1,\"e\u{301}\":2}]", "json.duplicate-key", "f:1:9"),
      ("\u{FEFF}{}", "json.bom", "f:1:1"), ("01", "json.number", "f:1:1"),
      ("-", "json.number", "f:1:1"), ("1.", "json.number", "f:1:2"),
      ("1e", "json.number", "f:1:2"), ("1e999", "json.number", "f:1:1"),
      ("+1", "json.syntax", "f:1:1"), (".5", "json.syntax", "f:1:1"),
      ("nul", "json.syntax", "f:1:1"), ("'a'", "json.syntax", "f:1:1"),
      ("NaN", "json.syntax", "f:1:1"), ("-Infinity", "json.number", "f:1:1"),
      ("{a:1}", "json.syntax", "f:1:2"), ("[1 2]", "json.syntax", "f:1:4"),
      ("\"\\x\"", "json.string", "f:1:2"), ("\"\n\"", "json.string", "f:1:2"),
      ("\"\\u12g4\"", "json.string", "f:1:6"), ("\"\\ud800\"", "json.surrogate", "f:1:2"),
      ("\"\\udc00\\ud800\"", "json.surrogate", "f:1:2"),
      ("\"\\ud800\\u0041\"", "json.surrogate", "f:1:2"), ("\"ab", "json.truncated", "f:1:4"),
      ("// c\n1", "json.syntax", "f:1:1"),
    ])
  func refusals(_ text: String, _ code: String, _ subject: String) {
    let error = failure(Array(text.utf8))
    #expect(error?.code == code)
    #expect(error?.subject == subject)
  }

  @Test(
    "bytes outside UTF-8 are refused",
    arguments: [
      [0x22, 0x80, 0x22], [0x22, 0xC0, 0xAF, 0x22], [0x22, 0xED, 0xA0, 0x80, 0x22],
      [0x22, 0xF4, 0x90, 0x80, 0x80, 0x22], [0x22, 0xE2, 0x82, 0x22], [0xFF, 0xFE],
      [0x22, 0xC3],
    ] as [[UInt8]])
  func badUTF8(_ bytes: [UInt8]) {
    #expect(failure(bytes)?.code == "json.utf8")
  }

  @Test("nesting is limited, and deep texts never overflow the stack")
  func depth() throws {
    let nested = { (n: Int) in
      Array((String(repeating: "[", count: n) + String(repeating: "]", count: n)).utf8)
    }
    #expect(failure(nested(128)) == nil)
    #expect(failure(nested(129))?.code == "json.depth")
    #expect(failure([UInt8](repeating: UInt8(ascii: "["), count: 1_000_000))?.code == "json.depth")
  }

  @Test("Python's mode also reads NaN and infinities")
  func python() throws {
    #expect(try parse("[NaN]", .python).array?.first?.double?.isNaN == true)
    #expect(
      try parse("[Infinity, -Infinity, 1e999]", .python) == [
        .double(.infinity), .double(-.infinity), .double(.infinity),
      ])
    #expect(throws: Diagnostic.self) { try parse("nan", .python) }
    #expect(throws: Diagnostic.self) { try parse("-Infinit", .python) }
  }
}
