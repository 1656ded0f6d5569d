@testable import Checkpoints
import Dispatch
import Synchronization
import Tensors
import TestSupport
import Testing

@Suite("Sharded checkpoints: compressed entries")
struct ZstdEntryTests {
  let home = TemporaryDirectory()

  /// A zstd frame of stored blocks and blocks of one repeated byte (RFC 8878, 3.1.1).
  private static func frame(_ blocks: [(bytes: [UInt8], times: Int?)], whole: Bool = true)
    -> [UInt8]
  {
    // The magic number; no checksum, no size; a window of 128 KiB.
    var frame: [UInt8] = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38]
    for (number, block) in blocks.enumerated() {
      let isLast = whole && number == blocks.count - 1
      let size = block.times ?? block.bytes.count
      let header = size << 3 | (block.times == nil ? 0 : 1) << 1 | (isLast ? 1 : 0)
      for shift in [0, 8, 16] { frame.append(UInt8(truncatingIfNeeded: header >> shift)) }
      frame += block.bytes
    }
    return frame
  }

  private static func stored(_ bytes: [UInt8]) -> [(bytes: [UInt8], times: Int?)] {
    stride(from: 0, to: bytes.count, by: 100_000).map {
      (Array(bytes[$0..<min($0 + 100_000, bytes.count)]), nil)
    }
  }

  /// An entry of these frames, between other bytes of its file.
  private func entry(_ frames: [UInt8], limit: Int = 1 << 30) throws(Diagnostic) -> ZstdEntry {
    let path = home.file("__0_0.distcp")
    Files.write([1, 2, 3] + frames + [4, 5], to: path)
    return try ZstdEntry(
      3..<3 + frames.count, of: RandomAccessFile(path: path), limit: limit, subject: "w")
  }

  private func code(_ frames: [UInt8], limit: Int = 1 << 30) -> String? {
    do throws(Diagnostic) {
      _ = try entry(frames, limit: limit)
      return nil
    } catch { return error.code }
  }

  @Test(
    "any range is what was compressed, from front to back, back and forth, and by several threads")
  func ranges() throws {
    var random = SeededRandom(7)
    let bytes = (0..<1_500_003).map { _ in UInt8.random(in: 0...255, using: &random) }
    let half = bytes.count / 2
    // Two frames one after the other are read as one.
    let entry = try entry(
      Self.frame(Self.stored(Array(bytes[..<half])))
        + Self.frame(Self.stored(Array(bytes[half...]))))
    #expect(entry.byteCount == bytes.count)
    var front: [UInt8] = []
    while front.count < bytes.count {
      front += try entry.bytes(at: front.count, count: min(70_001, bytes.count - front.count))
    }
    #expect(front == bytes)
    let wrong = Mutex(0)
    DispatchQueue.concurrentPerform(iterations: 8) { thread in
      var random = SeededRandom(UInt64(thread))
      for _ in 0..<20 {
        let start = Int.random(in: 0..<bytes.count, using: &random)
        let end = Int.random(in: start...min(bytes.count, start + 90_000), using: &random)
        let found = try? entry.bytes(at: start, count: end - start)
        if found != Array(bytes[start..<end]) { wrong.withLock { $0 += 1 } }
      }
    }
    #expect(wrong.withLock { $0 } == 0)
    #expect(throws: Diagnostic.self) { try entry.bytes(at: bytes.count - 5, count: 6) }
    #expect(try entry.bytes(at: bytes.count, count: 0) == [])
  }

  @Test("frames that are cut short, damaged or none are errors")
  func damaged() throws {
    let bytes = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) }
    let good = Self.frame(Self.stored(bytes))
    #expect(code(good) == nil)
    for count in [5, 6, 8, 9, 1000, 100_000, good.count - 1] {
      #expect(code(Array(good.prefix(count))) == "dcp.transform-damaged", "\(count) bytes")
    }
    #expect(code(Self.frame(Self.stored(bytes), whole: false)) == "dcp.transform-damaged")
    #expect(code(good + [0x28, 0xb5, 0x2f, 0xfd]) == "dcp.transform-damaged")
    #expect(code(good + [9]) == "dcp.transform-damaged")
    // A block of the type that is reserved.
    var reserved = good
    reserved[6] |= 6
    #expect(code(reserved) == "dcp.transform-damaged")
    #expect(code([0x50, 0x4b, 3, 4] + good) == "dcp.transform")
    #expect(code([]) == "dcp.transform")
  }

  @Test("a frame that would become too much is refused before it has")
  func bomb() {
    let bomb = Self.frame(Array(repeating: ([0], 131_071), count: 40_000))
    #expect(bomb.count < 200_000)
    #expect(code(bomb, limit: 2_000_000) == "dcp.transform-size")
    let small = Self.frame(Array(repeating: ([7], 131_071), count: 4))
    #expect(code(small, limit: 4 * 131_071) == nil)
    #expect(code(small, limit: 4 * 131_071 - 1) == "dcp.transform-size")
  }

  @Test("a checkpoint of compressed entries is converted bit for bit, in little memory of its own")
  func checkpoint() throws {
    let source = try openCheckpoint(at: Fixtures.path("dcp/zstd-2r"))
    // Nothing of it lies in its file as it is.
    #expect(source.tensors.allSatisfy { $0.extent == nil })
    #expect(source.files.count == 3)
    let expected = try StoredCheckpoint(Fixtures.path("models/mamba-bias-untied/hf"))
    #expect(try StoredCheckpoint(Fixtures.path("dcp/zstd-2r")).tensors == expected.tensors)
  }
}
