import Hub
public import Tensors

#if canImport(Darwin)
  import Darwin
#elseif canImport(Musl)
  import Musl
#else
  import Glibc
#endif

/// The precision of a forward pass: `Float`, or `Double` as the arbiter.
///
/// `exp` and `log1p` are plain arithmetic without calls, so that loops over them become vector code;
/// both are good to about one unit in the last place. The rest is the C library's.
public protocol Real: BinaryFloatingPoint, Sendable {
  /// `float32` or `float64`.
  static var precisionName: String { get }
  /// The element type.
  static var dtype: DType { get }
  /// Loops over many values, for this processor.
  static var kernels: Kernels<Self> { get }

  /// e to the power of `x`: 0 where the result would be subnormal, infinite within a third of a
  /// binade of the largest number; NaN stays NaN.
  static func exp(_ x: Self) -> Self
  /// log(1 + x) for finite x >= 0.
  static func log1p(_ x: Self) -> Self
  /// The error function.
  static func erf(_ x: Self) -> Self
  /// The hyperbolic tangent.
  static func tanh(_ x: Self) -> Self

  /// `c = alpha op(a) op(b) + beta c`, row-major; `op(a)` is [m, k], `op(b)` is [k, n], c is [m, n];
  /// each `ld` is the distance of two rows of the matrix as it lies in memory.
  static func gemm(
    transposeA: Bool, transposeB: Bool, m: Int, n: Int, k: Int, alpha: Self,
    a: UnsafePointer<Self>, lda: Int, b: UnsafePointer<Self>, ldb: Int, beta: Self,
    c: UnsafeMutablePointer<Self>, ldc: Int)
}

extension Float: Real {
  /// `float32`.
  public static var precisionName: String { "float32" }
  /// `F32`.
  public static var dtype: DType { .f32 }
  /// Loops over many values, for this processor.
  public static let kernels = Kernels<Float>(.best)

  /// e to the power of `x`; see `Real`.
  @inline(__always) public static func exp(_ x: Float) -> Float {
    // x = n ln 2 + r, |r| <= ln 2 / 2; adding 1.5 * 2^23 rounds to the whole number n.
    let shift: Float = 12_582_912
    let scaled = x * 1.442_695_04 + shift
    let n = scaled.bitPattern &- shift.bitPattern
    let whole = scaled - shift
    let r = (x - whole * 0.693_145_751_953_125) - whole * 1.428_606_765_330_187e-06
    var p: Float = 1.0 / 5040
    p = p * r + 1.0 / 720
    p = p * r + 1.0 / 120
    p = p * r + 1.0 / 24
    p = p * r + 1.0 / 6
    p = p * r + 0.5
    p = p * r + 1
    p = p * r + 1
    let value = p * Float(bitPattern: (n &+ 127) &<< 23)
    let floored: Float = x < -87.33 ? 0 : value
    let capped: Float = x > 88.37 ? .infinity : floored
    return x == x ? capped : x
  }

  /// log(1 + x) for finite x >= 0.
  @inline(__always) public static func log1p(_ x: Float) -> Float {
    // log of w = 1 + x, corrected by what the sum lost: x log(w) / (w - 1) (Kahan).
    let w = 1 + x
    let bits = w.bitPattern &- 0x3f35_04f3  // sqrt(1/2): the mantissa then lies around 1
    let n = Float(Int32(truncatingIfNeeded: bits) &>> 23)
    let m = Float(bitPattern: (bits & 0x007f_ffff) &+ 0x3f35_04f3)
    let s = (m - 1) / (m + 1)
    let q = s * s
    var p: Float = 1.0 / 11
    p = p * q + 1.0 / 9
    p = p * q + 1.0 / 7
    p = p * q + 1.0 / 5
    p = p * q + 1.0 / 3
    let log = n * 0.693_145_751_953_125 + (n * 1.428_606_765_330_187e-06 + (2 * s + 2 * s * q * p))
    let d = w - 1
    return d == 0 ? x : log * (x / d)
  }

