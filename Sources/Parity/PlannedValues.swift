import Hub
import Inference
import Tensors

/// What a conversion of A to B's layout computes: the values that B should hold, before they are
/// rounded to B's type.
struct PlannedValues {
  /// A as the plan expresses it, nothing rounded.
  let model: HubModel
  /// Pieces of B that are the plan's values rounded to their type.
  let rounded: Set<PieceID>
  /// Pieces of B that hold A's numbers in another place or shape (repeated heads), bit for bit or cast to
  /// their type.
  let moved: Set<PieceID>
  /// Pieces of B that are neither the plan's values nor these rounded.
  let differing: Set<PieceID>

  /// What a conversion of A to B's layout gives; `nil` where there is no plan, or where it computes
  /// nothing that B holds: then A's own values are what B is compared with.
  ///
  /// - Parameters:
  ///   - plan: A as the conversion expresses it, from A's own bytes.
  ///   - a: what is converted.
  ///   - b: what holds the values rounded.
  ///   - unexplained: pieces that differ and are neither equal nor a cast.
  /// - Throws: what reading throws.
  init?(
    _ plan: HubModel?, from a: HubModel, to b: HubModel, unexplained: Set<PieceID>,
    _ vocabulary: Vocabulary
  ) throws {
    guard !unexplained.isEmpty, var model = plan else { return nil }
    func kinds(_ spec: ModelSpec) -> [String] { spec.sublayers.map(\.kind) }
    if kinds(model.spec) != kinds(b.spec) {
      model = try ZeroSublayers.dropped(from: model, vocabulary) ?? model
    }
    guard kinds(model.spec) == kinds(b.spec) else { return nil }
    var rounded: Set<PieceID> = []
    var moved: Set<PieceID> = []
    var differing: Set<PieceID> = []
    for (id, value) in model.pieces where !value.isNew {
      guard let found = b.pieces[id] else { continue }
      if value.isMove {
        guard unexplained.contains(id) else { continue }
        // What the plan leaves as it is was compared with A's own.
        if a.pieces[id] != value, try Self.isCast(found, b.reader, of: value, a.reader) {
          moved.insert(id)
        } else {
          differing.insert(id)
        }
      } else if let unit = Self.roundoff(found.dtype),
        try Self.isRounding(found, b.reader, of: value, a.reader, unit)
      {
        rounded.insert(id)
      } else {
        differing.insert(id)
      }
    }
    differing.formUnion(
      unexplained.filter { model.pieces[$0] == nil && b.pieces[$0] != nil })
    guard !rounded.isEmpty || !moved.isEmpty else { return nil }
    model.hasExactConstants = true
    self.model = model
    self.rounded = rounded
    self.moved = moved
    self.differing = differing
  }

  /// Whether the bytes are those of the other's numbers in this type, all finite ones staying so.
  private static func isCast(
    _ found: PieceValue, _ foundReader: PieceReader, of planned: PieceValue,
    _ plannedReader: PieceReader
  ) throws(Diagnostic) -> Bool {
    let (from, to) = (planned.dtype, found.dtype)
    guard found.shape == planned.shape, found.isMove, from == to || from.isFloat && to.isFloat
    else {
      return false
    }
    let rowBytes = found.shape.rowElements * to.bitWidth / 8
    let step = max(1, 2_097_152 / max(rowBytes, 1))
    var row = 0
    while row < found.shape.rows {
      let rows = row..<min(row + step, found.shape.rows)
      row = rows.upperBound
      let own = UnsafeMutableRawBufferPointer.allocate(
        byteCount: rows.count * rowBytes, alignment: 16)
      let cast = UnsafeMutableRawBufferPointer.allocate(
        byteCount: rows.count * rowBytes, alignment: 16)
      defer {
        own.deallocate()
        cast.deallocate()
      }
      try foundReader.read(found, rows: rows, as: to, into: own)
      let counts = try plannedReader.read(planned, rows: rows, as: to, into: cast)
      guard counts.overflows == 0, own.elementsEqual(cast) else { return false }
    }
    return true
  }

  /// Half the spacing of a type, relative to the number.
  static func roundoff(_ dtype: DType) -> Double? {
    switch dtype {
    case .bf16: 0x1p-8
    case .f16: 0x1p-11
    case .f32: 0x1p-24
    // What is computed in float64 may be off by a few roundings.
    case .f64: 0x1p-51
    default: nil
    }
  }

  /// Whether every value is the other rounded to nearest, once or by way of float32.
  private static func isRounding(
    _ found: PieceValue, _ foundReader: PieceReader, of planned: PieceValue,
    _ plannedReader: PieceReader, _ unit: Double
  ) throws(Diagnostic) -> Bool {
    guard found.shape == planned.shape else { return false }
    // Below the smallest normal number of either type spacing is constant: half of it is allowed.
    let smallest: Double =
      switch found.dtype {
      case .f16: 0x1p-25
      case .bf16: 0x1p-134
      default: 0x1p-150
      }
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

  /// What the user is told; nothing where no value was computed.
  ///
  /// - Parameters:
  ///   - side: the one that holds the rounded values.
  ///   - other: what the other is called.
  func note(_ side: HubModel, of other: String) -> Diagnostic? {
    guard !rounded.isEmpty else { return nil }
    let types = Set(rounded.compactMap { side.pieces[$0]?.dtype.rawValue }).sorted()
    return Diagnostic(
      .note, code: "parity.rewritten", subject: side.name,
      message:
        "\(rounded.count) pieces are \(other)'s, rewritten for \(side.layout) and rounded to \(types.joined(separator: " or "))",
      notes: [
        "before the rounding they compute what \(other) computes; behind it the stages are compared with the same rounding"
      ])
  }
}
