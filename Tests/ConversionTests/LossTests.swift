import Checkpoints
import Conversion
import Hub
import TestSupport
import Tensors
import Testing
import WeighbridgeKit

/// A conversion with another number of rows, which is verified.
struct Resize: Sendable, CustomTestStringConvertible {
  var from: String
  var to: String
  var rows: Int
  var container: Container?
  var dtype: DType?
  var maxShardBytes: Int?
  var exactness: Exactness
  var testDescription: String { "\(from) to \(to) with \(rows) rows" }

  static let all: [Resize] = [
    Resize(from: "samba-fla/fla", to: "fla", rows: 128, exactness: .exact),
    Resize(from: "samba-fla/fla", to: "fla", rows: 90, exactness: .lossy),
    Resize(
      from: "samba-fla/fla", to: "lit_gpt", rows: 90, container: .hdf5, exactness: .lossy),
    Resize(
      from: "mamba-tied/hf", to: "mamba_ssm", rows: 136, container: .pytorch, exactness: .exact),
    Resize(from: "mamba-tied/hf", to: "hf", rows: 40, maxShardBytes: 60000, exactness: .lossy),
    Resize(from: "lit-mamba-only/lit_gpt", to: "hf", rows: 136, dtype: .bf16, exactness: .rounding),
    Resize(from: "gla-berlino/berlino", to: "fla", rows: 160, exactness: .exact),
    Resize(from: "gla-berlino/berlino", to: "fla", rows: 64, exactness: .lossy),
    Resize(from: "lit-samba/lit_gpt", to: "lit_gpt", rows: 80, exactness: .lossy),
  ]
}

@Suite("What a conversion loses")
struct LossTests {
  @Test("every number of rows that can be written can be verified", arguments: Resize.all)
  func verified(_ resize: Resize) throws {
    let converted = try Converted(ModelFixture.named(resize.from).path, to: resize.to) {
      $0.vocabularyRows = resize.rows
      $0.container = resize.container
      $0.dtype = resize.dtype
      $0.maxShardBytes = resize.maxShardBytes
      $0.allowsLossy = true
      $0.verifies = true
    }
    #expect(converted.result.plan.exactness == resize.exactness)
  }

