package import Tensors

/// Sub-layers whose output projection is zero: they add exactly nothing.
package enum ZeroSublayers {
  /// The model without its zero sub-layers, or `nil` when it has none.
  ///
  /// - Throws: what reading throws.
  package static func dropped(
    from model: HubModel, _ vocabulary: Vocabulary
  ) throws(Diagnostic) -> HubModel? {
    guard let found = try find(in: model, vocabulary) else { return nil }
    var result = found.rest
    for reason in found.reasons { result.note(reason) }
    return result
  }

  /// Looks for sub-layers of kinds that conversions fill in (those with a blank form): another kind may
  /// have been trained from zeros, and is kept.
  package static func find(
    in model: HubModel, _ vocabulary: Vocabulary
  ) throws(Diagnostic) -> (rest: HubModel, reasons: [Reason])? {
    var zero: Set<Int> = []
    var counts: [String: Int] = [:]
    for (i, sublayer) in model.spec.sublayers.enumerated() {
      // Others may read what it saves, and one that takes the stream's place does not leave it alone.
      guard let kind = vocabulary.kinds[sublayer.kind], !kind.blank.isEmpty,
        sublayer["saves_memory"] != true, sublayer["skip"] != false
      else { continue }
      let values = kind.outputPieces.compactMap { model.pieces[PieceID(i, $0)] }
      guard !values.isEmpty else { continue }
      var isZero = true
      for value in values where isZero { isZero = try model.reader.all(value) { $1 == 0 } }
      guard isZero else { continue }
      zero.insert(i)
      counts[sublayer.kind, default: 0] += 1
    }
    guard !zero.isEmpty else { return nil }
    var rest = model
    rest.removeSublayers { zero.contains($0) }
    let reasons = counts.sorted { $0.key < $1.key }.map { kind, count in
      Reason(
        .exact, "\(count) \(kind.uppercased())s of zeros are left out, which add exactly nothing")
    }
    return (rest, reasons)
  }
}
