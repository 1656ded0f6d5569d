import Layouts
import OrderedCollections
import TestSupport
import Tensors
import WeighbridgeKit

/// A small ArchScale checkpoint with random weights: a named configuration, made narrow and changed.
struct TinyArchScale {
  let name: String
  let config: JSONObject
  let layout: Layout

  init(_ name: String, fused: Bool = false, _ changes: JSONObject = [:]) {
    var config = weighbridge.library.archScalePresets.config(named: name, fused: fused)!
    let narrow: JSONObject = [
      "ar": .null, "n_head": 4, "n_query_groups": 2, "head_dim": .null, "n_embd": 48,
      "intermediate_size": 64, "vocab_size": 31, "padding_multiple": 1, "padded_vocab_size": 31,
      "block_size": 16, "n_layer": config["yoco"] == true ? 8 : 4,
    ]
    for (key, value) in narrow { config[key] = value }
    if let window = config["local_window"]?.int, window > 0 { config["local_window"] = 3 }
    for (key, value) in changes { config[key] = value }
    let layoutName = config["separate_qkv"] == nil ? "archscale-fused" : "archscale"
    self.name = name
    self.config = config
    layout = weighbridge.library.layouts.first { $0.name == layoutName }!
  }

  /// Its directory, in `directory`; one of the same name is replaced.
  func write(in directory: TemporaryDirectory) throws -> String {
    let expansion = layout.expand(config: config, vocabulary: .standard, inventory: nil)
    var random = SeededRandom(7)
    var builder = SafetensorsBuilder()
    for tensor in expansion.tensors {
      // A tied head need not be there.
      if tensor.tied != nil, config["tied_embed"] == true { continue }
      let values = (0..<(tensor.shape.elementCount ?? 0)).map { _ in
        Float.random(in: -0.5...0.5, using: &random)
      }
      builder.add(tensor.name, tensor.shape.dims, values)
    }
    let path = directory.file(name)
    if !Files.exists(path) { Files.makeDirectory(path) }
    Files.write(builder.bytes, to: path + "/model.safetensors")
    Files.write(JSONValue.object(config).text(), to: path + "/archscale_config.json")
    return path
  }
}
