import Hub
import Parity
import Testing
import WeighbridgeKit

@testable import Commands

/// What reports are made of, in terminals of any width.
@Suite("Rendering")
struct RenderTests {
  static let names = [
    "backbone.layers.10.mixer.q_proj.weight", "backbone.layers.10.mixer.k_proj.weight",
  ]

  static func table() -> Table {
    var table = Table(
      [("tensor", .left), ("dtype", .left), ("bytes", .right), ("what", .folded)], spare: [2, 1])
    for name in names {
      table.add([name, "F32", "16.38 kB", "differs by up to 0.82 in 2048 of 4096"])
    }
    return table
  }

  static func lines(_ text: String) -> [String] {
    text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
  }

  @Test("a table that fits is shown whole")
  func whole() {
    #expect(
      Self.lines(Self.table().text(width: 100)) == [
        "tensor                                  dtype     bytes  what",
        "backbone.layers.10.mixer.q_proj.weight  F32    16.38 kB  differs by up to 0.82 in 2048 of 4096",
        "backbone.layers.10.mixer.k_proj.weight  F32    16.38 kB  differs by up to 0.82 in 2048 of 4096",
      ])
  }

  @Test(
    "a narrow table shortens names, keeps their ends apart, folds what is said, drops what it can")
  func narrow() {
    #expect(
      Self.lines(Self.table().text(width: 60)) == [
        "tensor                        dtype  what",
        "backbone.…ixer.q_proj.weight  F32    differs by up to 0.82",
        "                                     in 2048 of 4096",
        "backbone.…ixer.k_proj.weight  F32    differs by up to 0.82",
        "                                     in 2048 of 4096",
      ])
    #expect(
      Self.lines(Self.table().text(width: 48)) == [
        "tensor                        what",
        "backbone.…ixer.q_proj.weight  differs by up to",
        "                              0.82 in 2048 of",
        "                              4096",
        "backbone.…ixer.k_proj.weight  differs by up to",
        "                              0.82 in 2048 of",
        "                              4096",
      ])
  }

  @Test("no line of a table is wider than the terminal", arguments: 46...110)
  func widths(width: Int) {
    let lines = Self.lines(Self.table().text(width: width))
    #expect(lines.allSatisfy { $0.count <= width })
    #expect(lines.count >= 3 && Set(lines).count > lines.count / 2)
  }

  @Test(
    "layers are told in few words",
    arguments: [
      ([3], "layer 3"), ([1, 3], "layers 1, 3"), ([0, 1], "layers 0, 1"),
      ([0, 1, 2, 3], "layers 0–3"), ([7, 0, 1, 2, 2], "layers 0–2, 7"),
      (Array(stride(from: 1, to: 24, by: 2)), "12 layers from 1 to 23"),
    ])
  func layers(numbers: [Int], text: String) {
    #expect(Layers.text(numbers) == text)
  }

  @Test("an attribute that differs alike everywhere is told once, another beside it")
  func attributes() {
    var attributes = [
      CheckpointDiff.Attribute(
        kind: "model", layer: nil, name: "final_norm_eps", a: 1e-5, b: 1e-6, isRounding: false)
    ]
    for layer in 0..<3 {
      for kind in ["mamba", "mlp"] {
        attributes.append(
          CheckpointDiff.Attribute(
            kind: kind, layer: layer, name: "norm_eps", a: 1e-5, b: layer == 2 ? 1e-3 : 1e-6,
            isRounding: false))
      }
    }
    #expect(
      AttributeGroup.groups(attributes).map { "\($0.attribute.name) \($0.place)" } == [
        "final_norm_eps model", "norm_eps mamba in layers 0, 1, mlp in layers 0, 1",
        "norm_eps mamba in layer 2, mlp in layer 2",
      ])
  }

  @Test("zero and infinity have places of their own beside the powers of ten")
  func axis() {
    let axis = LogAxis([0, 3e-15, 2e-4, .infinity])
    #expect(axis.ticks.map(\.label) == ["0", "1e-15", "1e-12", "1e-9", "1e-6", "1e-3", "inf"])
    #expect(axis.percent(0) == 0 && axis.percent(.infinity) == 100 && axis.percent(.nan) == 100)
    #expect(axis.percent(3e-15) > 12 && axis.percent(2e-4) < 88)
    let plain = LogAxis([3e-15, 2e-4])
    #expect(plain.percent(1e-20) == 0 && plain.percent(1) == 100)
  }

  @Test("words are folded at spaces, and what follows is indented")
  func fold() {
    #expect(
      Paragraph.fold("config      d_model=64 n_layer=4", width: 24, indent: 2, hanging: 14) == [
        "  config      d_model=64", "              n_layer=4",
      ])
    #expect(Paragraph.fold("short", width: 24, indent: 2) == ["  short"])
  }
}
