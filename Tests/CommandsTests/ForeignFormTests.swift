import Checkpoints
import Foundation
import TestSupport
import Tensors
import Testing

@Suite("The tool before what is no model of a layout", .tags(.slow))
struct ForeignFormTests {
  @Test(
    "one error from convert and parity alike",
    arguments: [
      ("lora", "checkpoint.adapter"), ("qweight", "checkpoint.quantized"),
      ("plamo2", "config.architecture"), ("size", "config.mismatch"),
    ])
  func alike(form: String, code: String) throws {
    let fixture = ModelFixture.named("mamba-tied/hf")
    let directory = TemporaryDirectory()
    let stored = try StoredCheckpoint(fixture.path)
    var builder = SafetensorsBuilder()
    for (name, tensor) in stored.tensors.sorted(by: { $0.key < $1.key }) {
      builder.add(name, tensor.dtype, tensor.shape, tensor.bytes)
    }
    var config = try config(of: fixture)
    switch form {
    case "lora":
      for name in ["A", "B"] {
        builder.add("backbone.layers.0.mixer.in_proj.lora_\(name).weight", [2], [1, 2])
      }
    case "qweight": builder.add("backbone.layers.0.mixer.in_proj.qweight", [2], [1, 2])
    case "plamo2": config["model_type"] = "plamo2"
    default: config["num_hidden_layers"] = 48
    }
    Files.makeDirectory(directory.file("in"))
    Files.write(builder.bytes, to: directory.file("in/model.safetensors"))
    Files.write(JSONValue.object(config).text(), to: directory.file("in/config.json"))
    let converted = try BuiltTool.run(
      "convert", directory.file("in"), directory.file("out"), "--to", "fla")
    #expect(converted.status == 2)
    #expect(converted.error.components(separatedBy: "error[").count == 2, "\(converted.error)")
    #expect(converted.error.contains("error[\(code)]"))
    #expect(!Files.exists(directory.file("out")))
    let parity = try BuiltTool.run("parity", directory.file("in"), fixture.path)
    #expect(parity.status == 2)
    #expect(parity.error.contains("error[\(code)]"))
    let inspected = try BuiltTool.run("inspect", directory.file("in"), "--json")
    #expect(try inspected.problems().map { String($0.prefix { $0 != " " }) } == [code])
    #expect(try (inspected.document()["tensors"]?.array ?? []).count >= stored.tensors.count)
  }
}
