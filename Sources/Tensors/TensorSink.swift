/// A tensor to be written.
public struct OutputTensor: Sendable, Hashable {
  /// The name in the file.
  public var name: TensorName
  /// The element type.
  public var dtype: DType
  /// The shape, outermost extent first.
  public var shape: Shape
  /// Bytes of the dense tensor.
  public var byteCount: Int
  /// The earlier tensor of the list whose storage this one shares (PyTorch's tied weights);
  /// such a tensor is never written itself.
  public var sharesStorageWith: Int?
  /// The blocks that a GGUF file holds it as; the sink is given its float32 numbers. `nil` for plain
  /// numbers.
  public var blocks: BlockType?
  /// The source's blocks that go into a GGUF file as they are; the sink is given none of their numbers.
  public var stored: TensorInfo.Stored?

  /// Blocks of quantised numbers that can be written.
  public enum BlockType: String, Sendable, Hashable {
    /// 32 numbers of 8 bits and a float16 scale.
    case q8_0 = "Q8_0"
  }

  /// The type that the file holds.
  public var typeName: String { stored?.type ?? blocks?.rawValue ?? dtype.rawValue }
  /// Bytes that the file holds.
  public var storedByteCount: Int {
    stored?.byteCount ?? (blocks == nil ? byteCount : byteCount / 128 * 34)
  }

  /// A tensor; `byteCount` must be `shape.byteCount(of: dtype)`.
  public init(
    name: TensorName, dtype: DType, shape: Shape, byteCount: Int, sharesStorageWith: Int? = nil
  ) {
    self.name = name
    self.dtype = dtype
    self.shape = shape
    self.byteCount = byteCount
    self.sharesStorageWith = sharesStorageWith
  }
}

/// A key beside the tensors with its value in the bytes of its container.
public struct EncodedField: Sendable, Hashable {
  /// The key.
  public var key: String
  /// The value, as the container writes it.
  package var bytes: [UInt8]

  /// A key with bytes that are right already.
  package init(key: String, bytes: [UInt8]) {
    self.key = key
    self.bytes = bytes
  }
}

/// What a sink must know before the first byte.
public struct OutputManifest: Sendable {
  /// Every tensor, in the order in which the file should list them.
  public var tensors: [OutputTensor]
  /// Texts kept beside the tensors.
  public var metadata: [String: String]
  /// The model's config, for containers that hold it inside (HDF5's `config` attribute).
  public var config: JSONValue
  /// For PyTorch and DCP: the key under which the state dict stands in the saved dict (`model`), or
  /// `nil` for a bare state dict.
  public var nesting: String?
  /// For DCP: the ranks that rows are dealt out to.
  public var ranks: Int
  /// For GGUF: the keys, where they are not simply the config's.
  public var fields: [EncodedField] = []

  /// A manifest.
  public init(
    tensors: [OutputTensor], metadata: [String: String] = [:], config: JSONValue = .null,
    nesting: String? = nil, ranks: Int = 1
  ) {
    self.tensors = tensors
    self.metadata = metadata
    self.config = config
    self.nesting = nesting
    self.ranks = ranks
  }
}

/// A checkpoint being written. Sizes and places of all tensors are known from the manifest on, so
/// that bytes may arrive in any order and from several threads.
///
/// A sink writes into a directory that its caller moves into place or removes; it never renames.
public protocol TensorSink: Sendable {
  /// Where each tensor's dense little-endian bytes go: the file (by its place in `outputs`) and the
  /// offset there; `nil` where only `write` can place them. Bytes may come by `move` there.
  var extents: [TensorInfo.Extent?] { get }
  /// The paths of the files being written.
  var outputs: [String] { get }

  /// Writes `bytes` at byte `offset` of tensor number `index`.
  ///
  /// - Throws: `io.write` with the system's reason, or the container's own diagnostic.
  func write(_ index: Int, at offset: Int, _ bytes: UnsafeRawBufferPointer) throws(Diagnostic)

  /// Moves `count` bytes of `file` from byte `offset` on to byte `target` of output number `output`,
  /// where `extents` told that they belong.
  ///
  /// - Throws: `io.read`, `io.truncated`, `io.write`.
  func move(
    _ count: Int, of file: RandomAccessFile, at offset: Int, toOutput output: Int, at target: Int
  ) throws(Diagnostic)

  /// Completes the files (trailers, checksums, the shard index), and closes them.
  ///
  /// - Parameter sync: whether the bytes must be on the disk when it returns (`fsync`).
  /// - Throws: `io.write`.
  func finish(sync: Bool) throws(Diagnostic)
}

extension TensorSink {
  /// For sinks that tell no extents.
  public func move(
    _ count: Int, of file: RandomAccessFile, at offset: Int, toOutput output: Int, at target: Int
  ) throws(Diagnostic) {
    preconditionFailure("a sink that tells extents takes bytes there")
  }
}
