import OrderedCollections

/// Reads JSON texts, strictly: what two readers could understand differently is an error.
///
/// Duplicate keys (at any level, also when only canonically equivalent), trailing commas, byte order
/// marks, lone surrogates, leading zeros and bytes outside UTF-8 are refused.
///
///     try JSONParser.parse(Array(#"{"a": [1, 2.0]}"#.utf8), file: "x")
///     // .object(["a": [.int(1), .double(2.0)]])
public enum JSONParser {
  /// Which texts are JSON.
  public enum Mode: Sendable, Hashable {
    /// RFC 8259; numbers must fit a double.
    case strict
    /// Also `NaN`, `Infinity` and `-Infinity`, as Python's `json` writes them; too large a number is
    /// infinite, as Python reads it.
    case python
  }

  /// The value of a whole text.
  ///
  /// - Parameters:
  ///   - bytes: the text in UTF-8.
  ///   - file: its name, for messages.
  ///   - mode: how strict to be.
  ///   - maxDepth: brackets allowed inside each other.
  /// - Throws: `json.*` about `file:line:column`, a code for each `JSONError.Rule`.
  public static func parse(
    _ bytes: [UInt8], file: String, mode: Mode = .strict, maxDepth: Int = 128
  ) throws(Diagnostic) -> JSONValue {
    do throws(JSONError) {
      var scanner = try JSONScanner(bytes)
      let value = try value(&scanner, mode: mode, depth: maxDepth)
      try scanner.finish()
      return value
    } catch {
      throw error.diagnostic(file: file, bytes: bytes)
    }
  }

  /// The value of a whole text.
  ///
  /// - Throws: as `parse(_:file:mode:maxDepth:)`.
  public static func parse(
    _ text: String, file: String, mode: Mode = .strict
  ) throws(Diagnostic) -> JSONValue {
    try parse(Array(text.utf8), file: file, mode: mode)
  }

  /// The value that comes next, at most `depth` levels deep.
  ///
  /// - Throws: the rule that the text breaks.
  public static func value(
    _ scanner: inout JSONScanner, mode: Mode = .strict, depth: Int = 128
  ) throws(JSONError) -> JSONValue {
    switch scanner.peek {
    case UInt8(ascii: "{"): return .object(try object(&scanner, mode: mode, depth: depth))
    case UInt8(ascii: "["): return .array(try array(&scanner, mode: mode, depth: depth))
    case UInt8(ascii: "\""): return .string(try scanner.string())
    case UInt8(ascii: "t") where scanner.accept(word: "true"): return .bool(true)
    case UInt8(ascii: "f") where scanner.accept(word: "false"): return .bool(false)
    case UInt8(ascii: "n") where scanner.accept(word: "null"): return .null
    case UInt8(ascii: "N") where mode == .python && scanner.accept(word: "NaN"):
      return .double(.nan)
    case UInt8(ascii: "I") where mode == .python && scanner.accept(word: "Infinity"):
      return .double(.infinity)
    case UInt8(ascii: "-") where mode == .python && scanner.accept(word: "-Infinity"):
      return .double(-.infinity)
    case let byte? where byte == UInt8(ascii: "-") || isDigit(byte):
      let start = scanner.position
      switch try scanner.number() {
      case .int(let value): return .int(value)
      case .bigInteger(let value), .double(let value):
        guard mode == .python || value.isFinite else {
          throw JSONError(.number, at: start, "a number too large for a double")
        }
        return .double(value)
      }
    default: throw scanner.unexpected("a value")
    }
  }

  private static func array(
    _ scanner: inout JSONScanner, mode: Mode, depth: Int
  ) throws(JSONError) -> [JSONValue] {
    try enter(scanner, depth)
    try scanner.expect(UInt8(ascii: "["))
    var values: [JSONValue] = []
    if scanner.accept(UInt8(ascii: "]")) { return values }
    repeat {
      values.append(try value(&scanner, mode: mode, depth: depth - 1))
    } while try scanner.more(until: UInt8(ascii: "]"))
    return values
  }

  private static func object(
    _ scanner: inout JSONScanner, mode: Mode, depth: Int
  ) throws(JSONError) -> JSONObject {
    try enter(scanner, depth)
    try scanner.expect(UInt8(ascii: "{"))
    var members = JSONObject()
    if scanner.accept(UInt8(ascii: "}")) { return members }
    repeat {
      let start = scanner.position
      let key = try scanner.string()
      try scanner.expect(UInt8(ascii: ":"))
      let member = try value(&scanner, mode: mode, depth: depth - 1)
      guard members.updateValue(member, forKey: key) == nil else {
        throw JSONError(.duplicateKey, at: start, "key \"\(key)\" stands twice in one object")
      }
    } while try scanner.more(until: UInt8(ascii: "}"))
    return members
  }

  private static func isDigit(_ byte: UInt8) -> Bool {
    byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9")
  }

  private static func enter(_ scanner: JSONScanner, _ depth: Int) throws(JSONError) {
    guard depth > 0 else {
      throw JSONError(.depth, at: scanner.position, "brackets are nested too deeply")
    }
  }
}
