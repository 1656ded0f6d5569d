package import OrderedCollections
package import Tensors

/// The head of one GGUF file, versions 2 and 3: its keys and its table of tensors.
package struct GGUFHeader: Sendable {
  /// A row of the table.
  package struct Tensor: Sendable, Hashable {
    /// The name.
    package var name: String
    /// The type.
    package var type: GGMLType
    /// The extents, outermost first: the file has them the other way round.
    package var shape: Shape
    /// The first byte in the file.
    package var offset: Int
    /// Bytes in the file, without the padding.
    package var byteCount: Int
  }

  /// The version of the format.
  package var version: UInt32
  /// The keys and their values, in the order of the file.
  package var values: OrderedDictionary<String, GGUFValue>
  /// The tensors, in the order of the table.
  package var tensors: [Tensor]
  /// Tensors begin at multiples of this.
  package var alignment: Int

  /// Where the data begins if the file does not say otherwise.
  static let defaultAlignment = 32
  static let mostAlignment = 1 << 20
  /// The format's own limits (`gguf.md`, `GGML_MAX_NAME`, `GGML_MAX_DIMS`).
  static let mostKeyBytes = 65_535
  static let mostNameBytes = 63
  static let mostDimensions = 4
  /// A chat template takes some kilobytes.
  static let mostTextBytes = 16 << 20
  static let mostElements = 1 << 30

  /// Reads the head of `file` and checks every place and size in it.
  ///
  /// - Throws: the first thing that is wrong, `gguf.*`: what comes after it cannot be told; `io.*`.
  package init(of file: RandomAccessFile) throws(Diagnostic) {
    var cursor = GGUFCursor(file)
    guard file.byteCount > 0 else { throw .gguf("empty", file.name, "is empty") }
    let magic = try cursor.bytes(4, "the magic number")
    guard magic.elementsEqual("GGUF".utf8) else {
      throw .gguf("magic", file.name, "does not begin with GGUF, so it is no GGUF file")
    }
    version = try cursor.integer(UInt32.self, "the version")
    try Self.check(version, file)
    let tensorCount = try cursor.length(each: 24, "the table of tensors")
    let keyCount = try cursor.length(each: 13, "the table of keys")
    values = [:]
    for number in 0..<keyCount {
      let (key, value) = try Self.pair(&cursor, number)
      guard values.updateValue(value, forKey: key) == nil else {
        throw .gguf(
          "duplicate-key", "\(file.name): \(shown(key))", "stands twice in the table of keys",
          help: "readers differ in which of the two they take")
      }
    }
    alignment = try Self.alignment(values["general.alignment"], file)
    if let architecture = values["general.architecture"], architecture.kind != .string {
      throw .gguf(
        "key-type", "\(file.name): general.architecture",
        "should be a text, found \(architecture.kind)")
    }
    tensors = []
    var names: Set<TensorName> = []
    for number in 0..<tensorCount {
      let tensor = try Self.tensor(&cursor, number)
      guard names.insert(TensorName(tensor.name)).inserted else {
        throw .gguf(
          "duplicate-tensor", "\(file.name): \(shown(tensor.name))",
          "stands twice in the table of tensors")
      }
      tensors.append(tensor)
    }
    try place(cursor.position, file)
  }

  private static func check(_ version: UInt32, _ file: RandomAccessFile) throws(Diagnostic) {
    switch version {
    case 2, 3: return
    case 1:
      throw .gguf(
        "version", file.name, "is of version 1, whose counts have 32 bits; 2 and 3 are read",
        help: "convert it again with a converter of after August 2023")
    case _ where version & 0xFFFF == 0 && version.byteSwapped <= 0xFFFF:
      throw .gguf(
        "big-endian", file.name,
        "is big-endian (version \(version.byteSwapped) with its bytes the other way round)",
        help: "convert it with gguf's gguf_convert_endian.py, or on a little-endian machine")
    default:
      throw .gguf("version", file.name, "is of version \(version); 2 and 3 are read")
    }
  }

  // MARK: Keys

  private static func pair(
    _ cursor: inout GGUFCursor, _ number: Int
  ) throws(Diagnostic) -> (String, GGUFValue) {
    let at = cursor.position
    let bytes = try cursor.string(atMost: mostKeyBytes, "key \(number)")
    guard !bytes.isEmpty, let key = String(validating: bytes, as: UTF8.self), key.isStreamSafe
    else {
      throw .gguf(
        "key", "\(cursor.file.name): byte \(at)",
        bytes.isEmpty ? "key \(number) is empty" : "key \(number) is no plain UTF-8")
    }
    let subject = "\(cursor.file.name): \(shown(key))"
    let kind = try kind(&cursor, subject)
    return (key, try value(&cursor, kind, subject))
  }

  private static func kind(
    _ cursor: inout GGUFCursor, _ subject: String
  ) throws(Diagnostic) -> GGUFValue.Kind {
    let number = try cursor.integer(UInt32.self, "the type of \(subject)")
    guard let kind = GGUFValue.Kind(rawValue: number) else {
      throw .gguf("value-type", subject, "is of type \(number); 0 to 12 are known")
    }
    return kind
  }

  private static func value(
    _ cursor: inout GGUFCursor, _ kind: GGUFValue.Kind, _ subject: String
  ) throws(Diagnostic) -> GGUFValue {
    switch kind {
    case .uint8: return .int(Int(try cursor.integer(UInt8.self, subject)), kind)
    case .int8: return .int(Int(try cursor.integer(Int8.self, subject)), kind)
    case .uint16: return .int(Int(try cursor.integer(UInt16.self, subject)), kind)
    case .int16: return .int(Int(try cursor.integer(Int16.self, subject)), kind)
    case .uint32: return .int(Int(try cursor.integer(UInt32.self, subject)), kind)
    case .int32: return .int(Int(try cursor.integer(Int32.self, subject)), kind)
    case .int64: return .int(Int(try cursor.integer(Int64.self, subject)), kind)
    case .uint64:
      let value = try cursor.integer(UInt64.self, subject)
      return Int(exactly: value).map { .int($0, kind) } ?? .large(value)
    case .float32:
      let bits = try cursor.integer(UInt32.self, subject)
      return .double(Double(Float(bitPattern: bits)), kind)
    case .float64:
      return .double(Double(bitPattern: try cursor.integer(UInt64.self, subject)), kind)
    case .bool:
      let byte = try cursor.integer(UInt8.self, subject)
      guard byte <= 1 else {
        throw .gguf("value", subject, "is a truth value of \(byte); 0 and 1 are possible")
      }
      return .bool(byte == 1)
    case .string: return .string(try cursor.string(atMost: mostTextBytes, subject))
    case .array: return .array(try list(&cursor, subject))
    }
  }

  /// An element of a list that is no text and no list.
  static func number(
    _ cursor: inout GGUFCursor, _ kind: GGUFValue.Kind
  ) throws(Diagnostic) -> JSONValue {
    // A truth value of a list is not looked at when the file is opened.
    if kind == .bool { return .bool(try cursor.integer(UInt8.self, "a list") != 0) }
    return try value(&cursor, kind, "a list").json ?? .null
  }

  private static func list(
    _ cursor: inout GGUFCursor, _ subject: String
  ) throws(Diagnostic) -> GGUFValue.List {
    let element = try kind(&cursor, subject)
    guard element != .array else {
      throw .gguf(
        "nested-array", subject, "is a list of lists, which llama.cpp does not read either")
    }
    let count = try cursor.length(each: element.leastBytes, subject)
    guard count <= mostElements else {
      throw .gguf("length", subject, "has \(count) elements; at most \(mostElements) are possible")
    }
    let start = cursor.position
    if element == .string {
      for _ in 0..<count {
        try cursor.skip(try cursor.length(each: 1, "a text of \(subject)"), subject)
      }
    } else {
      // The length was compared with the bytes that are left.
      try cursor.skip(count * element.leastBytes, subject)
    }
    return GGUFValue.List(
      element: element, count: count, offset: start, byteCount: cursor.position - start)
  }

  private static func alignment(
    _ value: GGUFValue?, _ file: RandomAccessFile
  ) throws(Diagnostic) -> Int {
    guard let value else { return defaultAlignment }
    guard case .int(let alignment, .uint32) = value else {
      throw .gguf(
        "key-type", "\(file.name): general.alignment", "should be a uint32, found \(value.kind)")
    }
    guard alignment > 0, alignment <= mostAlignment, alignment & (alignment - 1) == 0 else {
      throw .gguf(
        "alignment", "\(file.name): general.alignment",
        "is \(alignment); powers of two up to \(mostAlignment) are possible")
    }
    return alignment
  }

  // MARK: Tensors

  /// A row of the table; `offset` is still that of the file's own counting.
  private static func tensor(
    _ cursor: inout GGUFCursor, _ number: Int
  ) throws(Diagnostic) -> Tensor {
    let at = cursor.position
    let bytes = try cursor.string(atMost: mostKeyBytes, "the name of tensor \(number)")
    guard !bytes.isEmpty, bytes.count <= mostNameBytes, !bytes.contains(0),
      let name = String(validating: bytes, as: UTF8.self), name.isStreamSafe
    else {
      throw .gguf(
        "name", "\(cursor.file.name): byte \(at)",
        "tensor \(number) has a name of \(bytes.count) bytes that is no plain UTF-8 of 1 to"
          + " \(mostNameBytes) bytes", help: "llama.cpp reads no such names")
    }
    let subject = "\(cursor.file.name): \(shown(name))"
    let rank = try cursor.integer(UInt32.self, subject)
    guard rank <= mostDimensions else {
      throw .gguf("dimensions", subject, "has \(rank) dimensions; ggml has \(mostDimensions)")
    }
    var extents: [Int] = []
    for _ in 0..<rank {
      let extent = try cursor.integer(UInt64.self, subject)
      guard let extent = Int(exactly: extent) else {
        throw .gguf("size", subject, "has the extent \(extent), beyond any file's size")
      }
      extents.append(extent)
    }
    let number = try cursor.integer(UInt32.self, subject)
    guard let type = GGMLType(rawValue: number) else {
      let removed = GGMLType.removed[number].map { ", \($0), which ggml has removed" } ?? ""
      throw .gguf(
        "tensor-type", subject,
        "is of type \(number)\(removed.isEmpty ? ", which is not known" : removed)")
    }
    let claimed = try cursor.integer(UInt64.self, subject)
    guard let offset = Int(exactly: claimed) else {
      throw .gguf("offset", subject, "lies at byte \(claimed), beyond any file's size")
    }
    let shape = Shape(extents.reversed())
    guard let count = shape.elementCount, shape.byteCount(of: .f64) != nil else {
      throw .gguf("size", subject, "has the shape \(shape): more numbers than any file holds")
    }
    let row = extents.first ?? 1
    guard row % type.blockCount == 0 else {
      throw .gguf(
        "block", subject,
        "is \(type.name) with rows of \(row) numbers, but its blocks have \(type.blockCount)")
    }
    guard let size = (count / type.blockCount).checkedTimes(type.blockBytes) else {
      throw .gguf("size", subject, "takes more than 2^63 - 1 bytes")
    }
    return Tensor(name: name, type: type, shape: shape, offset: offset, byteCount: size)
  }

  /// Turns the tensors' offsets into places of the file. Each lies where the one before it ends,
  /// padded: ggml reads nothing else, and so no two share bytes and no bytes are hidden.
  private mutating func place(_ headEnd: Int, _ file: RandomAccessFile) throws(Diagnostic) {
    let start = padded(headEnd) ?? .max
    var next = 0
    for number in tensors.indices {
      let tensor = tensors[number]
      let subject = "\(file.name): \(shown(tensor.name))"
      guard tensor.offset == next else {
        let why =
          tensor.offset % alignment != 0
          ? "which is no multiple of \(alignment)"
          : "but the tensors before it end at \(next)"
        throw .gguf(
          "offset", subject, "is said to lie at byte \(tensor.offset) of the data, \(why)",
          help: "tensors follow one another in the order of the table; convert the file again")
      }
      guard let place = start.checkedPlus(next), let end = place.checkedPlus(tensor.byteCount),
        end <= file.byteCount || tensor.byteCount == 0,
        let after = next.checkedPlus(tensor.byteCount),
        let padded = padded(after)
      else {
        throw .gguf(
          "truncated", subject,
          "needs \(tensor.byteCount) bytes from byte \(next) of the data on, but the file has"
            + " \(file.byteCount) bytes and its data begins at byte \(start)",
          help: Diagnostic.fetchGGUF)
      }
      tensors[number].offset = place
      next = padded
    }
    // Padding at the end may be missing, or there.
    let end = start.checkedPlus(next) ?? .max
    guard file.byteCount <= max(end, headEnd) else {
      throw .gguf(
        "trailing", file.name,
        "has \(file.byteCount - end) bytes behind its last tensor, which ends at byte \(end)",
        help: "no converter writes such a file; do not trust it")
    }
  }

  private func padded(_ count: Int) -> Int? {
    count.checkedPlus(alignment - 1).map { $0 / alignment * alignment }
  }
}
