import Tensors

// From a file's element type to the precision of the pass. Each loop is for one type; the choice is
// made once outside.

/// out[i] = value i of `bytes` (F64, F32, F16 or BF16; any alignment), i in 0..<count
@specialized(where T == Float)
@specialized(where T == Double)
func widen<T: Real>(
  _ bytes: UnsafeRawPointer, _ dtype: DType, _ count: Int, into out: UnsafeMutablePointer<T>
) {
  switch dtype {
  case .f64:
    for i in 0..<count { out[i] = T(bytes.loadUnaligned(fromByteOffset: 8 &* i, as: Double.self)) }
  case .f32:
    for i in 0..<count { out[i] = T(bytes.loadUnaligned(fromByteOffset: 4 &* i, as: Float.self)) }
  case .bf16:
    for i in 0..<count {
      let bits = bytes.loadUnaligned(fromByteOffset: 2 &* i, as: UInt16.self)
      out[i] = T(Float(bitPattern: UInt32(bits) &<< 16))
    }
  case .f16:
    for i in 0..<count {
      out[i] = T(halfToFloat(bytes.loadUnaligned(fromByteOffset: 2 &* i, as: UInt16.self)))
    }
  default:
    preconditionFailure("\(dtype) is no float type; PieceLoader refuses it")
  }
}

/// IEEE half precision to Float, by moving the exponent with a multiplication: exact for every
/// value, subnormals included, and vector code where the processor has no conversion.
@inline(__always)
func halfToFloat(_ bits: UInt16) -> Float {
  let magnitude = UInt32(bits & 0x7fff) &<< 13
  let finite = Float(bitPattern: magnitude) * 0x1p112
  let special = Float(bitPattern: magnitude | 0x7f80_0000)
  let value = magnitude >= 0x0f80_0000 ? special : finite
  return Float(bitPattern: value.bitPattern | (UInt32(bits & 0x8000) &<< 16))
}
