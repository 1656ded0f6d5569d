import Checkpoints
import Tensors
import TestSupport
import Testing

@Suite("Finding a checkpoint")
struct CheckpointLocationTests {
  let directory = TemporaryDirectory()

  func find(_ names: [String]) throws -> CheckpointLocation {
    for name in names { Files.write("", to: directory.file(name)) }
    return try CheckpointLocation(finding: directory.path)
  }

  func failure(_ names: [String]) -> Diagnostic? {
    for name in names { Files.write("", to: directory.file(name)) }
    return problem { () throws(Diagnostic) in
      _ = try CheckpointLocation(finding: directory.path)
    }
  }

  @Test("weights, config and companions are found by themselves")
  func parts() throws {
    let location = try find([
      "model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "README.md",
      "generation_config.json", "vocab.json", "merges.txt", "spiece.model", "training_args.bin",
      "optimizer.pt", "chat_template.jinja", "params.json",
    ])
    #expect(location.weights == .file(directory.file("model.safetensors")))
    #expect(location.configs == [directory.file("config.json"), directory.file("params.json")])
    #expect(location.config == directory.file("config.json"))
    #expect(
      location.companions
        == [
          "chat_template.jinja", "generation_config.json", "merges.txt", "spiece.model",
          "tokenizer.json", "tokenizer_config.json", "vocab.json",
        ].map(directory.file))
    #expect(location.notes.isEmpty)
  }

  @Test("safetensors goes before pytorch_model.bin, with a note")
  func priority() throws {
    let location = try find(["pytorch_model.bin", "model.safetensors.index.json", "other.pth"])
    #expect(location.weights == .index(directory.file("model.safetensors.index.json")))
    #expect(location.notes.map(\.code) == ["checkpoint.chosen"])
  }

  @Test("a single other weights file is taken, lit_gpt's config first beside it")
  func other() throws {
    let location = try find(["lit_model.pth", "config.json", "lit_config.json", "optimizer.bin"])
    #expect(location.weights == .file(directory.file("lit_model.pth")))
    #expect(location.config == directory.file("lit_config.json"))
  }

  @Test("a trace beside the weights is no candidate")
  func trace() throws {
    var builder = SafetensorsBuilder()
    builder.add("input_ids", .i64, [0], [])
    builder.add("logits", [1], [0])
    Files.write(builder.bytes, to: directory.file("trace.safetensors"))
    #expect(try find(["w.pth"]).weights == .file(directory.file("w.pth")))
  }

  @Test("shards of an index are no candidates of their own")
  func shards() throws {
    let location = try find([
      "m-00001-of-00002.bin", "m-00002-of-00002.bin", "m.bin.index.json",
    ])
    #expect(location.weights == .index(directory.file("m.bin.index.json")))
    let one = try CheckpointLocation(finding: directory.file("m-00001-of-00002.bin"))
    #expect(one.weights == .file(directory.file("m-00001-of-00002.bin")))
    #expect(one.notes.map(\.code) == ["checkpoint.one-shard"])
  }

  @Test("several candidates are an error that lists them")
  func ambiguous() {
    let error = failure(["a.pth", "b.h5"])
    #expect(error?.code == "checkpoint.ambiguous")
    #expect(error?.message == "holds several weights: \"a.pth\", \"b.h5\"")
  }

  @Test("no weights, and nothing at all, are told apart")
  func none() {
    #expect(failure([])?.notes == ["the directory is empty"])
    let error = failure(["notes.txt"])
    #expect(error?.code == "checkpoint.none")
    #expect(error?.notes == ["it holds \"notes.txt\""])
    let missing = problem { () throws(Diagnostic) in
      _ = try CheckpointLocation(finding: directory.file("nowhere"))
    }
    #expect(missing?.code == "checkpoint.not-found")
  }
}
