import Checkpoints
import Conversion
import Dispatch
import Hub
import Layouts
import OrderedCollections
import Synchronization
import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Two checkpoints mapped to the hub so that piece stands beside piece.
struct AlignedPair {
  /// One of the two.
  struct Member: Sendable {
    var path: String
    var bound: BoundModel
    var model: HubModel
    var reader: PieceReader { model.reader }

    init(_ loaded: LoadedCheckpoint) throws(Problems) {
      path = loaded.location.path
      bound = try loaded.model()
      model = HubModel(bound, source: loaded.source)
    }

    /// The tensors that hold a piece, as the file names them.
    func tensors(of id: PieceID) -> [String] {
      model.pieces[id]?.origin.map { [reader.source.tensors[$0.tensor].name.string] } ?? []
    }

    /// Values of a piece that are NaN or infinite.
    ///
    /// - Throws: what reading throws.
    func notFinite(_ id: PieceID) throws(Diagnostic) -> Int {
      guard let value = model.pieces[id], !value.isNew else { return 0 }
      if let bytes = model.resident(id) {
        try model.checkResident()
        defer { model.evict(id) }
        return value.dtype.countNotFinite(bytes)
      }
      let dtype = value.isMove ? value.dtype : .f64
      guard dtype.isFloat else { return 0 }
      let rowBytes = value.shape.rowElements * dtype.bitWidth / 8
      let step = max(1, 2_097_152 / max(rowBytes, 1))
      var count = 0
      var row = 0
      while row < value.shape.rows {
        let rows = row..<min(row + step, value.shape.rows)
        row = rows.upperBound
        let buffer = UnsafeMutableRawBufferPointer.allocate(
          byteCount: rows.count * rowBytes, alignment: 16)
        defer { buffer.deallocate() }
        try reader.read(value, rows: rows, as: dtype, into: buffer)
        count += dtype.countNotFinite(UnsafeRawBufferPointer(buffer))
      }
      return count
    }

    /// A piece of which `count` values are NaN or infinite.
    func notFinite(_ id: PieceID, _ count: Int) -> NotFiniteTensor {
      NotFiniteTensor(piece: id, name: tensors(of: id).first ?? id.description, count: count)
    }

    /// The tensors that hold NaN or infinity, model first, then by sub-layer.
    ///
    /// - Throws: what reading throws.
    func tensorsNotFinite() throws(Diagnostic) -> [NotFiniteTensor] {
      var found: [NotFiniteTensor] = []
      for id in model.pieces.keys.sorted() {
        let count = try notFinite(id)
        guard count > 0 else { continue }
        found.append(notFinite(id, count))
      }
      return found
    }

    /// The tensors that a fault in a piece is to be looked for in: where the head is the embedding,
    /// its copy in the file, else the embedding.
    func holders(of id: PieceID) -> [String] {
      guard model.pieces[id] == nil, id == PieceID(nil, "head.weight") else {
        return tensors(of: id)
      }
      guard let copy = bound.tensors.first(where: { $0.expected.tied != nil }) else {
        return tensors(of: PieceID(nil, "embed.weight"))
      }
      return [reader.source.tensors[copy.number].name.string]
    }
  }

  var a: Member
  var b: Member
  var problems: [Diagnostic]
  private let vocabulary: Vocabulary

  /// Aligns two checkpoints; MLPs of zeros, which add nothing, are left out where only one has them.
  ///
  /// - Throws: `Problems` for a checkpoint that cannot be used; `diff.stacks` for two models that
  ///   have nothing to compare.
  init(
    _ loadedA: LoadedCheckpoint, _ loadedB: LoadedCheckpoint, _ vocabulary: Vocabulary
  ) throws {
    self.vocabulary = vocabulary
    a = try Member(loadedA)
    b = try Member(loadedB)
    problems = (loadedA.problems + loadedB.problems).filter { $0.severity != .error }
    func kinds(_ member: Member) -> [String] { member.model.spec.sublayers.map(\.kind) }
    if kinds(a) != kinds(b) {
      a.model = try ZeroSublayers.dropped(from: a.model, vocabulary) ?? a.model
      b.model = try ZeroSublayers.dropped(from: b.model, vocabulary) ?? b.model
    }
    guard kinds(a) == kinds(b) else {
      throw Diagnostic(
        code: "diff.stacks", subject: b.path,
        message:
          "has other sub-layers than \(a.path): \(Self.stack(b.model.spec)) against \(Self.stack(a.model.spec))",
        help: "only checkpoints of the same model can be compared")
    }
    expressImages()
    guard a.model.spec["d_model"] == b.model.spec["d_model"] else {
      throw Diagnostic(
        code: "diff.width", subject: b.path,
        message:
          "has d_model \(b.model.spec["d_model"].text()), \(a.path) has \(a.model.spec["d_model"].text())",
        help: "only checkpoints of the same model can be compared")
    }
  }

