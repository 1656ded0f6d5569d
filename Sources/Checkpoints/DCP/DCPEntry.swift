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
  /// - Throws: `dcp.stored-dtype`, `dcp.stored-size`, `dcp.not-a-tensor`, `dcp.storage-short`,
  ///   `dcp.transform`; what a PyTorch file is refused for, under `dcp.*`; `io.*`.
  static func read(
    _ place: DCPMetadata.Place, of file: RandomAccessFile, dtype: DType, sizes: [Int],
    subject: String
  ) throws(Problems) -> (view: StridedView, checksum: TileChecksum?) {
    do throws(Problems) {
      let part: FileStretch
      do throws(Diagnostic) {
        try checkTransforms(place, subject)
        part = try FileStretch(place.offset..<place.offset + place.length, of: file)
        try TorchArchive.checkKind(of: part)
      } catch { throw Problems([error]) }
      let archive = try TorchArchive(file: part)
      let graph = try PickleMachine.run(
        archive.pickle, subject: "\(file.name): \(archive.prefix)data.pkl")
      do throws(Diagnostic) {
        return try chunk(archive, graph, part, place, dtype, sizes, subject)
      } catch { throw Problems([error]) }
    } catch { throw error.inDCP(subject) }
  }

  private static func checkTransforms(
    _ place: DCPMetadata.Place, _ subject: String
  ) throws(Diagnostic) {
    guard !place.transforms.isEmpty else { return }
    let names = place.transforms.map { shown($0) }.joined(separator: ", ")
    throw .dcp(
      "transform", subject, "was written through \(names), which is not undone here",
      help: "load it in Python and save it again without extensions")
  }

  private static func chunk(
    _ archive: TorchArchive, _ graph: PickleGraph, _ part: FileStretch,
    _ place: DCPMetadata.Place, _ dtype: DType, _ sizes: [Int], _ subject: String
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
    view.base += place.offset
    guard let entry, entry.checksum != 0 else { return (view, nil) }
    let start = place.offset + entry.dataOffset
    let isWhole = view.isDense && view.base == start && bytes == entry.byteCount
    return (
      view,
      TileChecksum(
        expected: entry.checksum, range: start..<start + entry.byteCount, sumsPieces: isWhole,
        subject: subject)
    )
  }
}
