import TestSupport
import Tensors
import Testing

/// What users see of values that are no numbers.
@Suite("Values that are not finite", .tags(.slow))
struct FiniteTests {
  static let name = "backbone.layers.1.mixer.in_proj.weight"
  static let source = ModelFixture.named("mamba-tied/hf").path

  /// A Mamba of which some weights are `value`.
  private func model(_ value: Float, in directory: TemporaryDirectory) throws -> String {
    var builder = SafetensorsBuilder()
    for (key, tensor) in try StoredCheckpoint(Self.source).tensors.sorted(by: { $0.key < $1.key }) {
      var bytes = tensor.bytes
      if key == Self.name {
        for i in 0..<12 { bytes[i] = UInt8(truncatingIfNeeded: value.bitPattern >> (8 * (i % 4))) }
      }
      builder.add(key, tensor.dtype, tensor.shape, bytes)
    }
    let path = directory.file("source")
    Files.makeDirectory(path)
    Files.write(builder.bytes, to: path + "/model.safetensors")
    Files.write(Files.read(Self.source + "/config.json"), to: path + "/config.json")
    return path
  }

  @Test("parity of NaN with itself is 1, with strict JSON, a text and a report that agree")
  func parity() throws {
    let directory = TemporaryDirectory()
    let path = try model(.nan, in: directory)
    let run = try BuiltTool.run(
      "parity", path, path, "--random", "1x6", "--generate", "2", "--json", "--report",
      directory.file("report.html"))
    #expect(run.status == 1, "\(run.error)")
    let document = try run.document()
    #expect(document["verdict"] == "fail")
    #expect(!run.output.contains("NaN,") && !run.output.contains("Infinity"))
    let last = try #require(document["stages"]?.array?.last)
    #expect(last["max_abs"] == .null && last["ok"] == false)
    #expect(document["first_divergence"]?["stage"] == "hidden_states.2")
    #expect(document["first_divergence"]?["suspects"] == [.string(Self.name)])
    #expect(try run.problems() == ["parity.not-finite hidden_states.2"])
    let report = Files.text(directory.file("report.html"))
    #expect(report.contains("not finite from hidden_states.2 on"))
    let text = try BuiltTool.run("parity", path, path, "--random", "1x6")
    #expect(text.status == 1)
    #expect(text.output.hasPrefix("FAIL: ") && text.output.contains("not finite"))
    #expect(!text.output.contains("compute the same"))
  }

  @Test("generate is a failure that names the tensor, and prints no token")
  func generate() throws {
    let directory = TemporaryDirectory()
    let path = try model(.nan, in: directory)
    Files.write("[[1, 2, 3]]", to: directory.file("tokens.json"))
    let arguments = [
      "generate", path, "--tokens", directory.file("tokens.json"), "--max-new-tokens", "3",
    ]
    let run = try BuiltTool.run(arguments)
    #expect(run.status == 2 && run.output.isEmpty)
    #expect(run.error.contains("error[generate.not-finite]: position 2"))
    #expect(run.error.contains(Self.name))
    let json = try BuiltTool.run(arguments + ["--json"])
    #expect(json.status == 2)
    #expect(try json.document()["tokens"] == [])
  }

  @Test("an infinity that a cast would make is refused; asked for, it is told and lossy")
  func overflow() throws {
    let directory = TemporaryDirectory()
    let path = try model(70000, in: directory)
    let refused = try BuiltTool.run(
      "convert", path, directory.file("half"), "--to", "hf", "--dtype", "float16", "--json")
    #expect(refused.status == 1)
    #expect(try refused.problems() == ["convert.overflow \(Self.name)"])
    #expect(!Files.exists(directory.file("half")))
    let asked = try BuiltTool.run(
      "convert", path, directory.file("half"), "--to", "hf", "--dtype", "float16", "--json",
      "--allow-lossy", "--no-fsync")
    #expect(asked.status == 0)
    #expect(try asked.document()["exactness"] == "lossy")
    #expect(asked.error.contains("warning[convert.overflow]: \(Self.name): 3 finite values"))
    let parity = try BuiltTool.run(
      "parity", path, directory.file("half"), "--random", "1x8", "--json")
    #expect(parity.status == 1)
    #expect(try parity.document()["first_divergence"]?["suspects"] == [.string(Self.name)])
  }
}
