import Synchronization
public import Tensors

/// Reads an HDF5 checkpoint: datasets in nested groups, with dotted names, or both.
///
/// A tensor's name is its path with dots for slashes. Contiguous little-endian datasets are read by
/// their place in the file; others are unpacked and put in order here, chunk by chunk.
public final class HDF5Reader: TensorSource {
  /// Always `.hdf5`.
  public let container = Container.hdf5
  /// The one file.
  public let files: [RandomAccessFile]
  /// Every dataset, in the order in which the groups list them; names that lead to one dataset have
  /// one extent.
  public let tensors: [TensorInfo]
  /// The root's string attributes, `config` apart.
  public let metadata: [String: String]
  /// `{"config": …}` where the root has an attribute `config` with a JSON text.
  public let attachments: JSONValue
  /// Attributes and objects that were passed over.
  public let warnings: [Diagnostic]

  private let datasets: [HDF5Dataset]
  private let open: HDF5OpenFile?
  private let cache = Mutex(HDF5ChunkCache())

  /// Opens the file and lists its tensors; reads no data.
  ///
  /// - Throws: everything that is wrong with the file: `hdf5.*`, `io.*`; `hdf5.no-library`.
  public init(path: String) throws(Problems) {
    let file: RandomAccessFile
    do throws(Diagnostic) {
      file = try RandomAccessFile(path: path)
      try HDF5Superblock.check(file)
      try HDF5Library.load()
    } catch { throw Problems([error]) }
    let contents = try HDF5Library.run { session throws(Problems) in
      try HDF5Contents(session, file)
    }
    files = [file]
    datasets = contents.datasets
    open = contents.handle.map { HDF5OpenFile($0) }
    metadata = contents.metadata
    attachments = contents.attachments
    warnings = contents.warnings
    tensors = zip(contents.names, contents.datasets).map { name, dataset in
      var extent: TensorInfo.Extent?
      if case .contiguous(let offset) = dataset.storage, dataset.element.swap == 1 {
        extent = TensorInfo.Extent(file: 0, offset: offset)
      }
      return TensorInfo(
        name: name, dtype: dataset.element.dtype, shape: dataset.shape,
        byteCount: dataset.byteCount, file: file.name, extent: extent)
    }
  }

  /// Reads the bytes `range` of tensor number `index`, dense, row-major and little-endian, into
  /// `buffer` (`range.count` bytes).
  ///
  /// Memory: at most one chunk and `HDF5ChunkCache.limit` beside the buffer.
  ///
  /// - Throws: `hdf5.chunk` for a chunk that is damaged, `hdf5.corrupt`, `io.*`.
  public func read(
    _ index: Int, bytes range: Range<Int>, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Diagnostic) {
    checkRange(index, range, buffer)
    let dataset = datasets[index]
    if range.isEmpty { return }
    let size = dataset.element.byteCount
    if case .contiguous(let offset) = dataset.storage, dataset.element.swap == 1 {
      return try files[0].read(at: offset + range.lowerBound, into: buffer)
    }
    // Whole elements go straight into the buffer; a part of one at either end goes by a scratch.
    var position = range.lowerBound
    if position % size != 0 {
      let end = min(range.upperBound, position + size - position % size)
      try readPart(index, position..<end, into: buffer, at: 0)
      position = end
    }
    let wholeEnd = range.upperBound - range.upperBound % size
    if position < wholeEnd {
      let start = position - range.lowerBound
      try readElements(
        index, position / size..<wholeEnd / size,
        into: UnsafeMutableRawBufferPointer(
          rebasing: buffer[start..<start + wholeEnd - position]))
      position = wholeEnd
    }
    if position < range.upperBound {
      try readPart(
        index, position..<range.upperBound, into: buffer, at: position - range.lowerBound)
    }
  }

  /// Reads bytes of a single element.
  private func readPart(
    _ index: Int, _ range: Range<Int>, into buffer: UnsafeMutableRawBufferPointer, at start: Int
  ) throws(Diagnostic) {
    let size = datasets[index].element.byteCount
    let element = range.lowerBound / size
    var failure: Diagnostic?
    withUnsafeTemporaryAllocation(byteCount: size, alignment: 8) { scratch in
      do throws(Diagnostic) {
        try readElements(index, element..<element + 1, into: scratch)
        let first = range.lowerBound - element * size
        UnsafeMutableRawBufferPointer(rebasing: buffer[start...]).copyMemory(
          from: UnsafeRawBufferPointer(rebasing: scratch[first..<first + range.count]))
      } catch { failure = error }
    }
    if let failure { throw failure }
  }

