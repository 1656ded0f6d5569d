import Hub
import Parity
import TestSupport
import Testing
import WeighbridgeKit

/// A fault, where it is, and what it should be found as.
struct Fault: Sendable, CustomTestStringConvertible {
  var name: String
  var stage: String
  var sublayer: Int?
  var kind: String
  var suspects: [String] = []
  var attributes: [String] = []
  var config: [(String, String)] = []
  var change: @Sendable (inout Altered.Weights) -> Void = { _ in }
  var testDescription: String { name }

  static let layer = "backbone.layers."

  static let all: [Fault] = [
    Fault(
      name: "two query heads swapped", stage: "hidden_states.2", sublayer: 2, kind: "attention",
      suspects: [layer + "1.mixer.q_proj.weight"],
      change: { $0.swapRows(layer + "1.mixer.q_proj.weight", 0, 16, 16) }),
    Fault(
      name: "grouped key heads in the wrong order", stage: "hidden_states.4", sublayer: 6,
      kind: "attention", suspects: [layer + "3.mixer.k_proj.weight"],
      change: { $0.swapRows(layer + "3.mixer.k_proj.weight", 0, 16, 16) }),
    Fault(
      name: "gate and up exchanged", stage: "hidden_states.3", sublayer: 5, kind: "mlp",
      suspects: [layer + "2.mlp.gate_proj.weight", layer + "2.mlp.up_proj.weight"],
      change: {
        let gate = $0[layer + "2.mlp.gate_proj.weight"]
        $0[layer + "2.mlp.gate_proj.weight"] = $0[layer + "2.mlp.up_proj.weight"]
        $0[layer + "2.mlp.up_proj.weight"] = gate
      }),
    Fault(
      name: "x and z of in_proj exchanged", stage: "hidden_states.1", sublayer: 0, kind: "mamba",
      suspects: [layer + "0.mixer.in_proj.weight"],
      change: { $0.swapRows(layer + "0.mixer.in_proj.weight", 0, 128, 128) }),
    Fault(
      name: "a norm off by 3e-4", stage: "hidden_states.3", sublayer: 4, kind: "mamba",
      suspects: [layer + "2.mixer_norm.weight"],
      change: {
        $0[layer + "2.mixer_norm.weight"] = $0[layer + "2.mixer_norm.weight"].map {
          $0 * (1 + 3e-4)
        }
      }),
    Fault(
      name: "A_log rounded to bfloat16, stored as bfloat16", stage: "hidden_states.3", sublayer: 4,
      kind: "mamba", suspects: [layer + "2.mixer.A_log"],
      change: { $0.bfloat16 = [layer + "2.mixer.A_log"] }),
    Fault(
      name: "rotary pairs in the other convention", stage: "hidden_states.2", sublayer: 2,
      kind: "attention",
      suspects: [layer + "1.mixer.k_proj.weight", layer + "1.mixer.q_proj.weight"],
      change: {
        for (name, heads) in [
          (layer + "1.mixer.q_proj.weight", 4), (layer + "1.mixer.k_proj.weight", 2),
        ] {
          let (own, width) = ($0[name], $0.columns(name))
          var other = own
          for head in 0..<heads {
            for row in 0..<16 {
              let from = head * 16 + row / 2 + row % 2 * 8
              for j in 0..<width { other[(head * 16 + row) * width + j] = own[from * width + j] }
            }
          }
          $0[name] = other
        }
      }),
    Fault(
      name: "D without its skip", stage: "hidden_states.1", sublayer: 0, kind: "mamba",
      suspects: [layer + "0.mixer.D"],
      change: { $0[layer + "0.mixer.D"] = $0[layer + "0.mixer.D"].map { _ in 0 } }),
    Fault(
      name: "one weight of a down projection", stage: "hidden_states.4", sublayer: 7, kind: "mlp",
      suspects: [layer + "3.mlp.down_proj.weight"],
      change: { $0[layer + "3.mlp.down_proj.weight"][1000] += 0.01 }),
    Fault(
      name: "the final norm off by 1e-3", stage: "final_norm", sublayer: nil, kind: "model",
      suspects: ["backbone.norm_f.weight"],
      change: { $0["backbone.norm_f.weight"] = $0["backbone.norm_f.weight"].map { $0 * 1.001 } }),
    Fault(
      name: "a row of the head", stage: "logits", sublayer: nil, kind: "model",
      suspects: ["lm_head.weight"], change: { $0["lm_head.weight"][64 * 5 + 3] += 0.01 }),
    Fault(
      name: "a window one larger", stage: "hidden_states.2", sublayer: 2, kind: "attention",
      attributes: ["window"], config: [("\"window_size\": 8", "\"window_size\": 9")]),
    Fault(
      name: "a window one smaller", stage: "hidden_states.2", sublayer: 2, kind: "attention",
      attributes: ["window"], config: [("\"window_size\": 8", "\"window_size\": 7")]),
    Fault(
      name: "another epsilon of the norms", stage: "hidden_states.1", sublayer: 0, kind: "mamba",
      attributes: ["norm_eps"], config: [("\"norm_eps\": 1e-05", "\"norm_eps\": 1e-06")]),
    Fault(
      name: "a rotary base a ten-thousandth off", stage: "hidden_states.2", sublayer: 2,
      kind: "attention", attributes: ["rope_base"],
      config: [("\"rope_theta\": 10000.0", "\"rope_theta\": 10001.0")]),
  ]
}

