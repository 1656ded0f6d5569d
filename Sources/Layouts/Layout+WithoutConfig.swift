package import Hub
import OrderedCollections
package import Tensors

/// What tensors say of a model whose config is not there.
extension Layout {
  /// A size that can be read off shapes and names.
  package struct KnownSize: Sendable {
    /// Its name: `d_model`, `embedding rows`, `layers`.
    package var name: String
    /// The size.
    package var value: Int
  }

  /// The width, the rows of the embedding and the number of layers, as far as the tensors show them.
  package func knownSizes(of whole: Inventory) -> [KnownSize] {
    let inventory = whole.stripping(detect.strip)
    var sizes: [KnownSize] = []
    var names = model.tensors.filter { $0.glue.roles == ["embed.weight"] }.map(\.name.text)
    if let tied = detect.tied { names += [tied.embedding, tied.head] }
    if let number = names.lazy.compactMap({ inventory[$0] }).first {
      let dims = inventory.infos[number].shape.dims
      if dims.count == 2 {
        sizes.append(KnownSize(name: "d_model", value: dims[1]))
        sizes.append(KnownSize(name: "embedding rows", value: dims[0]))
      }
    }
    if let layers = ConfigSizes.layers(self, inventory) {
      sizes.append(KnownSize(name: "layers", value: layers))
    }
    return sizes
  }

  /// The keys of the config that no tensor's shape depends on, though the function does.
  package func keysBeyondShapes(_ vocabulary: Vocabulary) -> [String] {
    func shapeNames(_ kind: MixerKind?) -> Set<String> {
      Set((kind?.pieces ?? []).flatMap { $0.shape.flatMap(\.names) })
    }
    var keys: [String] = []
    func look(_ bindings: [Binding], _ kind: MixerKind?) {
      let shaped = shapeNames(kind)
      for binding in bindings where !shaped.contains(binding.name) {
        guard let source = binding.value.source, source.count == 1,
          config.keys.contains(where: { $0.name == source[0] }), !keys.contains(source[0])
        else { continue }
        keys.append(source[0])
      }
    }
    look(model.attributes.filter { $0.name != "vocab_size" }, vocabulary.model)
    for (_, mixer) in mixers.sorted(by: { $0.key < $1.key }) {
      look(layers.attributes + mixer.attributes, vocabulary.kinds[mixer.kind])
    }
    return keys
  }

  /// Whether every tensor has its place under a config, and the config has no fault.
  package func fits(_ whole: Inventory, config: JSONObject, vocabulary: Vocabulary) -> Bool {
    let inventory = whole.stripping(detect.strip)
    let expansion = tryOut(
      config: config, vocabulary: vocabulary, inventory: inventory, inertKeys: [])
    guard expansion.isComplete, !expansion.problems.contains(where: { $0.severity == .error })
    else { return false }
    var binder = Binder(layout: self, inventory: inventory, expansion: expansion)
    binder.bind()
    return binder.misfitCount == 0 && !binder.problems.contains { $0.severity == .error }
  }
}
