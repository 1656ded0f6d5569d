/// Reads the tokens of a JSON text strictly, byte by byte.
///
/// `JSONParser` builds values with it; the safetensors header goes straight from tokens to tensors.
/// The text is checked to be UTF-8 once, at the start.
public struct JSONScanner {
  /// A number as it is written.
  public enum Number: Sendable, Hashable {
    /// No fraction, no exponent, and it fits.
    case int(Int)
    /// No fraction, no exponent, and it does not fit an `Int`.
    case bigInteger(Double)
    /// With a fraction or an exponent.
    case double(Double)
  }

  /// The text.
  public let bytes: [UInt8]
  /// The next byte to read.
  public private(set) var position = 0

  /// A scanner at the first token of `bytes`.
  ///
  /// - Throws: `bom`, `utf8`.
  public init(_ bytes: [UInt8]) throws(JSONError) {
    self.bytes = bytes
    if bytes.starts(with: [0xEF, 0xBB, 0xBF]) {
      throw JSONError(.bom, at: 0, "starts with a byte order mark")
    }
    if let offset = Self.firstInvalidUTF8(bytes) {
      throw JSONError(.utf8, at: offset, "byte 0x\(hex(bytes[offset])) is not part of UTF-8 text")
    }
    skipSpace()
  }

  /// The next byte, or `nil` at the end.
  public var peek: UInt8? { position < bytes.count ? bytes[position] : nil }

  /// Moves over white space.
  public mutating func skipSpace() {
    while position < bytes.count {
      switch bytes[position] {
      case 0x20, 0x0A, 0x0D, 0x09: position += 1
      default: return
      }
    }
  }

  /// Moves over `byte` and the white space behind it if it comes next.
  public mutating func accept(_ byte: UInt8) -> Bool {
    guard position < bytes.count, bytes[position] == byte else { return false }
    position += 1
    skipSpace()
    return true
  }

  /// Moves over `byte` and the white space behind it.
  ///
  /// - Throws: `syntax` or `truncated` when something else, or nothing, comes next.
  public mutating func expect(_ byte: UInt8) throws(JSONError) {
    guard accept(byte) else { throw unexpected("\"\(Character(Unicode.Scalar(byte)))\"") }
  }

  /// Moves over the bytes of `word` if they come next, and the white space behind them.
  public mutating func accept(word: StaticString) -> Bool {
    let count = word.utf8CodeUnitCount
    guard bytes.count - position >= count else { return false }
    for i in 0..<count where bytes[position + i] != word.utf8Start[i] { return false }
    position += count
    skipSpace()
    return true
  }

  /// Reads the `,` or `close` behind an element of a list or object.
  ///
  /// - Returns: whether another element follows.
  /// - Throws: `trailingComma`, `syntax`, `truncated`.
  public mutating func more(until close: UInt8) throws(JSONError) -> Bool {
    let comma = position
    if accept(UInt8(ascii: ",")) {
      if peek == close { throw JSONError(.trailingComma, at: comma, "a comma before the end") }
      return true
    }
    guard accept(close) else {
      throw unexpected("\",\" or \"\(Character(Unicode.Scalar(close)))\"")
    }
    return false
  }

  /// Checks that only white space is left.
  ///
  /// - Throws: `trailing`.
  public mutating func finish() throws(JSONError) {
    skipSpace()
    guard position == bytes.count else {
      throw JSONError(.trailing, at: position, "\(found()) follows the end of the value")
    }
  }

  /// The error for what stands here instead of `expected`.
  public func unexpected(_ expected: String) -> JSONError {
    guard position < bytes.count else {
      return JSONError(.truncated, at: position, "the text ends where \(expected) was expected")
    }
    return JSONError(.syntax, at: position, "\(found()) instead of \(expected)")
  }

  /// What stands here, for messages.
  private func found() -> String {
    guard position < bytes.count else { return "the end" }
    let byte = bytes[position]
    if byte > 0x20, byte < 0x7F { return "\"\(Character(Unicode.Scalar(byte)))\"" }
    return "byte 0x\(hex(byte))"
  }

