import Checkpoints
import Hub
import OrderedCollections
import Parity
import TestSupport
import Tensors
import Testing
import WeighbridgeKit

/// A copy of a fixture with other values, another config, or both.
private struct Copy {
  let path: String
  private let directory = TemporaryDirectory()

  init(
    _ fixture: String, config changes: JSONObject = [:],
    _ alter: (String, inout [Float], [Int]) -> Void = { _, _, _ in }
  ) throws {
    let source = ModelFixture.named(fixture).path
    path = directory.path
    let stored = try StoredCheckpoint(source)
    var builder = SafetensorsBuilder()
    for (name, tensor) in stored.tensors.sorted(by: { $0.key < $1.key }) {
      var values = tensor.values
      alter(name, &values, tensor.shape)
      builder.add(name, tensor.shape, values)
    }
    Files.write(builder.bytes, to: directory.file("model.safetensors"))
    let name = fixture.hasSuffix("/hf") ? "config.json" : "archscale_config.json"
    var config = try JSONParser.parse(Files.read("\(source)/\(name)"), file: name).object!
    for (key, value) in changes { config[key] = value }
    Files.write(JSONValue.object(config).text(), to: directory.file(name))
  }

  /// What parity finds between the fixture and this copy.
  func parity(_ fixture: String, by tool: Weighbridge? = nil) throws -> ParityResult {
    try (tool ?? Weighbridge()).parity(
      CheckpointInput(path: ModelFixture.named(fixture).path), CheckpointInput(path: path),
      tokens: .random(batch: 2, length: 24, seed: 3), ParityRequest())
  }
}

/// `LAYOUTS` of ArchScale know eight traps; each is planted here.
@Suite("ArchScale's traps")
struct ArchScaleTrapTests {
  private func keys(_ result: ParityResult) -> [String] {
    result.problems.filter { $0.code == "config.differs" }.map(\.subject).sorted()
  }

  @Test(
    "eval.py's config, and muP left out, part where the first factor is missing, by its key",
    arguments: [
      (
        ["mup_d0": 16, "depth_scale": false], "hidden_states.1", "residual_scale",
        ["depth_scale", "mup_d0"]
      ),
      (["mup_d0": 16], "final_norm", "logit_scale", ["mup_d0"]),
      (["scaling_factor": 2.0], "hidden_states.1", "rope_scaling", ["scaling_factor"]),
      (["mup": false], "hidden_states.1", "scale", ["mup"]),
      (["use_muonh": true], "final_norm", "logit_scale", ["use_muonh"]),
    ] as [(JSONObject, String, String, [String])])
  func evaluation(
    changes: JSONObject, stage: String, attribute: String, expected: [String]
  ) throws {
    let fixture = "as-transformer-gqa-mup/archscale"
    let copy = try Copy(fixture, config: changes)
    let result = try copy.parity(fixture)
    let divergence = try #require(result.report.firstDivergence)
    #expect(!result.passes && divergence.stage == stage)
    #expect(divergence.attributes.contains(attribute) && divergence.suspects == [])
    #expect(keys(result) == expected)
  }

  @Test("the factor before the head folded into a tied head scales the embedding")
  func tiedHead() throws {
    let fixture = "as-transformer-gqa-mup/archscale"
    let copy = try Copy(fixture, config: ["use_muonh": true]) { name, values, _ in
      if name == "lm_head.weight" || name == "transformer.wte.weight" {
        values = values.map { $0 * 1.6 }
      }
    }
    let divergence = try #require(try copy.parity(fixture).report.firstDivergence)
    #expect(divergence.stage == "hidden_states.0")
    #expect(divergence.suspects.contains("transformer.wte.weight"))
  }

