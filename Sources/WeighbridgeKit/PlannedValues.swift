import Conversion
import Inference
import Layouts
import Parity
import Tensors

/// What a conversion of A to B's layout computes: the values that B should hold, before they are
/// rounded to B's type.
struct PlannedValues {
  /// A as the plan expresses it, nothing rounded.
  let side: Side
  /// Pieces of B that are the plan's values rounded to their type.
  let rounded: Set<PieceID>
  /// Pieces of B that are neither the plan's values nor these rounded.
  let differing: Set<PieceID>

  /// The plan for a pair; `nil` where no piece of a narrow type differs, or where there is no plan:
  /// then A's own values are what B is compared with.
  ///
  /// - Throws: what reading throws.
  init?(_ pair: AlignedPair, _ weights: WeightComparison, _ vocabulary: Vocabulary) throws {
    func roundoff(_ id: PieceID) -> Double? {
      switch pair.b.draft.pieces[id]?.dtype {
      case .bf16: 0x1p-8
      case .f16: 0x1p-11
      case .f32: 0x1p-24
      default: nil
      }
    }
    guard pair.a.bound.layout.name != pair.b.bound.layout.name,
      weights.differing.contains(where: { roundoff($0) != nil })
    else { return nil }
    let plan: ConversionPlan
    do {
      plan = try Planner(vocabulary: vocabulary).plan(
        pair.a.bound, to: [pair.b.bound.layout], options: ConversionOptions(),
        reader: pair.a.reader)
    } catch is Refusal {
      return nil
    }
    guard plan.spec.sublayers.map(\.kind) == pair.b.draft.spec.sublayers.map(\.kind) else {
      return nil
    }
    var rounded: Set<PieceID> = []
    var differing: Set<PieceID> = []
    for (id, value) in plan.pieces where !value.isNew {
      guard let found = pair.b.draft.pieces[id] else { continue }
      if value.isMove {
        if weights.differing.contains(id) { differing.insert(id) }
      } else if let unit = roundoff(id),
        try Self.isRounding(found, pair.b.reader, of: value, pair.a.reader, unit)
      {
        rounded.insert(id)
      } else {
        differing.insert(id)
      }
    }
    differing.formUnion(
      weights.differing.filter { plan.pieces[$0] == nil && pair.b.draft.pieces[$0] != nil })
    guard !rounded.isEmpty else { return nil }
    side = Side(spec: plan.spec, weights: DraftWeights(plan.pieces, reader: pair.a.reader))
    self.rounded = rounded
    self.differing = differing
  }

  /// Whether every value is the other rounded to nearest, once or by way of float32.
  private static func isRounding(
    _ found: PieceValue, _ foundReader: PieceReader, of planned: PieceValue,
    _ plannedReader: PieceReader, _ unit: Double
  ) throws(Diagnostic) -> Bool {
    guard found.shape == planned.shape else { return false }
    // Below the smallest normal number of either type spacing is constant; float16's is 2^-24.
    let smallest = unit == 0x1p-11 ? 0x1p-24 : Double(Float.leastNormalMagnitude)
    let step = max(1, 262_144 / max(found.shape.rowElements, 1))
    var row = 0
    while row < found.shape.rows {
      let rows = row..<min(row + step, found.shape.rows)
      row = rows.upperBound
      let x = try foundReader.doubles(found, rows: rows)
      let y = try plannedReader.doubles(planned, rows: rows)
      for (a, b) in zip(x, y)
      where !(abs(a - b) <= abs(b) * unit * (1 + 0x1p-12) + smallest) && !(a.isNaN && b.isNaN) {
        return false
      }
    }
    return true
  }

  /// What the user is told.
  func note(_ pair: AlignedPair) -> Diagnostic {
    let types = Set(rounded.compactMap { pair.b.draft.pieces[$0]?.dtype.rawValue }).sorted()
    return Diagnostic(
      .note, code: "parity.rewritten", subject: pair.b.path,
      message:
        "\(rounded.count) pieces are A's, rewritten for \(pair.b.bound.layout.name) and rounded to \(types.joined(separator: " or "))",
      notes: [
        "before the rounding they compute what A computes; behind it the stages are compared with the same rounding"
      ])
  }
}
