import Dispatch
import Synchronization
public import Tensors

/// A sharded checkpoint of `torch.distributed.checkpoint`: a directory of every rank's files, read
/// without running anything of it and without PyTorch.
///
///     let reader = try DCPReader(directory: "run/checkpoint/step-2048")
///     reader.tensors[0].shape      // of the whole tensor
///     try reader.bytes(of: 0)      // its rows from every rank, in order
///
/// Opening reads the index, and of each chunk of the model what it says of itself. Optimizers and
/// other state are passed over unread.
public final class DCPReader: TiledSource {
  /// `.dcp`.
  public let container = Container.dcp
  /// The files that hold the model, then the index.
  public let files: [RandomAccessFile]
  /// Every tensor of the model, under its name in the model.
  public let tensors: [TensorInfo]
  /// Always empty.
  public let metadata: [String: String] = [:]
  /// What Lightning keeps in `meta.pt` beside the files: `hparams`, `iter_num`…
  public let attachments: JSONValue
  /// What the checkpoint is, what was passed over, and files that are not of it.
  public let warnings: [Diagnostic]

  /// What is left of `key` for the tensors' names, when nothing stands under it.
  let keyRest: String?
  /// The keys of the saved dict.
  let models: [String]

  private let tiled: [TiledTensor]

  /// Bytes that an index may have.
  private static let indexLimit = 1 << 30

  /// Opens the checkpoint in `directory`.
  ///
  /// - Parameter key: the dotted path of the model in the saved dict, where there are several; `""`
  ///   for the top level.
  /// - Throws: every problem found, all with codes `dcp.*` or `io.*`: `dcp.unfinished` without an
  ///   index, `dcp.hole` and `dcp.overlap` for chunks that do not fill a tensor, `dcp.missing-file`,
  ///   `dcp.dangerous-global` for pickles that would run code in Python, and so on.
  public convenience init(directory given: String, key: String? = nil) throws(Problems) {
    try self.init(directory: given, choosing: key)
    if let keyRest {
      throw Problems([.unknownKey(keyRest, FilePath.name(of: given), models: models)])
    }
  }

  /// Opens the checkpoint; what is left of `key` is in `keyRest`.
  init(directory given: String, choosing key: String?) throws(Problems) {
    let directory = FilePath.trimmed(given)
    let names: [String]
    let index: RandomAccessFile
    let bytes: [UInt8]
    do throws(Diagnostic) {
      names = try FilePath.names(in: directory)
      try DCPFiles.checkFinished(names, in: directory)
      index = try Self.index(in: directory)
      bytes = try index.bytes(at: 0, count: index.byteCount)
    } catch { throw Problems([error]) }
    let subject = index.path
    let metadata = try DCPMetadata(parsing: bytes, subject: subject)
    let selection = try DCPSelection(metadata, key: key, subject: subject)
    keyRest = selection.keyRest
    models = selection.keys
    let places = try metadata.places()
    try Self.checkRanges(places, subject)

    var problems = ProblemList()
    var found = DCPFiles(directory: directory)
    var described: [(member: DCPSelection.Member, tensor: DCPMetadata.Tensor)] = []
    var chunks: [Chunk] = []
    for member in selection.members {
      do throws(Diagnostic) {
        let item = metadata.items[member.item]
        let tensor = try metadata.tensor(item)
        for (box, place) in tensor.chunks {
          let file = shown(place.file, quoted: false)
          let subject = "\(directory)/\(file): tensor \(shown(item.name))"
          chunks.append(
            Chunk(
              tensor: described.count, box: box, place: place,
              file: try found.number(of: place, subject: subject), subject: subject))
        }
        described.append((member, tensor))
      } catch { problems.add(error) }
    }
    try problems.check()
    let entries = try Self.entries(chunks, described.map { $0.tensor.dtype }, found.files)

    var tiles = described.map { _ in [TiledTensor.Tile]() }
    for (chunk, entry) in zip(chunks, entries) {
      tiles[chunk.tensor].append(
        TiledTensor.Tile(
          box: chunk.box, file: chunk.file, view: entry.view, checksum: entry.checksum))
    }
    var tensors: [TensorInfo] = []
    var tiled: [TiledTensor] = []
    for (number, (member, tensor)) in described.enumerated() {
      let own = tiles[number]
      let shape = Shape(tensor.dims)
      tensors.append(
        TensorInfo(
          name: TensorName(member.name), dtype: tensor.dtype, shape: shape,
          byteCount: shape.byteCount(of: tensor.dtype)!,
          file: own.first.map { found.files[$0.file].name } ?? DCPFiles.indexName,
          extent: Self.extent(own)))
      tiled.append(
        TiledTensor(dims: tensor.dims, itemSize: tensor.dtype.bitWidth / 8, tiles: own))
    }
    self.tensors = tensors
    self.tiled = tiled
    files = found.files + [index]
    let meta = try Self.attachments(names, in: directory)
    attachments = meta.attachments
    warnings =
      DCPNotes.notes(
        metadata, selection, used: Set(places.map { TensorName($0.place.file) }), names: names,
        directory: directory)
      + (meta.warning.map { [$0] } ?? [])
  }

  /// A chunk of the model, and where it is.
  private struct Chunk: Sendable {
    var tensor: Int
    var box: DCPMetadata.Box
    var place: DCPMetadata.Place
    var file: Int
    var subject: String
  }

