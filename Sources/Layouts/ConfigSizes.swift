import Hub
import Tensors

/// The sizes that a config asks for beside those that the tensors have.
struct ConfigSizes {
  private struct Size {
    var name: String
    var asked: Int
    var found: Int
  }

  private var sizes: [Size] = []
  private let layout: Layout
  /// Whether embedding and final norm agree on another d_model than the config's.
  private(set) var isWidthConfirmed = false

  init(_ expansion: Expansion, _ layout: Layout, _ inventory: Inventory) {
    self.layout = layout
    let tied = layout.detect.tied
    let embedding = expansion.tensors.first {
      $0.sublayer == nil && $0.form.roles == ["embed.weight"]
    }
    if let embedding, embedding.shape.dims.count == 2,
      let number = inventory[embedding.name] ?? tied.flatMap({ inventory[$0.head] }),
      inventory.infos[number].shape.dims.count == 2
    {
      let asked = embedding.shape.dims
      let found = inventory.infos[number].shape.dims
      sizes.append(Size(name: "d_model", asked: asked[1], found: found[1]))
      sizes.append(Size(name: "embedding rows", asked: asked[0], found: found[0]))
    }
    if let norm = expansion.tensors.first(where: {
      $0.sublayer == nil && $0.form.roles == ["final_norm.weight"]
    }), let number = inventory[norm.name], let width = inventory.infos[number].shape.dims.first,
      let size = sizes.first
    {
      isWidthConfirmed = size.asked != size.found && width == size.found
    }
    if let found = Self.layers(layout, inventory) {
      sizes.append(Size(name: "layers", asked: expansion.spec.layerCount, found: found))
    }
  }

  /// One more than the largest number of a layer among the names; `nil` when none has one.
  static func layers(_ layout: Layout, _ inventory: Inventory) -> Int? {
    inventory.names.lazy.compactMap { layer(of: $0, layout) }.max().map { $0 + 1 }
  }

  static func layer(of name: String, _ layout: Layout) -> Int? {
    guard case .literal(let prefix)? = layout.layers.prefix.segments.first,
      name.utf8.starts(with: prefix.utf8)
    else { return nil }
    let digits = name.utf8.dropFirst(prefix.utf8.count).prefix { NameClasses.isDigit($0) }
    guard let number = Int(String(decoding: digits, as: UTF8.self)), number < 1 << 20 else {
      return nil
    }
    return number
  }

  /// Whether a tensor is of a layer that only the config or only the tensors have.
  func isOfSurplusLayer(_ name: String) -> Bool {
    guard let layers = sizes.first(where: { $0.name == "layers" }) else { return false }
    return Self.layer(of: name, layout).map { $0 >= min(layers.asked, layers.found) } ?? false
  }

  private var different: [Size] { sizes.filter { $0.asked != $0.found } }

  /// Whether the width or the number of layers differs: then nothing else is worth telling. Other
  /// numbers of rows alone are told of the tensors themselves.
  var differ: Bool { different.contains { $0.name != "embedding rows" } }

  /// Whether the tensors are of this model but for layers that are not there.
  var lacksLayersOnly: Bool {
    different.count == 1 && different[0].name == "layers" && different[0].found < different[0].asked
  }

  /// `d_model 1536 and 24 layers`.
  var asked: String { text(\.asked) }
  /// `d_model 64 and 4 layers`.
  var found: String { text(\.found) }

  private func text(_ value: (Size) -> Int) -> String {
    let all = different.map {
      $0.name == "d_model" ? "d_model \(value($0))" : "\(value($0)) \($0.name)"
    }
    guard let last = all.last, all.count > 1 else { return all.first ?? "" }
    return all.dropLast().joined(separator: ", ") + " and " + last
  }
}
