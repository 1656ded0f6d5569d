import Hub

/// How far a stage may be off.
///
/// It is measured: the reference runs in float32 and float64, and what lies between the two is the
/// noise that another order of the same sums makes.
public struct Tolerance: Sendable, Hashable {
  /// How many times float32's noise is allowed over a whole stage: another order of summation, other
  /// threads or another exponential give up to a few times as much at single values.
  public var factor = 6.0
  /// An absolute bound, instead of the measured one.
  public var atol: Double?
  /// A bound relative to the largest value of the stage, instead of the measured one.
  public var rtol: Double?
  /// Whether both sides run in float64: then float32's noise is scaled down to float64's, so that also
  /// what float32 would hide is seen (another epsilon of a norm, a tensor off by a ten-thousandth).
  public var isTight = false

  /// The ratio of float64's unit roundoff to float32's.
  static let precisionRatio = 0x1p-29
  /// How many times float64's noise is allowed: the frameworks' own float64 passes stay below 5 times of
  /// it, an effect in the mathematics far above.
  static let tightFactor = 64.0
  /// How many times float32's noise is allowed a float64 trace whose framework computes parts in float32:
  /// those two stay below a third of it.
  static let insideFactor = 1.0
  /// How many times the bound of a whole stage is allowed at one position or in one group of channels,
  /// whose noise is a maximum over fewer values.
  static let groupFactor = 4.0

  /// The measured bound.
  public init(atol: Double? = nil, rtol: Double? = nil) {
    self.atol = atol
    self.rtol = rtol
  }

  /// Whether the bound is measured.
  var isMeasured: Bool { atol == nil && rtol == nil }

  /// The bound of a stage, if float32's noise were allowed.
  public func looseBound(_ stage: ParityReport.Stage) -> Double {
    stage.noise * factor
  }

  /// The bound of a stage.
  func bound(noise: Double, scale: Double, unit: Double) -> Double {
    if !isMeasured { return (atol ?? 0) + (rtol ?? 0) * scale }
    let measured =
      isTight ? noise * Tolerance.precisionRatio * Tolerance.tightFactor : noise * factor
    // Where float32 happens to make no error at all, a rounding or two are allowed still.
    return max(measured, scale * 4 * (isTight ? 0x1p-53 : unit))
  }

  /// The bound of a position or of a group of channels.
  func groupBound(noise: Double, scale: Double, unit: Double) -> Double {
    bound(noise: noise * Tolerance.groupFactor, scale: scale, unit: unit)
  }
}
