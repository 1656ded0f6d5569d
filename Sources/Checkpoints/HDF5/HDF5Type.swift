import Tensors

/// An HDF5 element type as a value: what the reader can tell apart, and what the writer makes.
indirect enum HDF5Type: Hashable, Sendable {
  /// Byte order.
  enum Order: Hashable, Sendable {
    case little
    case big
    case other
  }

  /// A name of an enumeration, with its one-byte value.
  struct EnumMember: Hashable, Sendable {
    var name: String
    var value: UInt8
  }

  /// A field of a compound.
  struct Member: Hashable, Sendable {
    var name: String
    var offset: Int
    var type: HDF5Type
  }

  case integer(bytes: Int, signed: Bool, order: Order)
  /// Sign in the highest bit, then exponent, then mantissa.
  case float(bytes: Int, exponentBits: Int, mantissaBits: Int, bias: Int, order: Order)
  case opaque(bytes: Int, tag: String)
  case enumeration(base: HDF5Type, [EnumMember])
  case compound(bytes: Int, [Member])
  case complex(HDF5Type)
  /// A small tensor in every element.
  case array(HDF5Type, [Int])
  /// Anything else, by its name.
  case unsupported(String)
}

extension HDF5Type: CustomStringConvertible {
  /// `16-bit float (8 exponent, 7 mantissa bits)`.
  var description: String {
    switch self {
    case .integer(let bytes, let signed, _):
      "\(bytes * 8)-bit \(signed ? "signed" : "unsigned") integer"
    case .float(let bytes, let exponentBits, let mantissaBits, let bias, _):
      "\(bytes * 8)-bit float (\(exponentBits) exponent and \(mantissaBits) mantissa bits, "
        + "bias \(bias))"
    case .opaque(let bytes, let tag): "opaque of \(bytes) bytes with tag \(HDF5Text.quoted(tag))"
    case .enumeration(_, let members):
      "enumeration of " + members.map { HDF5Text.quoted($0.name) }.joined(separator: ", ")
    case .compound(_, let members):
      "compound of "
        + members.map { "\(HDF5Text.quoted($0.name)): \($0.type)" }.joined(separator: ", ")
    case .complex(let base): "complex of \(base)"
    case .array(let base, let extents): "array \(Shape(extents)) of \(base)"
    case .unsupported(let name): name
    }
  }
}

/// How an element of a dataset becomes an element of a tensor.
struct HDF5Element: Hashable, Sendable {
  /// The tensor's type.
  var dtype: DType
  /// Bytes of an element in the file.
  var byteCount: Int
  /// Bytes that are to be reversed as a unit (a big-endian number); 1 for none.
  var swap: Int

  init(_ dtype: DType, byteCount: Int, swap: Int = 1) {
    self.dtype = dtype
    self.byteCount = byteCount
    self.swap = swap
  }
}

extension HDF5Type {
  /// The element that the type stands for, or `nil` when no tensor type says the same.
  ///
  /// An opaque type says by its tag what it is (our own files); Keras's has no tag and is told by
  /// an attribute (`HDF5Reader`).
  var element: HDF5Element? {
    switch self {
    case .integer(let bytes, let signed, let order):
      let dtype: DType? =
        switch (bytes, signed) {
        case (1, true): .i8
        case (1, false): .u8
        case (2, true): .i16
        case (2, false): .u16
        case (4, true): .i32
        case (4, false): .u32
        case (8, true): .i64
        case (8, false): .u64
        default: nil
        }
      return dtype.flatMap { Self.element($0, bytes, order) }
    case .float(let bytes, let exponentBits, let mantissaBits, let bias, let order):
      let dtype: DType? =
        switch (bytes, exponentBits, mantissaBits, bias) {
        case (8, 11, 52, 1023): .f64
        case (4, 8, 23, 127): .f32
        case (2, 5, 10, 15): .f16
        case (2, 8, 7, 127): .bf16
        case (1, 4, 3, 7): .f8E4M3
        case (1, 5, 2, 15): .f8E5M2
        default: nil
        }
      return dtype.flatMap { Self.element($0, bytes, order) }
    case .enumeration(let base, let members):
      // How h5py writes numpy's bool.
      guard case .integer(1, _, _) = base, members.count == 2,
        members.contains(EnumMember(name: "FALSE", value: 0)),
        members.contains(EnumMember(name: "TRUE", value: 1))
      else { return nil }
      return HDF5Element(.bool, byteCount: 1)
    case .compound(8, let members):
      // How h5py writes numpy's complex64.
      guard members.count == 2, members[0].offset == 0, members[1].offset == 4,
        members[0].type == members[1].type,
        ["r", "real"].contains(members[0].name), ["i", "imag"].contains(members[1].name)
      else { return nil }
      return Self.complex(members[0].type).element
    case .complex(let base):
      guard let part = base.element, part.dtype == .f32 else { return nil }
      return HDF5Element(.c64, byteCount: 8, swap: part.swap)
    case .opaque(1, let tag):
      guard let dtype = DType(rawValue: tag), Self.tagged.contains(dtype) else { return nil }
      return HDF5Element(dtype, byteCount: 1)
    case .array, .compound, .opaque, .unsupported: return nil
    }
  }

