import Checkpoints
import Hub
import Inference
import Parity
import TestSupport
import Testing
import WeighbridgeKit

@Suite("Parity with the frameworks' traces", .tags(.slow))
struct TraceTests {
  let weighbridge: Weighbridge

  init() throws { weighbridge = try Weighbridge() }

  static func trace(_ model: ModelFixture, _ name: String = "trace") -> String {
    Fixtures.path("models/\(model.name)/\(name).safetensors")
  }

  /// Of the largest logit. Torchscale's trace holds its tables in float32, S6-Mega's passes through
  /// float32 inside.
  static func allowed(_ model: ModelFixture) -> Double {
    model.name == "lit-s6-mega" ? 1e-5 : model.framework == "torchscale" ? 1e-6 : 1e-10
  }

  @Test("float64 agrees with every trace to its own precision", arguments: ModelFixture.all)
  func float64(_ model: ModelFixture) throws {
    let result = try weighbridge.parity(
      CheckpointInput(path: model.path), trace: Self.trace(model), ParityRequest())
    #expect(result.passes)
    let stage = try #require(result.report.stages.last)
    #expect(stage.name == "logits")
    #expect(stage.relative <= Self.allowed(model))
  }

  @Test("float32 stays within 1e-4 of the largest logit", arguments: ModelFixture.all)
  func float32(_ model: ModelFixture) throws {
    var request = ParityRequest()
    request.precision = .float32
    let result = try weighbridge.parity(
      CheckpointInput(path: model.path), trace: Self.trace(model), request)
    #expect(result.passes)
    #expect(try #require(result.report.stages.last).relative <= 1e-4)
  }

  @Test("Self-Extend agrees with its trace")
  func selfExtend() throws {
    let model = ModelFixture.named("lit-llama-full/lit_gpt")
    var request = ParityRequest()
    request.selfExtend = SelfExtend(group: 4, window: 16)
    let result = try weighbridge.parity(
      CheckpointInput(path: model.path), trace: Self.trace(model, "trace-self-extend"), request)
    #expect(result.passes)
    #expect(try #require(result.report.stages.last).relative <= 1e-10)
  }

  @Test("Self-Extend on a model with a window is refused by name")
  func selfExtendWindow() throws {
    var request = ParityRequest()
    request.selfExtend = SelfExtend(group: 4, window: 16)
    #expect(throws: (any Error).self) {
      try weighbridge.parity(
        CheckpointInput(path: Fixtures.path("models/samba-fla/fla")),
        trace: Fixtures.path("models/samba-fla/trace.safetensors"), request)
    }
  }

  @Test(
    "trained models: the text's likelihood and the greedy continuation are the framework's own",
    arguments: ["tiny-mamba", "tiny-samba"])
  func trained(_ name: String) throws {
    let path = Fixtures.path("models/\(name)/trace.safetensors")
    var request = ParityRequest()
    request.generate = 48
    let result = try weighbridge.parity(
      CheckpointInput(path: Fixtures.path("models/\(name)/fla")), trace: path, request)
    #expect(result.passes)
    let generation = try #require(result.generation)
    #expect(generation.a.count == 48)
    #expect(generation.a == generation.b)
    let metadata = try SafetensorsReader(path: path).metadata
    let told = try #require(metadata["mean_nll"].flatMap(Double.init))
    #expect(abs(try #require(result.report.logits.nllA) - told) <= 1e-9)
  }

  @Test("a trace of another model is said to be one, not failed")
  func otherModel() throws {
    #expect(throws: (any Error).self) {
      try weighbridge.parity(
        CheckpointInput(path: Fixtures.path("models/samba-fla/fla")),
        trace: Fixtures.path("models/lit-samba/trace.safetensors"), ParityRequest())
    }
  }
}
