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
    /// Whether it is within the bound.
    public var ok: Bool { maxAbs <= bound }
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
  /// How the predictions agree.
  public var logits = LogitAgreement()

  /// Nothing found yet.
  public init() {}

  /// Whether every stage is within its bound.
  public var passes: Bool { stages.allSatisfy(\.ok) }
}
