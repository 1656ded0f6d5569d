import Hub

/// What a parity check found.
public struct ParityReport: Sendable {
  /// A place in the forward pass.
  public struct Stage: Sendable, Hashable {
    /// As a trace names it.
    public var name: String
    /// The largest absolute difference.
    public var maxAbs: Double
    /// The same, relative to the largest value of the reference.
    public var relative: Double
    /// What is allowed.
    public var bound: Double
    /// Float32's noise on the reference.
    public var noise: Double
    /// Values of A that are NaN or infinite.
    public var notFiniteA = 0
    /// Values of B, or of the trace, that are NaN or infinite.
    public var notFiniteB = 0
    /// Whether both sides are finite.
    public var isFinite: Bool { notFiniteA == 0 && notFiniteB == 0 }
    /// Whether it is out of bounds however small it looks from here: a sub-layer before it gives
    /// something else than the reference's on the reference's own input.
    public var isOffInside = false
    /// Whether it is within the bound; what is not finite, or has no finite bound, is not.
    public var ok: Bool { isFinite && bound.isFinite && maxAbs <= bound && !isOffInside }
  }

  /// Where two models part.
  public struct Divergence: Sendable, Hashable {
    /// The first stage out of bounds.
    public var stage: String
    /// The sub-layer, in the flat list; `nil` for embedding, final norm and head.
    public var sublayer: Int?
    /// Its kind; `model` for embedding, final norm and head.
    public var kind: String
    /// The tensors that explain it.
    public var suspects: [String]
    /// Attributes of the configs that explain it.
    public var attributes: [String]
    /// Whether the reference's tensors in their place were seen to cure it.
    public var isProven: Bool
    /// Whether a side is not finite there; the suspects are then tensors that hold NaN or infinity.
    public var isNotFinite = false

    /// A divergence.
    public init(
      stage: String, sublayer: Int?, kind: String, suspects: [String], attributes: [String] = [],
      isProven: Bool = false
    ) {
      self.stage = stage
      self.sublayer = sublayer
      self.kind = kind
      self.suspects = suspects
      self.attributes = attributes
      self.isProven = isProven
    }
  }

  /// The stages in the order of computation.
  public var stages: [Stage] = []
  /// The first stage out of bounds.
  public var firstDivergence: Divergence?
  /// The first sub-layer behind which the stream of a side is not finite; `nil` for none.
  public var firstNotFiniteSublayer: Int?
  /// The first stage at which float32 overflows on the reference though float64 does not, so that the
  /// noise was taken from a pass in float64 with float32's digits; `nil` for none.
  public var beyondFloat32: String?
  /// The first stage of a float64 trace that was given float32's bound, because the framework computes
  /// parts of it in float32; `nil` for none.
  public var float32Inside: String?
  /// How the predictions agree.
  public var logits = LogitAgreement()

  /// Nothing found yet.
  public init() {}

  /// Whether every stage is within its bound.
  public var passes: Bool { stages.allSatisfy(\.ok) }
}

extension ParityReport.Stage {
  /// A stage as it was measured and judged. Where a position or a group of channels is out of bounds,
  /// the bound is the one that it is beyond.
  init(
    _ name: String, _ difference: Spread, noise: Spread, coarseness: Double = 1,
    _ verdict: Tolerance.Verdict
  ) {
    let whole = difference.whole
    self.init(
      name: name, maxAbs: whole.maxAbs,
      relative: whole.scale > 0 ? whole.maxAbs / whole.scale : whole.maxAbs, bound: verdict.bound,
      noise: noise.whole.maxAbs * coarseness, notFiniteA: whole.notFiniteReference,
      notFiniteB: whole.notFiniteOther)
  }
}
