import TestSupport
import Tensors
import Testing

/// The built tool's forward pass, against the traces and across conversions.
@Suite("Parity", .tags(.slow))
struct ParityTests {
  /// How far logits may be off, of the largest: float64 sums in another order. S6-Mega's trace passes
  /// through float32 inside, and torchscale's was checked against a float32 module.
  static func bound(_ fixture: ModelFixture) -> Double {
    fixture.stack.contains("S") ? 1e-5 : fixture.framework == "torchscale" ? 1e-6 : 1e-10
  }

  @Test("each fixture computes its trace in float64", arguments: ModelFixture.all)
  func trace(fixture: ModelFixture) throws {
    let path = Fixtures.path("models/\(fixture.name)/trace.safetensors")
    let largest = try StoredTrace.largestLogit(path)
    let run = try BuiltTool.run("parity", fixture.path, "--trace", path, "--json")
    #expect(run.status == 0, "\(run.error)")
    let document = try run.document()
    #expect(document["verdict"] == "pass" && document["precision"] == "float64")
    #expect(document["first_divergence"] == .null)
    let off = try #require(document["logits"]?["max_abs"]?.double)
    #expect(off <= Self.bound(fixture) * largest)
  }

  /// Conversions that are the same function to the last digits that float64 holds.
  static let exact = [
    ("mamba-tied/hf", "mamba_ssm"), ("mamba-bias-untied/mamba_ssm", "fla"),
    ("lit-mamba-only/lit_gpt", "hf"), ("mamba-tied/hf", "lit_gpt"),
  ]

  @Test("a bitwise conversion computes the same", arguments: exact)
  func converted(name: String, to: String) throws {
    let directory = TemporaryDirectory()
    let source = ModelFixture.named(name).path
    let converted = try BuiltTool.run(
      "convert", source, directory.file("out"), "--to", to, "--no-fsync")
    #expect(converted.status == 0)
    let run = try BuiltTool.run(
      "parity", source, directory.file("out"), "--random", "2x24", "--seed", "5", "--json")
    #expect(run.status == 0, "\(run.error)")
    let document = try run.document()
    #expect(document["verdict"] == "pass")
    #expect(document["logits"]?["max_abs"]?.double == 0)
    #expect(document["weights"]?["differ"] == [])
  }

  @Test("a changed weight fails, and the layer is named")
  func changed() throws {
    let directory = TemporaryDirectory()
    let source = ModelFixture.named("samba-fla/fla").path
    let name = "backbone.layers.2.mixer.out_proj.weight"
    var builder = SafetensorsBuilder()
    for (key, tensor) in try StoredCheckpoint(source).tensors.sorted(by: { $0.key < $1.key }) {
      var bytes = tensor.bytes
      // The signs of the first row.
      if key == name { for i in 0..<128 { bytes[4 * i + 3] ^= 0x80 } }
      builder.add(key, tensor.dtype, tensor.shape, bytes)
    }
    Files.makeDirectory(directory.file("b"))
    Files.write(builder.bytes, to: directory.file("b/model.safetensors"))
    Files.write(Files.read(source + "/config.json"), to: directory.file("b/config.json"))
    let run = try BuiltTool.run(
      "parity", source, directory.file("b"), "--random", "1x16", "--seed", "5", "--json")
    #expect(run.status == 1)
    let divergence = try #require(try run.document()["first_divergence"])
    #expect(divergence["stage"] == "hidden_states.3")
    #expect(divergence["suspects"]?.array?.contains(.string(name)) == true, "\(divergence)")
  }
}

/// The little that is needed of a trace.
enum StoredTrace {
  /// The largest logit's magnitude.
  static func largestLogit(_ path: String) throws -> Double {
    let logits = try StoredCheckpoint(path)["logits"]
    return logits.bytes.withUnsafeBytes { bytes in
      (0..<bytes.count / 8).reduce(0.0) {
        max($0, abs(bytes.loadUnaligned(fromByteOffset: $1 * 8, as: Double.self)))
      }
    }
  }
}
