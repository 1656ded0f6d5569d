import CKernels

/// The effect of a cast on values.
public struct CastCounts: Sendable, Hashable {
  /// Finite values that became infinite.
  public var overflows: Int
  /// Values other than zero that became zero.
  public var underflows: Int
  /// Values that were NaN or infinite before the cast.
  public var notFinite: Int

  /// These counts.
  public init(overflows: Int = 0, underflows: Int = 0, notFinite: Int = 0) {
    self.overflows = overflows
    self.underflows = underflows
    self.notFinite = notFinite
  }

  /// Adds another cast's.
  public static func += (a: inout CastCounts, b: CastCounts) {
    a.overflows += b.overflows
    a.underflows += b.underflows
    a.notFinite += b.notFinite
  }
}

extension DType {
  /// Converts a whole buffer of F64, F32, F16 or BF16 elements to another of these types.
  ///
  /// Rounds once, to nearest, ties to even, as IEEE 754's convertFormat: F64 to F16 or BF16 does not
  /// pass through a rounded F32; subnormals are kept; a NaN stays a NaN, quiet, with its sign and the
  /// top of its payload. Elements are little-endian and need no alignment.
  ///
  ///     // 65520.0 as F32 to F16: +infinity, and 1 is returned
  ///
  /// - Parameters:
  ///   - from: the type of the source.
  ///   - to: the type of the destination.
  ///   - source: n elements of `from`.
  ///   - destination: room for n elements of `to`; must not overlap `source`.
  /// - Returns: how many finite elements became infinite.
  public static func convert(
    from: DType, to: DType, source: UnsafeRawBufferPointer,
    destination: UnsafeMutableRawBufferPointer
  ) -> Int {
    cast(from: from, to: to, source: source, destination: destination).overflows
  }

  /// `convert`, telling all that happened to values; equal types are copied and not looked at.
  ///
  ///     // 70000.0, 1e-9 and NaN as F32 to F16: one overflow, one underflow, one not finite
  ///
  /// - Parameters: as of `convert`.
  public static func cast(
    from: DType, to: DType, source: UnsafeRawBufferPointer,
    destination: UnsafeMutableRawBufferPointer
  ) -> CastCounts {
    precondition(from.isFloat && to.isFloat, "only F64, F32, F16 and BF16 have values here")
    let count = source.count / (from.bitWidth / 8)
    precondition(source.count == count * (from.bitWidth / 8))
    precondition(destination.count == count * (to.bitWidth / 8))
    guard count > 0, let input = source.baseAddress, let output = destination.baseAddress else {
      return CastCounts()
    }
    if let fast = fastCast(from, to) {
      var counts = ck_cast_counts()
      fast(input, count, output, &counts)
      return CastCounts(
        overflows: counts.infinite, underflows: counts.zero, notFinite: counts.not_finite)
    }
    return convertPlainly(from: from, to: to, input, count, output)
  }

  /// Elements that are NaN or infinite; none of a type other than F64, F32, F16 and BF16.
  ///
  /// - Parameter bytes: elements of this type, little-endian; they need no alignment.
  package func countNotFinite(_ bytes: UnsafeRawBufferPointer) -> Int {
    switch self {
    case .f64: Self.countAtLeast(0x7FF0_0000_0000_0000 as UInt64, bytes)
    case .f32: Self.countAtLeast(0x7F80_0000 as UInt32, bytes)
    case .f16: Self.countAtLeast(0x7C00 as UInt16, bytes)
    case .bf16: Self.countAtLeast(0x7F80 as UInt16, bytes)
    default: 0
    }
  }

  /// Elements whose magnitude, as bits, is not below `infinity`.
  @inline(__always)
  private static func countAtLeast<S: FixedWidthInteger & BitwiseCopyable>(
    _ infinity: S, _ bytes: UnsafeRawBufferPointer
  ) -> Int {
    let magnitude = ~(S(1) << (S.bitWidth - 1))
    let size = MemoryLayout<S>.size
    let count = bytes.count / size
    guard let base = bytes.baseAddress else { return 0 }
    var total = 0
    var start = 0
    // A narrow counter keeps the loop in vector registers; a block cannot overflow it.
    while start < count {
      let end = min(count, start + 1 << 20)
      var odd: UInt32 = 0
      for i in start..<end {
        let bits = S(littleEndian: base.loadUnaligned(fromByteOffset: i &* size, as: S.self))
        odd &+= bits & magnitude >= infinity ? 1 : 0
      }
      total += Int(odd)
      start = end
    }
    return total
  }

