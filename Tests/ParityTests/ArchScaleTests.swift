import Checkpoints
import Hub
import Inference
import Layouts
import Parity
import TestSupport
import Tensors
import Testing
import WeighbridgeKit

@Suite("State that crosses layers")
struct CrossingTests {
  static let models = ModelFixture.all.filter {
    $0.name.hasPrefix("as-") || $0.name == "phi4flash"
  }
  let weighbridge: Weighbridge

  init() throws { weighbridge = try Weighbridge() }

  private func model(_ fixture: ModelFixture) throws -> Model<Double> {
    let (bound, weights) = try parts(fixture)
    return try Model<Double>(spec: bound.spec, weights: weights)
  }

  /// The model and its weights in memory.
  private func parts(_ fixture: ModelFixture) throws -> (MatchedLayout, MemoryWeights) {
    let loaded = try weighbridge.load(CheckpointInput(path: fixture.path))
    let bound = try loaded.model()
    let reader = PieceReader(source: loaded.source)
    var pieces: [PieceID: MemoryWeights.Entry] = [:]
    for (id, location) in bound.pieces {
      pieces[id] = .init(
        shape: location.shape,
        try reader.doubles(.stored(location), rows: 0..<location.shape.rows))
    }
    return (bound, MemoryWeights(pieces))
  }

  @Test(
    "one token at a time, and a few at a time, give what the whole sequence gives",
    arguments: models)
  func stepping(_ fixture: ModelFixture) throws {
    let model = try model(fixture)
    // Past every window, and not a multiple of the pieces.
    let tokens = (0..<23).map { ($0 * 37 + 11) % min(90, model.vocabularyRows) }
    let rows = model.vocabularyRows
    let whole = try model.logits(tokens: [tokens])
    let largest = whole.map(abs).max()!
    for piece in [1, 5] {
      let state = try model.makeState()
      var start = 0
      while start < tokens.count {
        let end = min(start + piece, tokens.count)
        let found = try model.step([Array(tokens[start..<end])], state)
        let want = whole[(end - 1) * rows..<end * rows]
        let off = zip(found, want).map { abs($0 - $1) }.max()!
        #expect(off <= 1e-12 * largest, "\(piece) at a time, token \(end - 1)")
        start = end
      }
    }
  }

  @Test("a sub-layer entered in the middle reads what earlier ones have left")
  func jump() throws {
    let model = try model(.named("as-sambay/archscale"))
    let tokens = [[3, 1, 4, 1, 5, 9, 2, 6]]
    let pass = try ForwardPass(model, tokens: tokens)
    try pass.embed()
    for index in model.spec.sublayers.indices {
      let (input, crossed) = (pass.withStream { Array($0) }, pass.crossed)
      try pass.advance()
      let alone = try ForwardPass(model, tokens: tokens)
      #expect(alone.jump(to: index, crossed: crossed))
      alone.withStream { stream in for i in input.indices { stream[i] = input[i] } }
      try alone.advance()
      #expect(alone.withStream { Array($0) } == pass.withStream { Array($0) }, "\(index)")
    }
    // The gated memory unit is sub-layer 12, the cross attention 14.
    #expect(!pass.jump(to: 12, crossed: CrossedValues()))
    #expect(!pass.jump(to: 14, crossed: CrossedValues(keys: [[1], [2]])))
  }

  @Test("a gated memory unit or cross attention without a source is refused")
  func noSource() throws {
    var (model, weights) = try parts(.named("as-sambay/archscale"))
    for i in model.spec.sublayers.indices {
      for name in ["saves_memory", "shares_kv"]
      where model.spec.sublayers[i].attributes[name] != nil {
        model.spec.sublayers[i].attributes[name] = .null
      }
    }
    let error = #expect(throws: Problems.self) {
      try Model<Double>(spec: model.spec, weights: weights)
    }
    #expect(error?.diagnostics.count == 2)
    #expect(error?.diagnostics.allSatisfy { $0.code == "model.attribute" } == true)
  }
}

/// What is off in a copy of phi4flash, and the pieces and tensors that it should be found as.
struct CrossingFault: Sendable, CustomTestStringConvertible {
  var name: String
  var tensors: [String]
  var change: @Sendable (inout [Float], [Int]) -> Void
  var testDescription: String { name }

  static let layer = "model.layers."
  static let all: [CrossingFault] = [
    CrossingFault(
      name: "heads paired h with h + H/2", tensors: [layer + "5.attn.Wqkv.weight"],
      change: { values, shape in
        // Rows of the eight query heads of six channels.
        let width = shape[1]
        let old = values
        for head in 0..<8 {
          let from = head % 2 * 4 + head / 2
          for row in 0..<6 {
            for j in 0..<width {
              values[(head * 6 + row) * width + j] = old[(from * 6 + row) * width + j]
            }
          }
        }
      }),
    CrossingFault(
      name: "the norm of the pairs left at ones",
      tensors: [layer + "3.attn.inner_cross_attn.subln.weight"],
      change: { values, _ in for i in values.indices { values[i] = 1 } }),
    CrossingFault(
      name: "a gated memory unit's gate rolled by a row",
      tensors: [layer + "6.attn.in_proj.weight"],
      change: { values, shape in values = Array(values[shape[1]...] + values[..<shape[1]]) }),
    CrossingFault(
      name: "the shared keys' values negated", tensors: [layer + "5.attn.Wqkv.weight"],
      change: { values, shape in
        for i in (values.count - 24 * shape[1])..<values.count { values[i] = -values[i] }
      }),
    CrossingFault(
      name: "cross attention's queries rolled", tensors: [layer + "7.attn.Wqkv.weight"],
      change: { values, shape in values = Array(values[shape[1]...] + values[..<shape[1]]) }),
    CrossingFault(
      name: "fc1 as up and gate", tensors: [layer + "4.mlp.fc1.weight"],
      change: { values, _ in
        let half = values.count / 2
        values = Array(values[half...] + values[..<half])
      }),
  ]
}

@Suite("Faults planted in Phi-4-mini-flash")
struct CrossingFaultTests {
  @Test("are found in the sub-layer that has them, by its tensor", arguments: CrossingFault.all)
  func found(_ fault: CrossingFault) throws {
    let source = ModelFixture.named("phi4flash/hf").path
    let directory = TemporaryDirectory()
    let stored = try StoredCheckpoint(source)
    var builder = SafetensorsBuilder()
    for (name, tensor) in stored.tensors.sorted(by: { $0.key < $1.key }) {
      var values = tensor.values
      if fault.tensors.contains(name) { fault.change(&values, tensor.shape) }
      builder.add(name, tensor.shape, values)
    }
    Files.write(builder.bytes, to: directory.file("model.safetensors"))
    Files.write(Files.read(source + "/config.json"), to: directory.file("config.json"))
    let result = try Weighbridge().parity(
      CheckpointInput(path: source), CheckpointInput(path: directory.path),
      tokens: .random(batch: 2, length: 24, seed: 3), ParityRequest())
    #expect(!result.passes)
    let divergence = try #require(result.report.firstDivergence)
    #expect(divergence.suspects == fault.tensors)
    #expect(divergence.isProven)
  }
}
