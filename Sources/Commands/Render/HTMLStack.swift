import Hub
import Layouts
import OrderedCollections
import WeighbridgeKit

/// The sub-layers as blocks in their kinds' colours: layers side by side, each from top to bottom.
struct HTMLStack {
  let spec: ModelSpec
  /// A sub-layer to point out.
  var marked: Int?
  /// What is said of it.
  var words = ""

  var html: HTML {
    var layers: OrderedDictionary<Int, [Int]> = [:]
    for (i, sublayer) in spec.sublayers.enumerated() {
      layers[sublayer.layer, default: []].append(i)
    }
    let items: [HTML] = layers.map { layer, indices in
      let blocks: [HTML] = indices.map(block)
      return """
        <li><span class="label">layer \(layer)</span><ol>
        \(blocks)</ol></li>

        """
    }
    return """
      <p>The residual stream runs through \(counted(spec.sublayers.count, "sub-layer")) in \
      \(counted(spec.layerCount, "layer")), from the first to the last.</p>
      <ol class="stack">
      \(items)</ol>

      """
  }

  private func counted(_ count: Int, _ name: String) -> String {
    "\(count) \(name)\(count == 1 ? "" : "s")"
  }

  private func block(_ index: Int) -> HTML {
    let sublayer = spec.sublayers[index]
    let isMarked = index == marked
    let mark: HTML = isMarked ? "<small class=\"here\">✕ \(words)</small>" : ""
    return """
      <li class="block k-\(sublayer.kind)\(isMarked ? " marked" : "")">\
      \(sublayer.kind)\(detail(sublayer))\(mark)</li>

      """
  }

  private func detail(_ sublayer: ModelSpec.Sublayer) -> HTML {
    guard sublayer.kind == "attention" else { return HTML() }
    let window = sublayer["window"].int.map { "window \($0)" } ?? "full"
    let rotary = sublayer["rope_base"] == .null ? ", no rotary" : ""
    return "<small>\(window)\(rotary)</small>"
  }
}
