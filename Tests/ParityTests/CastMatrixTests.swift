import Checkpoints
import Conversion
import Hub
import Parity
import TestSupport
import Tensors
import Testing
import WeighbridgeKit

/// Every conversion that the fixtures allow, and some that widen or repeat what they move.
enum Convertible {
  static let targets: [String: [String]] = [
    "as-norms-gates/archscale": ["archscale"], "as-sambaywdr-yarn/archscale": ["archscale"],
    "as-sambayattn-nonorm/archscale": ["archscale"], "as-swayoco-mlp/archscale": ["archscale"],
    "as-transformer-condensed/archscale": ["archscale"],
    "as-mamba/archscale": ["archscale", "fla", "gguf", "hf", "mamba_ssm"],
    "as-retnet/archscale": ["archscale", "fla", "lit_gpt"],
    "as-samba/archscale": ["archscale", "fla", "lit_gpt"],
    "as-sambay/archscale": ["archscale"], "as-sambay2/archscale": ["archscale"],
    "as-sambayoco/archscale": ["archscale"], "as-sambay-da/archscale": ["archscale"],
    "as-transformer-gqa-mup/archscale": ["archscale", "hf", "mamba_ssm"],
    "phi4flash/archscale": ["archscale", "archscale-separate", "hf"],
    "phi4flash/hf": ["archscale", "hf"],
    "gla-base/fla": ["fla"], "gla-berlino/berlino": ["berlino", "fla"],
    "gla-conv-gqa-clamp/fla": ["fla"],
    "hy-bamba/hf": ["gguf", "hf", "mamba_ssm"], "hy-falcon-h1/hf": ["gguf", "hf"],
    "hy-granite-dense/hf": ["hf", "mamba_ssm"], "hy-granite-moe/hf": ["hf"],
    "hy-jamba/hf": ["hf"], "hy-mamba2attn-mlp/mamba_ssm": ["hf", "mamba_ssm"],
    "hy-mamba2attn/mamba_ssm": ["mamba_ssm"], "hy-nemotron-h/hf": ["hf"], "hy-zamba2/hf": ["hf"],
    "lit-llama-full/lit_gpt": ["fla", "gguf", "hf", "lit_gpt", "mamba_ssm"],
    "lit-llama-mqa-bf16/lit_gpt": ["fla", "lit_gpt"],
    "lit-mamba-only/lit_gpt": ["fla", "gguf", "hf", "lit_gpt", "mamba_ssm"],
    "lit-mamba-swa-mlp/lit_gpt": ["fla", "lit_gpt"], "lit-mlp-swa-mlp/lit_gpt": ["lit_gpt"],
    "lit-s6-mega/lit_gpt": ["lit_gpt"], "lit-samba-gqa-nope/lit_gpt": ["lit_gpt"],
    "lit-samba/lit_gpt": ["fla", "lit_gpt"], "lit-sliding-gla/lit_gpt": ["fla", "lit_gpt"],
    "lit-sliding-retnet/lit_gpt": ["fla", "lit_gpt"],
    "mamba-bias-untied/hf": ["fla", "hf", "mamba_ssm"],
    "mamba-bias-untied/mamba_ssm": ["fla", "hf", "mamba_ssm"],
    "mamba-fla/fla": ["fla", "gguf", "hf", "mamba_ssm"],
    "mamba-tied/hf": ["fla", "gguf", "hf", "lit_gpt", "mamba_ssm"],
    "mamba-tied/mamba_ssm": ["fla", "gguf", "hf", "lit_gpt", "mamba_ssm"],
    "retnet-base/fla": ["fla", "torchscale"], "retnet-gqa-nogate/fla": ["fla"],
    "retnet-torchscale-norm/torchscale": ["torchscale"],
    "retnet-torchscale/torchscale": ["torchscale"], "samba-fla/fla": ["fla", "lit_gpt"],
  ]

  static let fixtures = ModelFixture.all.map(\.description)
}

@Suite("Casts beside every conversion", .tags(.slow))
struct CastMatrixTests {
  let weighbridge: Weighbridge

  init() throws { weighbridge = try Weighbridge() }

