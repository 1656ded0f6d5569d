import Synchronization
public import Tensors

/// Writes a numpy archive: stored entries, row-major and little-endian.
///
/// numpy has no bfloat16; such tensors are two opaque bytes (`V2`), as ml_dtypes and MLX write them.
public final class NpzWriter: TensorSink {
  /// Always `nil`: a zip file holds a checksum of each array, so bytes must pass through `write`.
  public let extents: [TensorInfo.Extent?]
  /// The one file.
  public var outputs: [String] { [file.path] }

  private let file: ZipOutput
  private let tensors: [OutputTensor]
  private let heads: [[UInt8]]
  private let layout: ZipLayout
  private let pieces: Mutex<[ChecksumPieces]>

  /// Creates `directory/fileName` and writes every array's head.
  ///
  /// - Throws: `npz.dtype` for a type that numpy lacks, `npz.name`, `npz.shared-storage`; `io.*`.
  public init(
    manifest: OutputManifest, directory: String, fileName: String
  ) throws(Diagnostic) {
    tensors = manifest.tensors
    extents = Array(repeating: nil, count: tensors.count)
    var layout = ZipLayout()
    var heads: [[UInt8]] = []
    var names: Set<TensorName> = []
    for tensor in manifest.tensors {
      let subject = "\(fileName): array \(shown(tensor.name.string))"
      func bad(_ code: String, _ message: String) -> Diagnostic {
        Diagnostic(code: "npz.\(code)", subject: subject, message: message)
      }
      guard tensor.sharesStorageWith == nil else {
        throw bad("shared-storage", "shares another's storage, which npz cannot say")
      }
      let parts = tensor.name.string.split(separator: "/", omittingEmptySubsequences: false)
      guard !tensor.name.string.isEmpty, parts.allSatisfy({ !$0.isEmpty && $0 != ".." }),
        !tensor.name.string.utf8.contains(where: { $0 == 0 || $0 == UInt8(ascii: "\\") }),
        tensor.name.string.utf8.count < 65_000
      else { throw bad("name", "has a name that a zip entry cannot have") }
      guard names.insert(tensor.name).inserted else { throw bad("name", "is there twice") }
      guard let descr = NpyHeader.descr(tensor.dtype) else {
        throw bad("dtype", "is \(tensor.dtype.rawValue), which numpy has no type for")
      }
      let head = NpyHeader.encoded(descr, tensor.shape)
      guard let count = head.count.checkedPlus(tensor.byteCount) else {
        throw bad("size", "is too large")
      }
      _ = try layout.add(tensor.name.string + ".npy", byteCount: count)
      heads.append(head)
    }
    self.heads = heads
    self.layout = layout
    pieces = Mutex(Array(repeating: ChecksumPieces(), count: manifest.tensors.count))
    file = try ZipOutput(path: directory + "/" + fileName)
    for (number, head) in heads.enumerated() {
      try file.write(head, at: layout.entries[number].dataOffset)
    }
  }

  /// Writes `bytes` at byte `offset` of array number `index`.
  ///
  /// - Throws: `io.write`.
  public func write(
    _ index: Int, at offset: Int, _ bytes: UnsafeRawBufferPointer
  ) throws(Diagnostic) {
    precondition(offset >= 0 && offset <= tensors[index].byteCount)
    precondition(bytes.count <= tensors[index].byteCount - offset)
    try file.write(bytes, at: layout.entries[index].dataOffset + heads[index].count + offset)
    var sum = ZipChecksum()
    sum.update(bytes)
    pieces.withLock { $0[index].add(offset..<offset + bytes.count, sum) }
  }

  /// Writes the entries' headers and the zip directory.
  ///
  /// - Throws: `npz.incomplete` when bytes of an array were never written; `io.write`, `io.read`.
  public func finish(sync: Bool) throws(Diagnostic) {
    let pieces = pieces.withLock { $0 }
    var layout = layout
    for (number, tensor) in tensors.enumerated() {
      if let gap = pieces[number].firstGap(in: tensor.byteCount) {
        throw Diagnostic(
          code: "npz.incomplete", subject: tensor.name.string,
          message: "was not written whole: byte \(gap) of \(tensor.byteCount) is missing",
          help: "the conversion was cut short; run it again")
      }
      let entry = layout.entries[number]
      var sum = ZipChecksum()
      sum.update(heads[number])
      if pieces[number].isUnknown {
        sum = try ZipChecksum.ofBytes(
          entry.dataOffset..<entry.dataOffset + entry.byteCount,
          in: try RandomAccessFile(path: file.path))
      } else {
        sum.append(pieces[number].sum, count: tensor.byteCount)
      }
      layout.setChecksum(sum.value, of: number)
      try file.write(layout.localHeader(number), at: layout.entries[number].headerOffset)
    }
    try file.write(layout.trailer(), at: layout.end)
    if sync { try file.sync() }
  }
}
