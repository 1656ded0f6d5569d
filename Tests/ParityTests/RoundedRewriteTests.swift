import Checkpoints
import Conversion
import Hub
import Parity
import TestSupport
import Tensors
import Testing
import WeighbridgeKit

/// A conversion that computes new values and rounds them to a narrow type.
struct RoundedHop: Sendable, CustomTestStringConvertible {
  var from: String
  var to: String
  var dtype: DType
  /// Whether the source has the narrow type already.
  var isSourceNarrow: Bool
  var testDescription: String {
    "\(from)\(isSourceNarrow ? " in \(dtype.rawValue)" : "") to \(to) in \(dtype.rawValue)"
  }

  static let all: [RoundedHop] = [DType.bf16, .f16].flatMap { dtype in
    [true, false].flatMap { isNarrow in
      [("gla-berlino/berlino", "fla"), ("retnet-base/fla", "torchscale")].map {
        RoundedHop(from: $0.0, to: $0.1, dtype: dtype, isSourceNarrow: isNarrow)
      }
    }
  }
}

@Suite("Rewritten weights in narrow types")
struct RoundedRewriteTests {
  let weighbridge: Weighbridge

  init() throws { weighbridge = try Weighbridge() }

  private func converted(
    _ hop: RoundedHop, in directory: TemporaryDirectory
  ) throws -> (source: CheckpointInput, result: CheckpointInput) {
    var source = CheckpointInput(path: ModelFixture.named(hop.from).path)
    if hop.isSourceNarrow {
      var request = ConversionRequest(
        input: source, destination: directory.file("narrow"),
        to: ModelFixture.named(hop.from).framework)
      request.dtype = hop.dtype
      request.sync = false
      _ = try weighbridge.convert(request)
      source = CheckpointInput(path: request.destination)
    }
    var request = ConversionRequest(
      input: source, destination: directory.file("out"), to: hop.to)
    request.dtype = hop.isSourceNarrow ? nil : hop.dtype
    request.container = .safetensors
    request.sync = false
    _ = try weighbridge.convert(request)
    return (source, CheckpointInput(path: request.destination))
  }

  @Test("the rounding is told and not taken for a fault", arguments: RoundedHop.all)
  func passes(_ hop: RoundedHop) throws {
    let directory = TemporaryDirectory()
    let (source, written) = try converted(hop, in: directory)
    let result = try weighbridge.parity(
      source, written, tokens: .random(batch: 1, length: 24, seed: 1), ParityRequest())
    #expect(result.passes)
    #expect(result.problems.contains { $0.code == "parity.rewritten" })
    #expect(!result.problems.contains { $0.code == "parity.weights-differ" })
    // What the rounding costs is that of A against B, not of B against its own rounded values.
    #expect(result.report.logits.klMean > 0)
    #expect(result.report.logits.klMean < 1e-2)
  }

  @Test("a change of a few per cent in a rewritten tensor is found, and named")
  func planted() throws {
    let directory = TemporaryDirectory()
    let hop = RoundedHop(from: "gla-berlino/berlino", to: "fla", dtype: .bf16, isSourceNarrow: true)
    let (source, written) = try converted(hop, in: directory)
    let name = "model.layers.1.attn.k_proj.weight"
    let file = written.path + "/model.safetensors"
    let reader = try SafetensorsReader(path: file)
    let info = try #require(reader.tensors.first { $0.name.string == name })
    var bytes = Files.read(file)
    let start = Int(try #require(info.extent).offset)
    // The fourth bit of the mantissa: 6 to 13 % of the value.
    for i in stride(from: start, to: start + info.byteCount, by: 2) { bytes[i] ^= 0x08 }
    Files.write(bytes, to: file)
    let result = try weighbridge.parity(
      source, written, tokens: .random(batch: 1, length: 24, seed: 1), ParityRequest())
    #expect(!result.passes)
    let divergence = try #require(result.report.firstDivergence)
    #expect(divergence.stage == "hidden_states.2")
    #expect(divergence.suspects == [name])
    #expect(divergence.isProven)
  }
}