  private typealias Cast =
    @convention(c) (
      UnsafeRawPointer?, Int, UnsafeMutableRawPointer?, UnsafeMutablePointer<ck_cast_counts>?
    ) -> Void

  /// The loop for this processor, for the pairs of which large files are made.
  private static func fastCast(_ from: DType, _ to: DType) -> Cast? {
    switch (from, to) {
    case (.bf16, .f32): casts.bf16_to_f32
    case (.f16, .f32): casts.f16_to_f32
    case (.f32, .bf16): casts.f32_to_bf16
    case (.f32, .f16): casts.f32_to_f16
    default: nil
    }
  }

  private static let casts = ck_casts_for(ck_best_level()).pointee

  /// `convert` for every processor: the plain twin of the faster loops.
  ///
  /// - Parameters:
  ///   - input: `count` elements of `from`.
  ///   - output: room for as many of `to`.
  package static func convertPlainly(
    from: DType, to: DType, _ input: UnsafeRawPointer, _ count: Int,
    _ output: UnsafeMutableRawPointer
  ) -> CastCounts {
    let (single, half, brain): (UInt32, UInt16, UInt16) = (0x7F80_0000, 0x7C00, 0x7F80)
    let double: UInt64 = 0x7FF0_0000_0000_0000
    switch (from, to) {
    case (.f64, .f32):
      return each(input, output, count, double) { FloatBits.f32(rounding: $0) }
    case (.f64, .f16):
      return each(input, output, count, double) { FloatBits.f16(FloatBits.f32(toOdd: $0)) }
    case (.f64, .bf16):
      return each(input, output, count, double) { FloatBits.bf16(FloatBits.f32(toOdd: $0)) }
    case (.f32, .f64): return each(input, output, count, single) { (FloatBits.f64($0), 0) }
    case (.f32, .f16): return each(input, output, count, single) { FloatBits.f16($0) }
    case (.f32, .bf16): return each(input, output, count, single) { FloatBits.bf16($0) }
    case (.f16, .f64):
      return each(input, output, count, half) { (FloatBits.f64(FloatBits.f32(f16: $0)), 0) }
    case (.f16, .f32): return each(input, output, count, half) { (FloatBits.f32(f16: $0), 0) }
    case (.f16, .bf16):
      return each(input, output, count, half) { FloatBits.bf16(FloatBits.f32(f16: $0)) }
    case (.bf16, .f64):
      return each(input, output, count, brain) { (FloatBits.f64(FloatBits.f32(bf16: $0)), 0) }
    case (.bf16, .f32): return each(input, output, count, brain) { (FloatBits.f32(bf16: $0), 0) }
    case (.bf16, .f16):
      return each(input, output, count, brain) { FloatBits.f16(FloatBits.f32(bf16: $0)) }
    default:
      output.copyMemory(from: input, byteCount: count * (from.bitWidth / 8))
      return CastCounts()
    }
  }

  /// One straight loop; the closure is inlined at each call above.
  @inline(__always)
  private static func each<
    S: FixedWidthInteger & BitwiseCopyable, D: FixedWidthInteger & BitwiseCopyable
  >(
    _ input: UnsafeRawPointer, _ output: UnsafeMutableRawPointer, _ count: Int, _ infinity: S,
    _ body: (S) -> (D, UInt32)
  ) -> CastCounts {
    let from = MemoryLayout<S>.size
    let to = MemoryLayout<D>.size
    let (magnitudeS, magnitudeD) = (~(S(1) << (S.bitWidth - 1)), ~(D(1) << (D.bitWidth - 1)))
    var total = CastCounts()
    var start = 0
    // Narrow counters keep the loop in vector registers; a block cannot overflow them.
    while start < count {
      let end = min(count, start + 1 << 20)
      var infinite: UInt32 = 0
      var zero: UInt32 = 0
      var odd: UInt32 = 0
      for i in start..<end {
        let bits = S(littleEndian: input.loadUnaligned(fromByteOffset: i &* from, as: S.self))
        let (value, overflow) = body(bits)
        output.storeBytes(of: value.littleEndian, toByteOffset: i &* to, as: D.self)
        infinite &+= overflow
        zero &+= value & magnitudeD == 0 && bits & magnitudeS != 0 ? 1 : 0
        odd &+= bits & magnitudeS >= infinity ? 1 : 0
      }
      total.overflows += Int(infinite)
      total.underflows += Int(zero)
      total.notFinite += Int(odd)
      start = end
    }
    return total
  }
}

