package import Tensors

/// A value of a GGUF file's table of keys.
package enum GGUFValue: Sendable, Hashable {
  /// The types by their numbers in the file.
  package enum Kind: UInt32, Sendable, Hashable, CaseIterable {
    case uint8 = 0
    case int8 = 1
    case uint16 = 2
    case int16 = 3
    case uint32 = 4
    case int32 = 5
    case float32 = 6
    case bool = 7
    case string = 8
    case array = 9
    case uint64 = 10
    case int64 = 11
    case float64 = 12

    /// Bytes of a value; of a text or list the least.
    package var leastBytes: Int {
      switch self {
      case .uint8, .int8, .bool: 1
      case .uint16, .int16: 2
      case .uint32, .int32, .float32: 4
      case .uint64, .int64, .float64, .string: 8
      case .array: 12
      }
    }
  }

  /// A whole number below 2^63.
  case int(Int, Kind)
  /// A whole number from 2^63 on.
  case large(UInt64)
  /// A number.
  case double(Double, Kind)
  /// A truth value.
  case bool(Bool)
  /// A text: UTF-8 by convention, any bytes in fact.
  case string([UInt8])
  /// A list, left in the file: its elements may be a whole vocabulary.
  case array(List)

  /// Where a list lies.
  package struct List: Sendable, Hashable {
    /// What it holds.
    package var element: Kind
    /// How many.
    package var count: Int
    /// The first element's first byte in the file.
    package var offset: Int
    /// Bytes of all elements.
    package var byteCount: Int
  }

  /// The type's number in the file.
  package var kind: Kind {
    switch self {
    case .int(_, let kind), .double(_, let kind): kind
    case .large: .uint64
    case .bool: .bool
    case .string: .string
    case .array: .array
    }
  }

  /// The value as JSON; `nil` for a list.
  ///
  /// A float32 is the shortest decimal that it is the nearest float32 of: 1e-5, not
  /// 9.999999747378752e-06, which is what a config meant.
  package var json: JSONValue? {
    switch self {
    case .int(let value, _): .int(value)
    case .large(let value): .double(Double(value))
    case .double(let value, .float32): .double(value.nearestDecimalOfFloat)
    case .double(let value, _): .double(value)
    case .bool(let value): .bool(value)
    case .string(let bytes): .string(String(decoding: bytes, as: UTF8.self))
    case .array: nil
    }
  }
}

extension Double {
  /// The shortest decimal that rounds to the same float32 as this number.
  package var nearestDecimalOfFloat: Double {
    let narrow = Float(self)
    return narrow.isFinite ? Double(narrow.description) ?? Double(narrow) : Double(narrow)
  }
}
