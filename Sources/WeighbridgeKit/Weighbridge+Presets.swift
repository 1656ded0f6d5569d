import Layouts
package import OrderedCollections
import Tensors

extension Weighbridge {
  /// The parameters of the configurations that `--preset` takes, by name; a tied head counts once.
  package func presetParameters() -> OrderedDictionary<String, Int> {
    var counts: OrderedDictionary<String, Int> = [:]
    for name in library.presetNames {
      if let count = parameters(ofPreset: name) { counts[name] = count }
    }
    return counts
  }

  /// The parameters of a named configuration; `nil` for a name that is none.
  ///
  /// - Parameter isFused: for ArchScale's: whether in the form of July 2025.
  package func parameters(ofPreset name: String, isFused: Bool = false) -> Int? {
    let config: JSONObject
    let layoutName: String
    if let preset = library.presets[name] {
      (config, layoutName) = (preset, "lit_gpt")
    } else if let preset = library.archScalePresets.config(named: name, fused: isFused) {
      (config, layoutName) = (
        preset, preset["separate_qkv"] == nil ? "archscale-fused" : "archscale"
      )
    } else {
      return nil
    }
    guard let layout = library.layouts.first(where: { $0.name == layoutName }) else { return nil }
    let expansion = layout.expand(config: config, vocabulary: vocabulary, inventory: nil)
    let isTied = expansion.spec["tied"] == true
    var total = 0
    for tensor in expansion.tensors where tensor.tied == nil || !isTied {
      guard let count = tensor.shape.elementCount,
        case let (sum, overflows) = total.addingReportingOverflow(count), !overflows
      else { return nil }
      total = sum
    }
    return total
  }
}