  /// The error function.
  public static func erf(_ x: Float) -> Float { erff(x) }
  /// The hyperbolic tangent.
  public static func tanh(_ x: Float) -> Float { tanhf(x) }
}

extension Double: Real {
  /// `float64`.
  public static var precisionName: String { "float64" }
  /// `F64`.
  public static var dtype: DType { .f64 }
  /// Loops over many values, for this processor.
  public static let kernels = Kernels<Double>(.best)

  /// e to the power of `x`; see `Real`.
  @inline(__always) public static func exp(_ x: Double) -> Double {
    let shift = 6_755_399_441_055_744.0  // 1.5 * 2^52
    let scaled = x * 1.442_695_040_888_963_4 + shift
    let n = scaled.bitPattern &- shift.bitPattern
    let whole = scaled - shift
    let r =
      (x - whole * 6.931_471_803_691_238_164_90e-01) - whole * 1.908_214_929_270_587_700_02e-10
    // Taylor's series up to r^13: the next term is below 5e-18.
    var p = 1.0 / 6_227_020_800
    p = p * r + 1.0 / 479_001_600
    p = p * r + 1.0 / 39_916_800
    p = p * r + 1.0 / 3_628_800
    p = p * r + 1.0 / 362_880
    p = p * r + 1.0 / 40_320
    p = p * r + 1.0 / 5040
    p = p * r + 1.0 / 720
    p = p * r + 1.0 / 120
    p = p * r + 1.0 / 24
    p = p * r + 1.0 / 6
    p = p * r + 0.5
    p = p * r + 1
    p = p * r + 1
    let value = p * Double(bitPattern: (n &+ 1023) &<< 52)
    let floored: Double = x < -708.39 ? 0 : value
    let capped: Double = x > 709.43 ? .infinity : floored
    return x == x ? capped : x
  }

  /// log(1 + x) for finite x >= 0.
  @inline(__always) public static func log1p(_ x: Double) -> Double {
    let w = 1 + x
    let bits = w.bitPattern &- 0x3fe6_a09e_667f_3bcd
    // The exponent, through the trick that 1.5 * 2^52 + n has n in its low bits: no conversion of
    // 64-bit integers, which older vector units lack.
    let exponent = UInt64(bitPattern: Int64(bitPattern: bits) &>> 52)
    let shift = 6_755_399_441_055_744.0
    let n = Double(bitPattern: shift.bitPattern &+ exponent) - shift
    let m = Double(bitPattern: (bits & 0x000f_ffff_ffff_ffff) &+ 0x3fe6_a09e_667f_3bcd)
    let s = (m - 1) / (m + 1)
    let q = s * s
    var p = 1.0 / 23
    p = p * q + 1.0 / 21
    p = p * q + 1.0 / 19
    p = p * q + 1.0 / 17
    p = p * q + 1.0 / 15
    p = p * q + 1.0 / 13
    p = p * q + 1.0 / 11
    p = p * q + 1.0 / 9
    p = p * q + 1.0 / 7
    p = p * q + 1.0 / 5
    p = p * q + 1.0 / 3
    let log =
      n * 6.931_471_803_691_238_164_90e-01
      + (n * 1.908_214_929_270_587_700_02e-10 + (2 * s + 2 * s * q * p))
    let d = w - 1
    return d == 0 ? x : log * (x / d)
  }

  /// The error function.
  public static func erf(_ x: Double) -> Double {
    #if canImport(Darwin)
      Darwin.erf(x)
    #elseif canImport(Musl)
      Musl.erf(x)
    #else
      Glibc.erf(x)
    #endif
  }
  /// The hyperbolic tangent.
  public static func tanh(_ x: Double) -> Double {
    #if canImport(Darwin)
      Darwin.tanh(x)
    #elseif canImport(Musl)
      Musl.tanh(x)
    #else
      Glibc.tanh(x)
    #endif
  }
}