  /// Reads a text in double quotes, and the white space behind it.
  ///
  /// - Throws: `syntax`, `truncated`, `string`, `surrogate`, `marks`.
  public mutating func string() throws(JSONError) -> String {
    guard peek == UInt8(ascii: "\"") else { throw unexpected("a text in double quotes") }
    let start = position + 1
    var end = start
    var all: UInt8 = 0
    while end < bytes.count {
      let byte = bytes[end]
      if byte == UInt8(ascii: "\"") {
        position = end + 1
        skipSpace()
        let text = String(decoding: bytes[start..<end], as: UTF8.self)
        return all < 0x80 ? text : try streamSafe(text, at: start)
      }
      if byte == UInt8(ascii: "\\") { break }
      guard byte >= 0x20 else { throw control(at: end) }
      all |= byte
      end += 1
    }
    return try escapedString(from: start, plain: end)
  }

  /// Reads a text that has an escape at `plain`, or that does not end.
  private mutating func escapedString(from start: Int, plain: Int) throws(JSONError) -> String {
    var out = [UInt8](bytes[start..<plain])
    var i = plain
    while i < bytes.count {
      let byte = bytes[i]
      switch byte {
      case UInt8(ascii: "\""):
        position = i + 1
        skipSpace()
        return try streamSafe(String(decoding: out, as: UTF8.self), at: start)
      case UInt8(ascii: "\\"):
        i = try escape(at: i, into: &out)
      case 0..<0x20:
        throw control(at: i)
      default:
        out.append(byte)
        i += 1
      }
    }
    throw JSONError(.truncated, at: bytes.count, "the text ends inside a string")
  }

  /// The text, if it can be compared in little time.
  private func streamSafe(_ text: String, at start: Int) throws(JSONError) -> String {
    guard text.isStreamSafe else {
      throw JSONError(.marks, at: start, "a text has more than 30 combining marks in a row")
    }
    return text
  }

  private func control(at offset: Int) -> JSONError {
    JSONError(.string, at: offset, "control character 0x\(hex(bytes[offset])) inside a string")
  }

  /// Decodes the escape at `start` and returns the offset behind it.
  private func escape(at start: Int, into out: inout [UInt8]) throws(JSONError) -> Int {
    guard start + 1 < bytes.count else {
      throw JSONError(.truncated, at: bytes.count, "the text ends inside a string")
    }
    switch bytes[start + 1] {
    case UInt8(ascii: "\""): out.append(UInt8(ascii: "\""))
    case UInt8(ascii: "\\"): out.append(UInt8(ascii: "\\"))
    case UInt8(ascii: "/"): out.append(UInt8(ascii: "/"))
    case UInt8(ascii: "b"): out.append(0x08)
    case UInt8(ascii: "f"): out.append(0x0C)
    case UInt8(ascii: "n"): out.append(0x0A)
    case UInt8(ascii: "r"): out.append(0x0D)
    case UInt8(ascii: "t"): out.append(0x09)
    case UInt8(ascii: "u"):
      let unit = try hexUnit(at: start + 2)
      var end = start + 6
      var code = UInt32(unit)
      if unit & 0xF800 == 0xD800 {
        guard unit < 0xDC00, end + 1 < bytes.count, bytes[end] == UInt8(ascii: "\\"),
          bytes[end + 1] == UInt8(ascii: "u")
        else { throw JSONError(.surrogate, at: start, "half of a surrogate pair") }
        let low = try hexUnit(at: end + 2)
        guard low & 0xFC00 == 0xDC00 else {
          throw JSONError(.surrogate, at: start, "half of a surrogate pair")
        }
        code = 0x10000 + (UInt32(unit & 0x3FF) << 10 | UInt32(low & 0x3FF))
        end += 6
      }
      guard let scalar = Unicode.Scalar(code) else {
        throw JSONError(.surrogate, at: start, "half of a surrogate pair")
      }
      out.append(contentsOf: UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter)
      return end
    default:
      throw JSONError(.string, at: start, "an escape that JSON does not have")
    }
    return start + 2
  }

