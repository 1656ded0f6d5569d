import Checkpoints
public import Tensors

/// A checkpoint read whole, for tests that look at every value.
public struct StoredCheckpoint {
  /// A tensor with its bytes.
  public struct Tensor: Hashable {
    /// The element type.
    public var dtype: DType
    /// The extents.
    public var shape: [Int]
    /// Dense little-endian bytes.
    public var bytes: [UInt8]

    /// A tensor.
    public init(dtype: DType, shape: [Int], bytes: [UInt8]) {
      self.dtype = dtype
      self.shape = shape
      self.bytes = bytes
    }

    /// The values of an F32, F16 or BF16 tensor.
    public var values: [Float] {
      bytes.withUnsafeBytes { bytes in
        switch dtype {
        case .f32:
          (0..<bytes.count / 4).map { bytes.loadUnaligned(fromByteOffset: $0 * 4, as: Float.self) }
        case .f16:
          (0..<bytes.count / 2).map {
            Float(bytes.loadUnaligned(fromByteOffset: $0 * 2, as: Float16.self))
          }
        case .bf16:
          (0..<bytes.count / 2).map {
            let half = bytes.loadUnaligned(fromByteOffset: $0 * 2, as: UInt16.self)
            return Float(bitPattern: UInt32(half) << 16)
          }
        default:
          preconditionFailure("\(dtype) has no values here")
        }
      }
    }

    /// The values with their extents.
    public var matrix: Matrix { Matrix(shape, values) }
  }

  /// The container it was read from.
  public let container: Container
  /// The tensors by name.
  public var tensors: [String: Tensor] = [:]
  /// Groups of two and more names with one place in the file.
  public var shared: [Set<String>] = []
  /// Texts beside the tensors.
  public let metadata: [String: String]

  /// Reads the checkpoint at `path`.
  public init(_ path: String) throws {
    let source = try openCheckpoint(at: path)
    container = source.container
    metadata = source.metadata
    var places: [TensorInfo.Extent: Set<String>] = [:]
    for (number, info) in source.tensors.enumerated() {
      tensors[info.name.string] = Tensor(
        dtype: info.dtype, shape: info.shape.dims, bytes: try source.bytes(of: number))
      if let extent = info.extent, info.byteCount > 0 {
        places[extent, default: []].insert(info.name.string)
      }
    }
    shared = places.values.filter { $0.count > 1 }
  }

  /// The tensor called `name`, which must be there.
  public subscript(name: String) -> Tensor {
    guard let tensor = tensors[name] else {
      preconditionFailure("no tensor \(name) among \(tensors.keys.sorted())")
    }
    return tensor
  }

  /// The values of the tensor called `name`.
  public func matrix(_ name: String) -> Matrix { self[name].matrix }
}

/// Values with extents; the first extent counts rows.
///
/// What tests expect of a conversion is computed with these few words, independently of the code
/// under test.
public struct Matrix: Hashable {
  /// The extents.
  public var shape: [Int]
  /// The values, row after row.
  public var values: [Float]

  /// Values with extents.
  public init(_ shape: [Int], _ values: [Float]) {
    precondition(shape.reduce(1, *) == values.count, "\(shape) does not hold \(values.count)")
    self.shape = shape
    self.values = values
  }

  /// The same value everywhere.
  public init(_ shape: [Int], filledWith value: Float) {
    self.init(shape, [Float](repeating: value, count: shape.reduce(1, *)))
  }

  /// One below the other.
  public init(concatenating parts: [Matrix]) {
    self.init(
      [parts.reduce(0) { $0 + $1.shape[0] }] + parts[0].shape.dropFirst(),
      parts.flatMap(\.values))
  }

  /// Values of a row.
  public var width: Int { shape.dropFirst().reduce(1, *) }

  /// The rows of the numbers given, in that order.
  public func rows(_ numbers: some Sequence<Int>) -> Matrix {
    let picked = Array(numbers)
    return Matrix(
      [picked.count] + shape.dropFirst(),
      picked.flatMap { values[$0 * width..<($0 + 1) * width] })
  }

  /// Zero rows below, up to `count`.
  public func padded(rows count: Int) -> Matrix {
    Matrix(concatenating: [
      self, Matrix([count - shape[0]] + shape.dropFirst(), filledWith: 0),
    ])
  }

  /// Zeros behind each row, up to `count`.
  public func padded(columns count: Int) -> Matrix {
    Matrix(
      [shape[0], count],
      (0..<shape[0]).flatMap { row in
        values[row * width..<(row + 1) * width] + [Float](repeating: 0, count: count - width)
      })
  }

  /// Every value changed, by its row, column and itself.
  public func mapped(_ change: (_ row: Int, _ column: Int, _ value: Double) -> Double) -> Matrix {
    Matrix(
      shape,
      values.enumerated().map { i, value in
        Float(change(i / width, i % width, Double(value)))
      })
  }
}
