import Conversion
public import Layouts
import OrderedCollections
public import Tensors

/// How two checkpoints differ, piece by piece of the hub.
public struct CheckpointDiff: Sendable {
  /// How one piece compares.
  public enum Status: Sendable, Hashable {
    /// The same type and bits.
    case equal
    /// One is the other in another type: `from` rounded (or widened) to `to`, bit for bit.
    case cast(from: DType, to: DType)
    /// Some values differ.
    case differs(maxAbs: Double, count: Int, of: Int)
    /// The shapes differ.
    case shapes(Shape, Shape)
    /// Only one side has it, and it is not without effect.
    case onlyInA
    /// As `onlyInA`, the other way.
    case onlyInB
    /// Only one side has it, and it is without effect (zeros of a bias, ones of a norm).
    case neutral
  }

  /// A piece, where it stands on each side, and how it compares.
  public struct Piece: Sendable {
    /// The piece.
    public var id: PieceID
    /// The tensors of A that hold it.
    public var tensorsA: [String]
    /// The tensors of B that hold it.
    public var tensorsB: [String]
    /// How it compares.
    public var status: Status
  }

  /// An attribute in which the models differ.
  public struct Attribute: Sendable {
    /// Where: `model`, or `attention in layer 3`.
    public var place: String
    /// The name.
    public var name: String
    /// In A.
    public var a: JSONValue
    /// In B.
    public var b: JSONValue
    /// Whether it only changes rounding (a rotary table in bfloat16).
    public var isRounding: Bool
  }

  /// The pieces, model first, then by sub-layer.
  public var pieces: [Piece]
  /// The attributes that differ.
  public var attributes: [Attribute]
  /// Everything noticed.
  public var problems: [Diagnostic]

  /// Whether nothing differs.
  public var isEqual: Bool {
    attributes.allSatisfy(\.isRounding)
      && pieces.allSatisfy { $0.status == .equal || $0.status == .neutral }
  }
}

extension Weighbridge {
  /// Compares two checkpoints of any layouts, tensor by tensor, after mapping both to the hub.
  ///
  /// - Throws: `Problems` for a checkpoint that cannot be used; `diff.stacks` for two models that
  ///   have nothing to compare.
  public func diff(_ a: CheckpointInput, _ b: CheckpointInput) throws -> CheckpointDiff {
    let loadedA = try load(a)
    let loadedB = try load(b)
    let readerA = PieceReader(source: loadedA.source)
    let readerB = PieceReader(source: loadedB.source)
    var draftA = Draft(try loadedA.model())
    var draftB = Draft(try loadedB.model())
    var problems = loadedA.problems + loadedB.problems
    if draftA.spec.sublayers.map(\.kind) != draftB.spec.sublayers.map(\.kind) {
      // One side may hold MLPs of zeros that the other has no need of.
      draftA = try ZeroMLP.dropped(from: draftA, reader: readerA) ?? draftA
      draftB = try ZeroMLP.dropped(from: draftB, reader: readerB) ?? draftB
      problems.append(
        Diagnostic(
          .note, code: "diff.zero-mlp", subject: b.path,
          message: "MLPs of zeros, which add nothing, are left out of the comparison"))
    }
    guard draftA.spec.sublayers.map(\.kind) == draftB.spec.sublayers.map(\.kind) else {
      throw Diagnostic(
        code: "diff.stacks", subject: b.path,
        message:
          "has other sub-layers than \(a.path): \(Self.stack(draftB.spec)) against \(Self.stack(draftA.spec))",
        help: "only checkpoints of the same model can be compared")
    }
    var pieces: [CheckpointDiff.Piece] = []
    for id in Set(draftA.pieces.keys).union(draftB.pieces.keys).sorted() {
      pieces.append(
        CheckpointDiff.Piece(
          id: id, tensorsA: tensors(id, draftA, readerA), tensorsB: tensors(id, draftB, readerB),
          status: try compare(id, draftA, draftB, readerA, readerB)))
    }
    return CheckpointDiff(
      pieces: pieces, attributes: attributes(draftA, draftB, loadedA, loadedB), problems: problems)
  }

  /// The kinds of a model in order, runs shortened.
  static func stack(_ spec: ModelSpec) -> String {
    var parts: [String] = []
    var counts: [String: Int] = [:]
    for sublayer in spec.sublayers {
      if counts[sublayer.kind] == nil { parts.append(sublayer.kind) }
      counts[sublayer.kind, default: 0] += 1
    }
    return parts.map { "\(counts[$0]!) \($0)" }.joined(separator: ", ")
  }

  private func tensors(_ id: PieceID, _ draft: Draft, _ reader: PieceReader) -> [String] {
    guard case .stored(let location)? = draft.pieces[id] else { return [] }
    var names: [String] = []
    for run in location.runs {
      let name = reader.source.tensors[run.tensor].name.string
      if !names.contains(name) { names.append(name) }
    }
    return names
  }

