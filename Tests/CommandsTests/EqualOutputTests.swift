import Foundation
import TestSupport
import Testing

@Suite("Equal models give equal files")
struct EqualOutputTests {
  /// Every file below a directory, by its path from there.
  private func files(_ directory: String) throws -> [String: [UInt8]] {
    var files: [String: [UInt8]] = [:]
    for name in try FileManager.default.subpathsOfDirectory(atPath: directory) {
      var isDirectory: ObjCBool = false
      let path = "\(directory)/\(name)"
      _ = FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory)
      if !isDirectory.boolValue { files[name] = Files.read(path) }
    }
    return files
  }

  @Test(
    "two conversions more than a second apart have the same bytes, in every container",
    arguments: [
      ["--container", "safetensors"], ["--container", "safetensors", "--max-shard-size", "100kB"],
      ["--container", "pytorch"], ["--container", "hdf5"], ["--container", "npz"],
      ["--container", "gguf"], ["--container", "dcp", "--ranks", "2"],
      ["--container", "safetensors", "--sha256"],
    ])
  func twice(container: [String]) throws {
    let directory = TemporaryDirectory()
    let source = ModelFixture.named("mamba-tied/hf").path
    for name in ["a", "b"] {
      // Times are kept in whole seconds where a format has any (zip: in steps of two).
      if name == "b" { Thread.sleep(forTimeInterval: 2.1) }
      let target = container.contains("gguf") ? [] : ["--to", "hf"]
      let run = try BuiltTool.run(
        ["convert", source, directory.file(name)] + target + container)
      #expect(run.status == 0, "\(run.error)")
    }
    let first = try files(directory.file("a"))
    let second = try files(directory.file("b"))
    #expect(!first.isEmpty && first.keys.sorted() == second.keys.sorted())
    for (name, bytes) in first { #expect(second[name] == bytes, "\(name) differs") }
  }
}