  @Test("what would be lost is refused unless it is asked for")
  func refused() throws {
    #expect {
      try Converted(ModelFixture.named("samba-fla/fla").path, to: "fla") { $0.vocabularyRows = 99 }
    } throws: { error in
      let problems = (error as? Refusal)?.problems ?? []
      return problems.map(\.code) == ["convert.lossy"]
        && problems[0].message.contains("tokens 99 to 99 are lost")
    }
  }

  /// A lit_gpt model of 90 tokens in 128 rows, of which `change` makes the padding.
  private func padded(
    in directory: TemporaryDirectory, _ change: (Float) -> Float
  ) throws -> String {
    let fixture = ModelFixture.named("lit-samba/lit_gpt")
    var tensors = try stored(fixture).tensors
    let name = "transformer.wte.weight"
    for key in [name, "lm_head.weight"] {
      guard let tensor = tensors[key] else { continue }
      var values = tensor.values
      let width = values.count / 128
      for i in 90 * width..<values.count { values[i] = change(values[i]) }
      tensors[key] = self.tensor(tensor.shape, values)
    }
    let path = directory.file("padded")
    let config = try readConfig(CheckpointLocation(finding: fixture.path).config!)
    write(tensors, config: config, to: path)
    return path
  }

  private func tensor(_ shape: [Int], _ values: [Float]) -> StoredCheckpoint.Tensor {
    .init(dtype: .f32, shape: shape, bytes: values.withUnsafeBytes { Array($0) })
  }

  @Test("a cut of padding is exact, of zeros with a sign too", arguments: [Float(0), -0.0])
  func padding(_ zero: Float) throws {
    let directory = TemporaryDirectory()
    let source = try padded(in: directory) { _ in zero }
    let cut = try Converted(source, to: "lit_gpt") {
      $0.vocabularyRows = 96
      $0.verifies = true
    }
    #expect(cut.result.plan.exactness == .exact)
  }

  @Test("a cut of padding that is not zero is lossy", arguments: [Float(1e-30), -2, .nan])
  func usedPadding(_ value: Float) throws {
    let directory = TemporaryDirectory()
    let source = try padded(in: directory) { _ in value }
    #expect(throws: Refusal.self) {
      try Converted(source, to: "lit_gpt") { $0.vocabularyRows = 96 }
    }
  }

  @Test("underflow is counted by tensor, and a share of it is a warning")
  func underflow() throws {
    let fixture = ModelFixture.named("mamba-tied/hf")
    var tensors = try stored(fixture).tensors
    let name = "backbone.layers.1.mixer.x_proj.weight"
    var values = tensors[name]!.values.map { _ in Float(1e-9) }
    values[0] = 0
    values[1] = 0.5
    tensors[name] = tensor(tensors[name]!.shape, values)
    let directory = TemporaryDirectory()
    write(
      tensors, config: try readConfig(fixture.path + "/config.json"), to: directory.file("source"))
    let cast = try Converted(directory.file("source"), to: "hf") { $0.dtype = .f16 }
    let problem = try #require(cast.result.problems.first { $0.code == "convert.underflow" })
    #expect(problem.severity == .warning)
    let told = ([problem.subject, problem.message] + problem.notes).joined(separator: " ")
    #expect(told.contains(name))
    #expect(told.contains("\(values.count - 2) of \(values.count) values"))
    // bfloat16 holds them all.
    let brain = try Converted(directory.file("source"), to: "hf") { $0.dtype = .bf16 }
    #expect(brain.result.problems == [])
  }

  @Test("infinities that a continued run would make are counted in shards that were kept")
  func resumed() throws {
    let fixture = ModelFixture.named("mamba-tied/hf")
    var tensors = try stored(fixture).tensors
    let name = "backbone.embeddings.weight"
    var values = tensors[name]!.values
    values[5] = 1e6
    tensors[name] = tensor(tensors[name]!.shape, values)
    let directory = TemporaryDirectory()
    write(
      tensors, config: try readConfig(fixture.path + "/config.json"), to: directory.file("source"))
    let loaded = try weighbridge.load(CheckpointInput(path: directory.file("source")))
    var request = ConversionRequest(
      input: CheckpointInput(path: directory.file("source")), destination: directory.file("out"),
      to: "hf")
    request.dtype = .f16
    let (_, plan) = try weighbridge.plan(request)
    let counts = try Executor().counts(plan, from: loaded.source)
    let report = CastReport(plan, counts)
    #expect(report.overflows == 1)
    #expect(report.diagnostics(overflow: .error).map(\.subject).first == name)
  }

  @Test(
    "one changed bit of what was written is found before anything is run",
    arguments: [Container.safetensors, .pytorch, .hdf5])
  func changedBit(_ container: Container) throws {
    let directory = TemporaryDirectory()
    var request = ConversionRequest(
      input: CheckpointInput(path: ModelFixture.named("gla-berlino/berlino").path),
      destination: directory.file("out"), to: "fla")
    request.container = container
    request.sync = false
    let (loaded, plan) = try weighbridge.plan(request)
    let result = try weighbridge.convert(request)
    try weighbridge.verify(written: request.destination, plan: plan, against: loaded)
    let file = try #require(
      result.outputs.first { !$0.hasSuffix(".json") && !$0.hasSuffix(".txt") })
    let name = "model.layers.1.attn.k_proj.weight"
    let source = try openCheckpoint(at: file)
    let info = try #require(source.tensors.first { $0.name.string == name })
    var bytes = Files.read(file)
    bytes[Int(try #require(info.extent).offset) + 4 * 10] ^= 1
    Files.write(bytes, to: file)
    #expect {
      try weighbridge.verify(written: request.destination, plan: plan, against: loaded)
    } throws: { error in
      let problems = (error as? Refusal)?.problems ?? []
      // PyTorch's archive has a checksum of its own, which may be looked at first.
      if problems.isEmpty { return container == .pytorch }
      return problems.map(\.code) == ["verify.bytes"] && problems[0].subject == name
        && problems[0].message.contains("1 of ") && problems[0].message.hasSuffix("number 10")
    }
  }
}
