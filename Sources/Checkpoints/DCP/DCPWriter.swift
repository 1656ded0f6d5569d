import Synchronization
public import Tensors

/// A sharded checkpoint being written, as `torch.distributed.checkpoint.save` of so many ranks leaves
/// it: `__0_0.distcp` and so on, and the index `.metadata` last.
///
/// `torch.distributed.checkpoint.load` reads it into models on any number of ranks.
public final class DCPWriter: TensorSink {
  /// Always `nil`: each chunk carries a checksum, so bytes must pass through `write`.
  public let extents: [TensorInfo.Extent?]
  /// The ranks' files, then the index.
  public let outputs: [String]

  private let files: [OutputFile]
  private let tensors: [OutputTensor]
  /// The chunks of each tensor.
  private let chunks: [[Chunk]]
  /// Tensors that share the storage of each; the index has no word for it, so each is written.
  private let followers: [[Int]]
  private let index: [UInt8]
  private let state: Mutex<[[ChecksumPieces]]>

  /// The name of the index.
  public static let indexName = DCPFiles.indexName
  /// Ranks that one checkpoint may have here: each has a file open.
  public static let rankLimit = 1000

  /// A chunk, which is a zip file of its own inside its rank's file.
  private struct Chunk {
    var part: DCPRanks.Part
    var zip: ZipLayout
    /// The entry of the zip that holds the numbers.
    var entry: Int
    /// Where the zip begins in the rank's file.
    var offset: Int
    var length: Int
    /// What else is in the zip.
    var written: [(entry: Int, bytes: [UInt8])]
  }

  /// Creates the files of `manifest.ranks` ranks in `directory`.
  ///
  /// Names stand under the key `manifest.nesting`, or at the top level.
  ///
  /// - Throws: `pytorch.dtype`, `pytorch.manifest`, `dcp.ranks`, `io.write`.
  public init(manifest: OutputManifest, directory: String) throws(Diagnostic) {
    try TorchManifest.check(manifest, fileName: DCPFiles.indexName)
    guard (1...Self.rankLimit).contains(manifest.ranks) else {
      throw .dcp(
        "ranks", directory, "cannot be written by \(manifest.ranks) ranks",
        help: "give 1 to \(Self.rankLimit)")
    }
    if let key = manifest.nesting, DCPSelection.isTrainingState(key) {
      throw .dcp(
        "prefix", directory,
        "cannot hold a model under \(shown(key)), where trainers keep other state",
        help: "give model, or no prefix")
    }
    let ranks = DCPRanks(count: manifest.ranks)
    tensors = manifest.tensors
    extents = tensors.map { _ in nil }
    var followers = tensors.map { _ in [Int]() }
    for (number, tensor) in tensors.enumerated() {
      if let owner = tensor.sharesStorageWith { followers[owner].append(number) }
    }
    self.followers = followers
    var ends = [Int](repeating: 0, count: manifest.ranks)
    var chunks: [[Chunk]] = []
    var entries: [DCPIndexPickle.Entry] = []
    for tensor in tensors {
      var own: [Chunk] = []
      var listed: [DCPIndexPickle.Chunk] = []
      for part in ranks.parts(of: tensor) {
        var chunk = try Self.chunk(part, of: tensor)
        chunk.offset = ends[part.rank]
        guard let end = chunk.offset.checkedPlus(chunk.length) else {
          throw .pytorch("too-large", tensor.name.string, "does not fit a file")
        }
        ends[part.rank] = end
        listed.append(
          DCPIndexPickle.Chunk(
            box: part.box, file: Self.fileName(part.rank), offset: chunk.offset,
            length: chunk.length))
        own.append(chunk)
      }
      chunks.append(own)
      entries.append(
        DCPIndexPickle.Entry(
          path: (manifest.nesting.map { [$0] } ?? []) + [tensor.name.string],
          dtype: TorchDType.name(tensor.dtype), dims: tensor.shape.dims, chunks: listed))
    }
    self.chunks = chunks
    index = DCPIndexPickle.encode(entries)
    state = Mutex(chunks.map { $0.map { _ in ChecksumPieces() } })
    var files: [OutputFile] = []
    for (rank, byteCount) in ends.enumerated() {
      files.append(
        try OutputFile(path: directory + "/" + Self.fileName(rank), byteCount: byteCount))
    }
    self.files = files
    outputs = files.map(\.path) + [directory + "/" + DCPFiles.indexName]
  }

  /// The names of the files that so many ranks write, the index last.
  public static func names(ranks: Int) -> [String] {
    (0..<min(max(ranks, 0), rankLimit)).map(fileName) + [DCPFiles.indexName]
  }

  /// `__2_0.distcp`.
  private static func fileName(_ rank: Int) -> String { "__\(rank)_0.distcp" }

