public import OrderedCollections
public import Tensors

/// What may be said of a model: the kinds of sub-layers with their attributes and pieces.
///
/// Each mixer declares its own `MixerKind` beside its kernel; layouts only refer to it by name.
public struct Vocabulary: Sendable {
  /// The model as a whole: embeddings, final norm, head.
  public var model: MixerKind
  /// The kinds of sub-layers, by name.
  public var kinds: [String: MixerKind]

  /// A vocabulary of these kinds.
  public init(model: MixerKind, kinds: [MixerKind]) {
    self.model = model
    self.kinds = [String: MixerKind](uniqueKeysWithValues: kinds.map { ($0.name, $0) })
  }
}

/// The declaration of one kind of sub-layer.
public struct MixerKind: Sendable {
  /// An attribute that changes the mathematics.
  public struct Attribute: Sendable {
    /// The name, as in papers: `d_state`, `n_kv_heads`, `rope_base`.
    public var name: String
    /// Which values it may have, besides null where that is its default.
    public var domain: Domain
    /// Its value where a layout does not speak of it; `nil` means that a layout must.
    public var initial: JSONValue?
    /// What it is, in a few words.
    public var summary: String

    /// An attribute.
    public init(
      _ name: String, _ domain: Domain, default initial: JSONValue? = nil, _ summary: String
    ) {
      self.name = name
      self.domain = domain
      self.initial = initial
      self.summary = summary
    }

    /// An attribute whose values are of the type of its default.
    public init(_ name: String, default initial: JSONValue? = nil, _ summary: String) {
      self.init(name, .like(initial), default: initial, summary)
    }

    /// A value in the form that the domain has: `6` for `6.0` where whole numbers belong.
    package func normal(_ value: JSONValue) -> JSONValue {
      guard domain.isWhole, case .double(let number) = value, let whole = Int(exactly: number)
      else { return value }
      return .int(whole)
    }

    /// Whether it may have this value.
    public func allows(_ value: JSONValue) -> Bool {
      value == .null && initial == .some(.null) || domain.allows(value)
    }
  }

  /// The value under which a piece has no effect, so that it may be left out or filled in.
  public enum Identity: Sendable, Hashable {
    /// Zeros: a bias.
    case zero
    /// Ones: the weight of a norm.
    case one
  }

  /// A piece passed through a function, which some files hold in place of the piece. A model has one
  /// of the two; the engine takes whichever is there, so that none is rounded for its sake.
  public struct Image: Sendable, Hashable {
    /// The role of the piece.
    public var of: String
    /// The function.
    public var by: PieceFunction

    /// The image of the piece `of`.
    public init(of role: String, by function: PieceFunction) {
      of = role
      by = function
    }
  }

  /// When a piece changes nothing, whatever its values are.
  public struct Idle: Sendable {
    /// The condition, over the kind's and the model's attributes.
    public var when: Expression
    /// Why that is so, as it is told when the piece is dropped.
    public var reason: String

    /// A condition and its reason.
    public init(when condition: String, because reason: String) {
      when = Expression(literal: condition)
      self.reason = reason
    }
  }

  /// A smallest piece of weight.
  public struct Piece: Sendable {
    /// The role, unique within the kind: `in_x.weight`.
    public var role: String
    /// The shape: an expression for each extent over the kind's and the model's attributes.
    public var shape: [Expression]
    /// The value that stands for its absence, if there is one.
    public var identity: Identity?
    /// Whether it stays float32 when the rest is cast down (`A_log`, `D`, dt biases).
    public var keepsFloat32: Bool
    /// For a table: the values that a framework computes which does not keep it in the file; `nil`
    /// where the model computes none.
    public var computed: (@Sendable (ModelSpec) -> [Double]?)?
    /// The piece that it stands in place of, where it is that one passed through a function.
    public var image: Image?
    /// How many of it a sub-layer has, by its attributes: the experts of a mixture. The role then has
    /// `{e}` where the number stands, `experts.{e}.up.weight`; `nil` for a piece that is there once.
    public var count: Expression?
    /// When it may be dropped, if ever.
    public var idle: Idle?
    /// What it is, in a few words.
    public var summary: String

    /// Whether the framework computes it from sizes: never cast down, as a framework would not.
    public var isTable: Bool { computed != nil }

    /// Whether `number`, from a file's table, is `computed`: the two differ by the roundings of float32
    /// in which frameworks compute the table.
    package static func isSame(_ number: Double, computed: Double) -> Bool {
      abs(number - computed) <= 2e-6 * abs(computed) + 1e-8
    }

    /// A piece; each extent is written as an expression, `"2 * d_inner"`.
    public init(
      _ role: String, _ shape: [String], identity: Identity? = nil, keepsFloat32: Bool = false,
      computed: (@Sendable (ModelSpec) -> [Double]?)? = nil, image: Image? = nil,
      count: String? = nil, idle: Idle? = nil, _ summary: String
    ) {
      self.idle = idle
      self.image = image
      self.count = count.map { Expression(literal: $0) }
      self.role = role
      self.shape = shape.map { Expression(literal: $0) }
      self.identity = identity
      self.keepsFloat32 = keepsFloat32 || computed != nil
      self.computed = computed
      self.summary = summary
    }
  }

