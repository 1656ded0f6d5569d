package import Hub
import OrderedCollections
package import Tensors

/// Two checkpoints mapped to the hub so that piece stands beside piece.
package struct AlignedPair: Sendable {
  /// The first.
  package var a: HubModel
  /// The second.
  package var b: HubModel
  /// What was noticed.
  package var problems: [Diagnostic] = []
  let vocabulary: Vocabulary
  private let roundings: Set<AttributeName>

  /// Aligns two checkpoints; MLPs of zeros, which add nothing, are left out where only one has them.
  ///
  /// - Parameter roundings: attributes that only change rounding.
  /// - Throws: `diff.stacks` and `diff.width` for two models that have nothing to compare; what reading
  ///   throws.
  package init(
    _ a: HubModel, _ b: HubModel, roundings: Set<AttributeName> = [], _ vocabulary: Vocabulary
  ) throws(Diagnostic) {
    self.vocabulary = vocabulary
    self.roundings = roundings
    (self.a, self.b) = (a, b)
    func kinds(_ model: HubModel) -> [String] { model.spec.sublayers.map(\.kind) }
    if kinds(a) != kinds(b) {
      self.a = try ZeroSublayers.dropped(from: a, vocabulary) ?? a
      self.b = try ZeroSublayers.dropped(from: b, vocabulary) ?? b
    }
    try check()
    expressImages()
  }

  private func check() throws(Diagnostic) {
    func kinds(_ model: HubModel) -> [String] { model.spec.sublayers.map(\.kind) }
    guard kinds(a) == kinds(b) else {
      throw Diagnostic(
        code: "diff.stacks", subject: b.name,
        message:
          "has other sub-layers than \(a.name): \(Self.stack(b.spec)) against \(Self.stack(a.spec))",
        help: "only checkpoints of the same model can be compared")
    }
    guard a.spec["d_model"] == b.spec["d_model"] else {
      throw Diagnostic(
        code: "diff.width", subject: b.name,
        message:
          "has d_model \(b.spec["d_model"].text()), \(a.name) has \(a.spec["d_model"].text())",
        help: "only checkpoints of the same model can be compared")
    }
  }

  /// Pieces with a row for each token.
  package static let vocabularyPieces = ["embed.weight", "head.weight", "head.bias"].map {
    PieceID(nil, $0)
  }

  /// What one side has beyond the other's rows of the vocabulary.
  package struct RowsBeyond: Sendable {
    /// Whether it is A that has more.
    package var isA: Bool
    /// The rows.
    package var rows: Range<Int>
    /// How many of them are not zero, in any piece.
    package var used: Int
    /// The first that is not zero, and its tensor.
    package var first: (row: Int, tensor: String)?
  }

  /// Leaves both sides the rows of the vocabulary that both have, so that all else compares like with
  /// like; tells what is beyond them.
  ///
  /// - Returns: `nil` where both have as many rows.
  /// - Throws: what reading throws.
  package mutating func cutToCommonRows() throws(Diagnostic) -> RowsBeyond? {
    let (rowsA, rowsB) = (a.spec["vocab_rows"].int ?? 0, b.spec["vocab_rows"].int ?? 0)
    guard rowsA != rowsB, rowsA > 0, rowsB > 0 else { return nil }
    var beyond = RowsBeyond(
      isA: rowsA > rowsB, rows: min(rowsA, rowsB)..<max(rowsA, rowsB), used: 0)
    let wide = beyond.isA ? a : b
    var used: Set<Int> = []
    for id in Self.vocabularyPieces {
      guard let value = wide.pieces[id] else { continue }
      let width = max(value.shape.rowElements, 1)
      let step = max(1, 262_144 / width)
      var row = beyond.rows.lowerBound
      while row < min(beyond.rows.upperBound, value.shape.rows) {
        let block = row..<min(row + step, value.shape.rows)
        let numbers = try wide.reader.doubles(value, rows: block)
        // NaN is no zero either.
        for r in block
        where numbers[(r - row) * width..<(r - row + 1) * width].contains(where: { !($0 == 0) }) {
          used.insert(r)
          if beyond.first.map({ r < $0.row }) ?? true {
            beyond.first = (r, wide.tensors(of: id).first ?? id.description)
          }
        }
        row = block.upperBound
      }
    }
    beyond.used = used.count
    let words = [a, b].compactMap { $0.spec["vocab_size"].int }.min() ?? 0
    for path in [\AlignedPair.a, \AlignedPair.b] {
      self[keyPath: path].spec.attributes["vocab_rows"] = .int(beyond.rows.lowerBound)
      if let own = self[keyPath: path].spec["vocab_size"].int, words > 0 {
        self[keyPath: path].spec.attributes["vocab_size"] = .int(
          min(own, words, beyond.rows.lowerBound))
      }
      for id in Self.vocabularyPieces {
        guard let value = self[keyPath: path].pieces[id],
          value.shape.rows > beyond.rows.lowerBound
        else { continue }
        self[keyPath: path].pieces[id] = .firstRows(value, rows: beyond.rows.lowerBound)
      }
    }
    return beyond
  }

  /// Where A has a piece of which B has the image, or the other way round, A's is taken in B's form.
  private mutating func expressImages() {
    for id in b.pieces.keys where a.pieces[id] == nil {
      guard let number = id.sublayer,
        let kind = vocabulary.kinds[b.spec.sublayers[number].kind]
      else { continue }
      let isImage = kind.piece(id.role)?.image != nil
      guard let role = isImage ? kind.piece(id.role)?.image?.of : kind.image(of: id.role)?.role,
        let base = a.pieces.removeValue(forKey: PieceID(number, role))
      else { continue }
      a.pieces[id] = .mapped(base, isImage ? .negExp : .logNeg)
    }
  }

  /// Every piece of either side, model first, then by sub-layer.
  var pieceIDs: [PieceID] {
    Set(a.pieces.keys).union(b.pieces.keys).sorted()
  }

  /// The kinds of a model, counted.
  static func stack(_ spec: ModelSpec) -> String {
    var counts: OrderedDictionary<String, Int> = [:]
    for sublayer in spec.sublayers { counts[sublayer.kind, default: 0] += 1 }
    return counts.map { "\($0.value) \($0.key)" }.joined(separator: ", ")
  }

  /// The attributes that differ.
  package func attributes() -> [CheckpointDiff.Attribute] {
    var result: [CheckpointDiff.Attribute] = []
    func add(_ kind: String, _ layer: Int?, _ x: JSONObject, _ y: JSONObject) {
      for (name, value) in x {
        let other = y[name] ?? .null
        if let p = value.double, let q = other.double, p == q { continue }
        if value == other || name == "vocab_size" { continue }
        // A padded width is compared as weights.
        if kind == "mlp", name == "d_ff" { continue }
        result.append(
          CheckpointDiff.Attribute(
            kind: kind, layer: layer, name: name, a: value, b: other,
            isRounding: roundings.contains(AttributeName(kind: kind, name: name))))
      }
    }
    add("model", nil, a.spec.attributes, b.spec.attributes)
    for (x, y) in zip(a.spec.sublayers, b.spec.sublayers) {
      add(x.kind, x.layer, x.attributes, y.attributes)
    }
    return result
  }
}

/// An attribute of a kind of sub-layer, or of `model`.
package struct AttributeName: Sendable, Hashable {
  /// The kind.
  package var kind: String
  /// The name.
  package var name: String

  /// An attribute.
  package init(kind: String, name: String) {
    self.kind = kind
    self.name = name
  }
}
