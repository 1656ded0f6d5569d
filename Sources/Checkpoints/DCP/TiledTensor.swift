import Synchronization
import Tensors

/// A tensor whose parts lie in several places; reads gather them.
struct TiledTensor: Sendable {
  /// A part.
  struct Tile: Sendable {
    /// Where it belongs.
    var box: DCPMetadata.Box
    /// The file, by number.
    var file: Int
    /// Its elements in that file.
    var view: StridedView
    /// What its bytes must sum up to; `nil` where the writer computed no sum.
    var checksum: TileChecksum?
    /// Consecutive elements that are so in the tensor too.
    fileprivate(set) var run = 1
    /// The tensor's elements from the first of the tile to behind the last.
    fileprivate(set) var span = 0..<0
  }

  /// The extents.
  let dims: [Int]
  /// Bytes of an element.
  let itemSize: Int
  /// In the order of their first elements.
  let tiles: [Tile]
  /// For each tile, the largest end of its span and of those before it.
  private let ends: [Int]
  /// Elements from one index to the next, for each dimension.
  private let strides: [Int]

  private static let blockBytes = 1 << 20

  /// A tensor of `tiles`, which fill it exactly.
  init(dims: [Int], itemSize: Int, tiles: [Tile]) {
    self.dims = dims
    self.itemSize = itemSize
    var strides = dims
    var step = 1
    for axis in dims.indices.reversed() {
      strides[axis] = step
      step *= max(1, dims[axis])
    }
    self.strides = strides
    var placed = tiles
    for number in placed.indices {
      let box = placed[number].box
      var run = 1
      for axis in dims.indices.reversed() {
        run *= box.sizes[axis]
        if box.sizes[axis] != dims[axis] { break }
      }
      var first = 0
      var last = 0
      for axis in dims.indices {
        first += box.offsets[axis] * strides[axis]
        last += (box.offsets[axis] + box.sizes[axis] - 1) * strides[axis]
      }
      placed[number].run = run
      placed[number].span = first..<last + 1
    }
    placed.sort { $0.span.lowerBound < $1.span.lowerBound }
    self.tiles = placed
    var ends: [Int] = []
    for tile in placed { ends.append(max(ends.last ?? 0, tile.span.upperBound)) }
    self.ends = ends
  }

  /// Reads the bytes `range` of the dense, row-major tensor into `buffer`.
  ///
  /// - Throws: `dcp.checksum`, `io.*`.
  func read(
    _ range: Range<Int>, from files: [RandomAccessFile],
    into buffer: UnsafeMutableRawBufferPointer
  ) throws(Diagnostic) {
    guard !range.isEmpty else { return }
    let first = range.lowerBound / itemSize
    let end = (range.upperBound + itemSize - 1) / itemSize
    guard first * itemSize == range.lowerBound, end * itemSize == range.upperBound else {
      // Cut elements at an end: through whole ones.
      let whole = UnsafeMutableRawBufferPointer.allocate(
        byteCount: (end - first) * itemSize, alignment: 16)
      defer { whole.deallocate() }
      try read(first * itemSize..<end * itemSize, from: files, into: whole)
      let skipped = range.lowerBound - first * itemSize
      buffer.copyMemory(
        from: UnsafeRawBufferPointer(rebasing: whole[skipped..<skipped + range.count]))
      return
    }
    // The first tile that reaches into the range.
    var low = 0
    var high = ends.count
    while low < high {
      let middle = (low + high) / 2
      if ends[middle] > first { high = middle } else { low = middle + 1 }
    }
    while low < tiles.count, tiles[low].span.lowerBound < end {
      let tile = tiles[low]
      low += 1
      guard tile.span.upperBound > first else { continue }
      try gather(tile, first..<end, from: files[tile.file], into: buffer.baseAddress!)
    }
  }

  /// Where run number `index` of a tile begins in the tensor.
  private func start(of index: Int, in tile: Tile) -> Int {
    var rest = index * tile.run
    var place = 0
    for axis in dims.indices.reversed() {
      let size = tile.box.sizes[axis]
      place += (tile.box.offsets[axis] + rest % size) * strides[axis]
      rest /= size
    }
    return place
  }

