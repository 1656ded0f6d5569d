import Checkpoints
import Hub
import Layouts
public import Tensors

/// Some rows of one tensor.
public struct TensorView: Sendable {
  /// What the file says of the tensor.
  public var info: TensorInfo
  /// The pieces that it holds, joined by `+`; `nil` where no layout says.
  public var piece: String?
  /// The rows shown: indices along the first axis.
  public var rows: Range<Int>
  /// The values of these rows, row-major; each row is the product of the other axes long.
  public var values: [TensorNumber]
  /// Extremes, mean and spread of the whole tensor; `nil` where it was not asked for or has no floats.
  public var statistics: TensorStatistics?
  /// Counts of the whole tensor's finite values; `nil` where it was not asked for.
  public var histogram: Histogram?
}

/// One value as it is stored.
public enum TensorNumber: Sendable, Hashable {
  /// A floating-point value; all stored types are exact in float64.
  case float(Double)
  /// A whole number.
  case integer(Int)
  /// A whole number that may be beyond `Int`.
  case unsigned(UInt64)
  /// A truth value.
  case bool(Bool)
}

/// Counts of values in bins of equal width.
public struct Histogram: Sendable {
  /// The least and the greatest finite value.
  public var bounds: ClosedRange<Double>
  /// How many values lie in each bin; a value on an edge belongs to the upper bin, the greatest value to
  /// the last.
  public var counts: [Int]

  /// The edges of the bins, one more than there are bins.
  public var edges: [Double] {
    (0...counts.count).map { edge($0) }
  }

  private func edge(_ number: Int) -> Double {
    if number == counts.count { return bounds.upperBound }
    // Halves, so that the width of the full float64 range does not overflow.
    let part = Double(number) / Double(counts.count)
    return bounds.lowerBound * (1 - part) + bounds.upperBound * part
  }
}

/// Rows as Python slices them: `2:5`, `:4`, `-2:`, or one row, `7`.
public struct RowSlice: Sendable {
  /// The first row; negative from the end.
  public var start: Int?
  /// One past the last row; negative from the end.
  public var end: Int?
  /// Whether it is one row, which must exist.
  public var isIndex = false

  /// Reads `text`; `nil` where it is no slice.
  public init?(_ text: String) {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    func number(_ part: Substring) -> Int?? {
      part.isEmpty ? .some(nil) : Int(part).map { .some($0) }
    }
    switch parts.count {
    case 1:
      guard let row = Int(parts[0]) else { return nil }
      start = row
      end = row == -1 ? nil : row.addingReportingOverflow(1).partialValue
      isIndex = true
    case 2:
      guard let first = number(parts[0]), let last = number(parts[1]) else { return nil }
      start = first
      end = last
    default: return nil
    }
  }

  /// The rows of a tensor that has `count`; clamped as Python clamps, `nil` for one row that is not there.
  func rows(of count: Int) -> Range<Int>? {
    func place(_ index: Int) -> Int {
      index < 0 ? max(0, count + max(index, -count)) : min(index, count)
    }
    if isIndex, let start, start >= count || start < -count { return nil }
    let first = place(start ?? 0)
    return first..<max(first, place(end ?? count))
  }
}

extension Weighbridge {
  /// The most values that one call returns of a tensor.
  private static let mostValues = 1 << 20
  /// The most tensors that one call shows.
  private static let mostTensors = 64

  /// Reads values of tensors.
  ///
  /// - Parameters:
  ///   - input: the checkpoint.
  ///   - name: a tensor's name, a piece's (`3.a_log`), or a glob over the tensors' names.
  ///   - slice: rows of the first axis; `nil` for the first 4 (of a vector: 32).
  ///   - bins: bins of a histogram of the whole tensor; 0 for none.
  /// - Throws: `show.no-tensor`, `show.too-many`, `show.rows`, `show.dtype`, and what reading throws.
  public func show(
    _ input: CheckpointInput, tensor name: String, rows slice: RowSlice? = nil, bins: Int = 0
  ) throws(Problems) -> (tensors: [TensorView], problems: [Diagnostic]) {
    let loaded = try load(input)
    do throws(Diagnostic) {
      let numbers = try numbers(named: name, loaded)
      let reader = PieceReader(source: loaded.source)
      var pieces = [String?](repeating: nil, count: loaded.source.tensors.count)
      for tensor in loaded.bound.flatMap({ $0.isOfOtherModel ? nil : $0.tensors }) ?? [] {
        pieces[tensor.number] = tensor.expected.form.roles
          .map { PieceID(tensor.expected.sublayer, $0).description }.joined(separator: "+")
      }
      var views: [TensorView] = []
      for number in numbers {
        let info = loaded.source.tensors[number]
        let rows = try Self.rows(slice, of: info)
        var view = TensorView(
          info: info, piece: pieces[number], rows: rows,
          values: try Self.values(of: number, rows: rows, loaded.source))
        if bins > 0, let statistics = try TensorStatistics(of: number, reader) {
          view.statistics = statistics
          if let bounds = try Histogram.bounds(of: number, statistics, reader) {
            view.histogram = try Histogram(of: number, bounds: bounds, bins: bins, reader)
          }
        }
        views.append(view)
      }
      return (views, loaded.problems.filter { $0.severity != .error })
    } catch { throw Problems([error]) }
  }

