import Tensors

/// The head of a numpy array in a file: magic, version, and a Python dict literal, which is read by
/// hand and never evaluated.
struct NpyHeader {
  /// The element type.
  var dtype: DType
  /// Whether elements are big-endian.
  var isSwapped: Bool
  /// Whether the first extent runs fastest.
  var isFortran: Bool
  /// The extents as numpy has them.
  var shape: Shape
  /// Bytes of the head.
  var byteCount: Int
  /// Whether the type is two opaque bytes, which are bfloat16 by convention only.
  var isOpaque: Bool

  /// A head takes no more: numpy itself refuses longer ones.
  static let mostBytes = 65_536

  /// Reads a head at the front of `bytes`.
  ///
  /// - Throws: `npz.*`.
  init(_ bytes: [UInt8], subject: String) throws(Diagnostic) {
    func bad(_ code: String, _ message: String, help: String? = nil) -> Diagnostic {
      Diagnostic(code: "npz.\(code)", subject: subject, message: message, help: help)
    }
    guard bytes.count >= 10, bytes.starts(with: [0x93] + Array("NUMPY".utf8)) else {
      throw bad("magic", "is no numpy array: it does not begin with \\x93NUMPY")
    }
    let version = bytes[6]
    guard (1...3).contains(version), bytes[7] == 0 else {
      throw bad("version", "is of version \(version).\(bytes[7]); 1.0, 2.0 and 3.0 are read")
    }
    let wide = version > 1
    let start = wide ? 12 : 10
    guard bytes.count >= start else { throw bad("header", "ends inside its header") }
    let length =
      wide
      ? Int(bytes[8]) | Int(bytes[9]) << 8 | Int(bytes[10]) << 16 | Int(bytes[11]) << 24
      : Int(bytes[8]) | Int(bytes[9]) << 8
    guard length <= Self.mostBytes - start, length <= bytes.count - start else {
      throw bad("header", "is said to have a header of \(length) bytes, more than is there")
    }
    byteCount = start + length
    guard let text = String(validating: bytes[start..<start + length], as: UTF8.self),
      var literal = Literal(text)
    else { throw bad("header", "has a header that is no plain text") }
    guard let fields = literal.dictionary() else {
      throw bad("header", "has a header that is no dict of descr, fortran_order and shape")
    }
    isFortran = fields.isFortran
    guard let dims = fields.shape, Shape(dims).byteCount(of: .f64) != nil else {
      throw bad("shape", "has a shape beyond any file's size")
    }
    shape = Shape(dims)
    let descr = fields.descr
    if descr.contains("O") {
      throw bad(
        "pickle", "holds Python objects (\(shown(descr))), which only a pickle can load",
        help: "only arrays of numbers are read; loading such a file in numpy can run code")
    }
    guard let kind = Self.types[String(descr.dropFirst())], let order = descr.first,
      "<>|=".contains(order), order != "=", order != "|" || kind.bitWidth == 8 || descr == "|V2"
    else {
      throw bad("dtype", "has the type \(shown(descr)), which is no number that is known here")
    }
    dtype = kind
    isOpaque = descr.hasSuffix("V2")
    isSwapped = order == ">" && kind.bitWidth > 8
    guard !isSwapped || kind != .c64 else {
      throw bad("dtype", "holds big-endian complex numbers")
    }
  }

  private static let types: [String: DType] = [
    "b1": .bool, "u1": .u8, "i1": .i8, "u2": .u16, "i2": .i16, "u4": .u32, "i4": .i32, "u8": .u64,
    "i8": .i64, "f2": .f16, "f4": .f32, "f8": .f64, "c8": .c64, "V2": .bf16,
  ]

  /// What numpy calls a type; `nil` for one that it lacks.
  static func descr(_ dtype: DType) -> String? {
    guard let name = types.first(where: { $0.value == dtype })?.key else { return nil }
    return (dtype.bitWidth == 8 ? "|" : "<") + name
  }

