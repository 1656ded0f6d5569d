import Hub

/// How far a stage may be off.
///
/// It is measured: the reference runs in float32 and float64, and what lies between the two is the
/// noise that another order of the same sums makes.
public struct Tolerance: Sendable, Hashable {
  /// How many times the noise is allowed: another order of summation, other threads or another
  /// exponential give up to a few times as much at single values.
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
  /// How many times float64's noise is allowed: differences of libraries' exponentials and of
  /// accumulated sums stay far below it, an effect in the mathematics far above.
  static let tightFactor = 2000.0

  /// The measured bound.
  public init(atol: Double? = nil, rtol: Double? = nil) {
    self.atol = atol
    self.rtol = rtol
  }

  /// The bound of a stage, if float32's noise were allowed.
  public func looseBound(_ stage: ParityReport.Stage) -> Double {
    stage.noise * factor
  }

  /// The bound of a stage.
  func bound(noise: Double, scale: Double, unit: Double) -> Double {
    if atol != nil || rtol != nil { return (atol ?? 0) + (rtol ?? 0) * scale }
    let measured =
      isTight ? noise * Tolerance.precisionRatio * Tolerance.tightFactor : noise * factor
    // Where float32 happens to make no error at all, a rounding or two are allowed still.
    return max(measured, scale * 4 * (isTight ? 0x1p-53 : unit))
  }
}
