import TestSupport
import Tensors
import Testing

@Suite("Listings of tensors")
struct ListingTests {
  static let model = ModelFixture.named("mamba-tied/hf").path

  /// Tensors of 4, 2 and 3 values, one of them with what is not finite.
  private func file(in directory: TemporaryDirectory, _ odd: Float = 1) -> String {
    var builder = SafetensorsBuilder()
    builder.add("a.0.weight", [4], [1, 2, 3, 4])
    builder.add("a.1.weight", [2], [-1, 5])
    builder.add("b|c", [3], [odd, 0, 0])
    let path = directory.file("model.safetensors")
    Files.write(builder.bytes, to: path)
    return path
  }

  private func names(_ arguments: String...) throws -> [String] {
    let directory = TemporaryDirectory()
    let run = try BuiltTool.run(["inspect", file(in: directory)] + arguments + ["--json"])
    return try run.document()["tensors"]?.array?.compactMap { $0["name"]?.string } ?? []
  }

  @Test("names are whole where standard output is no terminal, whatever their length")
  func whole() throws {
    let directory = TemporaryDirectory()
    let name = String(repeating: "layer.", count: 40) + "weight"
    var builder = SafetensorsBuilder()
    builder.add(name, [2], [1, 2])
    let path = directory.file("model.safetensors")
    Files.write(builder.bytes, to: path)
    let run = try BuiltTool.run(["inspect", path, "--stats"], environment: ["COLUMNS": ""])
    let line = try #require(run.output.split(separator: "\n").first { $0.contains(name) })
    #expect(run.output.contains("mean") && line.hasSuffix("1.0  2.0   1.5  0.5    0    0      0"))
    let narrow = try BuiltTool.run(["inspect", path], environment: ["COLUMNS": "60"])
    #expect(!narrow.output.contains(name))
  }

  @Test("tensors are sorted by size and by values, and cut after the first")
  func sorted() throws {
    #expect(try names("--sort", "bytes") == ["a.0.weight", "b|c", "a.1.weight"])
    #expect(try names("--sort", "bytes", "--top", "2") == ["a.0.weight", "b|c"])
    #expect(try names("--stats", "--sort", "max", "--top", "1") == ["a.1.weight"])
    #expect(try names("--stats", "--sort", "zeros", "--top", "1") == ["b|c"])
    #expect(try names("--filter", "a.1*", "--filter", "b*") == ["a.1.weight", "b|c"])
    let directory = TemporaryDirectory()
    let run = try BuiltTool.run("inspect", file(in: directory), "--sort", "max")
    #expect(run.status == 64 && run.error.contains("--sort max needs --stats"))
  }

  @Test("CSV and Markdown have one line for each tensor, with every character of its name")
  func forms() throws {
    let directory = TemporaryDirectory()
    let path = file(in: directory)
    let csv = try BuiltTool.run("inspect", path, "--format", "csv")
    #expect(
      csv.output == """
        tensor,dtype,shape,bytes,piece
        a.0.weight,F32,[4],16,
        a.1.weight,F32,[2],8,
        b|c,F32,[3],12,

        """)
    let markdown = try BuiltTool.run("inspect", path, "--format", "markdown")
    #expect(markdown.output.contains("\n| --- | --- | --- | ---: | --- |\n"))
    #expect(markdown.output.contains("| b\\|c | F32 | [3] | 12 B | - |"))
    #expect(try BuiltTool.run("inspect", path, "--format", "json").document()["tensors"] != nil)
  }

  @Test("groups count tensors, parameters and bytes of each layer and kind")
  func groups() throws {
    let run = try BuiltTool.run("inspect", Self.model, "--group-by", "kind", "--json")
    let document = try run.document()
    let groups = try #require(document["groups"]?.array)
    #expect(groups.compactMap { $0["name"]?.string }.sorted() == ["mamba", "model"])
    let bytes = groups.compactMap { $0["bytes"]?.int }.reduce(0, +)
    #expect(document["bytes"] == .int(bytes))
    let tensors = try #require(document["tensors"]?.array)
    #expect(groups.compactMap { $0["tensors"]?.int }.reduce(0, +) == tensors.count)
    let csv = try BuiltTool.run("inspect", Self.model, "--group-by", "layer", "--format", "csv")
    #expect(csv.output.hasPrefix("layer,tensors,parameters,bytes\n"))
    #expect(csv.output.contains("\nlayer 0,"))
  }

  @Test("a tree shows each name once, below what it begins with")
  func tree() throws {
    let directory = TemporaryDirectory()
    let run = try BuiltTool.run("inspect", file(in: directory), "--tree")
    #expect(
      run.output.hasSuffix(
        """
        a  2 tensors, 24 B
          0.weight  F32 [4]
          1.weight  F32 [2]
        b|c  F32 [3]

        """))
  }

  @Test("--finite ends with 1 and names the tensor and its count; without NaN it ends with 0")
  func finite() throws {
    let directory = TemporaryDirectory()
    let fine = try BuiltTool.run("inspect", file(in: directory), "--finite", "--json")
    #expect(fine.status == 0, "\(fine.error)")
    let odd = try BuiltTool.run("inspect", file(in: directory, .nan), "--finite", "--json")
    #expect(odd.status == 1)
    #expect(try odd.problems().contains("inspect.not-finite b|c"))
    #expect(odd.error.contains("1 NaN and 0 infinite values of 3"))
    let infinite = try BuiltTool.run("inspect", file(in: directory, -.infinity), "--finite")
    #expect(infinite.status == 1 && infinite.error.contains("0 NaN and 1 infinite values of 3"))
  }
}
