import Tensors

/// Blocks of quantised numbers, as `ggml/src/ggml-quants.c` has them: `dequantize_row_*` and
/// `quantize_row_q8_0_ref`, in the same float32 arithmetic.
package enum GGMLBlocks {
  /// Writes the numbers of whole blocks as float32.
  ///
  /// - Parameters:
  ///   - type: a type for which `isReadable` holds and that has blocks.
  ///   - source: whole blocks.
  ///   - out: room for `blockCount` float32 numbers of each.
  package static func widen(
    _ type: GGMLType, _ source: UnsafeRawBufferPointer, into out: UnsafeMutableRawBufferPointer
  ) {
    let blocks = source.count / type.blockBytes
    precondition(source.count == blocks * type.blockBytes)
    precondition(out.count == blocks * type.blockCount * 4)
    guard blocks > 0, let from = source.baseAddress, let to = out.baseAddress else { return }
    let widen = widener(type)
    for block in 0..<blocks {
      widen(
        Block(bytes: from + block * type.blockBytes), Out(to: to + block * type.blockCount * 4))
    }
  }

  /// Rounds float32 numbers to Q8_0, to the bit as ggml's reference: the scale is a float16, the
  /// numbers are rounded by the float32 that it was rounded from, halves away from zero.
  ///
  /// - Parameters:
  ///   - source: a multiple of 32 float32 numbers.
  ///   - out: 34 bytes for every 32 of them.
  /// - Returns: whether all of them were finite and small enough for a float16 scale.
  package static func narrowQ8(
    _ source: UnsafeRawBufferPointer, into out: UnsafeMutableRawBufferPointer
  ) -> Bool {
    let blocks = source.count / 128
    precondition(source.count == blocks * 128 && out.count == blocks * 34)
    var isSound = true
    for block in 0..<blocks {
      var most: Float = 0
      var isFinite = true
      for i in 0..<32 {
        let x = source.loadUnaligned(fromByteOffset: block * 128 + i * 4, as: Float.self)
        isFinite = isFinite && x.isFinite
        most = max(most, x.magnitude)
      }
      let scale = most / 127
      let half = halfBits(scale)
      isSound = isSound && isFinite && half & 0x7FFF < 0x7C00
      let inverse: Float = scale == 0 ? 0 : 1 / scale
      out.storeBytes(of: half.littleEndian, toByteOffset: block * 34, as: UInt16.self)
      for i in 0..<32 {
        let x = source.loadUnaligned(fromByteOffset: block * 128 + i * 4, as: Float.self)
        let q = (x * inverse).rounded(.toNearestOrAwayFromZero)
        out[block * 34 + 2 + i] = UInt8(bitPattern: Int8(exactly: q) ?? 0)
      }
    }
    return isSound
  }

  private static func halfBits(_ value: Float) -> UInt16 {
    var bits: UInt16 = 0
    withUnsafeBytes(of: value) { from in
      withUnsafeMutableBytes(of: &bits) {
        _ = DType.convert(from: .f32, to: .f16, source: from, destination: $0)
      }
    }
    return bits
  }

  /// The bytes of one block.
  private struct Block {
    let bytes: UnsafeRawPointer

    subscript(_ place: Int) -> UInt8 { bytes.load(fromByteOffset: place, as: UInt8.self) }

    /// The float16 at `place`.
    func half(_ place: Int) -> Float {
      let bits = UInt32(bytes.loadUnaligned(fromByteOffset: place, as: UInt16.self))
      let sign = (bits & 0x8000) << 16
      let magnitude = bits & 0x7FFF
      if magnitude >= 0x7C00 {
        return Float(bitPattern: sign | 0x7F80_0000 | (magnitude & 0x3FF) << 13)
      }
      // A float with the exponent 15 - 127 too large: the product is exact, subnormals included.
      let value = Float(bitPattern: magnitude << 13) * 0x1p112
      return Float(bitPattern: value.bitPattern | sign)
    }
  }

  /// Where a block's numbers go.
  private struct Out {
    let to: UnsafeMutableRawPointer

    subscript(_ place: Int) -> Float {
      get { to.loadUnaligned(fromByteOffset: place * 4, as: Float.self) }
      nonmutating set { to.storeBytes(of: newValue, toByteOffset: place * 4, as: Float.self) }
    }
  }

  private static func widener(_ type: GGMLType) -> (Block, Out) -> Void {
    switch type {
    case .q4_0: q4_0
    case .q4_1: q4_1
    case .q5_0: q5_0
    case .q5_1: q5_1
    case .q8_0: q8_0
    case .q2_k: q2K
    case .q3_k: q3K
    case .q4_k: q4K
    case .q5_k: q5K
    case .q6_k: q6K
    default: preconditionFailure("\(type.name) is not read")
    }
  }

  // MARK: Blocks of 32

  private static func q8_0(_ b: Block, _ y: Out) {
    let d = b.half(0)
    for i in 0..<32 { y[i] = Float(Int8(bitPattern: b[2 + i])) * d }
  }

  private static func q4_0(_ b: Block, _ y: Out) {
    let d = b.half(0)
    for i in 0..<16 {
      y[i] = Float(Int(b[2 + i] & 15) - 8) * d
      y[i + 16] = Float(Int(b[2 + i] >> 4) - 8) * d
    }
  }

  private static func q4_1(_ b: Block, _ y: Out) {
    let (d, m) = (b.half(0), b.half(2))
    for i in 0..<16 {
      y[i] = Float(b[4 + i] & 15) * d + m
      y[i + 16] = Float(b[4 + i] >> 4) * d + m
    }
  }

  /// The fifth bits of 32 numbers.
  private static func fifth(_ b: Block, _ place: Int, _ i: Int) -> Int {
    Int(b[place + i / 8] >> UInt8(i % 8) & 1) << 4
  }

  private static func q5_0(_ b: Block, _ y: Out) {
    let d = b.half(0)
    for i in 0..<16 {
      y[i] = Float((Int(b[6 + i] & 15) | fifth(b, 2, i)) - 16) * d
      y[i + 16] = Float((Int(b[6 + i] >> 4) | fifth(b, 2, i + 16)) - 16) * d
    }
  }

  private static func q5_1(_ b: Block, _ y: Out) {
    let (d, m) = (b.half(0), b.half(2))
    for i in 0..<16 {
      y[i] = Float(Int(b[8 + i] & 15) | fifth(b, 4, i)) * d + m
      y[i + 16] = Float(Int(b[8 + i] >> 4) | fifth(b, 4, i + 16)) * d + m
    }
  }

  // MARK: Blocks of 256

  // 16 scales and minima of 4 bits, 64 bytes of 2 bits, d, dmin.
  private static func q2K(_ b: Block, _ y: Out) {
    let (d, least) = (b.half(80), b.half(82))
    for n in 0..<256 {
      let (half, j, l) = (n / 128, n % 128 / 32, n % 32)
      let scale = b[half * 8 + j * 2 + l / 16]
      let q = b[16 + half * 32 + l] >> UInt8(2 * j) & 3
      y[n] = d * Float(scale & 15) * Float(q) - least * Float(scale >> 4)
    }
  }

  // 32 bytes of third bits, 64 bytes of 2 bits, 16 scales of 6 bits in 12 bytes, d.
  private static func q3K(_ b: Block, _ y: Out) {
    let d = b.half(108)
    for n in 0..<256 {
      let (half, j, l) = (n / 128, n % 128 / 32, n % 32)
      let i = half * 8 + j * 2 + l / 16
      let low = b[96 + i % 8] >> UInt8(i / 8 * 4) & 15
      let high = b[104 + i % 4] >> UInt8(i / 4 * 2) & 3
      let scale = Int(low | high << 4) - 32
      let q = Int(b[32 + half * 32 + l] >> UInt8(2 * j) & 3)
      let third = b[l] >> UInt8(half * 4 + j) & 1
      y[n] = d * Float(scale) * Float(q - (third == 1 ? 0 : 4))
    }
  }

  /// Scale and minimum number `j` of 8, of 6 bits each in 12 bytes from `place` on.
  private static func scale4(_ b: Block, _ place: Int, _ j: Int) -> (Float, Float) {
    if j < 4 { return (Float(b[place + j] & 63), Float(b[place + j + 4] & 63)) }
    return (
      Float(b[place + j + 4] & 15 | (b[place + j - 4] >> 6) << 4),
      Float(b[place + j + 4] >> 4 | (b[place + j] >> 6) << 4)
    )
  }

  // d, dmin, scales, 128 bytes of 4 bits.
  private static func q4K(_ b: Block, _ y: Out) {
    let (d, least) = (b.half(0), b.half(2))
    for j in 0..<8 {
      let (scale, minimum) = scale4(b, 4, j)
      let (d1, m1) = (d * scale, least * minimum)
      for l in 0..<32 {
        let byte = b[16 + j / 2 * 32 + l]
        y[j * 32 + l] = d1 * Float(j % 2 == 0 ? byte & 15 : byte >> 4) - m1
      }
    }
  }

  // d, dmin, scales, 32 bytes of fifth bits, 128 bytes of 4 bits.
  private static func q5K(_ b: Block, _ y: Out) {
    let (d, least) = (b.half(0), b.half(2))
    for j in 0..<8 {
      let (scale, minimum) = scale4(b, 4, j)
      let (d1, m1) = (d * scale, least * minimum)
      for l in 0..<32 {
        let byte = b[48 + j / 2 * 32 + l]
        let fifth = (b[16 + l] >> UInt8(j) & 1) << 4
        y[j * 32 + l] = d1 * Float((j % 2 == 0 ? byte & 15 : byte >> 4) | fifth) - m1
      }
    }
  }

  // 128 bytes of 4 bits, 64 bytes of 2 bits, 16 scales, d.
  private static func q6K(_ b: Block, _ y: Out) {
    let d = b.half(208)
    for n in 0..<256 {
      let (half, j, l) = (n / 128, n % 128 / 32, n % 32)
      let byte = b[half * 64 + j % 2 * 32 + l]
      let low = Int(j < 2 ? byte & 15 : byte >> 4)
      let high = Int(b[128 + half * 32 + l] >> UInt8(2 * j) & 3)
      let scale = Int8(bitPattern: b[192 + half * 8 + j * 2 + l / 16])
      y[n] = d * Float(scale) * Float((low | high << 4) - 32)
    }
  }
}
