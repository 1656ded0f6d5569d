public import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// What a piece of the target is made of, in terms of the source's bytes. Rows are the first extent.
public indirect enum PieceValue: Sendable, Hashable {
  /// Rows of the source's tensors as they are.
  case stored(PieceLocation)
  /// One value everywhere.
  case constant(Double, Shape)
  /// Given values: a rotary table.
  case table([Double], Shape)
  /// Rows of zeros behind the piece's own, up to `rows`.
  case paddedRows(PieceValue, rows: Int)
  /// Columns of zeros behind the piece's own, up to `columns`.
  case paddedColumns(PieceValue, columns: Int)
  /// The first `rows` rows.
  case firstRows(PieceValue, rows: Int)
  /// Each block of `block` rows `times` times in a row: grouped heads made single.
  case repeatedRows(PieceValue, block: Int, times: Int)
  /// Every value times a factor.
  case scaled(PieceValue, Double)
  /// Column j times element j (mod their count) of a vector: a norm's weight folded into the
  /// projection behind it.
  case scaledColumns(PieceValue, by: PieceValue)
  /// Each run of `group` rows less its mean row: a LayerNorm's mean folded into the projection before
  /// it.
  case centeredRows(PieceValue, group: Int)
  /// Every value passed through a function.
  case mapped(PieceValue, Mapping)

  /// A function of single numbers, computed in float64.
  public enum Mapping: String, Sendable, Hashable {
    /// -e^x.
    case negExp = "neg_exp"
    /// log(-x), its inverse.
    case logNeg = "log_neg"

    /// The function's value.
    func callAsFunction(_ x: Double) -> Double {
      switch self {
      case .negExp: -exp(x)
      case .logNeg: log(-x)
      }
    }
  }

  /// The shape.
  public var shape: Shape {
    switch self {
    case .stored(let location): location.shape
    case .constant(_, let shape), .table(_, let shape): shape
    case .paddedRows(let base, let rows), .firstRows(let base, let rows):
      base.shape.withRows(rows)
    case .paddedColumns(let base, let columns):
      Shape([base.shape.rows, columns])
    case .repeatedRows(let base, _, let times): base.shape.withRows(base.shape.rows * times)
    case .scaled(let base, _), .scaledColumns(let base, _), .centeredRows(let base, _),
      .mapped(let base, _):
      base.shape
    }
  }

  /// The type that it has without a cast: the source's; float32 for what is new.
  public var dtype: DType {
    switch self {
    case .stored(let location): location.dtype
    case .constant, .table: .f32
    case .paddedRows(let base, _), .firstRows(let base, _), .paddedColumns(let base, _),
      .repeatedRows(let base, _, _), .scaled(let base, _), .scaledColumns(let base, _),
      .centeredRows(let base, _), .mapped(let base, _):
      base.dtype
    }
  }

  /// Whether its values are numbers of the source or zeros and ones, so that no rounding occurs.
  public var isMove: Bool {
    switch self {
    case .stored: true
    case .constant: false
    case .table, .scaled, .scaledColumns, .centeredRows, .mapped: false
    case .paddedRows(let base, _), .firstRows(let base, _), .paddedColumns(let base, _),
      .repeatedRows(let base, _, _):
      base.isMove
    }
  }

  /// Where it comes from in the source; `nil` for what is new.
  package var origin: PieceLocation? {
    switch self {
    case .stored(let location): location
    case .constant, .table: nil
    case .paddedRows(let base, _), .firstRows(let base, _), .paddedColumns(let base, _),
      .repeatedRows(let base, _, _), .scaled(let base, _), .scaledColumns(let base, _),
      .centeredRows(let base, _), .mapped(let base, _):
      base.origin
    }
  }

  /// Whether it is new, so that it takes whatever type its neighbours have.
  public var isNew: Bool {
    switch self {
    case .constant, .table: true
    default: false
    }
  }
}

extension Shape {
  /// The first extent; 1 for a scalar.
  public var rows: Int { dims.first ?? 1 }

  /// Elements of a row.
  public var rowElements: Int { dims.dropFirst().reduce(1, *) }

  /// The same shape with another number of rows.
  package func withRows(_ rows: Int) -> Shape { Shape([rows] + dims.dropFirst()) }
}
