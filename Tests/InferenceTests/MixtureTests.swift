import Hub
import Inference
import OrderedCollections
import Synchronization
import TestSupport
import Tensors
import Testing

/// Weights that tell which of their pieces were read and which were let go, and lie on no disk.
private final class WatchedWeights: WeightSource {
  let base: MemoryWeights
  let reads = Mutex<[String]>([])
  let evictions = Mutex<Set<String>>([])

  init(_ base: MemoryWeights) { self.base = base }

  func info(_ piece: PieceID) -> (shape: Shape, dtype: DType)? { base.info(piece) }

  func read(
    _ piece: PieceID, rows: Range<Int>, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Diagnostic) {
    reads.withLock { $0.append(piece.role) }
    if let fault = fault, piece.role == fault {
      throw Diagnostic(code: "io.read", subject: fault, message: "is lost")
    }
    try base.read(piece, rows: rows, into: buffer)
  }

  func evict(_ piece: PieceID) { evictions.withLock { _ = $0.insert(piece.role) } }

  let faultBox = Mutex<String?>(nil)
  var fault: String? { faultBox.withLock { $0 } }
}

@Suite("A mixture of experts")
struct MixtureTests {
  static let fixture = MixerFixture.named("moe__one_of_many_long")

  @Test("reads the weights of an expert when a token comes to it, and lets them go")
  func streams() throws {
    let weights = WatchedWeights(Self.fixture.weights)
    let model = try Model<Double>(spec: Self.fixture.spec, weights: weights)
    #expect(weights.reads.withLock { $0 } == [])
    let pass = try ForwardPass(model, tokens: [[0]])
    pass.withStream { stream in
      for i in 0..<Self.fixture.width { stream[i] = Self.fixture.input[i] }
    }
    try pass.advance()
    // One token goes through one expert of nine.
    let experts = weights.reads.withLock { $0.filter { $0.hasPrefix("experts.") } }
    #expect(experts.count == 3)
    #expect(Set(experts.map { $0.split(separator: ".")[1] }).count == 1)
    #expect(Set(experts).isSubset(of: weights.evictions.withLock { $0 }))
  }

  @Test("says what keeps an expert from being read")
  func failing() throws {
    let weights = WatchedWeights(Self.fixture.weights)
    let model = try Model<Double>(spec: Self.fixture.spec, weights: weights)
    let pass = try ForwardPass(model, tokens: [[0]])
    pass.withStream { stream in
      for i in 0..<Self.fixture.width { stream[i] = Self.fixture.input[i] }
    }
    // Whichever expert it is, its output projection comes last.
    try pass.advance()
    let lost = try #require(
      weights.reads.withLock { $0.last { $0.hasSuffix("down.weight") } })
    weights.faultBox.withLock { $0 = lost }
    let again = try ForwardPass(model, tokens: [[0]])
    again.withStream { stream in
      for i in 0..<Self.fixture.width { stream[i] = Self.fixture.input[i] }
    }
    let found = #expect(throws: Problems.self) { try again.advance() }
    #expect(found?.diagnostics.map(\.code) == ["io.read"])
    #expect(found?.diagnostics.first?.subject == lost)
  }

  @Test("names every expert that is missing or of another shape, before any byte is read")
  func shapes() throws {
    var entries: [PieceID: MemoryWeights.Entry] = [:]
    for role in ["router.weight", "norm.weight"] {
      let piece = PieceID(0, role)
      let shape = try #require(Self.fixture.weights.info(piece)?.shape)
      let count = try #require(shape.elementCount)
      entries[piece] = MemoryWeights.Entry(shape: shape, [Double](repeating: 0, count: count))
    }
    let width = Self.fixture.width
    entries[PieceID(nil, "embed.weight")] = MemoryWeights.Entry(
      shape: [1, width], [Double](repeating: 0, count: width))
    for e in 0..<9 where e != 4 {
      for (name, shape) in [("gate", [11, width]), ("up", [11, width]), ("down", [width, 11])] {
        let wrong = e == 6 && name == "up"
        let own = wrong ? [10, width] : shape
        entries[PieceID(0, "experts.\(e).\(name).weight")] = MemoryWeights.Entry(
          shape: Shape(own), [Double](repeating: 0, count: own[0] * own[1]))
      }
    }
    let weights = MemoryWeights(entries)
    let found = #expect(throws: Problems.self) {
      try Model<Float>(spec: Self.fixture.spec, weights: weights)
    }
    let told = found?.diagnostics.map { "\($0.code) \($0.message.prefix(21))" } ?? []
    #expect(
      told == [
        "model.piece experts.4.gate.weight", "model.piece experts.4.up.weight i",
        "model.piece experts.4.down.weight", "model.shape experts.6.up.weight i",
      ])
  }

  @Test("more experts for a token than there are to choose from are refused")
  func tooMany() throws {
    var spec = Self.fixture.spec
    spec.sublayers[0].attributes["n_active"] = 10
    let found = #expect(throws: Problems.self) {
      try Model<Float>(spec: spec, weights: Self.fixture.weights)
    }
    #expect(found?.diagnostics.map(\.code) == ["model.attribute"])
  }

  @Test("the choice: weights by hand")
  func routing() throws {
    let scores: [Double] = [0, 1, 2, 3]
    var routing = Routing(experts: 4, chosen: 2)
    let e = scores.map { Double.exp($0) }
    let sum = e.reduce(0, +)
    var found = scores.withUnsafeBufferPointer {
      routing.choose($0.baseAddress!, correction: nil)
    }
    #expect(found.map(\.expert) == [3, 2])
    #expect(abs(found[0].weight - e[3] / sum) < 1e-15)
    routing.normalizes = true
    found = scores.withUnsafeBufferPointer { routing.choose($0.baseAddress!, correction: nil) }
    #expect(abs(found[0].weight - e[3] / (e[3] + e[2])) < 1e-15)
    // The correction chooses expert 0, whose weight is its own score's.
    routing.scores = .sigmoid
    routing.normalizes = false
    routing.factor = 2
    found = scores.withUnsafeBufferPointer {
      routing.choose($0.baseAddress!, correction: [5, 0, 0, 0])
    }
    #expect(found.map(\.expert) == [0, 3])
    #expect(found[0].weight == 1)
    // Two groups: the second has the larger sum, so only its experts are chosen from.
    routing.groups = 2
    found = scores.withUnsafeBufferPointer { routing.choose($0.baseAddress!, correction: nil) }
    #expect(found.map(\.expert) == [3, 2])
    // Of equal scores the first counts; what is no number is no better than anything.
    let equal = [1.0, .nan, 1.0, 1.0]
    found = equal.withUnsafeBufferPointer {
      Routing(experts: 4, chosen: 2).choose($0.baseAddress!, correction: nil)
    }
    #expect(found.map(\.expert) == [0, 2])
  }
}