  /// Pieces with a row for each token.
  static let vocabularyPieces = ["embed.weight", "head.weight", "head.bias"].map {
    PieceID(nil, $0)
  }

  /// What one side has beyond the other's rows of the vocabulary.
  struct RowsBeyond {
    /// Whether it is A that has more.
    var isA: Bool
    /// The rows.
    var rows: Range<Int>
    /// How many of them are not zero, in any piece.
    var used: Int
    /// The first that is not zero, and its tensor.
    var first: (row: Int, tensor: String)?
  }

  /// Leaves both sides the rows of the vocabulary that both have, so that all else compares like with
  /// like; tells what is beyond them.
  ///
  /// - Returns: `nil` where both have as many rows.
  /// - Throws: what reading throws.
  mutating func cutToCommonRows() throws(Diagnostic) -> RowsBeyond? {
    let (rowsA, rowsB) = (a.model.spec["vocab_rows"].int ?? 0, b.model.spec["vocab_rows"].int ?? 0)
    guard rowsA != rowsB, rowsA > 0, rowsB > 0 else { return nil }
    var beyond = RowsBeyond(
      isA: rowsA > rowsB, rows: min(rowsA, rowsB)..<max(rowsA, rowsB), used: 0)
    let wide = beyond.isA ? a : b
    var used: Set<Int> = []
    for id in Self.vocabularyPieces {
      guard let value = wide.model.pieces[id] else { continue }
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
    let words = [a, b].compactMap { $0.model.spec["vocab_size"].int }.min() ?? 0
    for path in [\AlignedPair.a, \AlignedPair.b] {
      self[keyPath: path].model.spec.attributes["vocab_rows"] = .int(beyond.rows.lowerBound)
      if let own = self[keyPath: path].model.spec["vocab_size"].int, words > 0 {
        self[keyPath: path].model.spec.attributes["vocab_size"] = .int(
          min(own, words, beyond.rows.lowerBound))
      }
      for id in Self.vocabularyPieces {
        guard let value = self[keyPath: path].model.pieces[id],
          value.shape.rows > beyond.rows.lowerBound
        else { continue }
        self[keyPath: path].model.pieces[id] = .firstRows(value, rows: beyond.rows.lowerBound)
      }
    }
    return beyond
  }

  /// Where A has a piece of which B has the image, or the other way round, A's is taken in B's form.
  private mutating func expressImages() {
    for id in b.model.pieces.keys where a.model.pieces[id] == nil {
      guard let number = id.sublayer,
        let kind = vocabulary.kinds[b.model.spec.sublayers[number].kind]
      else { continue }
      let isImage = kind.piece(id.role)?.image != nil
      guard let role = isImage ? kind.piece(id.role)?.image?.of : kind.image(of: id.role)?.role,
        let base = a.model.pieces.removeValue(forKey: PieceID(number, role))
      else { continue }
      a.model.pieces[id] = .mapped(base, isImage ? .negExp : .logNeg)
    }
  }

  /// Every piece of either side, model first, then by sub-layer.
  var pieceIDs: [PieceID] {
    Set(a.model.pieces.keys).union(b.model.pieces.keys).sorted()
  }

  /// The kinds of a model, counted.
  static func stack(_ spec: ModelSpec) -> String {
    var counts: OrderedDictionary<String, Int> = [:]
    for sublayer in spec.sublayers { counts[sublayer.kind, default: 0] += 1 }
    return counts.map { "\($0.value) \($0.key)" }.joined(separator: ", ")
  }

  /// How each piece compares, in order; on all cores.
  ///
  /// - Throws: what reading throws.
  func statuses(
    _ meter: Meter? = nil
  ) throws(Diagnostic) -> [(id: PieceID, status: CheckpointDiff.Status)] {
    let ids = pieceIDs
    return try each(ids) { id throws(Diagnostic) in
      defer { meter?.add(a.model.byteCount(of: id), id.description) }
      return (id, try status(of: id))
    }
  }

  /// Values of each piece that are NaN or infinite, of A and of B, in the order of `statuses`; on all
  /// cores.
  ///
  /// - Throws: what reading throws.
  func notFinite(
    _ statuses: [(id: PieceID, status: CheckpointDiff.Status)]
  ) throws(Diagnostic) -> [(id: PieceID, a: Int, b: Int)] {
    try each(statuses) { item throws(Diagnostic) in
      let own = try a.notFinite(item.id)
      return (item.id, own, item.status == .equal ? own : try b.notFinite(item.id))
    }
  }

  /// What `body` gives for each, in order; on all cores.
  private func each<Element: Sendable, Result: Sendable>(
    _ elements: [Element], _ body: @Sendable (Element) throws(Diagnostic) -> Result
  ) throws(Diagnostic) -> [Result] {
    let found = Mutex([Int: Swift.Result<Result, Diagnostic>]())
    DispatchQueue.concurrentPerform(iterations: elements.count) { i in
      let result = Swift.Result { () throws(Diagnostic) in try body(elements[i]) }
      found.withLock { $0[i] = result }
    }
    var results: [Result] = []
    for (_, result) in found.withLock({ $0 }).sorted(by: { $0.key < $1.key }) {
      results.append(try result.get())
    }
    return results
  }

  /// Of `ids`, the pieces of A that are B's rounded to a narrower type: a cast the other way round.
  ///
  /// - Throws: what reading throws.
  func reversedCasts(_ ids: Set<PieceID>) throws(Diagnostic) -> [(id: PieceID, type: DType)] {
    var swapped = self
    (swapped.a, swapped.b) = (b, a)
    var found: [(id: PieceID, type: DType)] = []
    for id in ids.sorted() {
      switch try swapped.status(of: id) {
      case .cast(let from, let to) where to.bitWidth < from.bitWidth: found.append((id, to))
      case .rounded(let to): found.append((id, to))
      default: break
      }
    }
    return found
  }

  /// Whether two pieces that lie in files as they are used hold the same bytes; `nil` when they do
  /// not lie so.
  private func isSameStretch(_ x: PieceValue, _ y: PieceValue) throws(Diagnostic) -> Bool? {
    guard x.dtype == y.dtype, case .stored(let p) = x, case .stored(let q) = y,
      let (fileA, rangeA) = a.reader.source.stretch(p),
      let (fileB, rangeB) = b.reader.source.stretch(q), rangeA.count == rangeB.count,
      let (bytesA, bytesB) = fileA.mapped().flatMap({ p in fileB.mapped().map { (p, $0) } })
    else { return nil }
    try fileA.checkUnchanged()
    try fileB.checkUnchanged()
    defer {
      fileA.unload(rangeA)
      fileB.unload(rangeB)
    }
    guard let left = UnsafeRawBufferPointer(rebasing: bytesA[rangeA]).baseAddress,
      let right = UnsafeRawBufferPointer(rebasing: bytesB[rangeB]).baseAddress
    else { return true }
    return memcmp(left, right, rangeA.count) == 0
  }

  /// How a piece compares.
  ///
  /// - Throws: what reading throws.
  func status(of id: PieceID) throws(Diagnostic) -> CheckpointDiff.Status {
    guard let x = a.model.pieces[id] else {
      return try isNeutral(id, b) ? .neutral : .onlyInB
    }
    guard let y = b.model.pieces[id] else {
      return try isNeutral(id, a) ? .neutral : .onlyInA
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
    if try isSameStretch(left, right) == true { return .equal }
    let width = max(left.shape.rowElements, 1)
    let step = max(1, 524_288 / width)
    // A computed value is compared unrounded.
    let isComputed = !left.isMove || !right.isMove
    var identical = left.dtype == right.dtype
    // B is a cast of A where A in B's type has B's bits: rounded where that is narrower, the very same
    // values where it is wider. A finite value that the type could not hold is no cast of it.
    var isCast = left.dtype != right.dtype && !isComputed
    var there = Set([DType.bf16, .f16].filter { $0.bitWidth < right.dtype.bitWidth })
    if left.dtype != right.dtype || isComputed { there = [] }
    var differing = 0
    var largest = 0.0
    var row = 0
    while row < left.shape.rows, left.shape.elementCount != 0 {
      let rows = row..<min(row + step, left.shape.rows)
      row = rows.upperBound
      if isComputed {
        identical = false
      } else if left.dtype == right.dtype {
        let p = try bytes(left, rows, left.dtype, a.reader)
        let q = try bytes(right, rows, right.dtype, b.reader)
        let isSame = p.count == q.count && memcmp(p, q, p.count) == 0
        if !isSame { identical = false }
        for narrow in there where !Self.isRounded(p, q, left.dtype, through: narrow) {
          there.remove(narrow)
        }
        if isSame { continue }
      } else if isCast {
        let cast = try bytes(left, rows, right.dtype, a.reader)
        let q = try bytes(right, rows, right.dtype, b.reader)
        isCast = cast == q
        let odd = q.withUnsafeBytes { right.dtype.countNotFinite($0) }
        if isCast, odd > 0 {
          isCast = try a.reader.doubles(left, rows: rows).count { !$0.isFinite } == odd
        }
      }
      if left.dtype == right.dtype || !isCast {
        let p = try a.reader.doubles(left, rows: rows)
        let q = try b.reader.doubles(right, rows: rows)
        for (u, v) in zip(p, q) where u != v && !(u.isNaN && v.isNaN) {
          differing += 1
          let distance = abs(u - v)
          largest = distance.isNaN ? .infinity : max(largest, distance)
        }
      }
    }
    if identical || isComputed && differing == 0 { return .equal }
    if isCast { return .cast(from: left.dtype, to: right.dtype) }
    if let narrow = [DType.bf16, .f16].first(where: { there.contains($0) }) {
      return .rounded(to: narrow)
    }
    return .differs(maxAbs: largest, count: differing, of: left.shape.elementCount ?? 0)
  }

  /// Whether `b` is `a` rounded to `narrow` and widened again, everything staying finite.
  private static func isRounded(
    _ a: [UInt8], _ b: [UInt8], _ dtype: DType, through narrow: DType
  ) -> Bool {
    guard dtype.isFloat, a.count == b.count else { return false }
    let count = a.count * 8 / dtype.bitWidth
    var half = [UInt8](repeating: 0, count: count * narrow.bitWidth / 8)
    var back = [UInt8](repeating: 0, count: a.count)
    let counts = a.withUnsafeBytes { from in
      half.withUnsafeMutableBytes {
        DType.cast(from: dtype, to: narrow, source: from, destination: $0)
      }
    }
    guard counts.overflows == 0 else { return false }
    half.withUnsafeBytes { from in
      back.withUnsafeMutableBytes {
        _ = DType.cast(from: narrow, to: dtype, source: from, destination: $0)
      }
    }
    return back == b
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

  private func isNeutral(_ id: PieceID, _ side: Member) throws(Diagnostic) -> Bool {
    // A head written beside the embedding that it is.
    if id == PieceID(nil, "head.weight") { return false }
    let kind =
      id.sublayer.flatMap { vocabulary.kinds[side.model.spec.sublayers[$0].kind] }
      ?? vocabulary.model
    if let computed = kind.piece(id.role)?.computed {
      // A table in the file where the other side computes it.
      guard let value = side.model.pieces[id], let table = computed(side.model.spec) else {
        return false
      }
      return value.shape.elementCount == table.count
        ? try side.reader.all(value) { MixerKind.Piece.isSame($1, computed: table[$0]) } : false
    }
    guard let value = side.model.pieces[id] else { return false }
    switch kind.piece(id.role)?.identity {
    case .zero: return try side.reader.all(value) { $1 == 0 }
    case .one: return try side.reader.all(value) { $1 == 1 }
    case nil: return false
    }
  }

  /// The attributes that differ.
  func attributes() -> [CheckpointDiff.Attribute] {
    let accepts =
      (a.bound.layout.write?.accepts ?? []) + (b.bound.layout.write?.accepts ?? [])
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
            isRounding: accepts.contains { $0.kind == kind && $0.attribute == name }))
      }
    }
    add("model", nil, a.model.spec.attributes, b.model.spec.attributes)
    for (x, y) in zip(a.model.spec.sublayers, b.model.spec.sublayers) {
      add(x.kind, x.layer, x.attributes, y.attributes)
    }
    return result
  }
}
