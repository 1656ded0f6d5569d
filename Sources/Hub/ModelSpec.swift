public import OrderedCollections
public import Tensors

/// A model as the hub sees it: what is computed, in words that belong to no framework.
///
/// Two checkpoints with equal specs and equal pieces compute the same function. The residual stream
/// runs through a flat list of sub-layers; a framework's "layer" is a run of them.
public struct ModelSpec: Sendable, Hashable {
  /// The family: `mamba`, `samba`, `gla`, `retnet` or `llama`.
  public var family: String
  /// Everything about the model as a whole that changes the mathematics, by `Vocabulary.model`'s
  /// names: `d_model`, `vocab_rows`, `tied`, `embed_scale`, `final_norm_eps`…
  public var attributes: JSONObject
  /// The number of the framework's own layers.
  public var layerCount: Int
  /// The residual sub-layers in the order of computation.
  public var sublayers: [Sublayer]

  /// A model.
  public init(family: String, attributes: JSONObject, layerCount: Int, sublayers: [Sublayer]) {
    self.family = family
    self.attributes = attributes
    self.layerCount = layerCount
    self.sublayers = sublayers
  }

  /// A residual sub-layer: a norm and a mixer or MLP whose result is added to the residual stream.
  public struct Sublayer: Sendable, Hashable {
    /// The framework's own layer that it belongs to, from 0.
    public var layer: Int
    /// The kind of mixer: a name of the vocabulary (`mamba`, `attention`, `gla`, `mlp`…).
    public var kind: String
    /// What changes the mathematics, by the kind's attribute names; defaults are filled in.
    public var attributes: JSONObject

    /// A sub-layer.
    public init(layer: Int, kind: String, attributes: JSONObject) {
      self.layer = layer
      self.kind = kind
      self.attributes = attributes
    }

    /// The attribute `name`; `.null` when it is not set.
    public subscript(name: String) -> JSONValue { attributes[name] ?? .null }

    /// The whole-number attribute `name`.
    ///
    /// - Throws: `model.attribute` when it is missing or no whole number.
    public func int(_ name: String) throws(Diagnostic) -> Int {
      guard let value = self[name].int else { throw missing(name, "a whole number") }
      return value
    }

    /// The number attribute `name`.
    ///
    /// - Throws: `model.attribute` when it is missing or no number.
    public func double(_ name: String) throws(Diagnostic) -> Double {
      guard let value = self[name].double else { throw missing(name, "a number") }
      return value
    }

    private func missing(_ name: String, _ what: String) -> Diagnostic {
      Diagnostic(
        code: "model.attribute", subject: "\(kind) in layer \(layer)",
        message: "\(name) should be \(what), found \(self[name].brief)")
    }
  }

  /// The model attribute `name`; `.null` when it is not set.
  public subscript(name: String) -> JSONValue { attributes[name] ?? .null }
}

/// The name of a smallest piece of weight: a role of a sub-layer, or of the model as a whole.
public struct PieceID: Sendable, Hashable, Comparable, CustomStringConvertible {
  /// The index of the sub-layer, or `nil` for embeddings, final norm and head.
  public var sublayer: Int?
  /// The role: `in_x.weight`, `a_log`, `norm.weight`, `embed.weight`…
  public var role: String

  /// A piece.
  public init(_ sublayer: Int?, _ role: String) {
    self.sublayer = sublayer
    self.role = role
  }

  /// `3.in_x.weight` or `embed.weight`.
  public var description: String { sublayer.map { String($0) + "." + role } ?? role }

  /// Model pieces first, then by sub-layer, then by role.
  public static func < (a: PieceID, b: PieceID) -> Bool {
    (a.sublayer ?? -1, a.role) < (b.sublayer ?? -1, b.role)
  }
}
