import Hub
import Inference
import OrderedCollections
import Parity
import TestSupport
import Tensors
import Testing
import WeighbridgeKit

/// A fault planted in one of the hybrids.
struct HybridFault: Sendable, CustomTestStringConvertible {
  var name: String
  var model: String
  var stage: String
  var kind: String
  var suspects: [String] = []
  var attributes: [String] = []
  var config: [(String, String)] = []
  var change: @Sendable (inout Altered.Weights) -> Void = { _ in }
  var testDescription: String { name }

  static func exchange(_ a: String, _ b: String) -> @Sendable (inout Altered.Weights) -> Void {
    { weights in
      let first = weights[a]
      weights[a] = weights[b]
      weights[b] = first
    }
  }

  static let all: [HybridFault] = [
    HybridFault(
      name: "two rows of a router exchanged", model: "hy-jamba", stage: "hidden_states.2",
      kind: "moe", suspects: ["model.layers.1.feed_forward.router.weight"],
      change: { $0.swapRows("model.layers.1.feed_forward.router.weight", 0, 2, 1) }),
    HybridFault(
      name: "two experts in the other order", model: "hy-jamba", stage: "hidden_states.4",
      kind: "moe",
      suspects: [
        "model.layers.3.feed_forward.experts.1.down_proj.weight",
        "model.layers.3.feed_forward.experts.3.down_proj.weight",
      ],
      change: exchange(
        "model.layers.3.feed_forward.experts.1.down_proj.weight",
        "model.layers.3.feed_forward.experts.3.down_proj.weight")),
    HybridFault(
      name: "two experts of a stack in the other order", model: "hy-granite-moe",
      stage: "hidden_states.1", kind: "moe",
      suspects: ["model.layers.0.block_sparse_moe.output_linear.weight"],
      change: {
        let name = "model.layers.0.block_sparse_moe.output_linear.weight"
        $0.swapRows(name, 0, 1, 1)
      }),
    HybridFault(
      name: "one expert fewer for each token", model: "hy-jamba", stage: "hidden_states.2",
      kind: "moe", attributes: ["n_active"],
      config: [("\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 1")]),
    HybridFault(
      name: "the correction of a router left out", model: "hy-nemotron-h",
      stage: "hidden_states.4", kind: "moe",
      suspects: ["backbone.layers.3.mixer.gate.e_score_correction_bias"],
      change: {
        let name = "backbone.layers.3.mixer.gate.e_score_correction_bias"
        $0[name] = $0[name].map { _ in 0 }
      }),
    HybridFault(
      name: "the shared expert's rows shifted", model: "hy-nemotron-h", stage: "hidden_states.4",
      kind: "moe", suspects: ["backbone.layers.3.mixer.shared_experts.up_proj.weight"],
      change: { $0.swapRows("backbone.layers.3.mixer.shared_experts.up_proj.weight", 0, 1, 5) }),
    HybridFault(
      name: "the weights of the experts not divided by their sum", model: "hy-nemotron-h",
      stage: "hidden_states.4", kind: "moe", attributes: ["router_normalizes"],
      config: [("\"norm_topk_prob\": true", "\"norm_topk_prob\": false")]),
    HybridFault(
      name: "ReLU in place of its square", model: "hy-nemotron-h", stage: "hidden_states.2",
      kind: "ffn", attributes: ["activation"],
      config: [("\"mlp_hidden_act\": \"relu2\"", "\"mlp_hidden_act\": \"relu\"")]),
    HybridFault(
      name: "a multiplier of attention dropped", model: "hy-falcon-h1", stage: "hidden_states.1",
      kind: "attention", attributes: ["residual_scale"],
      config: [("\"attention_out_multiplier\": 0.7", "\"attention_out_multiplier\": 1.0")]),
    HybridFault(
      name: "the multiplier of the keys dropped", model: "hy-falcon-h1", stage: "hidden_states.1",
      kind: "attention", attributes: ["k_scale"],
      config: [("\"key_multiplier\": 0.6", "\"key_multiplier\": 1.0")]),
    HybridFault(
      name: "the multiplier of the gate dropped", model: "hy-falcon-h1", stage: "hidden_states.1",
      kind: "mlp", attributes: ["gate_scale"], config: [("0.85", "1.0")]),
    HybridFault(
      name: "z and x of the multipliers exchanged", model: "hy-falcon-h1",
      stage: "hidden_states.1", kind: "mamba2", attributes: ["in_scales"],
      config: [("0.9,\n    0.6,", "0.6,\n    0.9,")]),
    HybridFault(
      name: "attention's output beside another's", model: "hy-falcon-h1",
      stage: "hidden_states.2", kind: "attention",
      suspects: ["model.layers.1.self_attn.o_proj.weight"],
      change: exchange(
        "model.layers.1.self_attn.o_proj.weight", "model.layers.2.self_attn.o_proj.weight")),
    HybridFault(
      name: "updates of a shared block applied to the wrong uses", model: "hy-zamba2",
      stage: "hidden_states.2", kind: "shared_block",
      suspects: [
        "model.layers.1.shared_transformer.feed_forward.gate_up_proj_adapter_list.0.1.weight"
      ],
      change: exchange(
        "model.layers.1.shared_transformer.feed_forward.gate_up_proj_adapter_list.0.1.weight",
        "model.layers.1.shared_transformer.feed_forward.gate_up_proj_adapter_list.2.1.weight")),
    HybridFault(
      name: "an update of a shared block's queries lost in its second use", model: "hy-zamba2",
      stage: "hidden_states.5", kind: "shared_block",
      suspects: [
        "model.layers.1.shared_transformer.self_attn.linear_q_adapter_list.2.1.weight"
      ],
      change: {
        let name = "model.layers.1.shared_transformer.self_attn.linear_q_adapter_list.2.1.weight"
        $0[name] = $0[name].map { _ in 0 }
      }),
    HybridFault(
      name: "a projection behind a shared block of another use", model: "hy-zamba2",
      stage: "hidden_states.2", kind: "shared_block", suspects: ["model.layers.1.linear.weight"],
      change: exchange("model.layers.1.linear.weight", "model.layers.3.linear.weight")),
    HybridFault(
      name: "groups of B in the other order", model: "hy-nemotron-h", stage: "hidden_states.1",
      kind: "mamba2", suspects: ["backbone.layers.0.mixer.in_proj.weight"],
      change: {
        // Behind z and x stand the groups of B.
        let name = "backbone.layers.0.mixer.in_proj.weight"
        let rows = $0[name].count / $0.columns(name)
        let heads = $0["backbone.layers.0.mixer.A_log"].count
        let inner = $0["backbone.layers.0.mixer.norm.weight"].count
        let state = (rows - 2 * inner - heads) / 4
        $0.swapRows(name, 2 * inner, 2 * inner + state, state)
      }),
    HybridFault(
      name: "a norm of B of another layer", model: "hy-jamba", stage: "hidden_states.1",
      kind: "mamba", suspects: ["model.layers.0.mamba.b_layernorm.weight"],
      change: exchange(
        "model.layers.0.mamba.b_layernorm.weight", "model.layers.2.mamba.b_layernorm.weight")),
    HybridFault(
      name: "a residual multiplier dropped", model: "hy-granite-dense", stage: "hidden_states.1",
      kind: "mamba2", attributes: ["residual_scale"],
      config: [("\"residual_multiplier\": 0.25", "\"residual_multiplier\": 1.0")]),
    HybridFault(
      name: "the embedding's multiplier dropped", model: "hy-granite-dense",
      stage: "hidden_states.0", kind: "model", attributes: ["embed_scale"],
      config: [("\"embedding_multiplier\": 3.0", "\"embedding_multiplier\": 1.0")]),
  ]
}