  /// The tensors of a name, a piece or a glob.
  private func numbers(
    named name: String, _ loaded: LoadedCheckpoint
  ) throws(Diagnostic) -> [Int] {
    let tensors = loaded.source.tensors
    if let number = tensors.firstIndex(where: { $0.name.string == name }) { return [number] }
    let bound = loaded.bound.flatMap { $0.isOfOtherModel ? nil : $0 }
    for tensor in bound?.tensors ?? []
    where tensor.expected.form.roles.contains(where: {
      PieceID(tensor.expected.sublayer, $0).description == name
    }) {
      return [tensor.number]
    }
    let glob = Glob(name)
    let found = tensors.indices.filter { glob.matches(tensors[$0].name.string) }
    guard !found.isEmpty else {
      let near = Suggestion.nearest(name, tensors.map(\.name.string))
      throw Diagnostic(
        code: "show.no-tensor", subject: name, message: "is none of \(tensors.count) tensors",
        help: near.map { "did you mean \($0)?" } ?? "`weighbridge inspect` lists the tensors")
    }
    guard found.count <= Self.mostTensors else {
      throw Diagnostic(
        code: "show.too-many", subject: name,
        message: "matches \(found.count) tensors; \(Self.mostTensors) can be shown at once",
        help: "name fewer of them")
    }
    return found
  }

  private static func rows(
    _ slice: RowSlice?, of info: TensorInfo
  ) throws(Diagnostic) -> Range<Int> {
    let count = info.shape.rows
    let width = max(1, info.shape.rowElements)
    guard let slice else {
      return 0..<min(count, info.shape.dims.count < 2 ? 32 : max(1, min(4, mostValues / width)))
    }
    guard let rows = slice.rows(of: count) else {
      throw Diagnostic(
        code: "show.rows", subject: info.name.string,
        message: "has no row \(slice.start ?? 0); it has \(count) rows",
        help: count > 0 ? "rows are 0 to \(count - 1)" : nil)
    }
    let most = max(1, mostValues / width)
    guard rows.count <= most else {
      throw Diagnostic(
        code: "show.too-many", subject: info.name.string,
        message: "\(rows.count) rows of \(width) values; \(mostValues) values can be shown at once",
        help: "ask for fewer, such as --rows \(rows.lowerBound):\(rows.lowerBound + most)")
    }
    return rows
  }

  private static func values(
    of number: Int, rows: Range<Int>, _ source: any TensorSource
  ) throws(Diagnostic) -> [TensorNumber] {
    let info = source.tensors[number]
    guard info.dtype.isFloat || info.dtype.isWhole else {
      throw Diagnostic(
        code: "show.dtype", subject: info.name.string,
        message: "has type \(info.typeName), whose values are not decoded here",
        help: "types shown: F64, F32, F16, BF16, BOOL and whole numbers")
    }
    let width = info.shape.rowElements
    if info.dtype.isFloat {
      let value = PieceValue.stored(
        PieceLocation(
          shape: info.shape, dtype: info.dtype,
          runs: [.init(tensor: number, tensorRow: 0, pieceRow: 0, count: info.shape.rows)]))
      guard !rows.isEmpty, width > 0 else { return [] }
      return try PieceReader(source: source).doubles(value, rows: rows).map { .float($0) }
    }
    let size = info.dtype.bitWidth / 8
    let start = rows.lowerBound * width * size
    let count = rows.count * width
    let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: count * size, alignment: 8)
    defer { bytes.deallocate() }
    try source.read(number, bytes: start..<start + count * size, into: bytes)
    func all<T: FixedWidthInteger & BitwiseCopyable>(_: T.Type) -> [T] {
      (0..<count).map {
        T(littleEndian: bytes.loadUnaligned(fromByteOffset: $0 * size, as: T.self))
      }
    }
    return switch info.dtype {
    case .bool: all(UInt8.self).map { .bool($0 != 0) }
    case .u8: all(UInt8.self).map { .integer(Int($0)) }
    case .i8: all(Int8.self).map { .integer(Int($0)) }
    case .u16: all(UInt16.self).map { .integer(Int($0)) }
    case .i16: all(Int16.self).map { .integer(Int($0)) }
    case .u32: all(UInt32.self).map { .integer(Int($0)) }
    case .i32: all(Int32.self).map { .integer(Int($0)) }
    case .i64: all(Int64.self).map { .integer(Int($0)) }
    default: all(UInt64.self).map { .unsigned($0) }
    }
  }
}

extension Histogram {
  /// Counts the finite values of tensor number `number`, read in blocks.
  ///
  /// - Throws: what reading throws.
  init(
    of number: Int, bounds: ClosedRange<Double>, bins: Int, _ reader: PieceReader
  ) throws(Diagnostic) {
    self.bounds = bounds
    var counts = [Int](repeating: 0, count: bounds.lowerBound == bounds.upperBound ? 1 : bins)
    // Halved, so that the width of the full float64 range does not overflow.
    let width = bounds.upperBound / 2 - bounds.lowerBound / 2
    for block in TensorStatistics.blocks(of: reader.source.tensors[number]) {
      for x in try TensorStatistics.values(of: number, block, reader) where x.isFinite {
        let place = width > 0 ? (x / 2 - bounds.lowerBound / 2) / width * Double(counts.count) : 0
        counts[min(counts.count - 1, Int(place))] += 1
      }
    }
    self.counts = counts
  }

  /// The least and the greatest finite value; `nil` where there is none.
  static func bounds(
    of number: Int, _ statistics: TensorStatistics, _ reader: PieceReader
  ) throws(Diagnostic) -> ClosedRange<Double>? {
    guard let least = statistics.min, let greatest = statistics.max else { return nil }
    if statistics.inf == 0 { return least...greatest }
    var finite = TensorStatistics()
    for block in TensorStatistics.blocks(of: reader.source.tensors[number]) {
      finite += TensorStatistics(
        of: try TensorStatistics.values(of: number, block, reader).filter(\.isFinite))
    }
    guard let least = finite.min, let greatest = finite.max else { return nil }
    return least...greatest
  }
}
