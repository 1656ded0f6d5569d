import Hub
import Parity
import TestSupport
import Testing
import WeighbridgeKit

/// Traces that weighbridge-capture wrote while a framework ran a fixture.
@Suite("Traces captured from the frameworks")
struct CapturedTraceTests {
  let weighbridge: Weighbridge

  init() throws { weighbridge = try Weighbridge() }

  private func result(_ model: String, _ trace: String) throws -> ParityResult {
    try weighbridge.parity(
      CheckpointInput(path: Fixtures.path("models/\(model)")),
      trace: Fixtures.path("traces/\(trace).safetensors"), ParityRequest())
  }

  @Test(
    "what a framework computes in its own type is within that type's noise",
    arguments: [
      ("gla-base/fla", "gla-base-fla-bfloat16"), ("samba-fla/fla", "samba-fla-fla-bfloat16"),
      ("samba-fla/fla", "samba-fla-fla-float32"),
      ("lit-samba/lit_gpt", "lit-samba-lit_gpt-bfloat16"),
      ("mamba-tied/hf", "mamba-tied-hf-float16"),
    ])
  func passes(_ model: String, _ trace: String) throws {
    let result = try result(model, trace)
    #expect(result.passes)
    let isCoarse = !trace.hasSuffix("32")
    for stage in result.report.stages {
      // Each stage of a coarse trace is computed from the one before: its bound stays small, however
      // many layers lie before it.
      let scale = stage.relative > 0 ? stage.maxAbs / stage.relative : 1
      #expect(stage.bound / scale < (isCoarse ? 0.5 : 1e-4), "\(stage.name)")
    }
    // The agreement of the predictions is that of the whole pass.
    #expect(result.report.logits.klMean > 0)
    #expect(result.report.logits.top1Agreement > 0.8)
  }

  @Test("the stream between a layer's sub-layers is compared where the trace has it")
  func sublayers() throws {
    let result = try result("samba-fla/fla", "samba-fla-fla-float32")
    #expect(
      result.report.stages.map(\.name) == [
        "hidden_states.0", "sublayer.0", "hidden_states.1", "sublayer.2", "hidden_states.2",
        "sublayer.4", "hidden_states.3", "sublayer.6", "hidden_states.4", "final_norm", "logits",
      ])
  }

  @Test("exchanged heads are found in bfloat16, in their sub-layer, and nowhere else")
  func heads() throws {
    let result = try result("samba-fla/fla", "samba-fla-heads-swapped-bfloat16")
    #expect(!result.passes)
    let divergence = try #require(result.report.firstDivergence)
    #expect(divergence.stage == "sublayer.2")
    #expect(divergence.sublayer == 2)
    #expect(divergence.kind == "attention")
    #expect(divergence.suspects.contains("backbone.layers.1.mixer.q_proj.weight"))
    #expect(!divergence.suspects.contains { $0.contains("mlp") })
    #expect(result.report.stages.filter { !$0.ok }.map(\.name) == ["sublayer.2"])
  }
}