@Suite("Faults in hybrids")
struct HybridFaultTests {
  let weighbridge: Weighbridge

  init() throws { weighbridge = try Weighbridge() }

  @Test("each is found at its stage, in its mixer, with its tensors", arguments: HybridFault.all)
  func found(_ fault: HybridFault) throws {
    let altered = try Altered(of: "\(fault.model)/hf", config: fault.config, fault.change)
    let result = try weighbridge.parity(
      CheckpointInput(path: Fixtures.path("models/\(fault.model)/hf")), altered.input,
      tokens: .random(batch: 2, length: 40, seed: 3), ParityRequest())
    #expect(!result.passes)
    let divergence = try #require(result.report.firstDivergence)
    #expect(divergence.stage == fault.stage)
    #expect(divergence.kind == fault.kind)
    #expect(Set(fault.suspects).isSubset(of: divergence.suspects))
    #expect(Set(fault.attributes).isSubset(of: divergence.attributes))
  }

  @Test(
    "each in the weights is found against the trace as well",
    arguments: HybridFault.all.filter { $0.attributes.isEmpty })
  func foundByTrace(_ fault: HybridFault) throws {
    let altered = try Altered(of: "\(fault.model)/hf", config: fault.config, fault.change)
    let result = try weighbridge.parity(
      altered.input, trace: Fixtures.path("models/\(fault.model)/trace.safetensors"),
      ParityRequest())
    #expect(!result.passes)
    let divergence = try #require(result.report.firstDivergence)
    #expect(divergence.stage == fault.stage)
    #expect(Set(fault.suspects).isSubset(of: divergence.suspects))
  }
}

@Suite("A floor of the step sizes")
struct StepFloorTests {
  let weighbridge: Weighbridge

  init() throws { weighbridge = try Weighbridge() }

  /// The trace of a model, computed by the engine with the floor or without it.
  func trace(_ model: String, _ floor: StepFloor, in directory: TemporaryDirectory) throws -> String
  {
    let path = directory.file("\(floor.rawValue).safetensors")
    var input = CheckpointInput(path: Fixtures.path("models/\(model)/hf"))
    input.stepFloor = floor
    _ = try weighbridge.trace(
      input, to: path, tokens: .random(batch: 2, length: 26, seed: 9))
    return path
  }

