public import Tensors

/// Sub-layers whose output projection is zero: they add exactly nothing.
public enum ZeroSublayers {
  /// The model without its zero sub-layers, or `nil` when it has none.
  ///
  /// - Throws: what reading throws.
  public static func dropped(
    from model: HubModel, _ vocabulary: Vocabulary
  ) throws(Diagnostic) -> HubModel? {
    var zero: Set<Int> = []
    var counts: [String: Int] = [:]
    for (i, sublayer) in model.spec.sublayers.enumerated() {
      // Others may read what it saves, and one that takes the stream's place does not leave it alone.
      guard sublayer["saves_memory"] != true, sublayer["skip"] != false else { continue }
      let roles = vocabulary.kinds[sublayer.kind]?.outputPieces ?? []
      let values = roles.compactMap { model.pieces[PieceID(i, $0)] }
      guard !values.isEmpty else { continue }
      var isZero = true
      for value in values where isZero { isZero = try model.reader.all(value) { $1 == 0 } }
      guard isZero else { continue }
      zero.insert(i)
      counts[sublayer.kind, default: 0] += 1
    }
    guard !zero.isEmpty else { return nil }
    var result = model
    result.removeSublayers { zero.contains($0) }
    for (kind, count) in counts.sorted(by: { $0.key < $1.key }) {
      result.note(
        .exact, "\(count) \(kind.uppercased())s of zeros are left out, which add exactly nothing")
    }
    return result
  }
}
