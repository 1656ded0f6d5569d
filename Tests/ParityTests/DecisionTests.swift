import Checkpoints
import Conversion
import Hub
import Parity
import TestSupport
import Tensors
import Testing
import WeighbridgeKit

/// What passes as the same function, and what does not.
@Suite("What decides a pair", .tags(.slow))
struct DecisionTests {
  static let layer = "backbone.layers."
  let weighbridge: Weighbridge
  let original = CheckpointInput(path: Fixtures.path("models/samba-fla/fla"))
  let tokens = TokenInput.random(batch: 1, length: 24, seed: 4)

  init() throws { weighbridge = try Weighbridge() }

  @Test(
    "a tensor off by three ten-thousandths fails at its stage and is named",
    arguments: [
      ("0.mixer.x_proj.weight", "hidden_states.1"), ("0.mixer.conv1d.weight", "hidden_states.1"),
      ("1.mixer.q_proj.weight", "hidden_states.2"), ("2.mlp.up_proj.weight", "hidden_states.3"),
      ("3.mlp_norm.weight", "hidden_states.4"),
    ], Precision.allCases)
  func slight(_ fault: (name: String, stage: String), _ precision: Precision) throws {
    let name = Self.layer + fault.name
    let other = try Altered { $0[name] = $0[name].map { $0 * 1.0003 } }
    var request = ParityRequest()
    request.precision = precision
    let result = try weighbridge.parity(original, other.input, tokens: tokens, request)
    #expect(!result.passes)
    let divergence = try #require(result.report.firstDivergence)
    #expect(divergence.stage == fault.stage)
    #expect(divergence.suspects == [name] && divergence.isProven)
  }

  @Test("one value off by a ten-millionth of the tensor's largest fails")
  func oneValue() throws {
    let name = Self.layer + "1.mlp.gate_proj.weight"
    let other = try Altered { $0[name][777] += 1e-7 }
    let result = try weighbridge.parity(original, other.input, tokens: tokens, ParityRequest())
    #expect(!result.passes)
    #expect(result.report.firstDivergence?.suspects == [name])
    #expect(result.problems.contains { $0.code == "parity.near" })
  }

