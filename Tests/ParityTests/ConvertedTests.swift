import Conversion
import Hub
import Parity
import TestSupport
import Testing
import WeighbridgeKit

/// A conversion that the fixtures allow.
struct Hop: Sendable, CustomTestStringConvertible {
  var from: String
  var to: String
  var testDescription: String { "\(from) to \(to)" }

  static let all: [Hop] = [
    ("mamba-tied/hf", "fla"), ("mamba-tied/hf", "mamba_ssm"), ("mamba-tied/hf", "lit_gpt"),
    ("mamba-bias-untied/mamba_ssm", "hf"), ("mamba-fla/fla", "mamba_ssm"),
    ("lit-mamba-only/lit_gpt", "hf"), ("lit-samba/lit_gpt", "fla"),
    ("lit-mamba-swa-mlp/lit_gpt", "fla"), ("lit-llama-full/lit_gpt", "hf"),
    ("lit-llama-full/lit_gpt", "mamba_ssm"), ("lit-llama-mqa-bf16/lit_gpt", "fla"),
    ("lit-sliding-retnet/lit_gpt", "fla"), ("samba-fla/fla", "lit_gpt"),
    ("retnet-base/fla", "torchscale"), ("gla-berlino/berlino", "fla"),
  ].map { Hop(from: $0.0, to: $0.1) }
}

@Suite("Parity of source and result")
struct ConvertedTests {
  let weighbridge: Weighbridge

  init() throws { weighbridge = try Weighbridge() }

  @Test("what was converted computes what its source computes", arguments: Hop.all)
  func converted(_ hop: Hop) throws {
    let directory = TemporaryDirectory()
    let source = CheckpointInput(path: ModelFixture.named(hop.from).path)
    let destination = directory.path + "/out"
    var request = ConversionRequest(input: source, destination: destination, to: hop.to)
    request.sync = false
    let conversion = try weighbridge.convert(request)
    let result = try weighbridge.parity(
      source, CheckpointInput(path: destination), tokens: .random(batch: 2, length: 24, seed: 1),
      ParityRequest())
    #expect(result.passes)
    // Weights that were scaled or centred are rounded to float32 once, which float64 sees.
    let isRounded = hop.from == "gla-berlino/berlino" || hop.to == "torchscale"
    let last = try #require(result.report.stages.last)
    if conversion.plan.exactness == .rounding || isRounded {
      #expect(last.relative <= 1e-5)
    } else {
      #expect(last.relative <= 1e-10)
    }
  }

  @Test("a deliberate cast passes, and its price is told")
  func cast() throws {
    let directory = TemporaryDirectory()
    let source = CheckpointInput(path: Fixtures.path("models/tiny-samba/fla"))
    var request = ConversionRequest(
      input: source, destination: directory.path + "/out", to: "fla")
    request.dtype = .bf16
    request.sync = false
    _ = try weighbridge.convert(request)
    let result = try weighbridge.parity(
      source, CheckpointInput(path: request.destination),
      tokens: .file(Fixtures.path("models/tiny-samba/trace.safetensors")), ParityRequest())
    #expect(result.passes)
    #expect(!result.differing.isEmpty)
    #expect(result.report.logits.klMean > 0)
    #expect(result.report.logits.klMean < 1e-2)
    #expect(result.report.logits.top1Agreement > 0.9)
    let change = try #require(result.report.logits.nllB) - #require(result.report.logits.nllA)
    #expect(change != 0)
    #expect(abs(change) < 0.05)
  }

  @Test("another container, other shards and other threads change nothing")
  func shards() throws {
    let directory = TemporaryDirectory()
    let source = CheckpointInput(path: Fixtures.path("models/samba-fla/fla"))
    var request = ConversionRequest(
      input: source, destination: directory.path + "/out", to: "fla")
    request.maxShardBytes = 200_000
    request.sync = false
    _ = try weighbridge.convert(request)
    let result = try weighbridge.parity(
      source, CheckpointInput(path: request.destination),
      tokens: .random(batch: 1, length: 40, seed: 5), ParityRequest())
    #expect(result.passes)
    #expect(result.report.stages.allSatisfy { $0.maxAbs == 0 })
  }

  @Test("models that cannot be compared are said to be such")
  func incomparable() throws {
    func run(_ a: String, _ b: String) throws -> ParityResult {
      try weighbridge.parity(
        CheckpointInput(path: ModelFixture.named(a).path),
        CheckpointInput(path: ModelFixture.named(b).path),
        tokens: .random(batch: 1, length: 8, seed: 0), ParityRequest())
    }
    #expect(throws: (any Error).self) { try run("samba-fla/fla", "gla-base/fla") }
    #expect(throws: (any Error).self) { try run("mamba-tied/hf", "mamba-fla/fla") }
  }
}
