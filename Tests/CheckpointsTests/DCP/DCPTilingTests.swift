@testable import Checkpoints
import Tensors
import TestSupport
import Testing

@Suite("Sharded checkpoints: tilings")
struct DCPTilingTests {
  typealias Box = DCPMetadata.Box

  /// A box cut at random places, again and again.
  private func cut(_ box: Box, _ depth: Int, _ random: inout SeededRandom) -> [Box] {
    let axes = box.sizes.indices.filter { box.sizes[$0] > 1 }
    guard depth > 0, let axis = axes.randomElement(using: &random),
      Int.random(in: 0..<8, using: &random) > 0
    else { return [box] }
    let at = Int.random(in: 1..<box.sizes[axis], using: &random)
    var (a, b) = (box, box)
    a.sizes[axis] = at
    b.offsets[axis] += at
    b.sizes[axis] -= at
    return cut(a, depth - 1, &random) + cut(b, depth - 1, &random)
  }

  /// How often each element is held, by counting.
  private func counts(_ boxes: [Box], _ dims: [Int]) -> [Int] {
    var counts = [Int](repeating: 0, count: dims.reduce(1, *))
    for box in boxes {
      for place in elements(of: box, dims) { counts[place] += 1 }
    }
    return counts
  }

  /// The places of a box's elements in the whole, row-major.
  private func elements(of box: Box, _ dims: [Int]) -> [Int] {
    var places = [0]
    for axis in dims.indices {
      places = places.flatMap { place in
        (0..<box.sizes[axis]).map { place * dims[axis] + box.offsets[axis] + $0 }
      }
    }
    return places
  }

  private func code(_ boxes: [Box], _ dims: [Int]) -> String? {
    problem { () throws(Diagnostic) in try Tiling.check(boxes, in: dims, "w") }?.code
  }

  @Test("boxes pass exactly when counting finds each element held once", arguments: 0..<200)
  func verdicts(seed: Int) throws {
    var random = SeededRandom(UInt64(seed))
    let dims = (0..<Int.random(in: 1...4, using: &random)).map { _ in
      Int.random(in: 1...7, using: &random)
    }
    let whole = Box(offsets: dims.map { _ in 0 }, sizes: dims)
    var boxes = cut(whole, 5, &random).shuffled(using: &random)
    #expect(code(boxes, dims) == nil, "\(dims) \(boxes)")
    // Moved, dropped, doubled or cut: what counting says is what the check says.
    let number = boxes.indices.randomElement(using: &random)!
    switch Int.random(in: 0..<4, using: &random) {
    case 0: boxes.remove(at: number)
    case 1: boxes.append(boxes[number])
    case 2:
      let axis = dims.indices.randomElement(using: &random)!
      let box = boxes[number]
      boxes[number].offsets[axis] = Int.random(
        in: 0...dims[axis] - box.sizes[axis], using: &random)
    default: boxes[number] = boxes.randomElement(using: &random)!
    }
    let counts = counts(boxes, dims)
    let first = counts.firstIndex { $0 != 1 }
    let expected = first.map { counts[$0] > 1 ? "dcp.overlap" : "dcp.hole" }
    #expect(code(boxes, dims) == expected, "\(dims) \(boxes)")
  }