  /// The name: `mamba`, `attention`, `gla`, `retention`, `mlp`…
  public var name: String
  /// One sentence.
  public var summary: String
  /// Where its equations come from: papers and reference code.
  public var source: String
  /// The attributes, in the order in which they are shown.
  public var attributes: [Attribute]
  /// The pieces, in the order in which they are shown.
  public var pieces: [Piece]
  /// The pieces of the output projection: where all of them are zero, the sub-layer adds exactly
  /// nothing to the residual stream, and a factor on them is one on what it adds. Empty where that is
  /// not so.
  public var outputPieces: [String]
  /// Attributes of a sub-layer of zeros in a model that has no other of its kind; empty for a kind of
  /// which no sub-layers of zeros are made.
  public var blank: JSONObject
  /// The width of the values that a sub-layer of this kind can leave for gated memory units behind it;
  /// `nil` for a kind that leaves none.
  public var memory: Expression?
  /// Whether its framework computes parts of it in float32 whatever type the model has.
  public var isFloat32Inside: Bool
  /// What must hold between the attributes.
  public var rules: [Rule]

  /// A kind of sub-layer; every kind also has `norm`, `norm_eps`, `norm.weight` and `norm.bias`,
  /// `residual_scale` and `skip`, and one with a `memory` has `saves_memory`.
  ///
  /// - Parameter outputPieces: left out, the only projection to `d_model` channels and its bias; a kind
  ///   with several such projections must name them.
  public init(
    name: String, summary: String, source: String = "", attributes: [Attribute],
    pieces: [Piece],
    outputPieces: [String]? = nil, blank: JSONObject = [:], hasNorm: Bool = true,
    memory: String? = nil, isFloat32Inside: Bool = false, rules: [Rule] = []
  ) {
    self.rules = rules
    self.name = name
    self.summary = summary
    self.source = source
    self.attributes =
      (hasNorm ? MixerKind.normAttributes : []) + attributes
      + (hasNorm ? MixerKind.residualAttributes : [])
      + (memory == nil ? [] : [MixerKind.savesMemory])
    self.memory = memory.map { Expression(literal: $0) }
    self.pieces = (hasNorm ? MixerKind.normPieces : []) + pieces
    self.outputPieces = outputPieces ?? MixerKind.onlyOutput(of: pieces)
    self.blank = blank
    self.isFloat32Inside = isFloat32Inside
  }

  /// The only projection to `d_model` channels and its bias; none where there are several.
  private static func onlyOutput(of pieces: [Piece]) -> [String] {
    let projections = pieces.filter { $0.shape.count == 2 && $0.shape[0].text == "d_model" }
    guard projections.count == 1, projections[0].role.hasSuffix(".weight") else { return [] }
    let bias = projections[0].role.dropLast("weight".count) + "bias"
    return [projections[0].role] + pieces.map(\.role).filter { $0 == bias }
  }

  /// The piece that is the image of `role`, if there is one.
  public func image(of role: String) -> Piece? { pieces.first { $0.image?.of == role } }

  /// The piece called `role`; `experts.3.up.weight` is one of `experts.{e}.up.weight`.
  public func piece(_ role: String) -> Piece? {
    pieces.first { $0.role == role } ?? pieces.first { $0.count != nil && $0.isNumbered(role) }
  }

  /// The roles of all pieces that a sub-layer of these attributes may have, numbers filled in.
  package func roles(_ attributes: JSONObject) -> [String] {
    var scope = Scope()
    for (name, value) in attributes { scope.values[name] = value }
    return pieces.flatMap { piece -> [String] in
      guard let count = piece.count else { return [piece.role] }
      guard let count = try? count.int(in: scope), count > 0, count <= MixerKind.mostCopies else {
        return []
      }
      return (0..<count).map { MixerKind.numbered(piece.role, $0) }
    }
  }

  /// No sub-layer has more pieces of one role.
  package static let mostCopies = 1 << 16

  /// `text` with the number in place of `{e}`.
  package static func numbered(_ text: String, _ number: Int) -> String {
    text.replacing("{e}", with: String(number))
  }

  private static let normAttributes: [Attribute] = [
    Attribute(
      "norm", .words("rms", "layer", "scale", "none", "shared", "parallel"), default: "rms",
      "norm before the mixer: rms, layer, scale (a factor for each channel, no norm), shared with the sub-layer before, or parallel (it reads what the sub-layer before it read, and adds beside it)"
    ),
    Attribute("norm_eps", .notNegative, "epsilon of that norm"),
  ]

  private static let residualAttributes: [Attribute] = [
    Attribute(
      "residual_scale", .finite, default: JSONValue.null,
      "factor on what the sub-layer adds to the residual stream; null for 1"),
    Attribute(
      "skip", .flag, default: JSONValue.null,
      "false for a sub-layer that takes the residual stream's place; null for one that adds to it"),
  ]

  private static let savesMemory = Attribute(
    "saves_memory", .flag, default: JSONValue.null,
    "true where gated memory units behind it read its values from before the output gate or projection"
  )

  private static let normPieces: [Piece] = [
    Piece("norm.weight", ["d_model"], identity: .one, "weight of the norm before the mixer"),
    Piece("norm.bias", ["d_model"], identity: .zero, "its bias (LayerNorm)"),
  ]
}

extension MixerKind.Piece {
  /// Whether `role` is this role with a number in place of `{e}`.
  fileprivate func isNumbered(_ role: String) -> Bool {
    guard let hole = self.role.firstRange(of: "{e}") else { return false }
    let (front, back) = (self.role[..<hole.lowerBound], self.role[hole.upperBound...])
    guard role.utf8.count > front.utf8.count + back.utf8.count, role.hasPrefix(front),
      role.hasSuffix(back)
    else { return false }
    return role.utf8.dropFirst(front.utf8.count).dropLast(back.utf8.count)
      .allSatisfy { (48...57).contains($0) }
  }
}
