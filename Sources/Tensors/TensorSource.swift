/// A checkpoint that can be read: its tensors' names, types and shapes at once, their bytes on call.
///
/// Opening reads headers only. Reading is safe from several threads.
public protocol TensorSource: Sendable {
  /// The container that it is.
  var container: Container { get }
  /// The files behind it, in an order that does not change.
  var files: [RandomAccessFile] { get }
  /// Every tensor, in the order of the file (sharded: of the index's shards).
  var tensors: [TensorInfo] { get }
  /// Texts kept beside the tensors (safetensors' `__metadata__`, HDF5's string attributes).
  var metadata: [String: String] { get }
  /// Plain values kept beside the tensors: what a pickled checkpoint holds around its state dict
  /// (`hparams`, `iter_num`, `args`…), HDF5's `config` attribute under `config`; `.null` if none.
  var attachments: JSONValue { get }
  /// What was noticed while opening and is no error.
  var warnings: [Diagnostic] { get }
  /// Entries that stand among the tensors and are none, by name, each with what it is: `a list`.
  var others: [String: String] { get }

  /// Reads the bytes `range` of tensor number `index`, dense, row-major and little-endian whatever
  /// the file's own order, into `buffer` (`range.count` bytes).
  ///
  /// - Throws: a diagnostic of the container, or `io.*`.
  func read(
    _ index: Int, bytes range: Range<Int>, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Diagnostic)
}

extension TensorSource {
  /// None.
  public var others: [String: String] { [:] }

  /// Traps unless `range` lies in tensor number `index` and `buffer` has its size: the caller's mistake,
  /// never the file's.
  package func checkRange(
    _ index: Int, _ range: Range<Int>, _ buffer: UnsafeMutableRawBufferPointer
  ) {
    precondition(
      range.lowerBound >= 0 && range.upperBound <= tensors[index].byteCount
        && range.count == buffer.count, "a range of another tensor")
  }

  /// All bytes of tensor number `index`.
  ///
  /// - Throws: as `read(_:bytes:into:)`.
  public func bytes(of index: Int) throws(Diagnostic) -> [UInt8] {
    let count = tensors[index].byteCount
    var failure: Diagnostic?
    let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
      do throws(Diagnostic) {
        try read(index, bytes: 0..<count, into: UnsafeMutableRawBufferPointer(buffer))
        initialized = count
      } catch { failure = error }
    }
    if let failure { throw failure }
    return bytes
  }
}
