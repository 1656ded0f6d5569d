import Tensors

/// A stored chunk: a whole file of `torch.save` inside another file, holding one plain tensor.
enum DCPEntry {
  /// Reads what the entry says of itself, and compares it with the index.
  ///
  /// - Parameters:
  ///   - place: where it lies; inside the file, as was checked.
  ///   - dtype: the type that the index gives the tensor.
  ///   - sizes: the extents that the index gives the chunk.
  ///   - subject: names tensor and file in messages.
  /// - Returns: its elements, in `decoded` where the entry was compressed, and the sum of its bytes.
  /// - Throws: `dcp.stored-dtype`, `dcp.stored-size`, `dcp.not-a-tensor`, `dcp.storage-short`,
  ///   `dcp.transform`, `dcp.transform-damaged`, `dcp.transform-size`, `dcp.no-library`; what a PyTorch file is refused for, under `dcp.*`; `io.*`.
  static func read(
    _ place: DCPMetadata.Place, of file: RandomAccessFile, dtype: DType, sizes: [Int],
    subject: String
  ) throws(Problems) -> (view: StridedView, checksum: TileChecksum?, decoded: ZstdEntry?) {
    do throws(Problems) {
      let part: any StoredBytes
      var decoded: ZstdEntry?
      do throws(Diagnostic) {
        let range = place.offset..<place.offset + place.length
        if try isCompressed(place, subject) {
          let bytes = Shape(sizes).byteCount(of: dtype) ?? 0
          let entry = try ZstdEntry(
            range, of: file, limit: bytes.checkedPlus(slackBytes) ?? .max, subject: subject)
          decoded = entry
          part = entry
        } else {
          part = try FileStretch(range, of: file)
        }
        try TorchArchive.checkKind(of: part)
      } catch { throw Problems([error]) }
      let archive = try TorchArchive(file: part)
      let graph = try PickleMachine.run(
        archive.pickle, subject: "\(file.name): \(archive.prefix)data.pkl")
      do throws(Diagnostic) {
        let (view, checksum) = try chunk(
          archive, graph, part, base: decoded == nil ? place.offset : 0, dtype, sizes, subject)
        return (view, checksum, decoded)
      } catch { throw Problems([error]) }
    } catch { throw error.inDCP(subject) }
  }

  /// Bytes that a zip file with one tensor has besides, with room to spare.
  private static let slackBytes = 1 << 20

  /// Whether an entry was compressed with zstd, which is the only transform that is undone here.
  private static func isCompressed(
    _ place: DCPMetadata.Place, _ subject: String
  ) throws(Diagnostic) -> Bool {
    guard !place.transforms.isEmpty else { return false }
    if place.transforms == ["stream.zstd/1"] { return true }
    let names = place.transforms.map { shown($0) }.joined(separator: ", ")
    throw .dcp(
      "transform", subject, "was written through \(names), which is not undone here",
      help: "load it in Python and save it again without extensions")
  }

  private static func chunk(
    _ archive: TorchArchive, _ graph: PickleGraph, _ part: any StoredBytes, base: Int,
    _ dtype: DType, _ sizes: [Int], _ subject: String
  ) throws(Diagnostic) -> (view: StridedView, checksum: TileChecksum?) {
    let storages = StorageTable(file: part, directory: archive.directory, prefix: archive.prefix)
    let decoder = TensorDecoder(graph: graph, storages: storages)
    guard decoder.kind(graph.root) == .tensor else {
      throw .dcp(
        "not-a-tensor", subject, "holds \(graph.kind(graph.root)) where a plain tensor belongs",
        help: "tensor subclasses are read by what wrote them; save plain tensors")
    }
    let (stored, storedView, storageBytes) = try decoder.tensor(
      graph.root, subject: TensorSubject(file: part.name, name: subject))
    guard stored == dtype else {
      throw .dcp(
        "stored-dtype", subject,
        "is stored as \(stored.rawValue), but the index says \(dtype.rawValue)",
        help: Diagnostic.fetchDirectoryAgain)
    }
    guard storedView.dims == sizes else {
      throw .dcp(
        "stored-size", subject,
        "is stored with size \(Shape(storedView.dims)), but the index says \(Shape(sizes))",
        help: Diagnostic.fetchDirectoryAgain)
    }
    let bytes = Shape(sizes).byteCount(of: dtype) ?? .max
    guard storageBytes >= bytes else {
      throw .dcp(
        "storage-short", subject,
        "takes \(bytes) bytes, but \(storageBytes) are stored",
        help: "PyTorch writes no such chunks; do not trust the checkpoint")
    }
    // The one storage that the tensor uses; others are nobody's.
    let entry = archive.directory.entries.first { entry in
      entry.name.hasPrefix(archive.prefix + "data/") && entry.dataOffset <= storedView.base
        && storedView.base < entry.dataOffset + entry.byteCount
    }
    var view = storedView
    view.base += base
    guard let entry, entry.checksum != 0 else { return (view, nil) }
    let start = base + entry.dataOffset
    let isWhole = view.isDense && view.base == start && bytes == entry.byteCount
    return (
      view,
      TileChecksum(
        expected: entry.checksum, range: start..<start + entry.byteCount, sumsPieces: isWhole,
        subject: subject)
    )
  }
}