  /// The zip of a chunk, its place not yet known.
  private static func chunk(
    _ part: DCPRanks.Part, of tensor: OutputTensor
  ) throws(Diagnostic) -> Chunk {
    let pickle = TorchPickle.encode(
      TorchPickle.Entry(
        name: "", dtype: tensor.dtype, shape: Shape(part.box.sizes), storage: "0",
        storageBytes: part.byteCount))
    var zip = ZipLayout()
    var written: [(entry: Int, bytes: [UInt8])] = []
    func add(_ name: String, _ bytes: [UInt8]) throws(Diagnostic) {
      let entry = try zip.add("archive/" + name, byteCount: bytes.count)
      var sum = ZipChecksum()
      sum.update(bytes)
      zip.setChecksum(sum.value, of: entry)
      written.append((entry, bytes))
    }
    try add("data.pkl", pickle)
    try add(".format_version", Array("1".utf8))
    try add(".storage_alignment", Array("64".utf8))
    try add("byteorder", Array("little".utf8))
    let entry = try zip.add("archive/data/0", byteCount: part.byteCount)
    try add("version", Array("3\n".utf8))
    guard let length = zip.end.checkedPlus(zip.trailer().count) else {
      throw .pytorch("too-large", tensor.name.string, "does not fit a file")
    }
    return Chunk(part: part, zip: zip, entry: entry, offset: 0, length: length, written: written)
  }

  /// Writes `bytes` at byte `offset` of tensor number `index`, each rank's rows to its file.
  ///
  /// - Throws: `io.write`; `pytorch.manifest` for a tensor that shares another's storage, or bytes
  ///   beyond its end.
  public func write(
    _ index: Int, at offset: Int, _ bytes: UnsafeRawBufferPointer
  ) throws(Diagnostic) {
    let tensor = tensors[index]
    guard tensor.sharesStorageWith == nil, offset >= 0,
      let end = offset.checkedPlus(bytes.count), end <= tensor.byteCount
    else {
      throw TorchManifest.bad(
        DCPFiles.indexName, tensor,
        "has \(tensor.byteCount) bytes of its own; \(bytes.count) at \(offset) do not fit")
    }
    for number in [index] + followers[index] {
      let limit = min(end, tensors[number].byteCount)
      guard offset < limit else { continue }
      try scatter(number, offset..<limit, bytes)
    }
  }

  private func scatter(
    _ number: Int, _ range: Range<Int>, _ bytes: UnsafeRawBufferPointer
  ) throws(Diagnostic) {
    let own = chunks[number]
    // Chunks are in the order of their rows.
    var low = 0
    var high = own.count
    while low < high {
      let middle = (low + high) / 2
      if own[middle].part.start + own[middle].part.byteCount > range.lowerBound {
        high = middle
      } else {
        low = middle + 1
      }
    }
    while low < own.count, own[low].part.start < range.upperBound {
      let chunk = own[low]
      let from = max(range.lowerBound, chunk.part.start)
      let to = min(range.upperBound, chunk.part.start + chunk.part.byteCount)
      if from < to {
        let part = UnsafeRawBufferPointer(
          rebasing: bytes[from - range.lowerBound..<to - range.lowerBound])
        let inside = from - chunk.part.start
        try files[chunk.part.rank].write(
          at: chunk.offset + chunk.zip.entries[chunk.entry].dataOffset + inside, part)
        var sum = ZipChecksum()
        sum.update(part)
        let place = low
        state.withLock { $0[number][place].add(inside..<inside + to - from, sum) }
      }
      low += 1
    }
  }

  /// Completes the zips, closes the ranks' files, and writes the index last.
  ///
  /// - Throws: `dcp.incomplete` when bytes of a tensor were never written; `io.write`, `io.read`.
  public func finish(sync: Bool) throws(Diagnostic) {
    let sums = state.withLock { $0 }
    for (number, tensor) in tensors.enumerated() {
      for (place, chunk) in chunks[number].enumerated() {
        try complete(chunk, sums[number][place], tensor)
      }
    }
    for file in files { try file.finish(sync: sync) }
    let file = try OutputFile(path: outputs[outputs.count - 1], byteCount: index.count)
    try file.write(at: 0, index)
    try file.finish(sync: sync)
  }

  private func complete(
    _ chunk: Chunk, _ pieces: ChecksumPieces, _ tensor: OutputTensor
  ) throws(Diagnostic) {
    let file = files[chunk.part.rank]
    if let gap = pieces.firstGap(in: chunk.part.byteCount) {
      throw .dcp(
        "incomplete", "\(file.path): tensor \(shown(tensor.name.string))",
        "was not written whole: byte \(chunk.part.start + gap) of \(tensor.byteCount) is missing",
        help: "the conversion was cut short; run it again")
    }
    var zip = chunk.zip
    let place = zip.entries[chunk.entry]
    let start = chunk.offset + place.dataOffset
    let sum =
      pieces.isUnknown
      ? try ZipChecksum.ofBytes(
        start..<start + chunk.part.byteCount, in: try RandomAccessFile(path: file.path))
      : pieces.sum
    zip.setChecksum(sum.value, of: chunk.entry)
    for (entry, bytes) in chunk.written {
      try file.write(
        at: chunk.offset + zip.entries[entry].headerOffset, zip.localHeader(entry) + bytes)
    }
    try file.write(
      at: chunk.offset + place.headerOffset, zip.localHeader(chunk.entry))
    try file.write(at: chunk.offset + zip.end, zip.trailer())
  }
}
