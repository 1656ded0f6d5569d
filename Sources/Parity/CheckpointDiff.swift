public import Hub
public import Tensors

/// How two checkpoints differ, piece by piece of the hub.
public struct CheckpointDiff: Sendable {
  /// How one piece compares.
  public enum Status: Sendable, Hashable {
    /// The same type and bits.
    case equal
    /// One is the other in another type: `from` rounded (or widened) to `to`, bit for bit.
    case cast(from: DType, to: DType)
    /// The same type; B's values are A's rounded to a narrower one, and widened again.
    case rounded(to: DType)
    /// Some values differ.
    case differs(maxAbs: Double, count: Int, of: Int)
    /// The shapes differ.
    case shapes(Shape, Shape)
    /// Only one side has it, and it is not without effect.
    case onlyInA
    /// As `onlyInA`, the other way.
    case onlyInB
    /// Only one side has it, and it is without effect (zeros of a bias, ones of a norm).
    case neutral
  }

  /// A piece, where it stands on each side, and how it compares.
  public struct Piece: Sendable {
    /// The piece.
    public var id: PieceID
    /// The tensors of A that hold it.
    public var tensorsA: [String]
    /// The tensors of B that hold it.
    public var tensorsB: [String]
    /// How it compares.
    public var status: Status
  }

  /// An attribute in which the models differ.
  public struct Attribute: Sendable {
    /// The kind of sub-layer, or `model`.
    public var kind: String
    /// The sub-layer's layer.
    public var layer: Int?
    /// The name.
    public var name: String
    /// In A.
    public var a: JSONValue
    /// In B.
    public var b: JSONValue
    /// Whether it only changes rounding (a rotary table in bfloat16).
    public var isRounding: Bool

    /// An attribute that differs.
    public init(
      kind: String, layer: Int?, name: String, a: JSONValue, b: JSONValue, isRounding: Bool
    ) {
      self.kind = kind
      self.layer = layer
      self.name = name
      self.a = a
      self.b = b
      self.isRounding = isRounding
    }

    /// Where: `model`, or `attention in layer 3`.
    public var place: String { layer.map { "\(kind) in layer \($0)" } ?? kind }
  }

  /// A as the hub sees it, which the pieces' sub-layers refer to.
  public var spec: ModelSpec
  /// The pieces, model first, then by sub-layer.
  public var pieces: [Piece]
  /// The attributes that differ.
  public var attributes: [Attribute]
  /// Everything noticed.
  public var problems: [Diagnostic]

  /// Whether nothing differs.
  public var isEqual: Bool {
    attributes.allSatisfy(\.isRounding)
      && pieces.allSatisfy { $0.status == .equal || $0.status == .neutral }
  }
}

extension CheckpointDiff {
  /// How the two of a pair differ.
  ///
  /// - Throws: what reading throws.
  package init(
    _ pair: AlignedPair, progress: (@Sendable (_ bytes: Int, _ piece: String) -> Void)? = nil
  ) throws(Diagnostic) {
    self.init(
      spec: pair.a.spec,
      pieces: try pair.comparisons(progress).map {
        Piece(
          id: $0.id, tensorsA: pair.a.tensors(of: $0.id), tensorsB: pair.b.tensors(of: $0.id),
          status: $0.status)
      }, attributes: pair.attributes(), problems: pair.problems)
  }
}
