import Synchronization
public import Tensors

/// A PyTorch zip checkpoint being written: what `torch.load(weights_only=True)` reads, byte for byte
/// placed as `torch.save` places it.
///
///     let writer = try TorchWriter(
///       manifest: manifest, directory: "out", fileName: "pytorch_model.bin")
///     try writer.write(0, at: 0, bytes)  // any order, any thread
///     try writer.finish(sync: true)
///
/// Tensors are dense and contiguous; those that share storage in the manifest share it in the file.
/// The manifest's metadata and config have no place in a state dict and are not written.
public final class TorchWriter: TensorSink {
  /// Always `nil`: a zip file holds a checksum of each storage, so bytes must pass through `write`.
  public let extents: [TensorInfo.Extent?]
  /// The one file.
  public var outputs: [String] { [file.path] }

  private let file: ZipOutput
  private let fileName: String
  private let tensors: [OutputTensor]
  /// The zip entry that holds each tensor.
  private let entryOfTensor: [Int]
  private let layout: ZipLayout
  private let state: Mutex<State>

  private struct State {
    /// By zip entry; entries that are written at once have none.
    var pieces: [ChecksumPieces]
    var isFinished = false
  }

  /// Creates `directory/fileName` and writes everything but the tensors' bytes.
  ///
  /// The folder inside the archive is `fileName` without its last extension, as in `torch.save`.
  ///
  /// - Throws: `pytorch.dtype` for types that PyTorch lacks (F4, F6); `pytorch.manifest` for sizes,
  ///   names or shared storage that do not fit together; `io.create`, `io.write`.
  public init(
    manifest: OutputManifest, directory: String, fileName: String
  ) throws(Diagnostic) {
    let tensors = manifest.tensors
    self.tensors = tensors
    self.fileName = fileName
    extents = Array(repeating: nil, count: tensors.count)
    try TorchManifest.check(manifest, fileName: fileName)
    let owners = tensors.indices.filter { tensors[$0].sharesStorageWith == nil }
    var key: [Int: Int] = [:]
    for (number, owner) in owners.enumerated() { key[owner] = number }

    let pickle = TorchPickle.encode(
      tensors.indices.map { index in
        let owner = tensors[index].sharesStorageWith ?? index
        return TorchPickle.Entry(
          name: tensors[index].name.string, dtype: tensors[index].dtype,
          shape: tensors[index].shape, storage: String(key[owner]!),
          storageBytes: tensors[owner].byteCount)
      }, nesting: manifest.nesting)

    let folder = TorchManifest.folder(fileName)
    var layout = ZipLayout()
    var written: [(entry: Int, bytes: [UInt8])] = []
    func add(_ name: String, _ bytes: [UInt8]) throws(Diagnostic) {
      let entry = try layout.add(folder + "/" + name, byteCount: bytes.count)
      var sum = ZipChecksum()
      sum.update(bytes)
      layout.setChecksum(sum.value, of: entry)
      written.append((entry, bytes))
    }
    try add("data.pkl", pickle)
    try add(".format_version", Array("1".utf8))
    try add(".storage_alignment", Array("64".utf8))
    try add("byteorder", Array("little".utf8))
    var entryOfOwner: [Int: Int] = [:]
    for owner in owners {
      entryOfOwner[owner] = try layout.add(
        "\(folder)/data/\(key[owner]!)", byteCount: tensors[owner].byteCount)
    }
    try add("version", Array("3\n".utf8))
    entryOfTensor = tensors.indices.map { entryOfOwner[tensors[$0].sharesStorageWith ?? $0]! }
    self.layout = layout
    state = Mutex(
      State(pieces: Array(repeating: ChecksumPieces(), count: layout.entries.count)))

    file = try ZipOutput(path: directory + "/" + fileName)
    for (entry, bytes) in written {
      try file.write(layout.localHeader(entry) + bytes, at: layout.entries[entry].headerOffset)
    }
  }

  /// Writes `bytes` at byte `offset` of tensor number `index`.
  ///
  /// - Throws: `io.write`; `pytorch.manifest` for a tensor without storage of its own or bytes beyond
  ///   its end.
  public func write(
    _ index: Int, at offset: Int, _ bytes: UnsafeRawBufferPointer
  ) throws(Diagnostic) {
    let tensor = tensors[index]
    guard tensor.sharesStorageWith == nil else {
      throw TorchManifest.bad(
        fileName, tensor, "shares the storage of another and is never written")
    }
    guard offset >= 0, let end = offset.checkedPlus(bytes.count), end <= tensor.byteCount else {
      throw TorchManifest.bad(
        fileName, tensor,
        "has \(tensor.byteCount) bytes; \(bytes.count) at \(offset) do not fit")
    }
    let entry = entryOfTensor[index]
    try file.write(bytes, at: layout.entries[entry].dataOffset + offset)
    var sum = ZipChecksum()
    sum.update(bytes)
    state.withLock { $0.pieces[entry].add(offset..<end, sum) }
  }

  /// Writes the storages' headers and the zip directory.
  ///
  /// - Throws: `pytorch.incomplete` when bytes of a tensor were never written; `io.write`, `io.read`.
  public func finish(sync: Bool) throws(Diagnostic) {
    let pieces = state.withLock { state in
      precondition(!state.isFinished, "finished twice")
      state.isFinished = true
      return state.pieces
    }
    var layout = layout
    for index in tensors.indices where tensors[index].sharesStorageWith == nil {
      let entry = entryOfTensor[index]
      let count = tensors[index].byteCount
      if let gap = pieces[entry].firstGap(in: count) {
        throw .pytorch(
          "incomplete", "\(fileName): tensor \(shown(tensors[index].name.string))",
          "was not written whole: byte \(gap) of \(count) is missing",
          help: "the conversion was cut short; run it again")
      }
      layout.setChecksum(try sum(of: entry, pieces[entry]).value, of: entry)
      try file.write(layout.localHeader(entry), at: layout.entries[entry].headerOffset)
    }
    try file.write(layout.trailer(), at: layout.end)
    if sync { try file.sync() }
  }

  private func sum(of entry: Int, _ pieces: ChecksumPieces) throws(Diagnostic) -> ZipChecksum {
    guard pieces.isUnknown else { return pieces.sum }
    let place = layout.entries[entry]
    return try ZipChecksum.ofBytes(
      place.dataOffset..<place.dataOffset + place.byteCount,
      in: try RandomAccessFile(path: file.path))
  }
}
