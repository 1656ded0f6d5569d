public import Hub
public import Inference
public import Tensors

/// The precision of a run.
public enum Precision: String, Sendable, CaseIterable {
  /// The arbiter.
  case float64
  /// What people run.
  case float32
}

/// What a parity check should do.
public struct ParityRequest: Sendable {
  /// The precision of the side under test.
  public var precision = Precision.float64
  /// Bounds instead of the measured ones.
  public var tolerance = Tolerance()
  /// Tokens to generate and compare; 0 for none.
  public var generate = 0
  /// How they are chosen.
  public var sampling = Sampling.greedy
  /// Self-Extend, for full attention.
  public var selfExtend: SelfExtend?
  /// Whether rows of the vocabulary that only one side has may hold something: a cut that was asked for.
  package var allowsLostRows = false
  /// Whether `A_log`, `D` and dt biases were cast on purpose.
  package var castsAll = false

  /// A check with the defaults.
  public init() {}
}

/// What a parity check found, with the weights and the continuations.
public struct ParityResult: Sendable {
  /// The stages.
  public var report: ParityReport
  /// The precision.
  public var precision: Precision
  /// Sequences and their length.
  public var tokens: (batch: Int, length: Int)
  /// Pieces that are bitwise equal, or without effect.
  public var equalPieces: Int
  /// The others.
  public var differing: [CheckpointDiff.Piece]
  /// Every piece of either side and how it compares; empty beside a trace.
  public var pieces: [CheckpointDiff.Piece]
  /// The reference as the hub sees it, which the pieces' sub-layers refer to.
  public var spec: ModelSpec
  /// The attributes that differ.
  public var attributes: [CheckpointDiff.Attribute]
  /// The continuations, when they were asked for: A's and B's.
  public var generation: (a: [Int], b: [Int])?
  /// What it was computed with.
  public var engine = EngineDescription.current
  /// Everything noticed.
  public var problems: [Diagnostic]

  /// Whether the two compute the same: every stage is finite and within its bound, continuations are
  /// equal, and nothing was left uncompared.
  public var passes: Bool {
    report.passes && (generation.map { $0.a == $0.b } ?? true)
      && !problems.contains { $0.severity == .error }
  }
}
