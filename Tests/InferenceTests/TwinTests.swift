import Hub
import Inference
import TestSupport
import Testing

/// Each fast form beside the plain recurrence that says what it means.
@Suite("Fast forms and their plain twins")
struct TwinTests {
  @Test(
    "the selective scan, at odd sizes and any cut of the channels, with and without a gate",
    arguments: [1, 2, 5, 33], [false, true])
  func scan(tokens: Int, isGated: Bool) {
    let (width, n) = (77, 5)
    var random = Values(seed: UInt64(tokens))
    let u = random.normal(tokens * width)
    let dt = random.normal(tokens * width).map { $0 * 3 }
    let a = random.normal(n * width).map { -abs($0) * 3 }
    let (b, c) = (random.normal(tokens * n), random.normal(tokens * n))
    let d = random.normal(width)
    let z = isGated ? random.normal(tokens * width) : nil
    let want = selectiveScanPlainly(u, dt, a, b, c, d, gate: z, tokens: tokens, width: width, n: n)
    let largest = want.map { abs($0) }.max() ?? 0
    for cut in [1, 16, 70, 77] {
      func check<T: Real>(_: T.Type, _ bound: Double) {
        func narrow(_ values: [Double]) -> [T] { values.map { T($0) } }
        var state = [T](repeating: 0, count: n * width)
        var y = narrow(dt)
        for first in stride(from: 0, to: width, by: cut) {
          y.withUnsafeMutableBufferPointer { y in
            guard let y = y.baseAddress else { return }
            selectiveScan(
              narrow(u), y, narrow(a), narrow(b), narrow(c), narrow(d), gate: z.map(narrow),
              tokens: tokens, width: width, n: n, channels: first..<min(width, first + cut),
              state: &state, into: y)
          }
        }
        #expect(
          zip(y, want).allSatisfy { abs(Double($0) - $1) < bound * largest },
          "\(T.precisionName), cut by \(cut)")
      }
      // A few roundings a step, over some dozens of steps.
      check(Double.self, 1e-14)
      check(Float.self, 1e-5)
    }
  }

  @Test(
    "chunks of scalar decay, of sizes that do and do not divide the length",
    arguments: [1, 7, 16, 64], [1, 16, 63, 64, 65, 130])
  func scalar(chunk: Int, tokens: Int) {
    var random = Values(seed: UInt64(chunk * 1000 + tokens))
    let data = HeadData(&random, tokens: tokens, queries: 1)
    // From no decay at all to one that forgets everything at once.
    let decay = (0..<tokens).map { [0, -0.03, -1, -800][$0 % 4] * 1.0 }
    let want = data.run(Double.self) { head, state in
      recurrentDecay(head, g: nil, gStride: 0, decay: decay, tokens: tokens, state: state)
    }
    let got = data.run(Double.self) { head, state in
      var scratch = [Double](repeating: .nan, count: scalarDecayScratch(chunk: chunk, dk: data.dk))
      scalarDecay(
        head, decay: decay, tokens: tokens, chunk: chunk, scratch: &scratch, state: state)
    }
    #expect(distance(got, want) < 1e-13)
  }

  @Test(
    "chunks of decay by channel, of sizes that do and do not divide the length",
    arguments: [1, 7, 16, 40, 64], [1, 16, 17, 64, 65, 130])
  func channel(chunk: Int, tokens: Int) {
    var random = Values(seed: UInt64(chunk * 1000 + tokens))
    let data = HeadData(&random, tokens: tokens, queries: 3)
    // e^-400 in a chunk would overflow float32, and float64, if its inverse were ever taken.
    let g = (0..<tokens * data.dk).map { [0, -0.01, -1, -6.25, -90][$0 % 5] * 1.0 }
    let want = data.run(Double.self) { head, state in
      recurrentDecay(head, g: g, gStride: data.dk, decay: nil, tokens: tokens, state: state)
    }
    let got = data.run(Double.self) { head, state in
      var scratch = [Double](repeating: .nan, count: channelDecayScratch(chunk: chunk, dk: data.dk))
      channelDecay(
        head, g: g, gStride: data.dk, tokens: tokens, chunk: chunk, scratch: &scratch, state: state)
    }
    #expect(distance(got, want) < 1e-13)
    let gates = g.map { Float($0) }
    let rough = data.run(Float.self) { head, state in
      var scratch = [Float](repeating: .nan, count: channelDecayScratch(chunk: chunk, dk: data.dk))
      channelDecay(
        head, g: gates, gStride: data.dk, tokens: tokens, chunk: chunk, scratch: &scratch,
        state: state)
    }
    #expect(distance(rough, want) < 2e-6)
  }

  private func distance(_ a: [Double], _ b: [Double]) -> Double {
    let top = b.map { abs($0) }.max() ?? 1
    let differences = zip(a, b).map { abs($0 - $1) }
    return differences.contains { $0.isNaN } ? .nan : (differences.max() ?? .nan) / top
  }
}

/// Normal numbers from a seed.
struct Values {
  private var random: SeededRandom

  init(seed: UInt64) { random = SeededRandom(seed) }

  /// `count` values of about unit scale (twelve uniform ones, summed).
  mutating func normal(_ count: Int) -> [Double] {
    (0..<count).map { _ in
      (0..<12).map { _ in Double.random(in: 0..<1, using: &random) }.reduce(0, +) - 6
    }
  }
}

/// Inputs of one head whose rows lie between others'.
private struct HeadData {
  let dk = 5
  let dv = 6
  let gap = 3
  let tokens: Int
  let queries: Int
  let q: [Double]
  let k: [Double]
  let v: [Double]
  let state: [Double]

  init(_ random: inout Values, tokens: Int, queries: Int) {
    (self.tokens, self.queries) = (tokens, queries)
    q = random.normal(tokens * (queries * 5 + 3))
    k = random.normal(tokens * 8)
    v = random.normal(tokens * 9)
    state = random.normal(30)
  }

  /// What `body` leaves in o, without the gaps, and in the state.
  func run<T: Real>(
    _: T.Type, _ body: (LinearHead<T>, UnsafeMutablePointer<T>) -> Void
  ) -> [Double] {
    let (q, k, v) = (q.map { T($0) }, k.map { T($0) }, v.map { T($0) })
    var state = state.map { T($0) }
    let stride = queries * dv + gap
    var o = [T](repeating: .nan, count: tokens * stride)
    q.withUnsafeBufferPointer { q in
      k.withUnsafeBufferPointer { k in
        v.withUnsafeBufferPointer { v in
          o.withUnsafeMutableBufferPointer { o in
            state.withUnsafeMutableBufferPointer { state in
              guard let q = q.baseAddress, let k = k.baseAddress, let v = v.baseAddress,
                let o = o.baseAddress, let state = state.baseAddress
              else { return }
              body(
                LinearHead(
                  q: q, qStride: queries * dk + gap, k: k, kStride: dk + gap, v: v,
                  vStride: dv + gap, o: o, oStride: stride, dk: dk, dv: dv, queries: queries,
                  scale: T(0.45)), state)
            }
          }
        }
      }
    }
    return (0..<tokens * stride).filter { $0 % stride < queries * dv }.map { Double(o[$0]) }
      + state.map { Double($0) }
  }
}
