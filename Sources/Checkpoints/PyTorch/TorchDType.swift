import Tensors

/// PyTorch's names of element types, both ways.
enum TorchDType {
  /// What the name of a storage class or dtype stands for.
  enum Meaning {
    case dtype(DType)
    /// Bytes whose type the tensor itself says.
    case untyped
    /// A type of PyTorch's that safetensors has no name for.
    case unsupported
  }

  /// The meaning of a storage class (`torch.FloatStorage`, `torch.storage.UntypedStorage`), or `nil`.
  static func storage(_ global: PickleGlobal) -> Meaning? {
    guard ["torch", "torch.cuda", "torch.storage"].contains(global.module) else { return nil }
    return switch global.name {
    case "DoubleStorage": .dtype(.f64)
    case "FloatStorage": .dtype(.f32)
    case "HalfStorage": .dtype(.f16)
    case "BFloat16Storage": .dtype(.bf16)
    case "LongStorage": .dtype(.i64)
    case "IntStorage": .dtype(.i32)
    case "ShortStorage": .dtype(.i16)
    case "CharStorage": .dtype(.i8)
    case "ByteStorage": .dtype(.u8)
    case "BoolStorage": .dtype(.bool)
    case "ComplexFloatStorage": .dtype(.c64)
    case "UntypedStorage", "_UntypedStorage": .untyped
    case "ComplexDoubleStorage", "QInt8Storage", "QInt32Storage", "QUInt8Storage",
      "QUInt4x2Storage", "QUInt2x4Storage":
      .unsupported
    default: nil
    }
  }

  /// The meaning of `torch.float32` and its like, or `nil` for what is no dtype.
  static func dtype(_ global: PickleGlobal) -> Meaning? {
    guard global.module == "torch" else { return nil }
    return switch global.name {
    case "float64", "double": .dtype(.f64)
    case "float32", "float": .dtype(.f32)
    case "float16", "half": .dtype(.f16)
    case "bfloat16": .dtype(.bf16)
    case "int64", "long": .dtype(.i64)
    case "int32", "int": .dtype(.i32)
    case "int16", "short": .dtype(.i16)
    case "int8": .dtype(.i8)
    case "uint8": .dtype(.u8)
    case "uint16": .dtype(.u16)
    case "uint32": .dtype(.u32)
    case "uint64": .dtype(.u64)
    case "bool": .dtype(.bool)
    case "complex64", "cfloat": .dtype(.c64)
    case "float8_e4m3fn": .dtype(.f8E4M3)
    case "float8_e5m2": .dtype(.f8E5M2)
    case "float8_e4m3fnuz": .dtype(.f8E4M3FNUZ)
    case "float8_e5m2fnuz": .dtype(.f8E5M2FNUZ)
    case "float8_e8m0fnu": .dtype(.f8E8M0)
    case "complex32", "complex128", "float4_e2m1fn_x2", "quint8", "qint8", "qint32", "quint4x2",
      "quint2x4", "bits8", "bits16", "bits1x8", "bits2x4", "bits4x2":
      .unsupported
    default: nil
    }
  }

  /// The name under `torch` of a type that PyTorch has.
  static func name(_ dtype: DType) -> String {
    switch dtype {
    case .f64: "float64"
    case .f32: "float32"
    case .f16: "float16"
    case .bf16: "bfloat16"
    case .i64: "int64"
    case .i32: "int32"
    case .i16: "int16"
    case .i8: "int8"
    case .u8: "uint8"
    case .u16: "uint16"
    case .u32: "uint32"
    case .u64: "uint64"
    case .bool: "bool"
    case .c64: "complex64"
    case .f8E4M3: "float8_e4m3fn"
    case .f8E5M2: "float8_e5m2"
    case .f8E4M3FNUZ: "float8_e4m3fnuz"
    case .f8E5M2FNUZ: "float8_e5m2fnuz"
    case .f8E8M0: "float8_e8m0fnu"
    case .f4, .f6E2M3, .f6E3M2: preconditionFailure("PyTorch has no \(dtype.rawValue)")
    }
  }

  /// How PyTorch saves tensors of a type.
  enum Saved {
    /// `_rebuild_tensor_v2` with this storage class of `torch`.
    case typed(String)
    /// `_rebuild_tensor_v3` with an untyped storage and this dtype of `torch`.
    case untyped(String)
  }

  /// How PyTorch saves tensors of `dtype`; `nil` where it has no such type.
  static func saved(_ dtype: DType) -> Saved? {
    switch dtype {
    case .f64: .typed("DoubleStorage")
    case .f32: .typed("FloatStorage")
    case .f16: .typed("HalfStorage")
    case .bf16: .typed("BFloat16Storage")
    case .i64: .typed("LongStorage")
    case .i32: .typed("IntStorage")
    case .i16: .typed("ShortStorage")
    case .i8: .typed("CharStorage")
    case .u8: .typed("ByteStorage")
    case .bool: .typed("BoolStorage")
    case .c64: .typed("ComplexFloatStorage")
    case .u16: .untyped("uint16")
    case .u32: .untyped("uint32")
    case .u64: .untyped("uint64")
    case .f8E4M3: .untyped("float8_e4m3fn")
    case .f8E5M2: .untyped("float8_e5m2")
    case .f8E4M3FNUZ: .untyped("float8_e4m3fnuz")
    case .f8E5M2FNUZ: .untyped("float8_e5m2fnuz")
    case .f8E8M0: .untyped("float8_e8m0fnu")
    case .f4, .f6E2M3, .f6E3M2: nil
    }
  }
}
