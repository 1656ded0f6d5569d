import Checkpoints
import Conversion
import Hub
import Inference
import Parity
import TestSupport
import Tensors
import Testing
import WeighbridgeKit

/// What once passed and must not; see docs/how-parity-decides.md.
@Suite("The rule")
struct RuleTests {
  static let layer = "backbone.layers."
  let weighbridge: Weighbridge
  let original = CheckpointInput(path: Fixtures.path("models/samba-fla/fla"))
  let trace = Fixtures.path("models/samba-fla/trace.safetensors")
  let tokens = TokenInput.random(batch: 1, length: 24, seed: 4)

  init() throws { weighbridge = try Weighbridge() }

  private func pair(_ a: CheckpointInput, _ b: CheckpointInput) throws -> ParityResult {
    try weighbridge.parity(a, b, tokens: tokens, ParityRequest())
  }

  @Test("another epsilon of the norms fails beside a float64 trace, and the key is named")
  func epsilon() throws {
    let other = try Altered(config: [("\"norm_eps\": 1e-05", "\"norm_eps\": 1e-06")])
    let result = try weighbridge.parity(other.input, trace: trace, ParityRequest())
    #expect(!result.passes)
    let divergence = try #require(result.report.firstDivergence)
    #expect(divergence.stage == "hidden_states.1")
    #expect(divergence.attributes == ["norm_eps"] && divergence.suspects.isEmpty)
    #expect(divergence.isProven)
  }

  @Test(
    "a tensor off by a millionth fails beside a float64 trace, and is named",
    arguments: [
      ("1.mlp.gate_proj.weight", "hidden_states.2", 3),
      ("1.mixer.v_proj.weight", "hidden_states.2", 2),
      ("2.mixer.A_log", "hidden_states.3", 4), ("3.mlp_norm.weight", "hidden_states.4", 7),
    ])
  func traced(_ fault: (name: String, stage: String, sublayer: Int)) throws {
    let name = Self.layer + fault.name
    let other = try Altered { $0[name] = $0[name].map { $0 * 1.000001 } }
    let result = try weighbridge.parity(other.input, trace: trace, ParityRequest())
    #expect(!result.passes)
    let divergence = try #require(result.report.firstDivergence)
    #expect(divergence.stage == fault.stage && divergence.sublayer == fault.sublayer)
    // What is rounded again is not taken back to the last bit.
    #expect(divergence.suspects.contains(name))
    #expect(result.report.stages.filter { !$0.ok }.map(\.name) == [fault.stage])
  }

  @Test(
    "the mixer and the MLP of a layer are told apart beside a trace",
    arguments: [
      ("1.mixer.q_proj.weight", 2), ("1.mlp.up_proj.weight", 3), ("2.mlp.down_proj.weight", 5),
    ])
  func mixerOrMLP(_ fault: (name: String, sublayer: Int)) throws {
    let name = Self.layer + fault.name
    let other = try Altered { $0[name][70] += 0.01 }
    let result = try weighbridge.parity(other.input, trace: trace, ParityRequest())
    let divergence = try #require(result.report.firstDivergence)
    #expect(!result.passes && divergence.sublayer == fault.sublayer)
    #expect(divergence.suspects.contains(name))
  }

