import Hub
import Layouts
import Tensors

extension Rewrite {
  /// More or fewer rows of embedding and head together.
  static let resizeVocabulary = Rewrite(
    name: "resize_vocabulary", need: .request, isNamed: false
  ) { (model, context) throws(Diagnostic) in
    guard let rows = context.options.vocabularyRows, let own = model.spec["vocab_rows"].int,
      own != rows
    else { return nil }
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
      let lost = try rowsThatCount(value, rows..<own, model.reader)
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
    guard rows < own else {
      return [
        Reason(.exact, "embedding and head are padded from \(own) to \(rows) rows of zeros")
      ]
    }
    let cut = "embedding and head are cut from \(own) to \(rows) rows"
    if rows < words {
      return [
        Reason(
          .lossy,
          "\(cut), below the vocabulary of \(words): tokens \(rows) to \(words - 1) are lost, \(lostRows) of the \(own - rows) rows cut off are not zero"
        )
      ]
    }
    return [
      lostRows > 0
        ? Reason(.lossy, "\(cut): \(lostRows) of the rows cut off are not zero")
        : Reason(.exact, "\(cut); those cut off are zeros")
    ]
  }

  /// The rows among `rows` that hold anything but zeros; NaN is no zero.
  private static func rowsThatCount(
    _ value: PieceValue, _ rows: Range<Int>, _ reader: PieceReader
  ) throws(Diagnostic) -> [Int] {
    // A row of a bias is one number.
    let width = value.shape.rowElements
    let step = max(1, 262_144 / max(width, 1))
    var found: [Int] = []
    var row = rows.lowerBound
    while row < rows.upperBound {
      let block = row..<min(row + step, rows.upperBound)
      let numbers = try reader.doubles(value, rows: block)
      for r in block
      where numbers[(r - row) * width..<(r - row + 1) * width].contains(where: { !($0 == 0) }) {
        found.append(r)
      }
      row = block.upperBound
    }
    return found
  }
}