  /// Copies what of the elements `range` lies in `tile` to `out`, which begins with the first of them.
  private func gather(
    _ tile: Tile, _ range: Range<Int>, from file: RandomAccessFile,
    into out: UnsafeMutableRawPointer
  ) throws(Diagnostic) {
    let count = tile.view.dims.reduce(1, *)
    let runs = count / tile.run
    /// The first run that ends behind `place`.
    func run(endingBehind place: Int) -> Int {
      var low = 0
      var high = runs
      while low < high {
        let middle = (low + high) / 2
        if start(of: middle, in: tile) + tile.run > place {
          high = middle
        } else {
          low = middle + 1
        }
      }
      return low
    }
    let firstRun = run(endingBehind: range.lowerBound)
    guard firstRun < runs else { return }
    let head = start(of: firstRun, in: tile)
    guard head < range.upperBound else { return }
    if tile.run == count || head + tile.run >= range.upperBound {
      // All of one run: straight to where it belongs.
      let from = max(range.lowerBound, head)
      let to = min(range.upperBound, head + tile.run)
      let inside = firstRun * tile.run + from - head
      try load(
        tile, inside..<inside + to - from, from: file,
        into: out + (from - range.lowerBound) * itemSize)
      return
    }
    // The tile's elements lie together, the tensor's rows apart: a block of them at a time.
    var endRun = run(endingBehind: range.upperBound - 1)
    if endRun < runs, start(of: endRun, in: tile) < range.upperBound { endRun += 1 }
    let runBytes = tile.run * itemSize
    let step = max(1, Self.blockBytes / runBytes)
    let block = UnsafeMutableRawPointer.allocate(
      byteCount: min(step, endRun - firstRun) * runBytes, alignment: 16)
    defer { block.deallocate() }
    var at = firstRun
    while at < endRun {
      let here = min(step, endRun - at)
      try load(tile, at * tile.run..<(at + here) * tile.run, from: file, into: block)
      for index in 0..<here {
        let place = start(of: at + index, in: tile)
        let from = max(range.lowerBound, place)
        let to = min(range.upperBound, place + tile.run)
        guard from < to else { continue }
        (out + (from - range.lowerBound) * itemSize).copyMemory(
          from: block + index * runBytes + (from - place) * itemSize,
          byteCount: (to - from) * itemSize)
      }
      at += here
    }
  }

  /// Reads the elements `range` of a tile, dense and row-major.
  private func load(
    _ tile: Tile, _ range: Range<Int>, from file: RandomAccessFile,
    into out: UnsafeMutableRawPointer
  ) throws(Diagnostic) {
    let bytes = range.lowerBound * itemSize..<range.upperBound * itemSize
    let buffer = UnsafeMutableRawBufferPointer(start: out, count: bytes.count)
    if let checksum = tile.checksum, !checksum.sumsPieces { try checksum.verify(in: file) }
    try tile.view.read(bytes, from: file, into: buffer)
    if let checksum = tile.checksum, checksum.sumsPieces {
      try checksum.add(bytes, UnsafeRawBufferPointer(buffer))
    }
  }
}

/// The CRC-32 of a stored chunk, compared once all of its bytes have been read, in whatever pieces and
/// by whatever threads; or at its first use, where reads do not go through its bytes in order.
final class TileChecksum: Sendable {
  /// Whether reads hand their bytes to `add`.
  let sumsPieces: Bool
  private let expected: UInt32
  /// The bytes in the file.
  private let range: Range<Int>
  private let subject: String
  private let state = Mutex(State())

  private struct State {
    var pieces = ChecksumPieces()
    var isVerified = false
  }

  /// The sum `expected` of the bytes `range` of a file; `subject` names tensor and file.
  init(expected: UInt32, range: Range<Int>, sumsPieces: Bool, subject: String) {
    self.expected = expected
    self.range = range
    self.sumsPieces = sumsPieces
    self.subject = subject
  }

  /// Takes note of the bytes `piece`, counted from the chunk's first.
  ///
  /// - Throws: `dcp.checksum` with the piece that completes the chunk.
  func add(_ piece: Range<Int>, _ bytes: UnsafeRawBufferPointer) throws(Diagnostic) {
    // What was read before counts once: the gaps are summed, one after another.
    while true {
      let gap = state.withLock { $0.isVerified ? nil : $0.pieces.firstGap(within: piece) }
      guard let gap else { return }
      var sum = ZipChecksum()
      sum.update(
        UnsafeRawBufferPointer(
          rebasing: bytes[gap.lowerBound - piece.lowerBound..<gap.upperBound - piece.lowerBound]))
      let whole = state.withLock { state -> ZipChecksum? in
        // Another thread may have read the same meanwhile.
        guard !state.isVerified, state.pieces.firstGap(within: gap) == gap else { return nil }
        state.pieces.add(gap, sum)
        guard state.pieces.firstGap(in: range.count) == nil else { return nil }
        let whole = state.pieces.sum
        state.pieces = ChecksumPieces()
        state.isVerified = whole.value == expected
        return whole
      }
      if let whole { return try compare(whole) }
    }
  }

  /// Reads the whole chunk, the first time, and compares it.
  ///
  /// - Throws: `dcp.checksum`, `io.*`.
  func verify(in file: RandomAccessFile) throws(Diagnostic) {
    if state.withLock({ $0.isVerified }) { return }
    try compare(try ZipChecksum.ofBytes(range, in: file))
    state.withLock { $0.isVerified = true }
  }

  private func compare(_ sum: ZipChecksum) throws(Diagnostic) {
    guard sum.value != expected else { return }
    throw .dcp(
      "checksum", subject,
      "has CRC-32 0x\(hex(sum.value)), but 0x\(hex(expected)) was written",
      help: "the file is damaged, which PyTorch does not notice; fetch it again")
  }
}