  private static func index(in directory: String) throws(Diagnostic) -> RandomAccessFile {
    let path = directory + "/" + DCPFiles.indexName
    if let real = FilePath.outside(path, of: directory) {
      throw .dcp(
        "symlink", path, "is a link to \(shown(real)), outside the directory",
        help: "copy the file into the directory if you trust it")
    }
    let file = try RandomAccessFile(path: path)
    guard file.byteCount <= indexLimit else {
      throw .dcp(
        "metadata-size", path, "has \(file.byteCount) bytes; at most \(indexLimit) are read")
    }
    return file
  }

  /// No two chunks share bytes, whatever they belong to. Items that are no tensors are never opened, and
  /// say nothing.
  private static func checkRanges(
    _ all: [(name: String, offsets: [Int]?, place: DCPMetadata.Place)], _ subject: String
  ) throws(Problems) {
    var places = all.filter { $0.offsets != nil && $0.place.length > 0 }
    places.sort {
      $0.place.file != $1.place.file
        ? TensorName($0.place.file) < TensorName($1.place.file)
        : ($0.place.offset, $0.place.length) < ($1.place.offset, $1.place.length)
    }
    var problems = ProblemList()
    for (one, next) in zip(places, places.dropFirst())
    where TensorName(one.place.file) == TensorName(next.place.file)
      && next.place.offset < one.place.offset + one.place.length
    {
      // One key twice with one place says the same twice.
      if one.place == next.place, one.offsets == next.offsets,
        TensorName(one.name) == TensorName(next.name)
      {
        continue
      }
      problems.add(
        .dcp(
          "shared-bytes", "\(subject): \(shown(next.name))",
          "is said to lie at byte \(next.place.offset) of \(shown(next.place.file)), inside"
            + " \(shown(one.name)), which ends at byte \(one.place.offset + one.place.length)",
          help: Diagnostic.fetchDirectoryAgain))
    }
    try problems.check()
  }

  /// What the chunks say of themselves, looked at by several threads.
  private static func entries(
    _ chunks: [Chunk], _ dtypes: [DType], _ files: [RandomAccessFile]
  ) throws(Problems) -> [(view: StridedView, checksum: TileChecksum?)] {
    typealias Entry = (view: StridedView, checksum: TileChecksum?)
    let threads = chunks.count < 64 ? 1 : 4
    let results = Mutex([[Result<Entry, Problems>]](repeating: [], count: threads))
    let size = (chunks.count + threads - 1) / max(threads, 1)
    DispatchQueue.concurrentPerform(iterations: threads) { thread in
      let part = chunks.dropFirst(thread * size).prefix(size)
      var own: [Result<Entry, Problems>] = []
      own.reserveCapacity(part.count)
      for chunk in part {
        do throws(Problems) {
          own.append(
            .success(
              try DCPEntry.read(
                chunk.place, of: files[chunk.file], dtype: dtypes[chunk.tensor],
                sizes: chunk.box.sizes, subject: chunk.subject)))
        } catch { own.append(.failure(error)) }
      }
      results.withLock { [own] in $0[thread] = own }
    }
    var problems = ProblemList()
    var entries: [Entry] = []
    for result in results.withLock({ $0 }).joined() {
      switch result {
      case .success(let entry): entries.append(entry)
      case .failure(let found): for problem in found.diagnostics { problems.add(problem) }
      }
    }
    try problems.check()
    return entries
  }

  /// Where a tensor's bytes lie together. One with a checksum is read, so that damage shows.
  private static func extent(_ tiles: [TiledTensor.Tile]) -> TensorInfo.Extent? {
    guard tiles.count == 1, tiles[0].checksum == nil, tiles[0].view.isDense else { return nil }
    return TensorInfo.Extent(file: tiles[0].file, offset: tiles[0].view.base)
  }

  /// How tensor number `index` is cut.
  public func grid(of index: Int) -> String? { tiled[index].grid }

  /// Reads the bytes `range` of tensor number `index`, row-major, from the chunks that hold them.
  ///
  /// - Throws: `dcp.checksum` for a chunk that is damaged, with the read that completes it; `io.*`.
  public func read(
    _ index: Int, bytes range: Range<Int>, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Diagnostic) {
    checkRange(index, range, buffer)
    try tiled[index].read(range, from: files, into: buffer)
  }

  /// Lightning's `meta.pt`.
  private static func attachments(
    _ names: [String], in directory: String
  ) throws(Problems) -> (attachments: JSONValue, warning: Diagnostic?) {
    guard names.contains("meta.pt") else { return (.null, nil) }
    let path = directory + "/meta.pt"
    do throws(Problems) {
      let file: RandomAccessFile
      do throws(Diagnostic) {
        file = try RandomAccessFile(path: path)
        try TorchArchive.checkKind(of: file)
      } catch { throw Problems([error]) }
      let archive = try TorchArchive(file: file)
      let graph = try PickleMachine.run(
        archive.pickle, subject: "\(file.name): \(archive.prefix)data.pkl")
      let storages = StorageTable(
        file: file, directory: archive.directory, prefix: archive.prefix)
      var attachments = Attachments(
        graph: graph, decoder: TensorDecoder(graph: graph, storages: storages),
        omitting: PickleRef(index: .max))
      return (attachments.json(), nil)
    } catch {
      // A file that would run code is no slip.
      let fatal = ["pytorch.dangerous-global", "pytorch.computed-callable"]
      if error.diagnostics.contains(where: { fatal.contains($0.code) }) {
        throw error.inDCP(path)
      }
      return (
        .null,
        Diagnostic(
          .warning, code: "dcp.meta", subject: path,
          message: "cannot be read: \(error.diagnostics.first?.message ?? "")",
          notes: ["the tensors do not need it; hyper-parameters that it holds are not known"])
      )
    }
  }
}
