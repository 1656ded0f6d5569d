import Checkpoints
import Testing

@Suite("The CRC-32 of zip files")
struct TorchChecksumTests {
  private func sum(_ bytes: some Sequence<UInt8>) -> ZipChecksum {
    var sum = ZipChecksum()
    sum.update(Array(bytes))
    return sum
  }

  @Test("known sums are met")
  func known() {
    #expect(sum([]).value == 0)
    #expect(sum("123456789".utf8).value == 0xcbf4_3926)
    #expect(sum("The quick brown fox jumps over the lazy dog".utf8).value == 0x414f_a339)
    #expect(sum(repeatElement(0, count: 1000)).value == 0x060b_1780)
  }

  @Test("sums of parts combine to the sum of the whole, wherever it is cut")
  func combine() {
    var random = SplitMix(state: 5)
    let bytes = (0..<700).map { _ in UInt8.random(in: 0...255, using: &random) }
    let whole = sum(bytes)
    for cut in 0...bytes.count {
      var joined = sum(bytes[..<cut])
      joined.append(sum(bytes[cut...]), count: bytes.count - cut)
      #expect(joined == whole, "cut at \(cut)")
      var resumed = sum(bytes[..<cut])
      resumed.update(Array(bytes[cut...]))
      #expect(resumed == whole, "resumed at \(cut)")
    }
  }

  @Test("large steps and tables agree, at every length and alignment")
  func twins() {
    var random = SplitMix(state: 6)
    let bytes = (0..<1500).map { _ in UInt8.random(in: 0...255, using: &random) }
    bytes.withUnsafeBytes { all in
      for count in Array(0...260) + [511, 512, 513, 1024, 1484] {
        for start in [0, 1, 7, 15] {
          let part = UnsafeRawBufferPointer(rebasing: all[start..<start + count])
          for before in [ZipChecksum(), ZipChecksum(value: 0xdead_beef)] {
            var (fast, plain) = (before, before)
            fast.update(part)
            plain.updatePlainly(part)
            #expect(fast == plain, "\(count) bytes from \(start)")
          }
        }
      }
    }
  }
}
