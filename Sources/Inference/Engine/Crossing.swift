import Hub

/// What sub-layers of a pass leave for those behind them, besides the residual stream: the memory of
/// gated memory units, keys and values that cross attention shares, what a parallel sub-layer reads,
/// and what a shared block puts before the next norm.
///
/// It belongs to one pass. What outlasts the pass, the cache of the shared keys, belongs to the state
/// of the sub-layer that fills it.
final class Crossing<T: Real> {
  /// The values that the last sub-layer with `saves_memory` left: [batch, tokens, width].
  var memory: Buffer<T>?
  /// The keys and values that the last sub-layer with `shares_kv` left.
  var keys: KeySource<T>?
  /// What the sub-layer before read, for one that stands parallel to it: [batch, tokens, d_model].
  var normed: Buffer<T>?
  /// What is added to the stream for the next sub-layer's norm alone: [batch, tokens, d_model].
  var injection: Buffer<T>?
  /// The stream before the first sub-layer, where one reads it: [batch, tokens, d_model].
  var origin: Buffer<T>?

  init() {}

  /// All of it; of a pass over whole sequences.
  var values: CrossedValues {
    func doubles(_ buffer: Buffer<T>) -> [Double] {
      (0..<buffer.count).map { Double(buffer.pointer[$0]) }
    }
    return CrossedValues(
      memory: memory.map(doubles), keys: keys?.planes.map(doubles) ?? [],
      normed: normed.map(doubles), injection: injection.map(doubles), origin: origin.map(doubles))
  }

  /// Takes in what another pass over the same tokens has left.
  ///
  /// - Returns: whether its widths are `expected`.
  func take(
    _ values: CrossedValues, rows: Int, tokens: Int, _ expected: CrossingWidths,
    _ workspace: Workspace
  ) -> Bool {
    func buffer(_ numbers: [Double]) -> Buffer<T> {
      let buffer: Buffer<T> = workspace.buffer(numbers.count)
      for (i, number) in numbers.enumerated() { buffer.pointer[i] = T(number) }
      return buffer
    }
    if let width = expected.memory {
      guard let memory = values.memory, memory.count == rows * width else { return false }
      self.memory = buffer(memory)
    }
    func take(_ values: [Double]?, _ width: Int?, _ place: inout Buffer<T>?) -> Bool {
      guard let width else { return true }
      guard let values, values.count == rows * width else { return false }
      place = buffer(values)
      return true
    }
    guard take(values.normed, expected.normed, &normed),
      take(values.injection, expected.injection, &injection),
      take(values.origin, expected.origin, &origin)
    else { return false }
    if let width = expected.keys {
      guard values.keys.count >= 2, values.keys.allSatisfy({ $0.count == rows * width }) else {
        return false
      }
      keys = KeySource(
        planes: values.keys.map(buffer), firstKey: 0, total: tokens, cache: nil, kept: nil)
    }
    return true
  }
}

extension Crossing {
  /// What an earlier sub-layer must have left; the model was checked for it when it was loaded.
  func required<Value>(_ left: KeyPath<Crossing, Value?>) -> Value {
    guard let value = self[keyPath: left] else {
      preconditionFailure("no earlier sub-layer left what this one reads")
    }
    return value
  }
}

/// What sub-layers have left for those behind them, as numbers that any pass over the same tokens can
/// take in.
public struct CrossedValues: Sendable, Equatable {
  /// The memory of gated memory units, [batch, tokens, width]; `nil` when there is none.
  public var memory: [Double]?
  /// Shared keys, then values, each [batch, tokens, width]; empty when there are none.
  public var keys: [[Double]]
  /// What the sub-layer before read, where the next stands parallel to it; [batch, tokens, width].
  public var normed: [Double]?
  /// What is added to the stream for the next sub-layer's norm alone; [batch, tokens, width].
  public var injection: [Double]?
  /// The stream before the first sub-layer, where one reads it; [batch, tokens, width].
  public var origin: [Double]?

  /// These values.
  public init(
    memory: [Double]? = nil, keys: [[Double]] = [], normed: [Double]? = nil,
    injection: [Double]? = nil, origin: [Double]? = nil
  ) {
    self.memory = memory
    self.keys = keys
    self.normed = normed
    self.injection = injection
    self.origin = origin
  }
}

