import Planting
import TestSupport
import Testing
import WeighbridgeKit

/// A share of what checks/plant plants in full.
@Suite("Faults planted at random")
struct PlantingTests {
  @Test(
    "each is found in a pair, and what changes nothing passes",
    arguments: [
      ("samba-fla", "fla"), ("gla-conv-gqa-clamp", "fla"), ("lit-llama-full", "lit_gpt"),
      ("mamba-tied", "hf"),
    ])
  func share(_ model: (name: String, layout: String)) throws {
    let weighbridge = try Weighbridge()
    var planting = Planting(seed: 11)
    let directory = Fixtures.path("models/\(model.name)")
    try planting.run(
      PlantedModel(
        "\(directory)/\(model.layout)", trace: "\(directory)/trace.safetensors", weighbridge),
      share: 0.02)
    #expect(planting.isGood, "\(planting.table)")
    let pairs = try #require(planting.rates[.tensors])
    #expect(pairs.planted > 2 && pairs.found == pairs.planted, "\(planting.table)")
    #expect(pairs.stage == pairs.found && pairs.sublayer == pairs.found, "\(planting.table)")
    let traced = try #require(planting.rates[.tracedTensors])
    #expect(traced.found == traced.planted && traced.stage == traced.found, "\(planting.table)")
  }
}