  @Test(
    "a trace with it and one without it both pass, and the report says which it is",
    arguments: ["hy-nemotron-h", "hy-zamba2"], StepFloor.allCases)
  func both(model: String, floor: StepFloor) throws {
    let directory = TemporaryDirectory()
    let path = try trace(model, floor, in: directory)
    let input = CheckpointInput(path: Fixtures.path("models/\(model)/hf"))
    let result = try weighbridge.parity(input, trace: path, ParityRequest())
    #expect(result.passes)
    let note = try #require(result.problems.first { $0.code == "model.dt-floor" })
    #expect(note.severity == .note)
    #expect(note.message.contains("are not raised") == (floor == .none))
  }

  @Test("the two differ by more than rounding", arguments: ["hy-nemotron-h", "hy-zamba2"])
  func differ(model: String) throws {
    let directory = TemporaryDirectory()
    let raised = try trace(model, .config, in: directory)
    let free = try trace(model, .none, in: directory)
    let (a, b) = (try StoredCheckpoint(raised), try StoredCheckpoint(free))
    #expect(a.tensors["input_ids"]?.bytes == b.tensors["input_ids"]?.bytes)
    #expect(a.tensors["logits"]?.bytes != b.tensors["logits"]?.bytes)
  }

  @Test("a fault is a fault with either")
  func fault() throws {
    let altered = try Altered(of: "hy-nemotron-h/hf") {
      $0.swapRows("backbone.layers.2.mixer.in_proj.weight", 0, 3, 3)
    }
    let result = try weighbridge.parity(
      altered.input, trace: Fixtures.path("models/hy-nemotron-h/trace.safetensors"),
      ParityRequest())
    #expect(!result.passes)
    #expect(result.report.firstDivergence?.stage == "hidden_states.3")
    let note = try #require(result.problems.first { $0.code == "model.dt-floor" })
    #expect(note.notes.count == 1)
  }

  @Test("a model without one says nothing of it")
  func noFloor() throws {
    let result = try weighbridge.parity(
      CheckpointInput(path: Fixtures.path("models/hy-bamba/hf")),
      trace: Fixtures.path("models/hy-bamba/trace.safetensors"), ParityRequest())
    #expect(!result.problems.contains { $0.code == "model.dt-floor" })
  }
}

@Suite("Hybrids that decode")
struct HybridDecodingTests {
  static let models = ModelFixture.all.filter { $0.name.hasPrefix("hy-") }

  /// The bound model and its weights.
  func loaded(_ fixture: ModelFixture) throws -> HubModel {
    let loaded = try Weighbridge().load(CheckpointInput(path: fixture.path))
    return HubModel(try loaded.model(), source: loaded.source)
  }

  @Test("a prompt at once, in pieces, and token by token give the same", arguments: models)
  func steps(fixture: ModelFixture) throws {
    let hub = try loaded(fixture)
    let model = try Model<Double>(spec: hub.spec, weights: hub)
    let tokens = [[3, 1, 4, 1, 5, 9, 2, 6, 5, 35], [2, 7, 18, 28, 1, 8, 2, 8, 4, 5]]
    let all = try model.logits(tokens: tokens)
    let rows = model.vocabularyRows
    for sizes in [[1], [4, 1, 5], [9, 1]] {
      let state = try model.makeState(batch: 2)
      var (at, number) = (0, 0)
      var last: [Double] = []
      while at < 10 {
        let count = min(sizes[number % sizes.count], 10 - at)
        last = try model.step(tokens.map { Array($0[at..<at + count]) }, state)
        for b in 0..<2 {
          let place = (b * 10 + at + count - 1) * rows
          let largest = all[place..<place + rows].map { abs($0) }.max() ?? 1
          let off = zip(last[b * rows..<(b + 1) * rows], all[place..<place + rows]).map {
            abs($0 - $1)
          }.max()
          #expect(try #require(off) < 1e-11 * largest, "in pieces of \(sizes)")
        }
        (at, number) = (at + count, number + 1)
      }
    }
  }

  @Test("each sub-layer runs alone on what those before it have left", arguments: models)
  func alone(fixture: ModelFixture) throws {
    let hub = try loaded(fixture)
    let model = try Model<Double>(spec: hub.spec, weights: hub)
    let tokens = [[3, 1, 4, 1, 5, 9, 2]]
    let pass = try ForwardPass(model, tokens: tokens)
    try pass.embed()
    for index in hub.spec.sublayers.indices {
      let (input, crossed) = (pass.withStream { Array($0) }, pass.crossed)
      try pass.advance()
      let alone = try ForwardPass(model, tokens: tokens)
      #expect(alone.jump(to: index, crossed: crossed))
      alone.withStream { stream in for i in input.indices { stream[i] = input[i] } }
      try alone.advance()
      #expect(alone.withStream { Array($0) } == pass.withStream { Array($0) }, "\(index)")
    }
    let reads = hub.spec.sublayers.firstIndex {
      $0.kind == "shared_block" || $0["norm"] == "parallel"
    }
    if let reads {
      let without = try ForwardPass(model, tokens: tokens)
      #expect(!without.jump(to: reads, crossed: CrossedValues()))
    }
  }
}
