import Hub
import Parity
import TestSupport
import Tensors
import Testing
import WeighbridgeKit

/// What is not a number is compared with nothing, and never passes.
@Suite("Not finite")
struct FinitenessTests {
  static let inProj = "backbone.layers.0.mixer.in_proj.weight"
  let weighbridge: Weighbridge
  let original = CheckpointInput(path: Fixtures.path("models/samba-fla/fla"))
  let tokens = TokenInput.random(batch: 1, length: 12, seed: 2)

  init() throws { weighbridge = try Weighbridge() }

  private func broken(_ value: Float, outProj factor: Float = 1) throws -> Altered {
    try Altered {
      for i in 0..<3 { $0[Self.inProj][i] = value }
      let out = "backbone.layers.2.mixer.out_proj.weight"
      if factor != 1 { $0[out] = $0[out].map { $0 * factor } }
    }
  }

  private func expectNotFinite(_ result: ParityResult, _ side: String) throws {
    #expect(!result.passes)
    let divergence = try #require(result.report.firstDivergence)
    #expect(divergence.stage == "hidden_states.1" && divergence.sublayer == 0)
    #expect(divergence.kind == "mamba" && divergence.suspects.contains(Self.inProj))
    #expect(divergence.isNotFinite)
    let problem = try #require(result.problems.first { $0.code == "parity.not-finite" })
    #expect(problem.severity == .error && problem.subject == "hidden_states.1")
    #expect(problem.message.hasPrefix("\(side) "), "\(problem)")
    #expect(problem.notes.contains { $0.contains("\(Self.inProj) holds 3 values") })
  }

  @Test("NaN in both files alike is no agreement", arguments: [1, 3] as [Float])
  func both(_ factor: Float) throws {
    let (a, b) = (try broken(.nan), try broken(.nan, outProj: factor))
    for precision in Precision.allCases {
      var request = ParityRequest()
      request.precision = precision
      request.generate = 2
      let result = try weighbridge.parity(a.input, b.input, tokens: tokens, request)
      try expectNotFinite(result, "A and B")
      #expect(result.generation == nil)
    }
  }

  @Test("a side that is not finite is named", arguments: [Float.nan, .infinity])
  func one(_ value: Float) throws {
    let other = try broken(value)
    try expectNotFinite(
      weighbridge.parity(original, other.input, tokens: tokens, ParityRequest()), "B")
    try expectNotFinite(
      weighbridge.parity(other.input, original, tokens: tokens, ParityRequest()), "A")
  }

  @Test("a cast that made infinities is no cast")
  func cast() throws {
    let large = try Altered { for i in 0..<3 { $0[Self.inProj][i] = 70000 } }
    let directory = TemporaryDirectory()
    var request = ConversionRequest(
      input: large.input, destination: directory.file("half"), to: "fla")
    request.dtype = .f16
    request.allowsLossy = true
    request.sync = false
    let conversion = try weighbridge.convert(request)
    #expect(conversion.plan.exactness == .lossy)
    let result = try weighbridge.parity(
      large.input, CheckpointInput(path: directory.file("half")), tokens: tokens, ParityRequest())
    try expectNotFinite(result, "B")
  }

  @Test("beside a trace too", arguments: Precision.allCases)
  func trace(_ precision: Precision) throws {
    var request = ParityRequest()
    request.precision = precision
    let model = try broken(.nan)
    let result = try weighbridge.parity(
      model.input, trace: Fixtures.path("models/samba-fla/trace.safetensors"), request)
    try expectNotFinite(result, "A")
  }

  @Test("a row of the head that holds NaN shows in the logits")
  func head() throws {
    let other = try Altered { $0["lm_head.weight"][64 * 7] = .nan }
    let result = try weighbridge.parity(original, other.input, tokens: tokens, ParityRequest())
    let divergence = try #require(result.report.firstDivergence)
    #expect(!result.passes && divergence.stage == "logits")
    #expect(divergence.suspects == ["lm_head.weight"])
  }

  /// A model that float64 holds and float32 does not.
  private func beyond(_ change: (inout Altered.Weights) -> Void = { _ in }) throws -> Altered {
    try Altered {
      let norm = "backbone.layers.0.mixer_norm.weight"
      $0[norm] = $0[norm].map { _ in 1e12 }
      $0[Self.inProj] = $0[Self.inProj].map { $0 * 50 }
      change(&$0)
    }
  }

  @Test("a model beyond float32 is judged in float64: equal to itself, and to what it converts to")
  func beyondFloat32() throws {
    let model = try beyond()
    let directory = TemporaryDirectory()
    var request = ConversionRequest(
      input: model.input, destination: directory.file("lit"), to: "lit_gpt")
    request.sync = false
    _ = try weighbridge.convert(request)
    for other in [model.path, directory.file("lit")] {
      let result = try weighbridge.parity(
        model.input, CheckpointInput(path: other), tokens: tokens, ParityRequest())
      #expect(result.passes)
      #expect(result.report.stages.allSatisfy { $0.bound.isFinite && $0.noise.isFinite })
      #expect(result.problems.contains { $0.code == "parity.beyond-float32" })
    }
  }

  @Test("a fault in a model beyond float32 is found")
  func beyondFloat32Fault() throws {
    let model = try beyond()
    let other = try beyond { $0.swapRows(Self.inProj, 0, 128, 128) }
    let result = try weighbridge.parity(model.input, other.input, tokens: tokens, ParityRequest())
    #expect(!result.passes)
    let divergence = try #require(result.report.firstDivergence)
    #expect(divergence.stage == "hidden_states.1" && divergence.suspects == [Self.inProj])
    #expect(result.report.stages.allSatisfy { $0.maxAbs.isFinite && $0.bound.isFinite })
  }

  @Test("in float32 such a model fails by name")
  func beyondFloat32InFloat32() throws {
    let model = try beyond()
    var request = ParityRequest()
    request.precision = .float32
    let result = try weighbridge.parity(model.input, model.input, tokens: tokens, request)
    #expect(!result.passes)
    let problem = try #require(result.problems.first { $0.code == "parity.not-finite" })
    #expect(problem.message.hasPrefix("B is not finite"))
    #expect(problem.notes.contains { $0.contains("sub-layer 0 (mamba of layer 0)") })
    #expect(result.problems.contains { $0.code == "parity.beyond-float32" })
  }

  @Test("nothing is generated from logits that are no numbers")
  func generate() throws {
    let directory = TemporaryDirectory()
    Files.write("[[1, 2, 3]]", to: directory.file("tokens.json"))
    let model = try broken(.nan)
    for precision in Precision.allCases {
      #expect {
        try weighbridge.generate(
          model.input, prompts: .file(directory.file("tokens.json")), count: 2, sampling: .greedy,
          precision: precision)
      } throws: { error in
        let problem = (error as? Problems)?.diagnostics.first
        return problem?.code == "generate.not-finite" && problem?.subject == "position 2"
          && problem?.notes.first?.contains("sub-layer 0 (mamba of layer 0): \(Self.inProj)")
            == true
      }
    }
  }

  @Test("a bound that is not finite is none")
  func infiniteBound() throws {
    let other = try Altered { $0["lm_head.weight"][3] += 0.5 }
    for tolerance in [Tolerance(atol: .infinity), Tolerance(rtol: .nan)] {
      var request = ParityRequest()
      request.tolerance = tolerance
      let result = try weighbridge.parity(original, other.input, tokens: tokens, request)
      #expect(!result.passes)
    }
  }
}
