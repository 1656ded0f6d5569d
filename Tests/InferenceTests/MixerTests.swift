import Hub
import Inference
import Testing

@Suite("Every mixer")
struct MixerTests {
  @Test("agrees with the equations in float64", arguments: MixerFixture.all)
  func equationsInFloat64(fixture: MixerFixture) throws {
    #expect(try fixture.distance(fixture.whole(Double.self)) < 1e-13)
  }

  @Test("agrees with the equations in float32", arguments: MixerFixture.all)
  func equationsInFloat32(fixture: MixerFixture) throws {
    #expect(try fixture.relativeDistance(fixture.whole(Float.self)) < 1e-5)
  }

  @Test("gives the same one token at a time", arguments: MixerFixture.all)
  func steps(fixture: MixerFixture) throws {
    #expect(try fixture.distance(fixture.inPieces(Double.self, [1])) < 1e-13)
    #expect(try fixture.relativeDistance(fixture.inPieces(Float.self, [1])) < 1e-5)
  }

  @Test(
    "gives the same in pieces that do and do not divide the length", arguments: MixerFixture.all)
  func pieces(fixture: MixerFixture) throws {
    for sizes in [[2], [3], [5], [16], [17], [23], [64], [7, 1, 1, 11, 1], [1, 40], [20, 1]] {
      let output = try fixture.inPieces(Double.self, sizes)
      #expect(fixture.distance(output) < 1e-13, "in pieces of \(sizes)")
    }
  }

  @Test("gives the same bits on any number of threads", arguments: MixerFixture.all)
  func threads(fixture: MixerFixture) throws {
    let one = try fixture.whole(Float.self, threads: 1)
    for threads in [2, 3, 7] {
      #expect(try fixture.whole(Float.self, threads: threads) == one)
    }
  }
}
