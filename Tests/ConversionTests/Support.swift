import Checkpoints
import Conversion
import Hub
import OrderedCollections
import TestSupport
import Tensors
import WeighbridgeKit

/// The tool with the bundled layouts.
let weighbridge = try! Weighbridge()

/// A conversion carried out in a directory of its own, and what came of it.
struct Converted {
  let result: ConversionResult
  let checkpoint: StoredCheckpoint
  let config: JSONObject
  let path: String
  let names: [String]
  private let directory: TemporaryDirectory

  init(
    _ source: String, to: String, config: String? = nil, by tool: Weighbridge = weighbridge,
    _ change: (inout ConversionRequest) -> Void = { _ in }
  ) throws {
    directory = TemporaryDirectory()
    path = directory.file("out")
    var request = ConversionRequest(
      input: CheckpointInput(path: source, configPath: config), destination: path, to: to)
    request.sync = false
    change(&request)
    result = try tool.convert(request)
    names = Files.names(in: path)
    checkpoint = try StoredCheckpoint(path)
    let name = result.plan.to.files.config
    // GGUF's keys are in the weights' own file.
    self.config =
      name.hasSuffix(".gguf")
      ? try openCheckpoint(at: path).attachments.object ?? [:] : try readConfig("\(path)/\(name)")
  }
}

/// The config beside a fixture, changed, in a file of its own.
func changedConfig(
  _ fixture: ModelFixture, in directory: TemporaryDirectory, _ change: (inout JSONObject) -> Void
) throws -> String {
  var config = try config(of: fixture)
  change(&config)
  let path = directory.file("changed.json")
  Files.write(JSONValue.object(config).text(), to: path)
  return path
}

/// A fixture's tensors under their names without wrappers.
func stored(_ fixture: ModelFixture) throws -> StoredCheckpoint {
  var checkpoint = try StoredCheckpoint(fixture.path)
  var tensors: [String: StoredCheckpoint.Tensor] = [:]
  for (name, tensor) in checkpoint.tensors {
    var name = Substring(name)
    for prefix in ["_forward_module.", "decoder."] where name.hasPrefix(prefix) {
      name = name.dropFirst(prefix.count)
    }
    tensors[String(name)] = tensor
  }
  checkpoint.tensors = tensors
  return checkpoint
}

/// A safetensors directory with these tensors and this config.
func write(
  _ tensors: [String: StoredCheckpoint.Tensor], config: JSONObject, to path: String
) {
  var builder = SafetensorsBuilder()
  for (name, tensor) in tensors.sorted(by: { $0.key < $1.key }) {
    builder.add(name, tensor.dtype, tensor.shape, tensor.bytes)
  }
  if !Files.exists(path) { Files.makeDirectory(path) }
  Files.write(builder.bytes, to: path + "/model.safetensors")
  Files.write(JSONValue.object(config).text(), to: path + "/config.json")
}

/// A float32 tensor.
func tensor(_ shape: [Int], _ values: [Float]) -> StoredCheckpoint.Tensor {
  StoredCheckpoint.Tensor(
    dtype: .f32, shape: shape,
    bytes: values.flatMap { value in
      (0..<4).map { UInt8(truncatingIfNeeded: value.bitPattern >> ($0 * 8)) }
    })
}

/// What `body` refused, as `code subject`; nothing when it went through.
func refusal(_ body: () throws -> Void) throws -> [Diagnostic] {
  do {
    try body()
    return []
  } catch let refusal as Refusal {
    return refusal.problems
  }
}

/// What `body` could not use or do.
func failure(_ body: () throws -> Void) -> [Diagnostic] {
  do {
    try body()
    return []
  } catch let problems as Problems {
    return problems.diagnostics
  } catch let diagnostic as Diagnostic {
    return [diagnostic]
  } catch {
    return []
  }
}