  @Test(
    "an MLP whose units are in another order is the same function", arguments: Precision.allCases)
  func permuted(_ precision: Precision) throws {
    let mlp = Self.layer + "1.mlp."
    let other = try Altered { weights in
      for name in ["gate_proj.weight", "up_proj.weight"] { weights.swapRows(mlp + name, 3, 90, 20) }
      let down = mlp + "down_proj.weight"
      let width = weights.columns(down)
      for row in 0..<64 {
        for i in 0..<20 { weights[down].swapAt(row * width + 3 + i, row * width + 90 + i) }
      }
    }
    var request = ParityRequest()
    request.precision = precision
    let result = try weighbridge.parity(original, other.input, tokens: tokens, request)
    #expect(result.passes)
    #expect(result.differing.count == 3)
    let note = try #require(result.problems.first { $0.code == "parity.weights-differ" })
    #expect(
      note.severity == .note
        && note.message.hasPrefix("3 pieces are differently stored, the same function"))
  }

  @Test("a cast has the narrower type: float32 that only rounds to the other's bfloat16 is no cast")
  func direction() throws {
    let name = Self.layer + "1.mixer.q_proj.weight"
    let narrow = try Altered { $0.bfloat16 = [name] }
    let cast = try weighbridge.parity(original, narrow.input, tokens: tokens, ParityRequest())
    #expect(cast.passes)
    #expect(cast.differing.map(\.status) == [.cast(from: .f32, to: .bf16)])
    let back = try weighbridge.parity(narrow.input, original, tokens: tokens, ParityRequest())
    #expect(!back.passes)
    #expect(back.report.firstDivergence?.suspects == [name])
    guard case .differs? = back.differing.first?.status else {
      Issue.record("\(back.differing.map(\.status))")
      return
    }
  }

  @Test("values rounded to bfloat16 and stored as float32 are told, and pass")
  func thereAndBack() throws {
    let name = Self.layer + "1.mixer.q_proj.weight"
    func rounded(_ name: String) throws -> Altered {
      try Altered {
        $0[name] = $0[name].map { value in
          let bits = value.bitPattern
          return Float(bitPattern: (bits &+ 0x7fff &+ (bits >> 16 & 1)) & 0xffff_0000)
        }
      }
    }
    let through = try rounded(name)
    let result = try weighbridge.parity(
      original, through.input, tokens: tokens, ParityRequest())
    #expect(result.passes)
    #expect(result.differing.map(\.status) == [.rounded(to: .bf16)])
    #expect(result.report.logits.klMax > 0)
    // What should stay float32 is not rounded on purpose.
    let decay = Self.layer + "2.mixer.A_log"
    let broken = try rounded(decay)
    let faulty = try weighbridge.parity(
      original, broken.input, tokens: tokens, ParityRequest())
    #expect(!faulty.passes && faulty.report.firstDivergence?.suspects == [decay])
  }

  private func converted(_ directory: TemporaryDirectory) throws -> (CheckpointInput, String) {
    let source = CheckpointInput(path: ModelFixture.named("gla-berlino/berlino").path)
    var request = ConversionRequest(input: source, destination: directory.file("fla"), to: "fla")
    request.sync = false
    _ = try weighbridge.convert(request)
    return (source, request.destination)
  }

  @Test("weights rewritten and rounded to float32 are explained, in either order")
  func rewritten() throws {
    let directory = TemporaryDirectory()
    let (source, path) = try converted(directory)
    let written = CheckpointInput(path: path)
    for (a, b) in [(source, written), (written, source)] {
      let result = try weighbridge.parity(a, b, tokens: tokens, ParityRequest())
      #expect(result.passes)
      #expect(result.problems.contains { $0.code == "parity.rewritten" })
      #expect(!result.problems.contains { $0.code == "parity.weights-differ" })
    }
  }

  @Test("one value of a rewritten tensor off in its sixth digit fails, and is named")
  func rewrittenFault() throws {
    let directory = TemporaryDirectory()
    let (source, path) = try converted(directory)
    let name = "model.layers.1.attn.k_proj.weight"
    let reader = try SafetensorsReader(path: path + "/model.safetensors")
    let info = try #require(reader.tensors.first { $0.name.string == name })
    var bytes = Files.read(path + "/model.safetensors")
    // Bit 5 of the mantissa: 2^-18 of the value.
    bytes[Int(try #require(info.extent).offset) + 4 * 100] ^= 0x20
    Files.write(bytes, to: path + "/model.safetensors")
    let result = try weighbridge.parity(
      source, CheckpointInput(path: path), tokens: tokens, ParityRequest())
    #expect(!result.passes)
    #expect(result.report.firstDivergence?.suspects == [name])
  }

  @Test("a decay table in the file that is not the one that the other computes fails")
  func table() throws {
    let directory = TemporaryDirectory()
    var request = ConversionRequest(
      input: CheckpointInput(path: ModelFixture.named("retnet-base/fla").path),
      destination: directory.file("out"), to: "torchscale")
    request.container = .safetensors
    request.sync = false
    _ = try weighbridge.convert(request)
    let file = request.destination + "/model.safetensors"
    func run() throws -> ParityResult {
      try weighbridge.parity(
        request.input, CheckpointInput(path: request.destination), tokens: tokens, ParityRequest())
    }
    #expect(try run().passes)
    let reader = try SafetensorsReader(path: file)
    let info = try #require(
      reader.tensors.first { $0.name.string.hasSuffix("retnet_rel_pos.decay") })
    var bytes = Files.read(file)
    // Bit 4 of the second byte of the mantissa: a few thousandths of the first head's decay.
    bytes[Int(try #require(info.extent).offset) + 1] ^= 0x10
    Files.write(bytes, to: file)
    #expect(try !run().passes)
  }
}

/// Checkpoints of which one has more rows of the vocabulary.
@Suite("Two vocabularies")
struct VocabularyPairTests {
  let weighbridge: Weighbridge
  let original = CheckpointInput(path: Fixtures.path("models/samba-fla/fla"))
  let tokens = TokenInput.random(batch: 1, length: 24, seed: 4)

  init() throws { weighbridge = try Weighbridge() }

  private func resized(
    _ rows: Int, in directory: TemporaryDirectory, dtype: DType? = nil
  ) throws -> CheckpointInput {
    var request = ConversionRequest(
      input: original, destination: directory.file("\(rows)"), to: "fla")
    request.vocabularyRows = rows
    request.allowsLossy = true
    request.dtype = dtype
    request.sync = false
    _ = try weighbridge.convert(request)
    return CheckpointInput(path: request.destination)
  }

  @Test("rows that were cut off and hold something are told, and do not pass")
  func cut() throws {
    let directory = TemporaryDirectory()
    let other = try resized(90, in: directory)
    for (a, b, name) in [(original, other, "A"), (other, original, "B")] {
      let result = try weighbridge.parity(a, b, tokens: tokens, ParityRequest())
      #expect(!result.passes)
      #expect(result.report.stages.allSatisfy { $0.maxAbs == 0 })
      let problem = try #require(result.problems.first { $0.code == "parity.rows-not-compared" })
      #expect(problem.severity == .error)
      #expect(
        problem.message.hasPrefix("rows 90 to 99 of \(name)'s vocabulary")
          && problem.message.hasSuffix("10 of 10 are not zero"))
    }
  }

  @Test("rows of zeros are padding, in another type too", arguments: [nil, DType.bf16])
  func padded(_ dtype: DType?) throws {
    let directory = TemporaryDirectory()
    let other = try resized(128, in: directory, dtype: dtype)
    let result = try weighbridge.parity(original, other, tokens: tokens, ParityRequest())
    #expect(result.passes)
    #expect(result.problems.map(\.code).contains("parity.padding-rows"))
  }

  @Test("a fault in the rows that both have is found beside padding")
  func fault() throws {
    let directory = TemporaryDirectory()
    let other = try resized(128, in: directory)
    let changed = try Altered { $0["lm_head.weight"][64 * 5 + 3] += 0.01 }
    let result = try weighbridge.parity(changed.input, other, tokens: tokens, ParityRequest())
    #expect(!result.passes)
    #expect(result.report.firstDivergence?.stage == "logits")
  }
}