  /// The head of a row-major array, padded to a multiple of 64 bytes as numpy's.
  static func encoded(_ descr: String, _ shape: Shape) -> [UInt8] {
    let dims = shape.dims.map(String.init).joined(separator: ", ")
    let tuple = shape.rank == 1 ? "(\(dims),)" : "(\(dims))"
    var text = "{'descr': '\(descr)', 'fortran_order': False, 'shape': \(tuple), }"
    while (10 + text.utf8.count + 1) % 64 != 0 { text += " " }
    text += "\n"
    let count = text.utf8.count
    return [0x93] + Array("NUMPY".utf8) + [1, 0, UInt8(count & 255), UInt8(count >> 8)]
      + Array(text.utf8)
  }

  /// The few words of Python that a head is made of.
  private struct Literal {
    private let bytes: [UInt8]
    private var at = 0

    init?(_ text: String) {
      bytes = Array(text.utf8)
      guard bytes.allSatisfy({ $0 >= 0x20 && $0 < 0x7F || $0 == 10 }) else { return nil }
    }

    mutating func dictionary() -> (descr: String, isFortran: Bool, shape: [Int]?)? {
      guard skip("{") else { return nil }
      var descr: String?
      var isFortran: Bool?
      var shape: [Int]??
      while !skip("}") {
        guard let key = text(), skip(":") else { return nil }
        switch key {
        case "descr" where descr == nil:
          guard let value = text() else { return nil }
          descr = value
        case "fortran_order" where isFortran == nil:
          if word("True") {
            isFortran = true
          } else if word("False") {
            isFortran = false
          } else {
            return nil
          }
        case "shape" where shape == nil:
          guard let value = tuple() else { return nil }
          shape = .some(value)
        default: return nil
        }
        if !skip(",") {
          guard skip("}") else { return nil }
          break
        }
      }
      space()
      guard at == bytes.count, let descr, let isFortran, let shape else { return nil }
      return (descr, isFortran, shape)
    }

    private mutating func space() {
      while at < bytes.count, bytes[at] == 0x20 || bytes[at] == 10 { at += 1 }
    }

    private mutating func skip(_ mark: Unicode.Scalar) -> Bool {
      space()
      guard at < bytes.count, bytes[at] == UInt8(ascii: mark) else { return false }
      at += 1
      return true
    }

    private mutating func word(_ word: String) -> Bool {
      space()
      guard bytes[at...].starts(with: word.utf8) else { return false }
      at += word.utf8.count
      return true
    }

    private mutating func text() -> String? {
      space()
      guard at < bytes.count, bytes[at] == UInt8(ascii: "'") || bytes[at] == UInt8(ascii: "\"")
      else { return nil }
      let quote = bytes[at]
      guard let end = bytes[(at + 1)...].firstIndex(of: quote) else { return nil }
      defer { at = end + 1 }
      let inner = bytes[(at + 1)..<end]
      return inner.contains(UInt8(ascii: "\\")) ? nil : String(decoding: inner, as: UTF8.self)
    }

    /// A tuple of whole numbers; a number beyond `Int` makes the inner value `nil`.
    private mutating func tuple() -> [Int]?? {
      guard skip("(") else { return nil }
      var dims: [Int] = []
      var isTooLarge = false
      while !skip(")") {
        space()
        let start = at
        while at < bytes.count, (0x30...0x39).contains(bytes[at]) { at += 1 }
        guard at > start, dims.count < 64 else { return nil }
        if let dim = Int(String(decoding: bytes[start..<at], as: UTF8.self)) {
          dims.append(dim)
        } else {
          isTooLarge = true
        }
        // Python 2 wrote long numbers with an L behind them.
        if at < bytes.count, bytes[at] == UInt8(ascii: "L") { at += 1 }
        if !skip(",") {
          guard skip(")") else { return nil }
          break
        }
      }
      return .some(isTooLarge ? nil : dims)
    }
  }
}