  @Test(
    "windows that the tokens do not reach fail, and are named",
    arguments: [("2048", "null"), ("2048", "1024"), ("64", "65"), ("20000", "null")])
  func window(_ sizes: (a: String, b: String)) throws {
    func model(_ size: String) throws -> Altered {
      try Altered(config: [("\"window_size\": 8", "\"window_size\": \(size)")])
    }
    let (a, b) = (try model(sizes.a), try model(sizes.b))
    for (x, y) in [(a, b), (b, a)] {
      let result = try pair(x.input, y.input)
      #expect(!result.passes)
      let divergence = try #require(result.report.firstDivergence)
      #expect(divergence.stage == "hidden_states.2" && divergence.sublayer == 2)
      #expect(divergence.kind == "attention" && divergence.attributes == ["window"])
      #expect(divergence.suspects.isEmpty)
      let isReached = sizes.a != "20000"
      #expect(
        result.problems.map(\.code).contains(isReached ? "parity.grown" : "parity.not-exercised"))
    }
    #expect(throws: Refusal.self) {
      try weighbridge.verify(written: b.path, against: weighbridge.load(a.input))
    }
  }

  @Test("bounds that were given do not excuse what no token shows")
  func windowWithTolerance() throws {
    let other = try Altered(config: [("\"window_size\": 8", "\"window_size\": 20000")])
    let none = try Altered(config: [("\"window_size\": 8", "\"window_size\": null")])
    var request = ParityRequest()
    request.tolerance = Tolerance(rtol: 1e-3)
    #expect(try !weighbridge.parity(other.input, none.input, tokens: tokens, request).passes)
    let epsilon = try Altered(config: [("\"norm_eps\": 1e-05", "\"norm_eps\": 1.0001e-05")])
    #expect(try weighbridge.parity(original, epsilon.input, tokens: tokens, request).passes)
  }

  /// The fixture with the rows of one channel of the residual stream, and of one channel inside a mixer,
  /// ten thousand times as large.
  private func amplified(_ change: (inout Altered.Weights) -> Void = { _ in }) throws -> Altered {
    try Altered { weights in
      for name in ["0.mlp.down_proj.weight", "1.mixer.v_proj.weight"] {
        let width = weights.columns(Self.layer + name)
        for i in 5 * width..<6 * width { weights[Self.layer + name][i] *= 1e4 }
      }
      change(&weights)
    }
  }

  @Test("faults beside a channel that is ten thousand times as large are found in their place")
  func amplifiedFaults() throws {
    let model = try amplified()
    let twin = try amplified()
    #expect(try pair(model.input, twin.input).passes)
    let faults: [(name: String, sublayer: Int, change: (inout Altered.Weights, String) -> Void)] = [
      ("1.mixer.q_proj.weight", 2, { $0.swapRows($1, 0, 16, 16) }),
      ("1.mixer.o_proj.weight", 2, { $0[$1][64 * 40 + 33] *= 1.001 }),
      ("2.mlp.up_proj.weight", 5, { $0[$1][100] += 1e-4 }),
      ("3.mixer.k_proj.weight", 6, { $0[$1] = $0[$1].map { $0 * 1.000001 } }),
    ]
    for fault in faults {
      let name = Self.layer + fault.name
      let other = try amplified { fault.change(&$0, name) }
      let result = try pair(model.input, other.input)
      let divergence = try #require(result.report.firstDivergence, "\(name)")
      #expect(!result.passes && divergence.sublayer == fault.sublayer, "\(name)")
      #expect(divergence.suspects == [name])
    }
  }

  @Test(
    "only what cures a place is named: a tensor beside harmless ones, a config key beside a tensor")
  func onlyTheCulprit() throws {
    let mlp = Self.layer + "1.mlp."
    let other = try Altered { weights in
      for name in ["gate_proj.weight", "up_proj.weight"] { weights.swapRows(mlp + name, 3, 90, 20) }
      let down = mlp + "down_proj.weight"
      let width = weights.columns(down)
      for row in 0..<64 {
        for i in 0..<20 { weights[down].swapAt(row * width + 3 + i, row * width + 90 + i) }
      }
      weights[mlp + "gate_proj.weight"][500] += 1e-3
      let key = Self.layer + "3.mixer.k_proj.weight"
      weights[key] = weights[key].map { $0 * 1.01 }
    }
    let result = try pair(original, other.input)
    let divergence = try #require(result.report.firstDivergence)
    #expect(divergence.sublayer == 3)
    // The units were reordered in all three, so that each is needed.
    #expect(divergence.suspects.allSatisfy { $0.hasPrefix(mlp) })
    let query = Self.layer + "1.mixer.q_proj.weight"
    let both = try Altered(config: [("\"window_size\": 8", "\"window_size\": 9")]) {
      // Two heads that share a key head, exchanged with their outputs: the same function.
      $0.swapRows(query, 0, 16, 16)
      let out = Self.layer + "1.mixer.o_proj.weight"
      for row in 0..<64 {
        for i in 0..<16 { $0[out].swapAt(row * 64 + i, row * 64 + 16 + i) }
      }
    }
    let config = try #require(try pair(original, both.input).report.firstDivergence)
    #expect(config.sublayer == 2 && config.attributes == ["window"])
    #expect(config.suspects.isEmpty)
  }

  @Test("a model beside itself is run once, and the report says so")
  func onePass() throws {
    let result = try pair(original, original)
    #expect(result.passes && result.isOnePass)
    let other = try Altered { $0[Self.layer + "1.mixer.q_proj.weight"][3] += 1 }
    #expect(try !pair(original, other.input).isOnePass)
  }

  @Test("continuations of every prompt are compared, and the margin is told")
  func generation() throws {
    var request = ParityRequest()
    request.generate = 6
    let prompts = TokenInput.random(batch: 3, length: 8, seed: 2)
    let same = try weighbridge.parity(original, original, tokens: prompts, request)
    let equal = try #require(same.generation)
    #expect(same.passes && equal.isEqual && equal.sequences == 3 && equal.a.count == 6)
    let other = try Altered { $0["lm_head.weight"] = $0["lm_head.weight"].map { -$0 } }
    let result = try weighbridge.parity(original, other.input, tokens: prompts, request)
    let difference = try #require(result.generation?.difference)
    #expect(difference.index == 0 && difference.margin > 0 && !difference.isExplained)
  }

  @Test("a preset's draws are not compared with the greedy tokens of a trace")
  func preset() throws {
    var request = ParityRequest()
    request.generate = 16
    request.sampling = Sampling(temperature: 1, topP: 0.9, seed: 3)
    let result = try weighbridge.parity(
      CheckpointInput(path: Fixtures.path("models/tiny-samba/fla")),
      trace: Fixtures.path("models/tiny-samba/trace.safetensors"), request)
    #expect(result.passes && result.generation?.isEqual == true)
    #expect(result.problems.contains { $0.code == "parity.greedy" })
    // Draws of the same seed are.
    let pair = try weighbridge.parity(
      original, original, tokens: .random(batch: 2, length: 8, seed: 2), request)
    #expect(pair.passes && pair.generation?.isEqual == true)
  }

  @Test("the thorough check runs beyond the window, in both precisions, and in steps")
  func thorough() throws {
    var request = ParityRequest()
    request.isThorough = true
    let result = try weighbridge.parity(original, original, tokens: tokens, request)
    #expect(result.passes)
    let note = try #require(result.problems.first { $0.code == "parity.thorough" })
    #expect(note.message.contains("1, 2, 3, 16, 17, 65, 257 tokens"))
  }

  @Test("what is differently stored and the same function passes with these words")
  func differentlyStored() throws {
    let value = Self.layer + "1.mixer.v_proj.weight"
    let out = Self.layer + "1.mixer.o_proj.weight"
    let other = try Altered { weights in
      weights[value] = weights[value].map { $0 * 2 }
      weights[out] = weights[out].map { $0 / 2 }
    }
    let result = try pair(original, other.input)
    #expect(result.passes)
    let note = try #require(result.problems.first { $0.code == "parity.weights-differ" })
    #expect(note.message.contains("differently stored, the same function"))
  }
}
