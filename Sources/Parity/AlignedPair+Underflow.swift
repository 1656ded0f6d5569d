import Hub
import Tensors

extension AlignedPair {
  /// Types below whose smallest number trained weights may well lie.
  private static let shortRange: Set<DType> = [.f16]

  /// Values that are not zero in A and became zero by a deliberate cast to B's type: a cast explains
  /// them, so that nothing else would tell of them.
  ///
  /// - Throws: what reading throws.
  func underflows(_ pieces: [CheckpointDiff.Piece]) throws(Diagnostic) -> [Diagnostic] {
    var lost: [(name: String, zeros: Int, of: Int, type: DType)] = []
    for piece in pieces {
      let type: DType
      switch piece.status {
      case .cast(_, let to), .rounded(let to): type = to
      default: continue
      }
      guard Self.shortRange.contains(type), let x = a.pieces[piece.id],
        let y = b.pieces[piece.id], x.shape == y.shape, x.shape.elementCount != 0
      else { continue }
      let step = max(1, 524_288 / max(x.shape.rowElements, 1))
      var (zeros, values) = (0, 0)
      for row in stride(from: 0, to: x.shape.rows, by: step) {
        let rows = row..<min(row + step, x.shape.rows)
        let p = try a.reader.doubles(x, rows: rows)
        let q = try b.reader.doubles(y, rows: rows)
        for (u, v) in zip(p, q) where u != 0 {
          values += 1
          if v == 0 { zeros += 1 }
        }
      }
      guard zeros > 0 else { continue }
      // A tensor may hold several pieces.
      let name = piece.tensorsB.first ?? piece.id.description
      if let place = lost.firstIndex(where: { $0.name == name }) {
        lost[place].zeros += zeros
        lost[place].of += values
      } else {
        lost.append((name, zeros, values, type))
      }
    }
    guard !lost.isEmpty else { return [] }
    let zeros = lost.reduce(0) { $0 + $1.zeros }
    let values = lost.reduce(0) { $0 + $1.of }
    return [
      Diagnostic(
        .warning, code: "parity.underflow", subject: b.name,
        message: "\(zeros) of \(values) values of A that are not zero became zero in "
          + "\(lost.count == 1 ? "a tensor" : "\(lost.count) tensors") by the cast to "
          + Set(lost.map(\.type.rawValue)).sorted().joined(separator: " and "),
        notes: lost.prefix(3).map {
          "\($0.name): \($0.zeros) of \($0.of) in \($0.type.rawValue)"
        },
        help: "the cast explains them, and is not judged; bfloat16 has float32's range")
    ]
  }
}
