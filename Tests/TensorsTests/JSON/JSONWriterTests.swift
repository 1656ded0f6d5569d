import Tensors
import Testing

@Suite("JSON writer")
struct JSONWriterTests {
  @Test(
    "doubles are written as Python's repr writes them",
    arguments: [
      (1.0, "1.0"), (0.0, "0.0"), (-0.0, "-0.0"), (1e-5, "1e-05"), (0.0001, "0.0001"),
      (1.5e-7, "1.5e-07"), (1e16, "1e+16"), (1e15, "1000000000000000.0"),
      (123456789012345680.0, "1.2345678901234568e+17"),
      (12345678901234568.0, "1.2345678901234568e+16"),
      (9007199254740993.0, "9007199254740992.0"), (0.1, "0.1"), (-2.5, "-2.5"), (1e100, "1e+100"),
      (.leastNonzeroMagnitude, "5e-324"), (1.7976931348623157e308, "1.7976931348623157e+308"),
      (10000.0, "10000.0"), (.infinity, #"{"__float__": "Infinity"}"#),
      (-.infinity, #"{"__float__": "-Infinity"}"#), (.nan, #"{"__float__": "NaN"}"#),
      (0.02, "0.02"), (123.456, "123.456"), (-1e-10, "-1e-10"),
    ])
  func doubles(_ value: Double, _ text: String) {
    #expect(JSONValue.double(value).text(indent: nil) == text)
  }

  @Test("infinities and NaN are transformers 5's objects, or null, at any depth; never bare words")
  func nonFinite() throws {
    let value: JSONValue = ["a": [.double(.nan), 1.5], "b": ["c": .double(-.infinity)]]
    #expect(value.text(nonFinite: .null) == #"{"a": [null, 1.5], "b": {"c": null}}"#)
    #expect(
      value.text()
        == #"{"a": [{"__float__": "NaN"}, 1.5], "b": {"c": {"__float__": "-Infinity"}}}"#)
    for text in [value.text(), value.text(indent: 2), value.text(nonFinite: .null)] {
      _ = try JSONParser.parse(text, file: "x", mode: .strict)
    }
  }

  @Test("transformers 5's objects read back as the floats that they stand for, others do not")
  func tags() throws {
    let read = try JSONParser.parse(
      #"{"limit": [0.0, {"__float__": "Infinity"}], "x": {"__float__": "-Infinity"}, "#
        + #""y": {"__float__": "1.5"}, "z": {"__float__": "Infinity", "more": 1}}"#, file: "x")
    let value = read.resolvingFloatTags
    #expect(value["limit"] == [0.0, .double(.infinity)])
    #expect(value["x"] == .double(-.infinity))
    #expect(value["y"] == ["__float__": "1.5"])
    #expect(value["z"] == ["__float__": "Infinity", "more": 1])
    #expect(value.brief.hasPrefix(#"{"limit": [0.0, Infinity], "x": -Infinity, "#))
  }

  @Test("one line and indented texts are Python's")
  func layout() {
    let value: JSONValue = ["b": [1, 2.0], "a": ["x": nil], "e": [], "o": [:], "t": true]
    #expect(
      value.text(indent: nil)
        == #"{"b": [1, 2.0], "a": {"x": null}, "e": [], "o": {}, "t": true}"#)
    #expect(
      value.text(indent: 2) == """
        {
          "b": [
            1,
            2.0
          ],
          "a": {
            "x": null
          },
          "e": [],
          "o": {},
          "t": true
        }
        """)
  }

  @Test("texts are escaped as Python escapes them")
  func strings() {
    let value: JSONValue = "\"\\/\n\r\t\u{8}\u{C}\0\u{7F}é😀"
    #expect(
      value.text(indent: nil) == #""\"\\/\n\r\t\b\f\u0000\u007f\u00e9\ud83d\ude00""#)
    #expect(
      value.text(indent: nil, ascii: false) == "\"\\\"\\\\/\\n\\r\\t\\b\\f\\u0000\u{7F}é😀\"")
  }

  @Test("random doubles read back as the same bits")
  func roundTrip() throws {
    var generator = SystemRandomNumberGenerator()
    for _ in 0..<20_000 {
      let bits = generator.next() as UInt64
      let value = Double(bitPattern: bits)
      guard value.isFinite else { continue }
      let text = JSONValue.double(value).text(indent: nil)
      let back = try JSONParser.parse(text, file: "x")
      guard case .double(let read) = back, read.bitPattern == bits else {
        Issue.record("\(bits) was written as \(text)")
        return
      }
    }
  }
}