  /// Converts with `--verify` and checks parity, in each type.
  private func check(
    _ source: CheckpointInput, to targets: [String], dtypes: [DType?],
    _ change: (inout ConversionRequest) -> Void = { _ in }
  ) throws {
    let directory = TemporaryDirectory()
    for to in targets {
      for (number, dtype) in dtypes.enumerated() {
        let type = dtype?.rawValue ?? "keep"
        var request = ConversionRequest(
          input: source, destination: directory.file("\(to)-\(number)"), to: to)
        request.dtype = dtype
        request.sync = false
        request.verifies = true
        change(&request)
        let exactness: Exactness
        do {
          exactness = try weighbridge.convert(request).plan.exactness
        } catch {
          Issue.record("\(source.path) to \(to) in \(type): \(error)")
          continue
        }
        let result = try weighbridge.parity(
          source, CheckpointInput(path: request.destination),
          tokens: .random(batch: 1, length: 16, seed: 1), ParityRequest())
        let stage = result.report.stages.first { !$0.ok }?.name ?? ""
        #expect(result.passes, "\(to) in \(type): \(stage) \(result.problems)")
        // What casts cost is theirs, and what rotary tables in bfloat16 cost is too: a unit of 2^-8 in
        // the angles, more where logits are large. What is exact is rounded to float32 once at most,
        // and a divergence goes with the square of that.
        let klMean = result.report.logits.klMean
        // Of these random models the first takes other experts in bfloat16, and the second's logits are
        // far apart, as are the third's, which multiplies them: predictions differ by more, which is the
        // casts' doing.
        let isRough = ["hy-jamba", "hy-zamba2", "as-sambaywdr-yarn"].contains {
          source.path.contains($0)
        }
        #expect(klMean < (isRough && dtype == .bf16 ? 2 : 1e-2))
        if exactness <= .exact { #expect(klMean < 1e-9) }
      }
    }
  }

  @Test("verifies and passes in every type", arguments: Convertible.fixtures)
  func everyPair(_ fixture: String) throws {
    try check(
      CheckpointInput(path: ModelFixture.named(fixture).path),
      to: try #require(Convertible.targets[fixture]), dtypes: [nil, .bf16, .f16])
  }

  /// `retnet-base` with one key and value head for two query heads.
  private func grouped(in directory: TemporaryDirectory) throws -> CheckpointInput {
    let path = ModelFixture.named("retnet-base/fla").path
    var builder = SafetensorsBuilder()
    for (name, tensor) in try StoredCheckpoint(path).tensors.sorted(by: { $0.key < $1.key }) {
      let isGrouped = name.hasSuffix("k_proj.weight") || name.hasSuffix("v_proj.weight")
      let rows = isGrouped ? tensor.shape[0] / 2 : tensor.shape[0]
      builder.add(
        name, tensor.dtype, [rows] + tensor.shape.dropFirst(),
        Array(tensor.bytes.prefix(isGrouped ? tensor.bytes.count / 2 : tensor.bytes.count)))
    }
    Files.write(builder.bytes, to: directory.file("model.safetensors"))
    let config = Files.text(path + "/config.json")
    let parts = config.split(separator: "\"num_kv_heads\": null", omittingEmptySubsequences: false)
    try #require(parts.count == 2)
    Files.write(
      parts.joined(separator: "\"num_kv_heads\": 1"), to: directory.file("config.json"))
    return CheckpointInput(path: directory.path)
  }

  @Test("repeated key and value heads are the source's, in every type")
  func repeated() throws {
    let directory = TemporaryDirectory()
    let source = try grouped(in: directory)
    try check(source, to: ["torchscale"], dtypes: [nil, .bf16, .f16])
    try check(source, to: ["torchscale"], dtypes: [.bf16, .f16]) { $0.castsAll = true }
    try check(source, to: ["torchscale"], dtypes: [.bf16]) { $0.vocabularyRows = 160 }
  }

  /// Flips the signs of one row of a tensor of a written file.
  private func flip(_ name: String, row: Int, in directory: String) throws {
    let file = directory + "/model.safetensors"
    let reader = try SafetensorsReader(path: file)
    let info = try #require(reader.tensors.first { $0.name.string == name })
    let rowBytes = info.byteCount / info.shape.dims[0]
    var bytes = Files.read(file)
    let start = Int(try #require(info.extent).offset) + row * rowBytes
    let width = info.dtype.bitWidth / 8
    for i in stride(from: start + width - 1, to: start + rowBytes, by: width) { bytes[i] ^= 0x80 }
    Files.write(bytes, to: file)
  }

  @Test("a fault in a widened MLP is found and named", arguments: [DType?.none, .bf16])
  func faultInWidened(_ dtype: DType?) throws {
    let directory = TemporaryDirectory()
    let source = CheckpointInput(path: ModelFixture.named("lit-samba/lit_gpt").path)
    var request = ConversionRequest(
      input: source, destination: directory.file("out"), to: "fla")
    request.dtype = dtype
    request.sync = false
    _ = try weighbridge.convert(request)
    let name = "backbone.layers.1.mlp.gate_proj.weight"
    try flip(name, row: 5, in: request.destination)
    let (a, b) = (source, CheckpointInput(path: request.destination))
    // Whichever comes first, and so is the narrow one or the wide one.
    for (a, b) in dtype == nil ? [(a, b), (b, a)] : [(a, b)] {
      let result = try weighbridge.parity(
        a, b, tokens: .random(batch: 1, length: 16, seed: 1), ParityRequest())
      #expect(!result.passes)
      let divergence = try #require(result.report.firstDivergence)
      #expect(divergence.stage == "hidden_states.2" && divergence.kind == "mlp")
      #expect(divergence.isProven)
      #expect(divergence.suspects.count == 1)
      if a.path == source.path { #expect(divergence.suspects == [name]) }
    }
  }

  @Test("a fault in a repeated key head is found and named", arguments: [DType?.none, .bf16])
  func faultInRepeated(_ dtype: DType?) throws {
    let directory = TemporaryDirectory()
    let inner = TemporaryDirectory()
    let source = try grouped(in: inner)
    var request = ConversionRequest(
      input: source, destination: directory.file("out"), to: "torchscale")
    request.dtype = dtype
    request.container = .safetensors
    request.sync = false
    _ = try weighbridge.convert(request)
    let name = "layers.1.retention.k_proj.weight"
    // The second of the two copies.
    try flip(name, row: 40, in: request.destination)
    let result = try weighbridge.parity(
      source, CheckpointInput(path: request.destination),
      tokens: .random(batch: 1, length: 16, seed: 1), ParityRequest())
    #expect(!result.passes)
    let divergence = try #require(result.report.firstDivergence)
    #expect(divergence.stage == "hidden_states.2")
    #expect(divergence.suspects == [name] && divergence.isProven)
  }
}
