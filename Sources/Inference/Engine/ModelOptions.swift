import Hub

/// How a model is run.
public struct ModelOptions: Sendable, Hashable {
  /// Threads; 0 means one a core. Results do not depend on it.
  public var threads: Int
  /// Whether weights stay in memory (in their file dtype) once used: for decoding, and for many
  /// passes. Otherwise each sub-layer's go when it has run.
  public var keepsWeights: Bool
  /// Self-Extend, for models whose attention is full in every layer. Their rotary tables are then
  /// exact, also where the model's own are rounded: the rounded tables belong to other positions.
  public var selfExtend: SelfExtend?
  /// Whether the pass is as rough as frameworks are in their own type: rotary angles and the sums of
  /// norms and softmax are computed in the type of the pass, and not in float64.
  package var isRough = false

  /// These options.
  public init(threads: Int = 0, keepsWeights: Bool = false, selfExtend: SelfExtend? = nil) {
    self.threads = threads
    self.keepsWeights = keepsWeights
    self.selfExtend = selfExtend
  }
}