  @Test("lambda a layer off, or the same in all layers, parts at the first attention")
  func lambda() throws {
    let fixture = "as-sambay-da/archscale"
    let constant = try Copy(fixture, config: ["da_const_lamb": true]).parity(fixture)
    #expect(constant.report.firstDivergence?.stage == "hidden_states.2")
    #expect(constant.report.firstDivergence?.attributes == ["lambda_init"])
    #expect(keys(constant) == ["da_const_lamb"])
    // A layout that counts from one, and one that counts the attention layers.
    let directory = TemporaryDirectory()
    for index in ["i + 1", "i // 2"] {
      let file = directory.file("off.yaml")
      Files.write(
        """
        layout: phi-off
        extends: phi4flash-hf
        framework: off
        detect: {model_types: [phi-off], config: "config.model_type == 'phi-off'"}
        mixers:
          attention: {attributes: {lambda_init: "0.8 - 0.6 * exp(-0.3 * (\(index)))"}}
          cross: {attributes: {lambda_init: "0.8 - 0.6 * exp(-0.3 * (\(index)))"}}
        write: null
        """, to: file)
      let tool = try Weighbridge(layoutFiles: [file])
      let copy = try Copy("phi4flash/hf", config: ["model_type": "phi-off"])
      let result = try copy.parity("phi4flash/hf", by: tool)
      #expect(result.report.firstDivergence?.stage == "hidden_states.2")
      #expect(result.report.firstDivergence?.attributes == ["lambda_init"])
    }
  }

  @Test(
    "another memory parts at the first gated memory unit", arguments: ["gated", "no-skip"])
  func memory(_ name: String) throws {
    // By code that takes it behind the gate, or without the skip.
    let result = try Weighbridge().parity(
      CheckpointInput(path: ModelFixture.named("phi4flash/hf").path),
      trace: Fixtures.path("faulty/phi4flash-memory-\(name).safetensors"), ParityRequest())
    let divergence = try #require(result.report.firstDivergence)
    #expect(divergence.stage == "hidden_states.7" && divergence.kind == "gmu")
    #expect(divergence.suspects.contains("model.layers.6.attn.in_proj.weight"))
  }

  @Test("halves in the other order, and a LayerNorm's bias dropped, are found by their tensor")
  func halves() throws {
    let fixture = "phi4flash/hf"
    let inProjection = "model.layers.2.attn.in_proj.weight"
    let swapped = try Copy(fixture) { name, values, _ in
      if name == inProjection {
        values = Array(values[(values.count / 2)...] + values[..<(values.count / 2)])
      }
    }.parity(fixture)
    #expect(swapped.report.firstDivergence?.stage == "hidden_states.3")
    #expect(swapped.report.firstDivergence?.suspects == [inProjection])
    let bias = "model.layers.3.post_attention_layernorm.bias"
    let dropped = try Copy(fixture) { name, values, _ in
      if name == bias { values = values.map { _ in 0 } }
    }.parity(fixture)
    #expect(dropped.report.firstDivergence?.stage == "hidden_states.4")
    #expect(dropped.report.firstDivergence?.suspects == [bias])
  }

  @Test("a window one key off is found by its key", arguments: [4, 6])
  func window(_ window: Int) throws {
    let fixture = "phi4flash/hf"
    let copy = try Copy(fixture, config: ["sliding_window": .int(window)])
    let result = try copy.parity(fixture)
    #expect(result.report.firstDivergence?.stage == "hidden_states.2")
    #expect(result.report.firstDivergence?.attributes == ["window"])
    #expect(keys(result) == ["sliding_window"])
  }

  @Test("contiguous rows where grouped ones belong are found by the tensor")
  func grouping() throws {
    let fixture = "phi4flash/archscale"
    let tensor = "transformer.h.3.attn.attn.weight"
    let result = try Copy(fixture) { name, values, shape in
      guard name == tensor else { return }
      // 8 heads of 6 channels in 4 groups of [q q k v]; as [Q | K | V] in the file.
      let old = values
      var rows: [Int] = []
      for part in [0..<12, 12..<18, 18..<24] {
        for group in 0..<4 { rows += part.map { 24 * group + $0 } }
      }
      values = rows.flatMap { old[$0 * shape[1]..<($0 + 1) * shape[1]] }
    }.parity(fixture)
    #expect(result.report.firstDivergence?.stage == "hidden_states.4")
    #expect(result.report.firstDivergence?.suspects == [tensor])
  }