/// Single elements as bit patterns, without branches so that loops over them vectorise.
///
/// The narrowing ones also say whether a finite value became infinite (1) or not (0).
enum FloatBits {
  @inline(__always)
  static func f32(bf16 bits: UInt16) -> UInt32 {
    let wide = UInt32(bits) << 16
    return wide | (wide & 0x7FFF_FFFF > 0x7F80_0000 ? 0x0040_0000 : 0)
  }

  /// Shifts the fields into place and lets one exact product by 2^112 mend the exponent's bias, for
  /// subnormals too.
  @inline(__always)
  static func f32(f16 bits: UInt16) -> UInt32 {
    let field = UInt32(bits & 0x7FFF) << 13
    let scaled = (Float(bitPattern: field) * 0x1p112).bitPattern
    let special = field | 0x7F80_0000 | (field > 0x0F80_0000 ? 0x0040_0000 : 0)
    return (field >= 0x0F80_0000 ? special : scaled) | UInt32(bits & 0x8000) << 16
  }

  @inline(__always)
  static func f64(_ bits: UInt32) -> UInt64 {
    let wide = Double(Float(bitPattern: bits)).bitPattern
    return wide
  }

  @inline(__always)
  static func f32(rounding bits: UInt64) -> (UInt32, UInt32) {
    let narrow = Float(Double(bitPattern: bits)).bitPattern
    let finite = bits & 0x7FFF_FFFF_FFFF_FFFF < 0x7FF0_0000_0000_0000
    return (narrow, narrow & 0x7FFF_FFFF == 0x7F80_0000 && finite ? 1 : 0)
  }

  /// Rounds to odd: towards zero, with the last bit set if anything was lost. A second rounding to
  /// a type at least two bits shorter then gives what a single one would.
  @inline(__always)
  static func f32(toOdd bits: UInt64) -> UInt32 {
    let exact = Double(bitPattern: bits)
    let near = Float(exact)
    let back = Double(near)
    let tooFar: UInt32 = back.magnitude > exact.magnitude ? 1 : 0
    // Unordered (NaN) compares as not lost.
    let lost: UInt32 = back < exact || back > exact ? 1 : 0
    return (near.bitPattern &- tooFar) | lost
  }

  @inline(__always)
  static func bf16(_ bits: UInt32) -> (UInt16, UInt32) {
    let magnitude = bits & 0x7FFF_FFFF
    let rounded = (bits &+ 0x7FFF &+ (bits >> 16 & 1)) >> 16
    let value = magnitude > 0x7F80_0000 ? bits >> 16 | 0x40 : rounded
    let overflow = value & 0x7FFF == 0x7F80 && magnitude < 0x7F80_0000
    return (UInt16(truncatingIfNeeded: value), overflow ? 1 : 0)
  }

  @inline(__always)
  static func f16(_ bits: UInt32) -> (UInt16, UInt32) {
    let magnitude = bits & 0x7FFF_FFFF
    // From 2^-14 on: rebias the exponent and round the 13 lower bits away.
    let normal = (magnitude &+ 0xC800_0FFF &+ (magnitude >> 13 & 1)) >> 13
    // Below: adding 0.5 moves the last bit of an f16 subnormal to the last bit of the sum.
    let subnormal = (Float(bitPattern: magnitude) + 0.5).bitPattern &- 0x3F00_0000
    let nan = 0x7E00 | (magnitude >> 13 & 0x1FF)
    var value = magnitude < 0x3880_0000 ? subnormal : normal
    value = magnitude >= 0x4780_0000 ? 0x7C00 : value
    value = magnitude > 0x7F80_0000 ? nan : value
    let overflow = value == 0x7C00 && magnitude < 0x7F80_0000
    return (UInt16(truncatingIfNeeded: value | bits >> 16 & 0x8000), overflow ? 1 : 0)
  }
}
