import Hub
import Inference
import OrderedCollections
import Tensors
import TestSupport
import Testing

@Suite("A model")
struct ModelTests {
  @Test("tells its stages in order, named as in a trace")
  func stages() throws {
    var names: [String] = []
    var counts: [Int] = []
    let tiny = TinyModel()
    try tiny.model(Double.self).forward(tokens: [[1, 2, 3], [4, 5, 6]]) { stage, values in
      names.append(stage.name)
      counts.append(values.count)
    }
    // Layer 1 has two sub-layers.
    let want = ["hidden_states.0", "hidden_states.1", "hidden_states.2", "final_norm", "logits"]
    #expect(names == want)
    #expect(counts == [24, 24, 24, 24, 2 * 3 * 9])
  }

  @Test("can tell what leaves each sub-layer, too")
  func sublayers() throws {
    var names: [String] = []
    try TinyModel().model(Float.self).forward(tokens: [[1]], everySublayer: true) { stage, _ in
      names.append(stage.name)
    }
    #expect(names.contains("sublayer.0") && names.contains("sublayer.2"))
  }

  @Test("computes embedding, norms, head and biases as one would by hand")
  func ends() throws {
    // No sub-layers; width 2. The embedding (3, 4), doubled, normed by LayerNorm to (-1, 1),
    // scaled by the final RMSNorm's weight; the head adds and subtracts, with a bias.
    let spec = ModelSpec(
      family: "test",
      attributes: [
        "d_model": 2, "vocab_rows": 2, "vocab_size": 2, "tied": false, "embed_scale": 2.0,
        "embed_norm": "layer", "embed_norm_eps": 0.0, "final_norm_eps": 0.0,
      ], layerCount: 0, sublayers: [])
    let weights = MemoryWeights([
      PieceID(nil, "embed.weight"): .init(shape: [2, 2], [0, 0, 3, 4]),
      PieceID(nil, "final_norm.weight"): .init(shape: [2], [5, 7]),
      PieceID(nil, "head.weight"): .init(shape: [2, 2], [1, 1, 1, -1]),
      PieceID(nil, "head.bias"): .init(shape: [2], [0.5, 0.25]),
    ])
    let logits = try Model<Double>(spec: spec, weights: weights).logits(tokens: [[1]])
    #expect(logits == [2.5, -11.75])
  }

  @Test("gives the same whether weights are kept or fetched anew")
  func keeping() throws {
    let tiny = TinyModel()
    let tokens = [[3, 1, 4, 1, 5]]
    let anew = try tiny.model(Float.self).logits(tokens: tokens)
    let kept = try tiny.model(Float.self, ModelOptions(keepsWeights: true))
    #expect(try kept.logits(tokens: tokens) == anew)
    #expect(try kept.logits(tokens: tokens) == anew)
  }

  @Test("runs weights of any float type", arguments: [DType.f64, .f32, .f16, .bf16])
  func dtypes(dtype: DType) throws {
    // Weights that every type holds exactly.
    let tiny = TinyModel(rounding: true)
    let want = try tiny.model(Double.self).logits(tokens: [[1, 2, 3]])
    let stored = tiny.stored(as: dtype)
    let got = try Model<Double>(spec: tiny.spec, weights: stored).logits(tokens: [[1, 2, 3]])
    #expect(got == want)
    for count in [3, 11] {  // by rows, and by blocks
      let ids = [(0..<count).map { $0 % 9 }]
      let a = try Model<Float>(spec: tiny.spec, weights: stored).logits(tokens: ids)
      let b = try tiny.model(Double.self).logits(tokens: ids)
      #expect(zip(a, b).allSatisfy { abs(Double($0) - $1) < 1e-5 })
    }
  }

  @Test("decodes several sequences at once as it does one")
  func batches() throws {
    let model = try TinyModel().model(Double.self)
    let prompts = [[1, 2, 3, 4, 5], [8, 7, 6, 5, 4]]
    let state = try model.makeState(batch: 2)
    _ = try model.step(prompts, state)
    let both = try model.step([[2], [3]], state)
    #expect(state.position == 6)
    for (b, next) in [2, 3].enumerated() {
      let all = try model.logits(tokens: [prompts[b] + [next]])
      let difference = zip(both[b * 9..<(b + 1) * 9], all.suffix(9)).map { abs($0 - $1) }
      #expect(difference.allSatisfy { $0 < 1e-13 })
    }
  }

  @Test("can be run from another's stream")
  func streams() throws {
    let tiny = TinyModel()
    let (one, two) = (try tiny.model(Double.self), try tiny.model(Double.self))
    let (a, b) = (
      try ForwardPass(one, tokens: [[1, 2]]), try ForwardPass(two, tokens: [[1, 2]])
    )
    try a.embed()
    try a.advance()
    let stream = a.withStream { Array($0) }
    try b.embed()
    try b.advance()
    b.withStream { for i in stream.indices { $0[i] = stream[i] } }
    try a.advance()
    try b.advance()
    #expect(a.withStream { Array($0) } == b.withStream { Array($0) })
  }

