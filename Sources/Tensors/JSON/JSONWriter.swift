import OrderedCollections

/// Writes JSON texts (RFC 8259) byte for byte as Python's `json.dumps` does.
///
/// Doubles are the shortest text that reads back as the same double, in Python's `repr` style.
/// JSON has no words for infinities and NaN, which Python writes all the same and most other readers
/// reject: they never come out as bare words.
public struct JSONWriter {
  private let indent: Int?
  private let ascii: Bool
  private let nonFinite: NonFinite
  private var out: [UInt8] = []

  /// What stands for an infinity or NaN.
  public enum NonFinite: Sendable {
    /// `{"__float__": "Infinity"}`, as transformers 5 writes it.
    case object
    /// `null`.
    case null
  }

  /// A writer.
  ///
  /// - Parameters:
  ///   - indent: spaces a level; `nil` for one line (`{"a": 1, "b": [1, 2]}`).
  ///   - ascii: whether other characters become `\uXXXX` (Python's `ensure_ascii`).
  ///   - nonFinite: what stands for an infinity or NaN.
  public init(indent: Int?, ascii: Bool = true, nonFinite: NonFinite = .object) {
    self.indent = indent
    self.ascii = ascii
    self.nonFinite = nonFinite
  }

  /// The text of `value`, without a line break at the end.
  public static func text(
    _ value: JSONValue, indent: Int?, ascii: Bool = true, nonFinite: NonFinite = .object
  ) -> String {
    var writer = JSONWriter(indent: indent, ascii: ascii, nonFinite: nonFinite)
    writer.write(value, level: 0)
    return String(decoding: writer.out, as: UTF8.self)
  }

  private mutating func write(_ value: JSONValue, level: Int) {
    switch value {
    case .null: put("null")
    case .bool(let value): put(value ? "true" : "false")
    case .int(let value): put(String(value))
    case .double(let value):
      if value.isFinite {
        put(Self.text(of: value))
      } else if nonFinite == .null {
        put("null")
      } else {
        write([JSONValue.floatTag: .string(Self.text(of: value))], level: level)
      }
    case .string(let value): write(string: value)
    case .array(let values):
      bracket("[", "]", count: values.count, level: level) { writer, i in
        writer.write(values[i], level: level + 1)
      }
    case .object(let members):
      bracket("{", "}", count: members.count, level: level) { writer, i in
        let member = members.elements[i]
        writer.write(string: member.key)
        writer.put(": ")
        writer.write(member.value, level: level + 1)
      }
    }
  }

  private mutating func bracket(
    _ open: String, _ close: String, count: Int, level: Int,
    element: (inout JSONWriter, Int) -> Void
  ) {
    put(open)
    for i in 0..<count {
      if i > 0 { put(indent == nil ? ", " : ",") }
      newline(level + 1)
      element(&self, i)
    }
    if count > 0 { newline(level) }
    put(close)
  }

  private mutating func newline(_ level: Int) {
    guard let indent else { return }
    put("\n")
    for _ in 0..<indent * level { out.append(UInt8(ascii: " ")) }
  }

  private mutating func put(_ text: String) {
    var copy = text
    copy.withUTF8 { out.append(contentsOf: $0) }
  }

  private mutating func write(string: String) {
    out.append(UInt8(ascii: "\""))
    defer { out.append(UInt8(ascii: "\"")) }
    // Nearly every text stands as it is.
    var copy = string
    let isPlain = copy.withUTF8 { bytes in
      var odd: UInt8 = 0
      for byte in bytes {
        odd |=
          byte &- 0x20 < 0x5F && byte != UInt8(ascii: "\"") && byte != UInt8(ascii: "\\") ? 0 : 1
      }
      if odd == 0 { out.append(contentsOf: bytes) }
      return odd == 0
    }
    guard !isPlain else { return }
    for scalar in string.unicodeScalars {
      switch scalar {
      case "\"": put("\\\"")
      case "\\": put("\\\\")
      case "\n": put("\\n")
      case "\r": put("\\r")
      case "\t": put("\\t")
      case "\u{8}": put("\\b")
      case "\u{C}": put("\\f")
      case "\u{20}"..."\u{7E}": out.append(UInt8(truncatingIfNeeded: scalar.value))
      case _ where ascii || scalar.value < 0x20:
        for unit in UTF16.encode(scalar).map(Array.init) ?? [] {
          put("\\u" + hex(unit))
        }
      default: out.append(contentsOf: UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter)
      }
    }
  }