  private func hexUnit(at start: Int) throws(JSONError) -> UInt16 {
    var value: UInt16 = 0
    for i in start..<start + 4 {
      guard i < bytes.count else {
        throw JSONError(.truncated, at: bytes.count, "the text ends inside a string")
      }
      let digit: UInt8
      switch bytes[i] {
      case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = bytes[i] - UInt8(ascii: "0")
      case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = bytes[i] - UInt8(ascii: "a") + 10
      case UInt8(ascii: "A")...UInt8(ascii: "F"): digit = bytes[i] - UInt8(ascii: "A") + 10
      default: throw JSONError(.string, at: i, "\\u needs four hexadecimal digits")
      }
      value = value << 4 | UInt16(digit)
    }
    return value
  }

  /// Reads a number, and the white space behind it.
  ///
  /// - Throws: `number`, `syntax`, `truncated`.
  public mutating func number() throws(JSONError) -> Number {
    let start = position
    var i = position
    let negative = i < bytes.count && bytes[i] == UInt8(ascii: "-")
    if negative { i += 1 }
    let first = i
    var magnitude: Int? = 0
    while i < bytes.count, let digit = digit(at: i) {
      magnitude = magnitude?.checkedTimes(10)?.checkedPlus(digit)
      i += 1
    }
    guard i > first else {
      guard negative else { throw unexpected("a number") }
      throw JSONError(.number, at: start, "a minus sign without digits")
    }
    if bytes[first] == UInt8(ascii: "0"), i > first + 1 {
      throw JSONError(.number, at: first, "a number with leading zeros")
    }
    var whole = true
    if i < bytes.count, bytes[i] == UInt8(ascii: ".") {
      whole = false
      let dot = i
      i = endOfDigits(from: i + 1)
      guard i > dot + 1 else { throw JSONError(.number, at: dot, "no digit behind the point") }
    }
    if i < bytes.count, bytes[i] | 0x20 == UInt8(ascii: "e") {
      whole = false
      let mark = i
      i += 1
      if i < bytes.count, bytes[i] == UInt8(ascii: "+") || bytes[i] == UInt8(ascii: "-") { i += 1 }
      let digits = i
      i = endOfDigits(from: i)
      guard i > digits else { throw JSONError(.number, at: mark, "an exponent without digits") }
    }
    position = i
    skipSpace()
    if whole, let magnitude { return .int(negative ? -magnitude : magnitude) }
    let text = String(decoding: bytes[start..<i], as: UTF8.self)
    if whole, let int = Int(text) { return .int(int) }
    guard let value = Double(text) else {
      throw JSONError(.number, at: start, "a number that cannot be read")
    }
    return whole ? .bigInteger(value) : .double(value)
  }

  private func digit(at i: Int) -> Int? {
    let byte = bytes[i]
    guard byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") else { return nil }
    return Int(byte - UInt8(ascii: "0"))
  }

  private func endOfDigits(from start: Int) -> Int {
    var i = start
    while i < bytes.count, digit(at: i) != nil { i += 1 }
    return i
  }

  /// The offset of the first byte that is not part of well-formed UTF-8, or `nil`.
  ///
  /// Overlong forms, surrogates and values over U+10FFFF are not well-formed.
  public static func firstInvalidUTF8(_ bytes: [UInt8]) -> Int? {
    var i = 0
    let count = bytes.count
    // Most texts are ASCII, which a loop without exits finds many bytes at a time.
    var all: UInt8 = 0
    for byte in bytes { all |= byte }
    if all < 0x80 { return nil }
    while i < count {
      let byte = bytes[i]
      if byte < 0x80 {
        i += 1
        continue
      }
      let length: Int
      var second: ClosedRange<UInt8> = 0x80...0xBF
      switch byte {
      case 0xC2...0xDF: length = 2
      case 0xE0: (length, second) = (3, 0xA0...0xBF)
      case 0xED: (length, second) = (3, 0x80...0x9F)
      case 0xE1...0xEF: length = 3
      case 0xF0: (length, second) = (4, 0x90...0xBF)
      case 0xF4: (length, second) = (4, 0x80...0x8F)
      case 0xF1...0xF3: length = 4
      default: return i
      }
      guard count - i >= length, second.contains(bytes[i + 1]) else { return i }
      for k in 2..<max(length, 2) where bytes[i + k] & 0xC0 != 0x80 { return i }
      i += length
    }
    return nil
  }
}