  @Test("random tilings read back what was dealt out, whole and in pieces", arguments: 0..<40)
  func reading(seed: Int) throws {
    var random = SeededRandom(UInt64(1000 + seed))
    let dims = (0..<Int.random(in: 1...4, using: &random)).map { _ in
      Int.random(in: 1...12, using: &random)
    }
    let itemSize = [1, 2, 4, 8].randomElement(using: &random)!
    let count = dims.reduce(1, *)
    let whole = (0..<count * itemSize).map { _ in UInt8.random(in: 0...255, using: &random) }
    let boxes = cut(Box(offsets: dims.map { _ in 0 }, sizes: dims), 5, &random)
      .shuffled(using: &random)
    let folder = TemporaryDirectory()
    var stored: [[UInt8]] = [[], []]
    var tiles: [TiledTensor.Tile] = []
    for box in boxes {
      let file = Int.random(in: 0...1, using: &random)
      stored[file] += [UInt8](repeating: 0xee, count: Int.random(in: 0...3, using: &random))
      // Row-major, or the order of the dimensions turned round.
      let isTurned = Bool.random(using: &random)
      var strides = box.sizes
      var step = 1
      for axis in isTurned ? Array(dims.indices) : dims.indices.reversed() {
        strides[axis] = step
        step *= box.sizes[axis]
      }
      let base = stored[file].count
      var bytes = [UInt8](repeating: 0, count: step * itemSize)
      for (number, place) in elements(of: box, dims).enumerated() {
        var rest = number
        var target = 0
        for axis in dims.indices.reversed() {
          target += rest % box.sizes[axis] * strides[axis]
          rest /= box.sizes[axis]
        }
        for byte in 0..<itemSize {
          bytes[target * itemSize + byte] = whole[place * itemSize + byte]
        }
      }
      stored[file] += bytes
      var sum = ZipChecksum()
      sum.update(bytes)
      let view = StridedView(base: base, itemSize: itemSize, dims: box.sizes, strides: strides)
      tiles.append(
        TiledTensor.Tile(
          box: box, file: file, view: view,
          checksum: TileChecksum(
            expected: sum.value, range: base..<base + bytes.count, sumsPieces: view.isDense,
            subject: "w")))
    }
    var files: [RandomAccessFile] = []
    for (number, bytes) in stored.enumerated() {
      Files.write(bytes, to: folder.file("\(number)"))
      files.append(try RandomAccessFile(path: folder.file("\(number)")))
    }
    let tensor = TiledTensor(dims: dims, itemSize: itemSize, tiles: tiles)
    for round in 0..<30 {
      let start = round == 0 ? 0 : Int.random(in: 0..<whole.count, using: &random)
      let end = round == 0 ? whole.count : Int.random(in: start...whole.count, using: &random)
      var buffer = [UInt8](repeating: 0, count: end - start)
      try buffer.withUnsafeMutableBytes {
        try tensor.read(start..<end, from: files, into: $0)
      }
      #expect(buffer == Array(whole[start..<end]), "\(dims) \(start)..<\(end)")
    }
  }

  @Test("a changed byte shows with the read that completes its chunk, and again after that")
  func damage() throws {
    let folder = TemporaryDirectory()
    var bytes = (0..<64).map { UInt8($0) }
    var sum = ZipChecksum()
    sum.update(bytes)
    bytes[40] ^= 1
    Files.write(bytes, to: folder.file("x"))
    let file = try RandomAccessFile(path: folder.file("x"))
    let tensor = TiledTensor(
      dims: [16], itemSize: 4,
      tiles: [
        TiledTensor.Tile(
          box: Box(offsets: [0], sizes: [16]), file: 0,
          view: StridedView(base: 0, itemSize: 4, dims: [16], strides: [1]),
          checksum: TileChecksum(
            expected: sum.value, range: 0..<64, sumsPieces: true, subject: "w"))
      ])
    func read(_ range: Range<Int>) -> String? {
      var buffer = [UInt8](repeating: 0, count: range.count)
      return buffer.withUnsafeMutableBytes { bytes in
        problem { () throws(Diagnostic) in try tensor.read(range, from: [file], into: bytes) }?.code
      }
    }
    #expect(read(0..<16) == nil)
    #expect(read(32..<64) == nil)
    // Overlaps what was read, and closes the gap.
    #expect(read(8..<40) == "dcp.checksum")
    #expect(read(0..<64) == "dcp.checksum")
  }

  @Test("a hundred thousand chunks take less than a second, whatever they do")
  func many() {
    let clock = ContinuousClock()
    let rows = (0..<100_000).map { Box(offsets: [$0, 0], sizes: [1, 8]) }
    let cells = (0..<100_000).map { Box(offsets: [$0 / 8, $0 % 8], sizes: [1, 1]) }
    var codes: [String?] = []
    let time = clock.measure {
      codes = [
        code(rows.reversed(), [100_000, 8]), code(cells, [12_500, 8]),
        code(Array(repeating: cells[7], count: 100_000), [12_500, 8]),
        code(Array(repeating: rows[7], count: 100_000), [100_000, 8]),
      ]
    }
    #expect(codes == [nil, nil, "dcp.hole", "dcp.hole"])
    #expect(time < .seconds(4))
  }
}
