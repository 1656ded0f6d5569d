/// What a file says of one tensor: name, element type, shape, and where its bytes lie.
public struct TensorInfo: Sendable, Hashable {
  /// Where a tensor's bytes lie, dense and little-endian, in one file.
  public struct Extent: Sendable, Hashable {
    /// Index into `TensorSource.files`.
    public var file: Int
    /// Bytes from the start of that file.
    public var offset: Int

    /// An extent at `offset` of file number `file`.
    public init(file: Int, offset: Int) {
      self.file = file
      self.offset = offset
    }
  }

  /// What a file holds in place of a tensor's numbers: blocks from which they are computed.
  public struct Stored: Sendable, Hashable {
    /// The type by its format's name: `Q8_0`.
    public var type: String
    /// Bytes in the file.
    public var byteCount: Int
    /// Where they lie.
    public var extent: Extent?

    /// Blocks of a type.
    public init(type: String, byteCount: Int, extent: Extent? = nil) {
      self.type = type
      self.byteCount = byteCount
      self.extent = extent
    }
  }

  /// The name as the file has it.
  public var name: TensorName
  /// The element type.
  public var dtype: DType
  /// The shape, outermost extent first.
  public var shape: Shape
  /// Bytes of the dense tensor.
  public var byteCount: Int
  /// The file's own name (`model-00001-of-00002.safetensors`), for messages.
  public var file: String
  /// The raw bytes in a file, when they lie there densely and in little-endian order; two tensors
  /// with one extent share storage.
  public var extent: Extent?
  /// What the file holds, where that is not the numbers themselves.
  public var stored: Stored?

  /// The type that the file holds: `F32`, or `Q8_0` of a tensor that is read as F32.
  public var typeName: String { stored?.type ?? dtype.rawValue }
  /// Bytes that the file holds.
  public var storedByteCount: Int { stored?.byteCount ?? byteCount }

  /// A tensor; `byteCount` must be `shape.byteCount(of: dtype)`.
  public init(
    name: TensorName, dtype: DType, shape: Shape, byteCount: Int, file: String,
    extent: Extent? = nil
  ) {
    self.name = name
    self.dtype = dtype
    self.shape = shape
    self.byteCount = byteCount
    self.file = file
    self.extent = extent
  }
}