@Suite("Planted faults", .tags(.slow))
struct PlantedFaultTests {
  let weighbridge: Weighbridge
  let original = CheckpointInput(path: Fixtures.path("models/samba-fla/fla"))

  init() throws { weighbridge = try Weighbridge() }

  @Test(
    "each fault is found at its stage, in its sub-layer, with its tensors", arguments: Fault.all)
  func found(_ fault: Fault) throws {
    let altered = try Altered(config: fault.config, fault.change)
    let result = try weighbridge.parity(
      original, altered.input, tokens: .random(batch: 2, length: 40, seed: 3), ParityRequest())
    #expect(!result.passes)
    let divergence = try #require(result.report.firstDivergence)
    #expect(divergence.stage == fault.stage)
    #expect(divergence.sublayer == fault.sublayer)
    #expect(divergence.kind == fault.kind)
    #expect(divergence.suspects == fault.suspects)
    #expect(divergence.attributes == fault.attributes)
    #expect(divergence.isProven)
  }

  @Test(
    "each fault in the weights is found against the framework's trace as well",
    arguments: Fault.all.filter { $0.attributes.isEmpty }, [Precision.float64, .float32])
  func foundByTrace(_ fault: Fault, _ precision: Precision) throws {
    let altered = try Altered(config: fault.config, fault.change)
    var request = ParityRequest()
    request.precision = precision
    let result = try weighbridge.parity(
      altered.input, trace: Fixtures.path("models/samba-fla/trace.safetensors"), request)
    let divergence = try #require(result.report.firstDivergence)
    #expect(divergence.stage == fault.stage)
    // A trace does not tell sub-layers of a layer apart: all of its tensors are suspects.
    #expect(Set(fault.suspects).isSubset(of: divergence.suspects))
  }

  @Test("a copy without any change passes with no difference at all")
  func unchanged() throws {
    let copy = try Altered()
    let result = try weighbridge.parity(
      original, copy.input, tokens: .random(batch: 2, length: 40, seed: 3), ParityRequest())
    #expect(result.passes)
    #expect(result.differing.isEmpty)
    #expect(result.report.stages.allSatisfy { $0.maxAbs == 0 })
  }

  @Test(
    "rows of the embedding that differ are found when no token uses them",
    arguments: [Precision.float64, .float32])
  func unusedRows(_ precision: Precision) throws {
    let altered = try Altered { $0.swapRows("backbone.embeddings.weight", 7, 9, 1) }
    let directory = TemporaryDirectory()
    Files.write("[[1, 2, 3, 4, 5, 6]]", to: directory.file("tokens.json"))
    var request = ParityRequest()
    request.precision = precision
    let result = try weighbridge.parity(
      original, altered.input, tokens: .file(directory.file("tokens.json")), request)
    #expect(!result.passes)
    let divergence = try #require(result.report.firstDivergence)
    #expect(divergence.stage == "hidden_states.0")
    #expect(divergence.suspects == ["backbone.embeddings.weight"])
    #expect(result.report.stages.map(\.ok) == [false, true, true, true, true, true, true])
    let note = try #require(result.problems.first { $0.code == "parity.unused-rows" })
    #expect(note.message.contains("token 7 "))
  }

  @Test("a head that has become the embedding is looked for in the head's tensor")
  func tiedByMistake() throws {
    let altered = try Altered {
      $0["lm_head.weight"] = $0["backbone.embeddings.weight"]
    }
    let result = try weighbridge.parity(
      original, altered.input, tokens: .random(batch: 2, length: 40, seed: 3), ParityRequest())
    let divergence = try #require(result.report.firstDivergence)
    #expect(divergence.stage == "logits")
    #expect(divergence.suspects == ["lm_head.weight"])
  }
}
