import TestSupport
import Tensors
import Testing

@Suite("Values of tensors at the command line")
struct ShowTests {
  /// A file with a matrix of 5 rows, a vector with what is not finite, whole numbers, and a tensor of
  /// three axes.
  private func file(in directory: TemporaryDirectory) -> String {
    var builder = SafetensorsBuilder()
    func bytes<T>(_ values: [T]) -> [UInt8] { values.withUnsafeBytes { Array($0) } }
    builder.add("a.weight", .f32, [5, 3], bytes((0..<15).map { Float($0) / 2 }))
    builder.add(
      "b.bias", .f32, [6], bytes([Float.nan, -.infinity, .infinity, 0, -3, 1]))
    builder.add("steps", .i64, [2], bytes([Int64(-7), .max]))
    builder.add("conv", .bf16, [2, 1, 2], bytes([UInt16(0x3F80), 0x4000, 0xBF80, 0]))
    builder.add("small", .f8E4M3, [2], [1, 2])
    let path = directory.file("model.safetensors")
    Files.write(builder.bytes, to: path)
    return path
  }

  private func tensor(_ arguments: String...) throws -> JSONValue {
    let directory = TemporaryDirectory()
    let run = try BuiltTool.run(["show", file(in: directory)] + arguments + ["--json"])
    #expect(run.status == 0, "\(run.error)")
    return try #require(try run.document()["tensors"]?.array?.first)
  }

  @Test(
    "rows are sliced as Python slices them",
    arguments: [
      ("1:3", [1, 3], [[1.5, 2, 2.5], [3, 3.5, 4]]), (":1", [0, 1], [[0, 0.5, 1]]),
      ("-1", [4, 5], [[6, 6.5, 7]]), ("4:99", [4, 5], [[6, 6.5, 7]]),
      ("-2:-1", [3, 4], [[4.5, 5, 5.5]]),
      ("3:1", [3, 3], []),
    ] as [(String, [Int], [[Double]])])
  func slices(slice: String, rows: [Int], values: [[Double]]) throws {
    let tensor = try tensor("a.weight", "--rows=\(slice)")
    #expect(tensor["rows"] == .array(rows.map { .int($0) }))
    #expect(tensor["values"] == .array(values.map { .array($0.map { .double($0) }) }))
    #expect(tensor["dtype"] == "F32" && tensor["shape"] == [5, 3])
  }

  @Test(
    "whole numbers keep their digits, bfloat16 its values, and axes behind the first are one row")
  func types() throws {
    #expect(try tensor("steps")["values"] == [-7, .int(.max)])
    #expect(
      try tensor("conv")["values"]
        == [[.double(1), .double(2)], [.double(-1), .double(0)]])
  }

  @Test("a histogram counts the finite values of the whole tensor, its statistics the others")
  func histogram() throws {
    let vector = try tensor("b.bias", "--histogram", "--bins", "2")
    #expect(vector["histogram"]?["edges"] == [.double(-3), .double(-1), .double(1)])
    #expect(vector["histogram"]?["counts"] == [1, 2])
    #expect(vector["nan"] == 1 && vector["inf"] == 2 && vector["zeros"] == 1)
    #expect(vector["mean"]?.double.map { abs($0 + 2.0 / 3) < 1e-15 } == true)
    // Each of 0, 0.5 … 7 once; 3.5 lies on the edge and belongs to the upper bin.
    let matrix = try tensor("a.weight", "--rows", "0", "--histogram", "--bins", "2")
    #expect(matrix["histogram"]?["counts"] == [7, 8])
    // The population's: the variance of 0…14 is (15² - 1) / 12, halved values have a quarter of it.
    let std = try #require(matrix["std"]?.double)
    #expect(abs(std - (224.0 / 48).squareRoot()) < 1e-14)
  }

  @Test(
    "what cannot be shown is an error that says what can",
    arguments: [
      (["a.weigth"], "show.no-tensor a.weigth", "did you mean a.weight?"),
      (["a.weight", "--rows", "5"], "show.rows a.weight", "rows are 0 to 4"),
      (["small"], "show.dtype small", "types shown"),
    ])
  func errors(arguments: [String], problem: String, help: String) throws {
    let directory = TemporaryDirectory()
    let run = try BuiltTool.run(["show", file(in: directory)] + arguments + ["--json"])
    #expect(run.status == 2)
    #expect(try run.problems() == [problem])
    #expect(run.error.contains(help))
    #expect(try run.document()["tensors"] == [])
  }

  @Test("a piece is a name too, a glob may name several, and the text shows the index of each row")
  func names() throws {
    let model = ModelFixture.named("mamba-tied/hf").path
    let piece = try BuiltTool.run("show", model, "0.a_log", "--json")
    let name = "backbone.layers.0.mixer.A_log"
    #expect(try piece.document()["tensors"]?.array?.first?["name"] == .string(name))
    let glob = try BuiltTool.run("show", model, "*.A_log", "--json")
    let names = try glob.document()["tensors"]?.array?.compactMap { $0["name"]?.string }
    #expect((names ?? []).count > 1 && names?.first == name)
    let directory = TemporaryDirectory()
    let text = try BuiltTool.run("show", file(in: directory), "a.weight", "--rows", "3:5")
    #expect(
      text.output == """
        a.weight  F32 [5, 3]
          3   4.5  5.0  5.5
          4   6.0  6.5  7.0
          rows 3 to 4 of 5

        """)
  }
}

@Suite("What the machine has")
struct DoctorTests {
  @Test("doctor names libraries, cores and limits, in one JSON document too")
  func findings() throws {
    let run = try BuiltTool.run("doctor", "--json")
    #expect(run.status == 0, "\(run.error)")
    let findings = try #require(try run.document()["findings"]?.array)
    let names = findings.compactMap { $0["name"]?.string }
    for name in ["weighbridge", "cores", "vectors", "OpenBLAS", "libhdf5", "memory", "open files"] {
      #expect(names.contains(name))
    }
    #expect(findings.allSatisfy { $0["value"]?.string?.isEmpty == false })
    let text = try BuiltTool.run("doctor")
    #expect(text.output.split(separator: "\n").first?.hasPrefix("weighbridge") == true)
  }
}
