import Hub
import Tensors

/// Extremes, mean and spread of a tensor.
public struct TensorStatistics: Sendable {
  /// The least value that is not NaN.
  public var min: Double?
  /// The greatest value that is not NaN.
  public var max: Double?
  /// The mean of the finite values.
  public var mean: Double?
  /// Their standard deviation (of the population).
  public var std: Double?
  /// How many are NaN.
  public var nan = 0
  /// How many are infinite.
  public var inf = 0
  /// How many are zero.
  public var zeros = 0

  /// How many finite values there are.
  private var count = 0.0
  /// The sum of the squared deviations of the finite values from their mean.
  private var squares = 0.0

  /// The statistics of no values.
  init() {}

  /// Reads tensor number `number` in blocks; `nil` for a type that has no values here.
  ///
  /// - Throws: what reading throws.
  init?(of number: Int, _ reader: PieceReader) throws(Diagnostic) {
    let info = reader.source.tensors[number]
    guard info.dtype.isFloat else { return nil }
    for block in Self.blocks(of: info) {
      self += TensorStatistics(of: try Self.values(of: number, block, reader))
    }
  }

  /// The statistics of some values.
  ///
  /// The deviations are taken from the mean of these values, so that a large mean costs no digits.
  init(of values: [Double]) {
    values.withUnsafeBufferPointer { values in
      var sum = 0.0
      var least = Double.infinity
      var greatest = -Double.infinity
      for x in values {
        sum += x
        least = x < least ? x : least
        greatest = x > greatest ? x : greatest
        zeros += x == 0 ? 1 : 0
      }
      // A sum of finite values is finite, but for values near the limit of float64.
      if !sum.isFinite { return addOneByOne(values) }
      guard !values.isEmpty else { return }
      let mean = sum / Double(values.count)
      var squares = 0.0
      for x in values { squares += (x - mean) * (x - mean) }
      (min, max, self.mean, self.squares) = (least, greatest, mean, squares)
      count = Double(values.count)
      std = (squares / count).squareRoot()
    }
  }

  /// Values of which some are not finite: Welford's running moments of those that are.
  private mutating func addOneByOne(_ values: UnsafeBufferPointer<Double>) {
    var mean = 0.0
    for x in values {
      if x.isNaN {
        nan += 1
        continue
      }
      min = Swift.min(min ?? x, x)
      max = Swift.max(max ?? x, x)
      if x.isInfinite {
        inf += 1
        continue
      }
      count += 1
      let delta = x - mean
      mean += delta / count
      squares += delta * (x - mean)
    }
    if count > 0 {
      self.mean = mean
      std = (squares / count).squareRoot()
    }
  }

  /// Joins the statistics of two sets of values.
  ///
  /// The moments are joined as in Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for
  /// computing sample variances" (1979).
  static func += (a: inout TensorStatistics, b: TensorStatistics) {
    a.min = [a.min, b.min].compactMap { $0 }.min()
    a.max = [a.max, b.max].compactMap { $0 }.max()
    a.nan += b.nan
    a.inf += b.inf
    a.zeros += b.zeros
    guard b.count > 0, let mean = b.mean else { return }
    guard a.count > 0, let own = a.mean else {
      (a.mean, a.std, a.count, a.squares) = (b.mean, b.std, b.count, b.squares)
      return
    }
    let count = a.count + b.count
    let delta = mean - own
    a.mean = own + delta * (b.count / count)
    a.squares += b.squares + delta * delta * (a.count / count * b.count)
    a.count = count
    a.std = (a.squares / count).squareRoot()
  }

  /// Values of a block.
  private static let blockValues = 131_072

  /// The values of a tensor in blocks that are read one by one: indices in its flat order.
  static func blocks(of info: TensorInfo) -> [Range<Int>] {
    let count = info.shape.elementCount ?? 0
    return stride(from: 0, to: count, by: blockValues).map {
      $0..<Swift.min($0 + blockValues, count)
    }
  }

  /// The values of a block of tensor number `number`.
  ///
  /// - Throws: what reading throws.
  static func values(
    of number: Int, _ block: Range<Int>, _ reader: PieceReader
  ) throws(Diagnostic) -> [Double] {
    let info = reader.source.tensors[number]
    // Flat, so that a tensor of one long row is read in blocks, too.
    let count = info.shape.elementCount ?? 0
    let flat = PieceLocation(
      shape: Shape([count]), dtype: info.dtype,
      runs: [.init(tensor: number, tensorRow: 0, pieceRow: 0, count: count)])
    return try reader.doubles(.stored(flat), rows: block)
  }
}