  @Test("takes no token without a row, and no ragged batch")
  func tokens() throws {
    let model = try TinyModel().model(Float.self)
    #expect(
      codes { _ = try model.logits(tokens: [[1, 9], [-1, 2]]) } == ["tokens.range", "tokens.range"])
    #expect(codes { _ = try model.logits(tokens: [[1, 2], [3]]) } == ["tokens.shape"])
    #expect(codes { _ = try model.logits(tokens: []) } == ["tokens.shape"])
    #expect(codes { _ = try model.logits(tokens: [[]]) } == ["tokens.shape"])
    let state = try model.makeState(batch: 2)
    #expect(codes { _ = try model.step([[1]], state) } == ["tokens.shape"])
  }

  /// The codes of the problems that `body` throws.
  private func codes(_ body: () throws -> Void) -> [String] {
    do { try body() } catch let problems as Problems {
      return problems.diagnostics.map(\.code)
    } catch { return ["\(error)"] }
    return []
  }
}

@Suite("What a model refuses")
struct RefusalTests {
  private static let wrong: [(String, String, JSONValue)] = [
    ("attention__full", "rope_scaling", ["rope_type": "dynamic", "factor": 2.0]),
    ("attention__full", "rope_scaling", ["rope_type": "llama3", "factor": 2.0]),
    ("attention__full", "rope_dim", 9), ("attention__full", "n_kv_heads", 4),
    ("attention__full", "attention_sink", true), ("attention__full", "window", -1),
    ("attention__full", "norm", "shared"), ("attention__full", "norm", "group"),
    ("gla__plain", "feature_map", "elu"), ("gla__plain", "gate_min", "low"),
    ("retention__plain", "feature_map", "hedgehog"), ("gla__plain", "group_norm", "batch"),
    ("mlp__silu", "activation", "tanh"), ("mlp__silu", "d_ff", nil),
    ("mamba2__grouped", "n_groups", 4), ("mamba2__grouped", "gated_norm", "layer"),
    ("mamba__plain", "d_state", 0),
  ]

  @Test(
    "an attribute that changes the mathematics and is not supported, by its name",
    arguments: RefusalTests.wrong)
  func attributes(fixture: String, name: String, value: JSONValue) {
    let fixture = MixerFixture.named(fixture)
    var spec = fixture.spec
    spec.sublayers[0].attributes[name] = value
    let problems = refusals(spec, fixture.weights)
    #expect(
      problems.contains { $0.code == "model.attribute" && $0.message.contains(name) },
      "\(problems)")
  }

  @Test(
    "an attribute of the model",
    arguments: [
      ("parallel_residual", true as JSONValue), ("final_norm", "shared"), ("embed_norm", "batch"),
      ("logit_softcap", 30.0), ("embed_scale", "sqrt"),
    ])
  func ofTheModel(name: String, value: JSONValue) {
    let fixture = MixerFixture.named("mlp__silu")
    var spec = fixture.spec
    spec.attributes[name] = value
    #expect(refusals(spec, fixture.weights).contains { $0.message.contains(name) })
  }

  @Test("a kind of sub-layer that it does not run")
  func kinds() {
    let spec = MixerFixture.spec(kind: "hyena", [:], width: 4)
    let codes = refusals(spec, MemoryWeights()).map(\.code)
    #expect(codes.contains("model.kind"))
  }

  @Test("Self-Extend where a layer has a window, and groups that do not divide their window")
  func selfExtend() {
    let window = MixerFixture.named("attention__window")
    let options = ModelOptions(selfExtend: SelfExtend(group: 4, window: 16))
    #expect(
      refusals(window.spec, window.weights, options).contains {
        $0.code == "model.self_extend" && $0.message.contains("window of 9")
      })
    let full = MixerFixture.named("attention__full")
    let uneven = ModelOptions(selfExtend: SelfExtend(group: 4, window: 18))
    #expect(refusals(full.spec, full.weights, uneven).map(\.code) == ["model.self_extend"])
  }

  @Test("pieces that are missing, misshapen or of no float type, all at once")
  func pieces() {
    let fixture = MixerFixture.named("mamba__plain")
    var weights = fixture.weights
    weights.entries[PieceID(0, "a_log")] = nil
    weights.entries[PieceID(0, "d")]?.shape = [4, 5]
    weights.entries[PieceID(0, "dt.bias")]?.dtype = .i64
    let codes = refusals(fixture.spec, weights).map(\.code)
    #expect(Set(codes) == ["model.piece", "model.shape", "model.dtype"])
  }

  private func refusals(
    _ spec: ModelSpec, _ weights: MemoryWeights, _ options: ModelOptions = ModelOptions()
  ) -> [Diagnostic] {
    do throws(Problems) {
      _ = try Model<Float>(spec: spec, weights: weights, options: options)
      return []
    } catch { return error.diagnostics }
  }
}
