import Hub
import Inference
import Testing

@Suite("Choosing tokens")
struct SamplingTests {
  @Test("greedy takes the largest, the lowest of equals")
  func greedy() {
    var sampler = Sampler(.greedy)
    #expect(sampler.next([1, 5, 5, 2] as [Float]) == 1)
    #expect(sampler.next([-3] as [Double]) == 0)
  }

  @Test("the same seed draws the same tokens, another one others")
  func seeds() {
    func draw(_ seed: UInt64) -> [Int] {
      var sampler = Sampler(Sampling(temperature: 1, seed: seed))
      return (0..<50).map { _ in sampler.next([0, 0, 0, 0, 0, 0] as [Double]) }
    }
    #expect(draw(1) == draw(1) && draw(1) != draw(2))
  }

  @Test("draws follow the probabilities")
  func frequencies() {
    // Probabilities 1/2, 1/4, 1/4.
    var sampler = Sampler(Sampling(temperature: 0.5, seed: 7))
    let half = 0.693_147_180_559_945_3 / 2
    var counts = [0, 0, 0]
    for _ in 0..<20_000 { counts[sampler.next([half, 0, 0] as [Double])] += 1 }
    #expect(abs(counts[0] - 10_000) < 300 && abs(counts[1] - 5_000) < 300)
  }

  @Test("a nucleus leaves out what the likeliest tokens do not need")
  func nucleus() {
    var sampler = Sampler(Sampling(temperature: 1, topP: 0.7, seed: 3))
    let logits = [0.693_147_180_559_945_3, 0, 0.1, -9] as [Double]
    let drawn = Set((0..<500).map { _ in sampler.next(logits) })
    #expect(drawn == [0, 2])
    var single = Sampler(Sampling(temperature: 0.01, topP: 0.95, seed: 3))
    #expect(single.next(logits) == 0)
  }

  @Test("generation is what repeated whole passes would choose")
  func generation() throws {
    let model = try TinyModel().model(Double.self)
    var tokens = [1, 2, 3]
    for _ in 0..<6 {
      var sampler = Sampler(.greedy)
      tokens.append(sampler.next(Array(try model.logits(tokens: [tokens]).suffix(9))))
    }
    #expect(try model.generate(prompt: [1, 2, 3], count: 6) == Array(tokens.dropFirst(3)))
  }
}
