import Checkpoints
import Hub
import OrderedCollections
import TestSupport
import Tensors
import Testing
import WeighbridgeKit

/// A framework that nobody has heard of gets its layout from one text; no line of Swift knows of it.
@Suite("A new layout")
struct NewLayoutTests {
  /// The file that the guide shows.
  static let yaml = Files.text(Fixtures.repository + "/docs/examples/snake.yaml")

  /// Width 6, inner 12, memory 5, taps 3, rank 2, 2 segments, 11 words: no two extents alike.
  static func tensors() -> [String: StoredCheckpoint.Tensor] {
    var random = SeededRandom(7)
    func made(_ shape: [Int]) -> StoredCheckpoint.Tensor {
      tensor(
        shape, (0..<shape.reduce(1, *)).map { _ in Float.random(in: -1...1, using: &random) })
    }
    var all = [
      "snake.words": made([11, 6]), "snake.tail_norm": made([6]), "snake.tongue": made([11, 6]),
    ]
    for i in 1...2 {
      let prefix = "snake.seg\(i)."
      all[prefix + "pre.weight"] = made([6])
      let shapes: KeyValuePairs<String, [Int]> = [
        "input": [24, 6], "taps": [12, 3], "taps_bias": [12], "mix": [12, 12], "step": [12, 2],
        "step_bias": [12], "log_decay": [12, 5], "skip": [12], "output": [6, 12],
      ]
      for (name, shape) in shapes { all[prefix + "scan." + name] = made(shape) }
    }
    return all
  }

  @Test("one file of YAML, and its checkpoints are inspected and converted both ways")
  func snake() throws {
    let directory = TemporaryDirectory()
    Files.write(Self.yaml, to: directory.file("snake.yaml"))
    let tool = try Weighbridge(layoutFiles: [directory.file("snake.yaml")])
    let source = Self.tensors()
    let config: JSONObject = [
      "width": 6, "n_segments": 2, "words": 11, "memory": 5, "taps": 3, "rank": 2,
      "shared_head": false, "venom_level": "high",
    ]
    let path = directory.file("source")
    write(source, config: config, to: path)

    let inspection = try tool.inspect(CheckpointInput(path: path))
    #expect(inspection.problems == [])
    #expect(inspection.framework == "serpent" && inspection.family == "mamba")
    #expect(inspection.parameters == source.values.reduce(0) { $0 + $1.bytes.count / 4 })
    #expect(inspection.config["dt_rank"] == 2)

    let hf = try Converted(path, to: "hf", by: tool)
    #expect(hf.result.plan.exactness == .bitwise)
    #expect(hf.config["state_size"] == 5 && hf.config["conv_kernel"] == 3)
    #expect(hf.config["time_step_rank"] == 2 && hf.config["tie_word_embeddings"] == false)
    #expect(hf.checkpoint.tensors.count == source.count)
    for i in 0..<2 {
      let (from, to) = ("snake.seg\(i + 1).scan.", "backbone.layers.\(i).mixer.")
      let input = source[from + "input"]!.matrix
      let mix = source[from + "mix"]!.matrix
      #expect(
        hf.checkpoint.matrix(to + "in_proj.weight")
          == Matrix(concatenating: [input.rows(12..<24), input.rows(0..<12)]))
      #expect(
        hf.checkpoint.matrix(to + "x_proj.weight")
          == Matrix(concatenating: [mix.rows(10..<12), mix.rows(5..<10), mix.rows(0..<5)]))
      #expect(
        hf.checkpoint.matrix(to + "conv1d.weight")
          == Matrix([12, 1, 3], source[from + "taps"]!.values))
      #expect(hf.checkpoint[to + "A_log"].values == source[from + "log_decay"]!.values)
    }
    // The converted model is one that the tool knows without the file.
    #expect(
      try weighbridge.inspect(CheckpointInput(path: hf.path)).parameters == inspection.parameters)

    let back = try Converted(hf.path, to: "serpent", by: tool)
    #expect(back.names.contains("snake.safetensors"))
    #expect(back.checkpoint.tensors == source)
    #expect(back.config["segments"] == 2 && back.config["growth"] == 2)
  }

  @Test("a real model goes to the new framework and back, bit for bit")
  func realModel() throws {
    let directory = TemporaryDirectory()
    Files.write(Self.yaml, to: directory.file("snake.yaml"))
    let tool = try Weighbridge(layoutFiles: [directory.file("snake.yaml")])
    let fixture = ModelFixture.named("mamba-tied/hf")
    let snake = try Converted(fixture.path, to: "serpent", by: tool)
    #expect(snake.result.plan.exactness == .bitwise)
    #expect(snake.checkpoint.tensors["snake.tongue"] == nil)
    let back = try Converted(snake.path, to: "hf", by: tool)
    #expect(back.checkpoint.tensors == (try stored(fixture).tensors))
    // What the new layout cannot say is refused like anything else.
    let biased = ModelFixture.named("mamba-bias-untied/hf")
    let request = ConversionRequest(
      input: CheckpointInput(path: biased.path), destination: directory.file("out"), to: "serpent")
    let problems = try refusal { _ = try tool.convert(request) }
    #expect(problems.allSatisfy { $0.code == "convert.no-place" })
    #expect(problems.contains { $0.subject == "backbone.layers.0.mixer.out_proj.bias" })
  }
}
