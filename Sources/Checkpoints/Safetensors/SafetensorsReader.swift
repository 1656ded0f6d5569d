public import Tensors

/// A single safetensors file.
public final class SafetensorsReader: TensorSource {
  /// `safetensors`.
  public var container: Container { .safetensors }
  /// The one file.
  public let files: [RandomAccessFile]
  /// The tensors in the order of the header.
  public let tensors: [TensorInfo]
  /// The texts of `__metadata__`.
  public let metadata: [String: String]
  /// Nothing: safetensors keeps no other values.
  public var attachments: JSONValue { .null }
  /// Nothing.
  public var warnings: [Diagnostic] { [] }

  /// Opens a file and reads its header.
  ///
  /// - Throws: every independent problem at once: `safetensors.*`, `io.*`.
  public init(path: String, rules: SafetensorsHeader.Rules = .strict) throws(Problems) {
    let file: RandomAccessFile
    do throws(Diagnostic) { file = try RandomAccessFile(path: path) } catch {
      throw Problems([error])
    }
    let header = try SafetensorsHeader(of: file, rules: rules)
    files = [file]
    tensors = header.tensors
    metadata = header.metadata
  }

  /// Reads the bytes `range` of tensor number `index` as they lie in the file.
  ///
  /// - Throws: `io.read`; `io.truncated` when the file shrank since it was opened.
  public func read(
    _ index: Int, bytes range: Range<Int>, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Diagnostic) {
    checkRange(index, range, buffer)
    try files[0].read(at: (tensors[index].extent?.offset ?? 0) + range.lowerBound, into: buffer)
  }
}