  private func compare(
    _ id: PieceID, _ a: Draft, _ b: Draft, _ readerA: PieceReader, _ readerB: PieceReader
  ) throws -> CheckpointDiff.Status {
    guard let x = a.pieces[id] else {
      return try isNeutral(id, b, readerB) ? .neutral : .onlyInB
    }
    guard let y = b.pieces[id] else {
      return try isNeutral(id, a, readerA) ? .neutral : .onlyInA
    }
    var left = x
    var right = y
    if x.shape != y.shape {
      // A width padded with zeros is the same matrix.
      guard let padded = widened(x, to: y.shape) ?? widened(y, to: x.shape).map({ $0 }) else {
        return .shapes(x.shape, y.shape)
      }
      if padded.shape == y.shape { left = padded } else { right = padded }
    }
    let width = max(left.shape.rowElements, 1)
    let step = max(1, 524_288 / width)
    var identical = left.dtype == right.dtype
    var isCast = left.dtype != right.dtype
    let narrow = right.dtype.bitWidth <= left.dtype.bitWidth ? right.dtype : left.dtype
    var differing = 0
    var largest = 0.0
    var row = 0
    while row < left.shape.rows, left.shape.elementCount != 0 {
      let rows = row..<min(row + step, left.shape.rows)
      row = rows.upperBound
      if left.dtype == right.dtype {
        let p = try bytes(left, rows, left.dtype, readerA)
        let q = try bytes(right, rows, right.dtype, readerB)
        if p == q { continue }
        identical = false
      } else if isCast {
        isCast =
          try bytes(left, rows, narrow, readerA) == bytes(right, rows, narrow, readerB)
      }
      if left.dtype == right.dtype || !isCast {
        let p = try readerA.doubles(left, rows: rows)
        let q = try readerB.doubles(right, rows: rows)
        for (u, v) in zip(p, q) where u != v && !(u.isNaN && v.isNaN) {
          differing += 1
          let distance = abs(u - v)
          largest = distance.isNaN ? .infinity : max(largest, distance)
        }
      }
    }
    if identical { return .equal }
    if isCast { return .cast(from: left.dtype, to: right.dtype) }
    return .differs(maxAbs: largest, count: differing, of: left.shape.elementCount ?? 0)
  }

  private func bytes(
    _ value: PieceValue, _ rows: Range<Int>, _ dtype: DType, _ reader: PieceReader
  ) throws(Diagnostic) -> [UInt8] {
    var failure: Diagnostic?
    let count = rows.count * value.shape.rowElements * dtype.bitWidth / 8
    let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
      do throws(Diagnostic) {
        try reader.read(value, rows: rows, as: dtype, into: UnsafeMutableRawBufferPointer(buffer))
        initialized = count
      } catch { failure = error }
    }
    if let failure { throw failure }
    return bytes
  }

  private func widened(_ value: PieceValue, to shape: Shape) -> PieceValue? {
    guard value.shape.rank == shape.rank, shape.rank <= 2, shape.rank > 0 else { return nil }
    var value = value
    if shape.rank == 2, value.shape[1] < shape[1] {
      value = .paddedColumns(value, columns: shape[1])
    }
    if value.shape[0] < shape[0] { value = .paddedRows(value, rows: shape[0]) }
    return value.shape == shape ? value : nil
  }

  private func isNeutral(_ id: PieceID, _ draft: Draft, _ reader: PieceReader) throws -> Bool {
    // A head written beside the embedding that it is.
    if id == PieceID(nil, "head.weight") { return false }
    if id.sublayer == nil, id.role.hasPrefix("rotary.") { return true }
    let kind =
      id.sublayer.flatMap { vocabulary.kinds[draft.spec.sublayers[$0].kind] } ?? vocabulary.model
    guard let value = draft.pieces[id] else { return false }
    switch kind.piece(id.role)?.neutral {
    case .zero: return try reader.all(value) { $1 == 0 }
    case .one: return try reader.all(value) { $1 == 1 }
    case nil: return false
    }
  }

  private func attributes(
    _ a: Draft, _ b: Draft, _ loadedA: LoadedCheckpoint, _ loadedB: LoadedCheckpoint
  ) -> [CheckpointDiff.Attribute] {
    let accepts =
      (loadedA.bound?.layout.write?.accepts ?? []) + (loadedB.bound?.layout.write?.accepts ?? [])
    var result: [CheckpointDiff.Attribute] = []
    func add(_ place: String, _ kind: String, _ x: JSONObject, _ y: JSONObject) {
      for (name, value) in x {
        let other = y[name] ?? .null
        if let p = value.double, let q = other.double, p == q { continue }
        if value == other || name == "vocab_size" { continue }
        // A padded width is compared as weights.
        if kind == "mlp", name == "d_ff" { continue }
        result.append(
          CheckpointDiff.Attribute(
            place: place, name: name, a: value, b: other,
            isRounding: accepts.contains { $0.kind == kind && $0.attribute == name }))
      }
    }
    add("model", "model", a.spec.attributes, b.spec.attributes)
    for (x, y) in zip(a.spec.sublayers, b.spec.sublayers) {
      add("\(x.kind) in layer \(x.layer)", x.kind, x.attributes, y.attributes)
    }
    return result
  }
}
