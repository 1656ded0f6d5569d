import Hub
import Parity
import Testing

@Suite("Agreement of predictions")
struct MetricsTests {
  static func agreement(_ a: [Double], _ b: [Double]) -> LogitAgreement {
    var agreement = LogitAgreement()
    a.withUnsafeBufferPointer { x in
      b.withUnsafeBufferPointer { y in
        agreement.add(x, y, next: 1, at: (sequence: 0, index: 0))
      }
    }
    return agreement
  }

  @Test("the same logits agree in everything")
  func same() {
    let found = Self.agreement([3, 1, 2], [3, 1, 2])
    #expect(found.klMax == 0 && found.top1 == 1 && found.top5 == 1)
    #expect(found.nllA == found.nllB)
  }

  @Test(
    "logits that are no numbers predict nothing, also where the first token was likeliest",
    arguments: [[Double.nan, .nan, .nan], [3, .nan, 2], [.infinity, 1, 2]])
  func notNumbers(_ b: [Double]) {
    for found in [Self.agreement([3, 1, 2], b), Self.agreement(b, [3, 1, 2])] {
      #expect(found.klMax == .infinity && found.klMean == .infinity)
      #expect(found.top1 == 0 && found.top5 == 0)
      #expect(found.worst.map(\.agrees) == [false])
    }
  }
}
