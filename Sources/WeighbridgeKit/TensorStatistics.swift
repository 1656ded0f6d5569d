import Conversion
import Hub
import Layouts
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

  /// Reads tensor number `number` in blocks; `nil` for a type that has no values here.
  ///
  /// - Throws: what reading throws.
  init?(of number: Int, _ reader: PieceReader) throws(Diagnostic) {
    let info = reader.source.tensors[number]
    guard info.dtype.isFloat else { return nil }
    let value = PieceValue.stored(
      PieceLocation(
        tensor: number, shape: info.shape, dtype: info.dtype,
        runs: [RowRun(tensorRow: 0, pieceRow: 0, count: info.shape.rows)]))
    // Welford's running moments, so that a large mean costs no digits.
    var count = 0.0
    var mean = 0.0
    var squares = 0.0
    var least = Double.infinity
    var greatest = -Double.infinity
    let step = Swift.max(1, 262_144 / Swift.max(info.shape.rowElements, 1))
    var row = 0
    while row < info.shape.rows, info.byteCount > 0 {
      let rows = row..<Swift.min(row + step, info.shape.rows)
      for x in try reader.doubles(value, rows: rows) {
        if x.isNaN {
          nan += 1
          continue
        }
        least = Swift.min(least, x)
        greatest = Swift.max(greatest, x)
        if x.isInfinite {
          inf += 1
          continue
        }
        if x == 0 { zeros += 1 }
        count += 1
        let delta = x - mean
        mean += delta / count
        squares += delta * (x - mean)
      }
      row = rows.upperBound
    }
    if least <= greatest {
      min = least
      max = greatest
    }
    if count > 0 {
      self.mean = mean
      std = (squares / count).squareRoot()
    }
  }
}