  private func readElements(
    _ index: Int, _ range: Range<Int>, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Diagnostic) {
    let dataset = datasets[index]
    let size = dataset.element.byteCount
    switch dataset.storage {
    case .contiguous(let offset):
      try files[0].read(at: offset + range.lowerBound * size, into: buffer)
    case .unwritten:
      Self.fill(buffer, with: dataset.fill)
    case .compact:
      let bytes = try compactBytes(index)
      buffer.copyBytes(from: bytes[range.lowerBound * size..<range.upperBound * size])
    case .chunked(let grid):
      for box in grid.boxes(range) {
        try grid.eachChunk(of: box) { place throws(Diagnostic) in
          let bytes = try chunk(index, grid, place)
          bytes.withUnsafeBytes {
            grid.copy(box, ofChunkAt: place, from: $0, into: buffer, first: range.lowerBound)
          }
        }
      }
    }
    ByteOrder.reverse(each: dataset.element.swap, in: buffer)
  }

  /// All bytes of a compact dataset: at most 64 KiB.
  private func compactBytes(_ index: Int) throws(Diagnostic) -> [UInt8] {
    let dataset = datasets[index]
    return try HDF5Library.run { session throws(Diagnostic) in
      do throws(HDF5Failure) {
        let handle = try handle(index, session)
        return try session.readAll(handle, byteCount: dataset.byteCount)
      } catch { throw error.diagnostic(files[0].name, path: dataset.path) }
    }
  }

  /// The unpacked bytes of one chunk.
  private func chunk(
    _ index: Int, _ grid: HDF5ChunkGrid, _ place: [Int]
  ) throws(Diagnostic) -> [UInt8] {
    let key = HDF5ChunkCache.Key(dataset: index, place: place)
    if let bytes = cache.withLock({ $0.find(key) }) { return bytes }
    let dataset = datasets[index]
    let origin = zip(place, grid.chunk).prefix(grid.storedRank).map { $0 * $1 }
    func damaged(_ message: String) -> Diagnostic {
      .hdf5(
        "chunk", files[0].name, path: dataset.path,
        "the chunk at element \(Shape(origin)) cannot be read: \(message)",
        help: "the file is damaged; fetch or write it again")
    }
    let stored = try HDF5Library.run { session throws(Diagnostic) in
      do throws(HDF5Failure) {
        let handle = try handle(index, session)
        guard let count = try session.chunkByteCount(handle, at: origin) else {
          return [UInt8]?.none.map { ($0, UInt32(0)) }
        }
        // gzip never grows data by more than a thousandth and a few bytes, and lzf never.
        guard count <= UInt64(files[0].byteCount),
          count <= UInt64(grid.chunkBytes + grid.chunkBytes / 512 + 4096)
        else { return ([], UInt32.max) }
        return try session.readChunk(handle, at: origin, byteCount: Int(count))
      } catch { throw damaged(error.stack.last ?? "libhdf5 gives no reason") }
    }
    let bytes: [UInt8]
    if let (packed, mask) = stored {
      let skipped = grid.plainEdges && grid.isEdge(place) ? UInt32.max : mask
      switch grid.decode(packed, skipped: skipped) {
      case .success(let value): bytes = value
      case .failure(let error): throw damaged(error.message)
      }
    } else {
      bytes = [UInt8](unsafeUninitializedCapacity: grid.chunkBytes) { buffer, count in
        Self.fill(UnsafeMutableRawBufferPointer(buffer), with: dataset.fill)
        count = grid.chunkBytes
      }
    }
    cache.withLock { $0.insert(key, bytes) }
    return bytes
  }

  private func handle(
    _ index: Int, _ session: HDF5Session
  ) throws(HDF5Failure) -> HDF5Session.Handle {
    guard let open else { throw HDF5Failure(attempt: "reach the open file", stack: []) }
    return try open.dataset(index, path: datasets[index].path, session)
  }

  private static func fill(_ buffer: UnsafeMutableRawBufferPointer, with element: [UInt8]?) {
    guard let element, !element.isEmpty else {
      _ = buffer.initializeMemory(as: UInt8.self, repeating: 0)
      return
    }
    for start in stride(from: 0, to: buffer.count, by: element.count) {
      UnsafeMutableRawBufferPointer(rebasing: buffer[start...]).copyBytes(from: element)
    }
  }
}
