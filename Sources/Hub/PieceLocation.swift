public import Tensors

/// Rows that stand together in a tensor and in a piece.
public struct RowRun: Sendable, Hashable {
  /// The first row in the tensor.
  public var tensorRow: Int
  /// The first row in the piece.
  public var pieceRow: Int
  /// How many rows.
  public var count: Int

  /// A run.
  public init(tensorRow: Int, pieceRow: Int, count: Int) {
    self.tensorRow = tensorRow
    self.pieceRow = pieceRow
    self.count = count
  }
}

/// Where a piece lies in a checkpoint: runs of rows of one of its tensors.
public struct PieceLocation: Sendable, Hashable {
  /// The tensor's number in the checkpoint.
  public var tensor: Int
  /// The shape of the piece.
  public var shape: Shape
  /// The element type.
  public var dtype: DType
  /// The runs, in the order of the piece's rows; they cover all of them.
  public var runs: [RowRun]

  /// A place.
  public init(tensor: Int, shape: Shape, dtype: DType, runs: [RowRun]) {
    self.tensor = tensor
    self.shape = shape
    self.dtype = dtype
    self.runs = runs
  }

  /// All of tensor number `tensor`, which `info` describes, as one piece.
  package init(tensor: Int, whole info: TensorInfo) {
    self.init(
      tensor: tensor, shape: info.shape, dtype: info.dtype,
      runs: [RowRun(tensorRow: 0, pieceRow: 0, count: info.shape.rows)])
  }

  /// Bytes of a row: everything behind the first extent.
  public var rowBytes: Int {
    shape.dims.dropFirst().reduce(1, *) * dtype.bitWidth / 8
  }
}