  /// The shortest text of a double in Python's style: `1.0`, `1e-05`, `1.5e+16`, `NaN`, `-Infinity`.
  public static func text(of value: Double) -> String {
    if value.isNaN { return "NaN" }
    if value.isInfinite { return value < 0 ? "-Infinity" : "Infinity" }
    if value == 0 { return value.sign == .minus ? "-0.0" : "0.0" }
    // Swift's own text has the same digits but other limits between the two notations.
    var digits: [UInt8] = []
    var point = 0
    var afterPoint = false
    var exponent = 0
    let text = value.magnitude.description.utf8
    var rest = text[...]
    while let byte = rest.popFirst() {
      switch byte {
      case UInt8(ascii: "."): afterPoint = true
      case UInt8(ascii: "e"):
        exponent = Int(Substring(rest)) ?? 0
        rest = rest[rest.endIndex...]
      default:
        digits.append(byte)
        if !afterPoint { point += 1 }
      }
    }
    point += exponent
    let zeros = digits.prefix { $0 == UInt8(ascii: "0") }.count
    digits.removeFirst(zeros)
    point -= zeros
    while digits.last == UInt8(ascii: "0") { digits.removeLast() }
    let sign = value < 0 ? "-" : ""
    let all = String(decoding: digits, as: UTF8.self)
    func zeroes(_ count: Int) -> String { String(repeating: "0", count: count) }
    if point > 16 || point < -3 {
      let power = point - 1
      let magnitude = String(power.magnitude)
      let fraction = digits.count > 1 ? "." + all.dropFirst() : ""
      return sign + all.prefix(1) + fraction + "e" + (power < 0 ? "-" : "+")
        + zeroes(max(0, 2 - magnitude.utf8.count)) + magnitude
    }
    if point <= 0 { return sign + "0." + zeroes(-point) + all }
    if digits.count <= point { return sign + all + zeroes(point - digits.count) + ".0" }
    return sign + all.prefix(point) + "." + all.dropFirst(point)
  }
}

extension JSONValue {
  /// The value as `json.dumps(value, indent=indent)` writes it; keys in order.
  ///
  ///     JSONValue.object(["eps": 1e-5]).text(indent: nil)  // {"eps": 1e-05}
  ///
  /// - Parameters:
  ///   - indent: spaces a level; `nil` for one line.
  ///   - ascii: whether other characters become `\uXXXX`.
  ///   - nonFinite: what stands for an infinity or NaN.
  public func text(
    indent: Int? = nil, ascii: Bool = true, nonFinite: JSONWriter.NonFinite = .object
  ) -> String {
    JSONWriter.text(self, indent: indent, ascii: ascii, nonFinite: nonFinite)
  }

  /// The only key of the object that transformers 5 writes for a float without a word in JSON.
  static var floatTag: String { "__float__" }

  /// The value with every `{"__float__": "Infinity"}` in it read as the float that it stands for.
  public var resolvingFloatTags: JSONValue {
    switch self {
    case .array(let values): return .array(values.map(\.resolvingFloatTags))
    case .object(let object):
      if object.count == 1, let word = object[Self.floatTag]?.string {
        switch word {
        case "Infinity": return .double(.infinity)
        case "-Infinity": return .double(-.infinity)
        case "NaN": return .double(.nan)
        default: break
        }
      }
      return .object(object.mapValues(\.resolvingFloatTags))
    default: return self
    }
  }

  /// Whether an infinity or NaN is in it.
  public var holdsNonFinite: Bool {
    switch self {
    case .double(let value): !value.isFinite
    case .array(let values): values.contains(where: \.holdsNonFinite)
    case .object(let object): object.values.contains(where: \.holdsNonFinite)
    default: false
    }
  }

  /// The value with `number` for every positive infinity in it, and `-number` for every negative.
  public func replacingInfinity(by number: Double) -> JSONValue {
    switch self {
    case .double(let value) where value.isInfinite: .double(value < 0 ? -number : number)
    case .array(let values): .array(values.map { $0.replacingInfinity(by: number) })
    case .object(let object): .object(object.mapValues { $0.replacingInfinity(by: number) })
    default: self
    }
  }
}