  /// What people call elements of a type that no weights have: texts, tables, references. `nil` for
  /// numbers of every kind, also those that no tensor type matches.
  var company: String? {
    switch self {
    case .integer, .float, .complex: return nil
    // Of one or two bytes: 8-bit floats or bfloat16 from a program that had no name for them.
    case .opaque(let bytes, _): return bytes > 2 ? "opaque bytes" : nil
    case .enumeration: return element == nil ? "enumeration" : nil
    case .compound(_, let members): return Self.isComplex(members) ? nil : "table"
    case .array(let base, _): return base.company
    case .unsupported("string"): return "text"
    case .unsupported("compound"): return "table"
    case .unsupported("enumeration"): return "enumeration"
    case .unsupported("variable-length"): return "lists of varying length"
    case .unsupported("reference"): return "references"
    case .unsupported("time"): return "times"
    case .unsupported("bit field"): return "bits"
    case .unsupported: return nil
    }
  }

  /// Whether a compound's fields are the two parts of a complex number, of whatever width.
  private static func isComplex(_ members: [Member]) -> Bool {
    members.count == 2 && ["r", "real"].contains(members[0].name)
      && ["i", "imag"].contains(members[1].name)
  }

  /// The type of a two-byte or one-byte element that an attribute `dtype` gives a name, as Keras and
  /// users of ml_dtypes do where HDF5 has no type of its own.
  func named(_ text: String) -> HDF5Type {
    let name = text.hasPrefix("torch.") ? String(text.dropFirst(6)) : text
    switch self {
    // How Keras stores bfloat16 (keras/src/saving/saving_lib.py, H5Entry): little-endian on every
    // machine that it runs on.
    case .opaque(2, _) where name == "bfloat16": return HDF5Type(writing: .bf16)
    case .integer(2, _, let order) where name == "bfloat16":
      return .float(bytes: 2, exponentBits: 8, mantissaBits: 7, bias: 127, order: order)
    case .opaque(1, _), .integer(1, _, _):
      return Self.eightBits[name].map { HDF5Type(writing: $0) } ?? self
    default: return self
    }
  }

  private static let eightBits: [String: DType] = [
    "float8_e4m3fn": .f8E4M3, "float8_e5m2": .f8E5M2, "float8_e4m3fnuz": .f8E4M3FNUZ,
    "float8_e5m2fnuz": .f8E5M2FNUZ, "float8_e8m0fnu": .f8E8M0,
  ]

  private static func element(_ dtype: DType, _ bytes: Int, _ order: Order) -> HDF5Element? {
    switch order {
    case .little: HDF5Element(dtype, byteCount: bytes)
    case .big: HDF5Element(dtype, byteCount: bytes, swap: bytes)
    case .other: bytes == 1 ? HDF5Element(dtype, byteCount: 1) : nil
    }
  }

  /// The types that no HDF5 number stands for: bytes under their safetensors name.
  private static let tagged: Set<DType> = [
    .f8E8M0, .f8E4M3FNUZ, .f8E5M2FNUZ, .f4, .f6E2M3, .f6E3M2,
  ]

  /// The type that the writer stores `dtype` as; packed types are stored as plain bytes.
  init(writing dtype: DType) {
    let f32 = HDF5Type.float(
      bytes: 4, exponentBits: 8, mantissaBits: 23, bias: 127, order: .little)
    self =
      switch dtype {
      case .bool:
        .enumeration(
          base: .integer(bytes: 1, signed: true, order: .little),
          [EnumMember(name: "FALSE", value: 0), EnumMember(name: "TRUE", value: 1)])
      case .u8: .integer(bytes: 1, signed: false, order: .little)
      case .i8: .integer(bytes: 1, signed: true, order: .little)
      case .i16: .integer(bytes: 2, signed: true, order: .little)
      case .u16: .integer(bytes: 2, signed: false, order: .little)
      case .i32: .integer(bytes: 4, signed: true, order: .little)
      case .u32: .integer(bytes: 4, signed: false, order: .little)
      case .i64: .integer(bytes: 8, signed: true, order: .little)
      case .u64: .integer(bytes: 8, signed: false, order: .little)
      case .f16: .float(bytes: 2, exponentBits: 5, mantissaBits: 10, bias: 15, order: .little)
      case .bf16: .float(bytes: 2, exponentBits: 8, mantissaBits: 7, bias: 127, order: .little)
      case .f32: f32
      case .f64: .float(bytes: 8, exponentBits: 11, mantissaBits: 52, bias: 1023, order: .little)
      case .f8E4M3: .float(bytes: 1, exponentBits: 4, mantissaBits: 3, bias: 7, order: .little)
      case .f8E5M2: .float(bytes: 1, exponentBits: 5, mantissaBits: 2, bias: 15, order: .little)
      case .c64:
        .compound(
          bytes: 8,
          [Member(name: "r", offset: 0, type: f32), Member(name: "i", offset: 4, type: f32)])
      case .f8E8M0, .f8E4M3FNUZ, .f8E5M2FNUZ, .f4, .f6E2M3, .f6E3M2:
        .opaque(bytes: 1, tag: dtype.rawValue)
      }
  }
}
