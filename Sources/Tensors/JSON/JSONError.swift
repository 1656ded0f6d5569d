/// What is wrong with a JSON text, and where.
public struct JSONError: Error, Sendable, Hashable {
  /// The rule that the text breaks; the last part of the diagnostic's code.
  public enum Rule: String, Sendable, Hashable, CaseIterable {
    /// A character that cannot stand there.
    case syntax
    /// The text ends too early.
    case truncated
    /// Something follows the value.
    case trailing
    /// A comma before a closing bracket.
    case trailingComma = "trailing-comma"
    /// A key stands twice in one object.
    case duplicateKey = "duplicate-key"
    /// Bytes that are no UTF-8.
    case utf8
    /// A byte order mark.
    case bom
    /// Too many brackets inside each other.
    case depth
    /// A number that JSON cannot write, or that no double can hold.
    case number
    /// A control character or an unknown escape in a text.
    case string
    /// Half of a UTF-16 pair.
    case surrogate
    /// More combining marks in a row than any script has.
    case marks
  }

  /// The rule.
  public var rule: Rule
  /// The byte that breaks it, counted from the start of the text.
  public var offset: Int
  /// What was found and what was expected.
  public var message: String

  /// An error at byte `offset`.
  public init(_ rule: Rule, at offset: Int, _ message: String) {
    self.rule = rule
    self.offset = offset
    self.message = message
  }

  /// The place in `bytes` as `line:column`, both from 1; a column is a Unicode scalar.
  public func position(in bytes: [UInt8]) -> String {
    var line = 1
    var column = 1
    for byte in bytes.prefix(offset) {
      if byte == UInt8(ascii: "\n") {
        line += 1
        column = 1
      } else if byte & 0xC0 != 0x80 {
        column += 1
      }
    }
    return "\(line):\(column)"
  }

  /// The diagnostic `json.<rule>` about `file:line:column`.
  public func diagnostic(file: String, bytes: [UInt8]) -> Diagnostic {
    let help: String? =
      switch rule {
      case .utf8, .bom: "save the file as UTF-8 without a byte order mark"
      case .truncated: "the file is incomplete; fetch it again"
      case .duplicateKey: "readers disagree on which of the two counts; remove one"
      default: nil
      }
    return Diagnostic(
      code: "json.\(rule.rawValue)", subject: "\(file):\(position(in: bytes))", message: message,
      help: help)
  }
}