/// The widths of what a sub-layer reads of earlier ones; `nil` for what it does not read.
struct CrossingWidths: Equatable {
  var memory: Int?
  var keys: Int?
  var normed: Int?
  var injection: Int?
  var origin: Int?
}

extension ModelSpec {
  /// The sub-layer whose memory sub-layer `index` reads.
  func memorySource(before index: Int) -> Sublayer? {
    sublayers[..<index].last { $0["saves_memory"] == true }
  }

  /// The sub-layer whose keys and values sub-layer `index` reads.
  func keySource(before index: Int) -> Sublayer? {
    sublayers[..<index].last { $0["shares_kv"] == true }
  }

  /// The width of the memory that `sublayer` leaves.
  func memoryWidth(_ sublayer: Sublayer) -> Int? {
    guard let width = Vocabulary.standard.kinds[sublayer.kind]?.memory else { return nil }
    return try? width.int(in: Scope(attributes, sublayer.attributes))
  }
}

extension Model {
  /// What sub-layer `index` reads of those before it.
  func crossingWidths(before index: Int) -> CrossingWidths {
    let sublayer = spec.sublayers[index]
    var widths = CrossingWidths()
    switch sublayer.kind {
    case MixerKind.gmu.name: widths.memory = sublayer["d_memory"].int
    case MixerKind.crossAttention.name:
      let (groups, dim) = (sublayer["n_kv_heads"].int ?? 0, sublayer["head_dim"].int ?? 0)
      widths.keys = groups * dim
    case MixerKind.sharedBlock.name: widths.origin = width
    default: break
    }
    if sublayer["norm"] == "parallel" { widths.normed = width }
    if index > 0, spec.sublayers[index - 1].kind == MixerKind.sharedBlock.name {
      widths.injection = width
    }
    return widths
  }
}

extension PieceLoader {
  /// Checks that the sub-layer before reads a norm of its own, which this one can read too.
  func requireNormBefore() {
    guard let index, index > 0 else {
      return refuse("model.attribute", "norm parallel: there is no sub-layer before it")
    }
    let before = spec.sublayers[index - 1]
    if before.layer != spec.sublayers[index].layer
      || !["rms", "layer", "scale", "parallel"].contains(before["norm"])
    {
      refuse("model.attribute", "norm parallel: the sub-layer before it has no norm to be shared")
    }
  }

  /// Checks that a sub-layer with a norm comes next, which takes in what this one gives.
  func requireNormBehind() {
    guard let index, index + 1 < spec.sublayers.count,
      spec.sublayers[index + 1].layer == spec.sublayers[index].layer,
      ["rms", "layer", "scale"].contains(spec.sublayers[index + 1]["norm"])
    else {
      return refuse(
        "model.attribute", "no sub-layer with a norm of its own comes next in the layer")
    }
  }

  /// Checks that an earlier sub-layer leaves a memory of this width.
  func requireMemory(width: Int) {
    guard let index, let source = spec.memorySource(before: index) else {
      return refuse("model.attribute", "no sub-layer before it saves a memory to be read")
    }
    let found = spec.memoryWidth(source)
    if found != width {
      refuse(
        "model.attribute",
        "d_memory is \(width), but the memory of the \(source.kind) in layer \(source.layer) has "
          + "\(found.map(String.init) ?? "no") channels")
    }
  }

  /// Checks that an earlier sub-layer shares keys and values of these heads.
  func requireSharedKeys(groups: Int, dim: Int) {
    guard let index, let source = spec.keySource(before: index) else {
      return refuse("model.attribute", "no attention before it shares its keys and values")
    }
    if source["n_kv_heads"].int != groups || source["head_dim"].int != dim {
      refuse(
        "model.attribute",
        "reads \(groups) key heads of \(dim) channels, but layer \(source.layer) shares "
          + "\(source["n_kv_heads"].text()) of \(source["head_dim"].text())")
    }
  }

  /// How many keys the sub-layers behind this attention may read of its cache, itself included; `nil`
  /// for all of them.
  func keptKeys(own window: Int?) -> Int? {
    guard let index, attribute("shares_kv") == true, var widest = window else { return window }
    for other in spec.sublayers[(index + 1)...] {
      if other["shares_kv"] == true { break }
      guard other.kind == MixerKind.crossAttention.name else { continue }
      guard let width = other["window"].int else { return nil }
      widest = max(widest, width)
    }
    return widest
  }
}
