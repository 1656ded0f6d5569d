public import Tensors

/// A key of a GGUF file with its value as the file has it, type first.
public typealias GGUFField = EncodedField

extension EncodedField {
  /// A key with a value: whole numbers are uint32 where they fit, other numbers float32; lists of
  /// whole numbers int32, of others float32. `nil` for what GGUF has no word for.
  public init?(_ key: String, _ value: JSONValue) {
    guard let bytes = Self.encode(value) else { return nil }
    self.init(key: key, bytes: bytes)
  }

  /// A key with a list of texts of any bytes.
  package init(_ key: String, texts: [[UInt8]]) {
    var bytes = Self.list(.string, texts.count)
    for text in texts { bytes += Self.string(text) }
    self.init(key: key, bytes: bytes)
  }

  /// A key with a list of float32 numbers.
  package init(_ key: String, floats: [Float]) {
    self.init(
      key: key,
      bytes: Self.list(.float32, floats.count) + floats.flatMap { Self.little($0.bitPattern) })
  }

  /// A key with a list of bytes.
  package init(_ key: String, list: [UInt8]) {
    self.init(key: key, bytes: Self.list(.uint8, list.count) + list)
  }

  /// A key with a list of int32 numbers.
  package init(_ key: String, integers: [Int32]) {
    self.init(
      key: key, bytes: Self.list(.int32, integers.count) + integers.flatMap { Self.little($0) })
  }

  /// A key with a uint16, which the parts of a split checkpoint are counted by.
  init(_ key: String, uint16 value: Int) {
    self.init(
      key: key, bytes: Self.kind(.uint16) + Self.little(UInt16(truncatingIfNeeded: value)))
  }

  /// A key with an int32.
  init(_ key: String, int32 value: Int) {
    self.init(key: key, bytes: Self.kind(.int32) + Self.little(Int32(truncatingIfNeeded: value)))
  }

  /// The key, the type and the value.
  var encoded: [UInt8] { Self.string(Array(key.utf8)) + bytes }

  private static func encode(_ value: JSONValue) -> [UInt8]? {
    switch value {
    case .null, .object: return nil
    case .bool(let flag): return kind(.bool) + [flag ? 1 : 0]
    case .int(let number):
      if let small = UInt32(exactly: number) { return kind(.uint32) + little(small) }
      if let small = Int32(exactly: number) { return kind(.int32) + little(small) }
      return kind(.int64) + little(Int64(number))
    case .double(let number): return kind(.float32) + little(Float(number).bitPattern)
    case .string(let text): return kind(.string) + string(Array(text.utf8))
    case .array(let values): return encode(values)
    }
  }

  private static func encode(_ values: [JSONValue]) -> [UInt8]? {
    let texts = values.compactMap(\.string)
    if texts.count == values.count, !values.isEmpty {
      return list(.string, texts.count) + texts.flatMap { string(Array($0.utf8)) }
    }
    let whole = values.compactMap { $0.int.flatMap { Int32(exactly: $0) } }
    if whole.count == values.count {
      return list(.int32, whole.count) + whole.flatMap { little($0) }
    }
    let numbers = values.compactMap(\.double)
    guard numbers.count == values.count else { return nil }
    return list(.float32, numbers.count) + numbers.flatMap { little(Float($0).bitPattern) }
  }

  private static func kind(_ kind: GGUFValue.Kind) -> [UInt8] { little(kind.rawValue) }

  private static func list(_ element: GGUFValue.Kind, _ count: Int) -> [UInt8] {
    kind(.array) + kind(element) + little(UInt64(count))
  }

  static func string(_ bytes: [UInt8]) -> [UInt8] { little(UInt64(bytes.count)) + bytes }

  static func little<T: FixedWidthInteger>(_ value: T) -> [UInt8] {
    withUnsafeBytes(of: value.littleEndian) { Array($0) }
  }
}

extension GGUFReader {
  /// The keys of the file as they stand there.
  ///
  /// - Throws: `io.*`.
  package func fields() throws(Diagnostic) -> [GGUFField] {
    var fields: [GGUFField] = []
    for (key, value) in values {
      var bytes = GGUFField.little(value.kind.rawValue)
      switch value {
      case .int(let number, let kind):
        bytes += GGUFField.little(Int64(number)).prefix(kind.leastBytes)
      case .large(let number): bytes += GGUFField.little(number)
      case .double(let number, .float32): bytes += GGUFField.little(Float(number).bitPattern)
      case .double(let number, _): bytes += GGUFField.little(number.bitPattern)
      case .bool(let flag): bytes.append(flag ? 1 : 0)
      case .string(let text): bytes += GGUFField.string(text)
      case .array(let list):
        bytes += GGUFField.little(list.element.rawValue) + GGUFField.little(UInt64(list.count))
        bytes += try files[0].bytes(at: list.offset, count: list.byteCount)
      }
      fields.append(GGUFField(key: key, bytes: bytes))
    }
    return fields
  }
}
