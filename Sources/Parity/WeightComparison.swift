import Hub
import Tensors

/// The pieces of two checkpoints compared before anything is run.
struct WeightComparison {
  /// Pieces that are bitwise equal, or without effect.
  var equal = 0
  /// The others.
  var pieces: [CheckpointDiff.Piece] = []
  /// All of them, in order.
  var all: [CheckpointDiff.Piece] = []
  /// Pieces of B that are A's rounded to a narrower type on purpose.
  var deliberate: Set<PieceID> = []
  /// Tables that one side has in its file where the other computes them.
  var tables: Set<PieceID> = []
  /// Pieces that differ otherwise.
  var differing: Set<PieceID> = []
  /// Of these, pieces that should stay float32 and are A's rounded to a narrower type.
  var castDown: [(id: PieceID, type: DType)] = []
  /// Pieces with NaN or infinity, and how many values of A and of B are.
  var notFinite: [(id: PieceID, a: Int, b: Int)] = []

  /// - Parameter castsAll: whether what should stay float32 was cast on purpose.
  init(
    _ pair: AlignedPair, _ progress: (@Sendable (Int, String) -> Void)? = nil,
    castsAll: Bool = false
  ) throws(Diagnostic) {
    let vocabulary = pair.vocabulary
    for found in try pair.comparisons(progress) {
      let (id, status) = (found.id, found.status)
      if found.notFiniteA + found.notFiniteB > 0 {
        notFinite.append((id, found.notFiniteA, found.notFiniteB))
      }
      let piece = CheckpointDiff.Piece(
        id: id, tensorsA: pair.a.tensors(of: id), tensorsB: pair.b.tensors(of: id), status: status)
      all.append(piece)
      if status == .equal || status == .neutral {
        equal += 1
        if status == .neutral, id.sublayer == nil, id.role.hasPrefix("rotary.") {
          tables.insert(id)
        }
        continue
      }
      pieces.append(piece)
      let kind =
        id.sublayer.flatMap { vocabulary.kinds[pair.a.spec.sublayers[$0].kind] }
        ?? vocabulary.model
      let keeps = !castsAll && kind.piece(id.role)?.keepsFloat32 == true
      switch status {
      // Widening changes no value.
      case .cast(let from, let to) where to.bitWidth > from.bitWidth: continue
      // What should stay float32 is not cast on purpose, but from one half precision to the other it no
      // longer was.
      case .cast(let from, let to) where !keeps || from.bitWidth == to.bitWidth:
        deliberate.insert(id)
        continue
      case .rounded where !keeps:
        deliberate.insert(id)
        continue
      case .cast(_, let to), .rounded(let to): castDown.append((id, to))
      default: break
      }
      differing.insert(id)
    }
  }
}
