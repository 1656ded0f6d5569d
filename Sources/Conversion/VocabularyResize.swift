import Hub
import Layouts
import OrderedCollections
import Tensors

/// More or fewer rows of embedding and head together.
enum VocabularyResize {
  static func apply(_ model: inout HubModel, rows: Int) throws(Diagnostic) {
    guard let own = model.spec["vocab_rows"].int, own != rows else { return }
    // Where the model does not know which rows are padding, all of them are its vocabulary.
    let words = min(model.spec["vocab_size"].int ?? own, own)
    var lostRows = 0
    for role in ["embed.weight", "head.weight", "head.bias"] {
      let id = PieceID(nil, role)
      guard let value = model.pieces[id] else { continue }
      guard rows < own else {
        model.pieces[id] = .paddedRows(value, rows: rows)
        continue
      }
      let step = max(1, 262_144 / max(value.shape.rowElements, 1))
      var lost: [Int] = []
      // A row of a bias is one number; NaN is no zero.
      var row = rows
      while row < own {
        let block = row..<min(row + step, own)
        let numbers = try model.reader.doubles(value, rows: block)
        let width = value.shape.rowElements
        for r in block
        where numbers[(r - row) * width..<(r - row + 1) * width].contains(where: { !($0 == 0) }) {
          lost.append(r)
        }
        row = block.upperBound
      }
      lostRows = max(lostRows, lost.count)
      if let first = lost.first {
        model.warnings.append(
          Diagnostic(
            .warning, code: "convert.vocab-trimmed", subject: role,
            message:
              "\(lost.count) of the \(own - rows) rows cut off are not zero; the first is row \(first)"
          ))
      }
      model.pieces[id] = .firstRows(value, rows: rows)
    }
    model.spec.attributes["vocab_rows"] = .int(rows)
    if let tokens = model.spec["vocab_size"].int, tokens > rows || tokens == own {
      model.spec.attributes["vocab_size"] = .int(rows)
    }
    if rows > own {
      model.note(.exact, "embedding and head are padded from \(own) to \(rows) rows of zeros")
    } else if rows < words {
      model.note(
        .lossy,
        "embedding and head are cut from \(own) to \(rows) rows, below the vocabulary of \(words): tokens \(rows) to \(words - 1) are lost, \(lostRows) of the \(own - rows) rows cut off are not zero"
      )
    } else if lostRows > 0 {
      model.note(
        .lossy,
        "embedding and head are cut from \(own) to \(rows) rows: \(lostRows) of the rows cut off are not zero"
      )
    } else {
      model.note(
        .exact, "embedding and head are cut from \(own) to \(rows) rows; those cut off are zeros")
    }
  }
}