  @Test("a gated memory unit with a Mamba's rows is refused by its tensor")
  func unitsNames() throws {
    let source = ModelFixture.named("phi4flash/hf").path
    let directory = TemporaryDirectory()
    var builder = SafetensorsBuilder()
    for (name, tensor) in try StoredCheckpoint(source).tensors.sorted(by: { $0.key < $1.key }) {
      if name == "model.layers.6.attn.in_proj.weight" {
        builder.add(name, [192, 48], tensor.values + tensor.values)
      } else {
        builder.add(name, tensor.shape, tensor.values)
      }
    }
    builder.add("model.layers.6.attn.A_log", [96, 16], [Float](repeating: 0, count: 96 * 16))
    Files.write(builder.bytes, to: directory.file("model.safetensors"))
    Files.write(Files.read(source + "/config.json"), to: directory.file("config.json"))
    let problems = try Weighbridge().inspect(CheckpointInput(path: directory.path)).problems
    #expect(
      problems.contains {
        $0.code == "layout.shape" && $0.subject == "model.layers.6.attn.in_proj.weight"
      })
    #expect(problems.contains { $0.subject == "model.layers.6.attn.A_log" })
  }

  @Test("the size of heads is checked wherever a tensor tells it, and else found by its key")
  func headSizes() throws {
    func problems(_ fixture: String, _ changes: JSONObject) throws -> [Diagnostic] {
      let copy = try Copy(fixture, config: changes)
      return try Weighbridge().inspect(CheckpointInput(path: copy.path)).problems
        .filter { $0.severity == .error }
    }
    // Taken for width / heads.
    let unsaid = try problems("as-sambay/archscale", ["head_dim": .null])
    #expect(
      unsaid.contains {
        $0.subject == "head_dim" || $0.subject == "transformer.h.1.attn.q_proj.weight"
      }, "\(unsaid)")
    // Twice the heads of half the size: the lambda vectors tell, and the norms of q and k.
    let da = try problems(
      "as-sambay-da/archscale", ["n_head": 26, "n_query_groups": 2, "head_dim": 8])
    #expect(!da.isEmpty)
    let halved = try problems(
      "as-sambay-da/archscale", ["n_head": 4, "n_query_groups": 2, "head_dim": 8])
    #expect(halved.map { "\($0.code) \($0.subject)" } == ["config.mismatch head_dim"])
    #expect(halved.first?.notes.last?.contains("attn.attn.weight would be [64, 52]") == true)
    let norms = try problems(
      "as-norms-gates/archscale", ["n_head": 3, "n_query_groups": 1, "head_dim": 20])
    #expect(norms.contains { $0.subject.contains("attn.q_norm.weight") }, "\(norms)")
    // Where none tells, the rows are the same.
    let fixture = "as-sambay/archscale"
    let copy = try Copy(
      fixture, config: ["n_head": 8, "n_query_groups": 4, "head_dim": 10])
    let result = try copy.parity(fixture)
    #expect(result.report.firstDivergence?.stage == "hidden_states.2")
    #expect(result.report.firstDivergence?.attributes.contains("head_dim") == true)
    #expect(keys(result).contains("head_dim") && keys(result).contains("n_head"))
  }

  @Test("lambda vectors exchanged within a product are told, though no function shows it")
  func lambdaNames() throws {
    let fixture = "as-sambay-da/archscale"
    let prefix = "transformer.h.1.attn.da.lambda_"
    let stored = try StoredCheckpoint(ModelFixture.named(fixture).path)
    func exchange(_ a: String, _ b: String) throws -> ParityResult {
      try Copy(fixture) { name, values, _ in
        if name == prefix + a { values = stored.tensors[prefix + b]!.values }
        if name == prefix + b { values = stored.tensors[prefix + a]!.values }
      }.parity(fixture)
    }
    let unseen = try exchange("q1", "k1")
    #expect(unseen.report.passes)
    #expect(
      unseen.differing.flatMap(\.tensorsB).sorted() == [prefix + "k1", prefix + "q1"])
    let seen = try exchange("q1", "q2")
    #expect(seen.report.firstDivergence?.stage == "hidden_states.2")
    #expect(
      Set(seen.report.firstDivergence?.suspects ?? []) == [prefix + "q1", prefix + "q2"])
  }
}
