import Checkpoints
import Hub
import Inference
import Layouts
import OrderedCollections
import TestSupport
import Tensors

extension Inventory {
  /// What the checkpoint at `path` holds.
  static func of(_ path: String) throws -> Inventory {
    let source = try openCheckpoint(at: path)
    return try Inventory(
      infos: source.tensors, values: { _ in nil },
      sameBytes: { (try? source.bytes(of: $0)) == (try? source.bytes(of: $1)) })
  }

  /// Made-up float32 tensors; those listed in `equal` hold the same bytes.
  static func of(_ shapes: KeyValuePairs<String, [Int]>, equal: Set<String> = []) throws
    -> Inventory
  {
    let infos = shapes.map { name, dims in
      TensorInfo(
        name: TensorName(name), dtype: .f32, shape: Shape(dims),
        byteCount: Shape(dims).byteCount(of: .f32)!, file: "made-up")
    }
    return try Inventory(
      infos: infos, values: { _ in nil },
      sameBytes: { equal.contains(infos[$0].name.string) && equal.contains(infos[$1].name.string) })
  }
}

/// The smallest layout file: an embedding, a norm, and layers of one MLP.
enum TinyLayout {
  static let text = """
    layout: tiny
    framework: home
    family: "'llama'"
    title: a made-up layout
    source: nowhere
    files:
      container: safetensors
      weights: {safetensors: model.safetensors}
      config: config.json
    detect:
      tensors: ["emb", "blocks.*.w1"]
    config:
      keys:
        width: {required: true}
        inner: {default: 6, aliases: [hidden, ffn]}
        depth: {default: 1}
        words: {default: 10}
        tie: {default: false}
        switch: {default: true}
      inert: ["note*", "@group"]
      require:
        - {that: switch, key: switch, why: it must be on}
        - {that: "width % 2 == 0", key: width, why: it must be even}
    model:
      n_layer: depth
      tied: tie
      attributes: {d_model: width, vocab_rows: words, vocab_size: words, final_norm_eps: 0.00001}
      tensors:
        emb: embed.weight
        last: final_norm.weight
        head: {piece: head.weight, tied: absent}
    layers:
      prefix: "blocks.{i}."
      attributes: {norm_eps: 0.00001}
      slots:
        - options:
            - {mixer: mlp, norm: ln, prefix: ""}
    mixers:
      mlp:
        kind: mlp
        attributes: {d_ff: inner}
        tensors:
          w1: {concat: [gate.weight, up.weight]}
          w2: down.weight
    ignore:
      - {tensors: "*.cache", why: a buffer}
    """

  /// The file with one piece of text in place of another, which must be there.
  static func text(replacing old: String, with new: String) -> String {
    precondition(text.contains(old), "'\(old)' is not in the tiny layout")
    var result = ""
    var rest = Substring(text)
    while let range = rest.firstRange(of: old) {
      result += rest[..<range.lowerBound] + new
      rest = rest[range.upperBound...]
    }
    return result + rest
  }

  static func parsed(_ text: String = text) throws -> Layout {
    try Layout(yaml: text, file: "tiny.yaml", inertGroups: ["group": ["grouped"]])
  }

  static func bound(
    _ config: JSONObject, _ shapes: KeyValuePairs<String, [Int]>, equal: Set<String> = []
  ) throws -> MatchedLayout {
    try parsed().bind(
      try Inventory.of(shapes, equal: equal), config: config, vocabulary: .standard)
  }
}
