/// The element type of a tensor, by safetensors' names (safetensors 0.8, `tensor.rs`).
///
///     DType(rawValue: "BF16")?.bitWidth  // 16
public enum DType: String, Sendable, Hashable, CaseIterable, Codable {
  case bool = "BOOL"
  case f4 = "F4"
  case f6E2M3 = "F6_E2M3"
  case f6E3M2 = "F6_E3M2"
  case u8 = "U8"
  case i8 = "I8"
  case f8E5M2 = "F8_E5M2"
  case f8E4M3 = "F8_E4M3"
  case f8E8M0 = "F8_E8M0"
  case f8E4M3FNUZ = "F8_E4M3FNUZ"
  case f8E5M2FNUZ = "F8_E5M2FNUZ"
  case i16 = "I16"
  case u16 = "U16"
  case f16 = "F16"
  case bf16 = "BF16"
  case i32 = "I32"
  case u32 = "U32"
  case f32 = "F32"
  case c64 = "C64"
  case f64 = "F64"
  case i64 = "I64"
  case u64 = "U64"

  /// Bits an element takes in a file; below 8 for the packed types.
  public var bitWidth: Int {
    switch self {
    case .f4: 4
    case .f6E2M3, .f6E3M2: 6
    case .bool, .u8, .i8, .f8E5M2, .f8E4M3, .f8E8M0, .f8E4M3FNUZ, .f8E5M2FNUZ: 8
    case .i16, .u16, .f16, .bf16: 16
    case .i32, .u32, .f32: 32
    case .c64, .f64, .i64, .u64: 64
    }
  }

  /// Whether its elements are whole numbers or truth values.
  public var isWhole: Bool {
    switch self {
    case .bool, .u8, .i8, .u16, .i16, .u32, .i32, .u64, .i64: true
    default: false
    }
  }

  /// Whether the engine and the value transforms can compute with it (F64, F32, F16, BF16).
  public var isFloat: Bool {
    switch self {
    case .f64, .f32, .f16, .bf16: true
    default: false
    }
  }
}

extension DType {
  /// Compares the cases: by default a type with texts behind it compares these.
  public static func == (a: DType, b: DType) -> Bool { a.number == b.number }

  /// Hashes the case.
  public func hash(into hasher: inout Hasher) { hasher.combine(number) }

  private var number: Int {
    switch self {
    case .bool: 0
    case .f4: 1
    case .f6E2M3: 2
    case .f6E3M2: 3
    case .u8: 4
    case .i8: 5
    case .f8E5M2: 6
    case .f8E4M3: 7
    case .f8E8M0: 8
    case .f8E4M3FNUZ: 9
    case .f8E5M2FNUZ: 10
    case .i16: 11
    case .u16: 12
    case .f16: 13
    case .bf16: 14
    case .i32: 15
    case .u32: 16
    case .f32: 17
    case .c64: 18
    case .f64: 19
    case .i64: 20
    case .u64: 21
    }
  }
}
