import Hub
import Layouts
import OrderedCollections
import Tensors

/// More or fewer rows of embedding and head together.
enum VocabularyResize {
  static func apply(_ draft: inout Draft, rows: Int, reader: PieceReader) throws(Diagnostic) {
    guard let own = draft.spec["vocab_rows"].int, own != rows else { return }
    for role in ["embed.weight", "head.weight", "head.bias"] {
      let id = PieceID(nil, role)
      guard let value = draft.pieces[id] else { continue }
      guard rows < own else {
        draft.pieces[id] = .paddedRows(value, rows: rows)
        continue
      }
      let step = max(1, 262_144 / max(value.shape.rowElements, 1))
      var lost: [Int] = []
      var row = rows
      while row < own {
        let block = row..<min(row + step, own)
        let numbers = try reader.doubles(value, rows: block)
        let width = value.shape.rowElements
        for r in block
        where numbers[(r - row) * width..<(r - row + 1) * width].contains(where: { $0 != 0 }) {
          lost.append(r)
        }
        row = block.upperBound
      }
      if let first = lost.first {
        draft.warnings.append(
          Diagnostic(
            .warning, code: "convert.vocab-trimmed", subject: role,
            message:
              "\(lost.count) of the \(own - rows) rows cut off are not zero; the first is row \(first)"
          ))
      }
      draft.pieces[id] = .firstRows(value, rows: rows)
    }
    draft.spec.attributes["vocab_rows"] = .int(rows)
    if let tokens = draft.spec["vocab_size"].int, tokens > rows || tokens == own {
      draft.spec.attributes["vocab_size"] = .int(rows)
    }
    draft.note(
      .exact,
      rows > own
        ? "embedding and head are padded from \(own) to \(rows) rows of zeros"
        : "embedding and head are cut from \(own) to \(rows) rows")
  }
}
