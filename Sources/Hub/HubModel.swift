public import Tensors

/// A model with its weights: what is computed, what each piece is made of, the source of the bytes, and
/// what was done to it on its way from one layout to another.
public struct HubModel: Sendable {
  /// The model.
  public var spec: ModelSpec
  /// The place of each sub-layer in its layer of the target.
  public var slots: [Int]
  /// The pieces.
  public var pieces: [PieceID: PieceValue]
  /// Reads the pieces from the source's bytes.
  public let reader: PieceReader
  /// Whether pieces that are new (constants, tables) count as float64, as computed ones do; else they
  /// have the type in which they would be written.
  public var hasExactConstants = false
  /// What was done.
  public var reasons: [Reason] = []
  /// What the user should know.
  public var warnings: [Diagnostic] = []
  /// What messages call it: the path of the checkpoint.
  public var name = ""
  /// The layout that its tensors are named by; empty for none.
  public var layout = ""
  /// Tensors that hold another piece's values once more, under the name of the piece that they would be:
  /// the copy of the embedding that is a tied head.
  public var copies: [PieceID: Int] = [:]
  /// Told of every byte that is read through it.
  package var observers: [any ReadObserver] = []
  /// Where some of its pieces are another model's.
  var overlay: OverlayWeights?

  /// A model of these pieces of `source`.
  public init(spec: ModelSpec, pieces: [PieceID: PieceValue], source: any TensorSource) {
    self.spec = spec
    slots = []
    self.pieces = pieces
    reader = PieceReader(source: source)
  }

  /// The model with some pieces taken from `other`; its own spec says what is run.
  package func exchanging(_ pieces: Set<PieceID>, with other: any WeightSource) -> HubModel {
    guard !pieces.isEmpty else { return self }
    var model = self
    model.overlay = OverlayWeights(self, with: other, exchanged: pieces)
    return model
  }

  /// Notes what was done, once.
  public mutating func note(_ exactness: Exactness, _ text: String) {
    note(Reason(exactness, text))
  }

  /// Notes what was done, once.
  public mutating func note(_ reason: Reason) {
    if !reasons.contains(reason) { reasons.append(reason) }
  }

  /// Takes out the sub-layers for which `isOut` holds, and renumbers the pieces of the others.
  package mutating func removeSublayers(where isOut: (Int) -> Bool) {
    var kept: [ModelSpec.Sublayer] = []
    var pieces: [PieceID: PieceValue] = self.pieces.filter { $0.key.sublayer == nil }
    for (old, sublayer) in spec.sublayers.enumerated() where !isOut(old) {
      for (id, value) in self.pieces where id.sublayer == old {
        pieces[PieceID(kept.count, id.role)] = value
      }
      kept.append(sublayer)
    }
    spec.sublayers = kept
    self.pieces = pieces
  }

  /// Puts `sublayer` with its pieces before number `place`.
  package mutating func insert(
    _ sublayer: ModelSpec.Sublayer, pieces new: [String: PieceValue], at place: Int
  ) {
    var pieces: [PieceID: PieceValue] = [:]
    for (id, value) in self.pieces {
      let moved = id.sublayer.map { $0 >= place ? $0 + 1 : $0 }
      pieces[PieceID(moved, id.role)] = value
    }
    for (role, value) in new { pieces[PieceID(place, role)] = value }
    spec.sublayers.insert(sublayer, at: place)
    self.pieces = pieces
  }
}
