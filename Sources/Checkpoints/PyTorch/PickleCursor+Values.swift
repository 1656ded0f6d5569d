import Tensors

extension PickleCursor {
  /// The number that `opcode` pushes.
  mutating func number(_ opcode: PickleOpcode) throws(Diagnostic) -> PickleValue {
    switch opcode {
    case .binInt: return .int(Int(Int32(truncatingIfNeeded: try unsigned(4))))
    case .binInt1: return .int(Int(try unsigned(1)))
    case .binInt2: return .int(Int(try unsigned(2)))
    case .binFloat: return .float(Double(bitPattern: try unsigned(8).byteSwapped))
    case .long1: return Self.twosComplement(try block(1))
    case .long4:
      let before = self
      guard try unsigned(4) < 1 << 31 else {
        throw fault("pickle-length", "a whole number has a negative length")
      }
      self = before
      return Self.twosComplement(try block(4))
    case .float:
      let text = try line()
      guard let value = Double(String(decoding: text, as: UTF8.self)) else {
        throw fault("pickle-number", "a line is no number")
      }
      return .float(value)
    default: return try decimal()
    }
  }

  /// A line of digits, behind protocol 0's INT (`01` is True there) and LONG (an L at its end).
  private mutating func decimal() throws(Diagnostic) -> PickleValue {
    let isInt = bytes[operation] == PickleOpcode.int.rawValue
    var digits = try line()
    if isInt, digits.elementsEqual("01".utf8) { return .bool(true) }
    if isInt, digits.elementsEqual("00".utf8) { return .bool(false) }
    if digits.last == UInt8(ascii: "L") { digits.removeLast() }
    let unsigned = digits.first == UInt8(ascii: "-") ? digits.dropFirst() : digits
    guard !unsigned.isEmpty,
      unsigned.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) })
    else { throw fault("pickle-number", "a line is no whole number") }
    let significant = unsigned.drop { $0 == UInt8(ascii: "0") }
    guard significant.count <= 19 else { return .hugeInt }
    let sign = digits.count > unsigned.count ? "-" : ""
    let text = significant.isEmpty ? "0" : sign + String(decoding: significant, as: UTF8.self)
    return Int(text).map { .int($0) } ?? .hugeInt
  }

  private static func twosComplement(_ bytes: ArraySlice<UInt8>) -> PickleValue {
    var bytes = bytes
    // A number may be written longer than it needs: bytes that only repeat the sign say nothing.
    while bytes.count > 8, let last = bytes.last, last == 0 || last == 0xff,
      bytes[bytes.endIndex - 2] & 0x80 == last & 0x80
    {
      bytes = bytes.dropLast()
    }
    guard bytes.count <= 8 else { return .hugeInt }
    var value: UInt64 = 0
    for (k, byte) in bytes.enumerated() { value |= UInt64(byte) << UInt64(8 * k) }
    let shift = UInt64(64 - 8 * bytes.count)
    return bytes.isEmpty ? .int(0) : .int(Int(Int64(bitPattern: value << shift) >> Int64(shift)))
  }

  /// The text or bytes that `opcode` pushes.
  mutating func text(_ opcode: PickleOpcode) throws(Diagnostic) -> PickleValue {
    switch opcode {
    case .binUnicode: return .string(try text(try block(4)))
    case .shortBinUnicode: return .string(try text(try block(1)))
    case .binUnicode8: return .string(try text(try block(8)))
    case .binBytes: return .bytes(Array(try block(4)))
    case .shortBinBytes: return .bytes(Array(try block(1)))
    case .binBytes8, .byteArray8: return .bytes(Array(try block(8)))
    case .shortBinString: return try python2(try block(1))
    case .binString:
      let before = self
      guard try unsigned(4) < 1 << 31 else {
        throw fault("pickle-length", "a text has a negative length")
      }
      self = before
      return try python2(try block(4))
    case .string:
      let line = try line()
      guard line.count >= 2, let quote = line.first, line.last == quote,
        quote == UInt8(ascii: "'") || quote == UInt8(ascii: "\"")
      else { throw fault("pickle-text", "a text stands without its quotes") }
      return try python2(try unescape(line.dropFirst().dropLast())[...])
    default: return .string(try text(try unescapeUnicode(try line())[...]))
    }
  }

  /// Python 2's `str`: a text where it can be one.
  private func python2(_ bytes: ArraySlice<UInt8>) throws(Diagnostic) -> PickleValue {
    if let text = String(validating: bytes, as: UTF8.self) { return .string(try streamSafe(text)) }
    return .bytes(Array(bytes))
  }

  /// Resolves the escapes of a quoted protocol 0 text.
  private func unescape(_ line: ArraySlice<UInt8>) throws(Diagnostic) -> [UInt8] {
    var result: [UInt8] = []
    var rest = line
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "\\") else {
        result.append(byte)
        continue
      }
      switch rest.popFirst() {
      case UInt8(ascii: "n"): result.append(0x0a)
      case UInt8(ascii: "r"): result.append(0x0d)
      case UInt8(ascii: "t"): result.append(0x09)
      case UInt8(ascii: "x"): result.append(UInt8(truncatingIfNeeded: try hex(&rest, 2)))
      case let other? where other == 0x5c || other == 0x27 || other == 0x22: result.append(other)
      default: throw fault("pickle-text", "a text has an escape that is not known")
      }
    }
    return result
  }

  /// Resolves `\uXXXX` and `\UXXXXXXXX` of a protocol 0 text, whose other bytes are Latin-1.
  private func unescapeUnicode(_ line: ArraySlice<UInt8>) throws(Diagnostic) -> [UInt8] {
    var result: [UInt8] = []
    var rest = line
    while let byte = rest.popFirst() {
      var value = UInt32(byte)
      if byte == UInt8(ascii: "\\") {
        if rest.first == UInt8(ascii: "u") {
          rest.removeFirst()
          value = try hex(&rest, 4)
        } else if rest.first == UInt8(ascii: "U") {
          rest.removeFirst()
          value = try hex(&rest, 8)
        }
      }
      guard let scalar = Unicode.Scalar(value) else {
        throw fault("pickle-text", "a text has an escape that is no character")
      }
      result.append(contentsOf: UTF8.encode(scalar)!)
    }
    return result
  }

  private func hex(_ rest: inout ArraySlice<UInt8>, _ count: Int) throws(Diagnostic) -> UInt32 {
    let digits = rest.prefix(count)
    guard digits.count == count,
      let value = UInt32(String(decoding: digits, as: UTF8.self), radix: 16)
    else { throw fault("pickle-text", "a text has an escape without its digits") }
    rest = rest.dropFirst(count)
    return value
  }

  /// The place in the memo that `opcode` names.
  mutating func memoKey(_ opcode: PickleOpcode) throws(Diagnostic) -> UInt32 {
    switch opcode {
    case .binGet, .binPut: return UInt32(try unsigned(1))
    case .longBinGet, .longBinPut: return UInt32(truncatingIfNeeded: try unsigned(4))
    default:
      guard case .int(let value) = try decimal(), let key = UInt32(exactly: value) else {
        throw fault("pickle-memo", "the pickle names a place in its memo by no small number")
      }
      return key
    }
  }
}
