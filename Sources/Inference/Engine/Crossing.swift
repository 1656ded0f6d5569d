import Hub

/// What sub-layers of a pass leave for those behind them, besides the residual stream: the memory of
/// gated memory units, and keys and values that cross attention shares.
///
/// It belongs to one pass. What outlasts the pass, the cache of the shared keys, belongs to the state
/// of the sub-layer that fills it.
final class Crossing<T: Real> {
  /// The values that the last sub-layer with `saves_memory` left: [batch, tokens, width].
  var memory: Buffer<T>?
  /// The keys and values that the last sub-layer with `shares_kv` left.
  var keys: KeySource<T>?

  init() {}

  /// All of it; of a pass over whole sequences.
  var values: CrossedValues {
    func doubles(_ buffer: Buffer<T>) -> [Double] {
      (0..<buffer.count).map { Double(buffer.pointer[$0]) }
    }
    return CrossedValues(memory: memory.map(doubles), keys: keys?.planes.map(doubles) ?? [])
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

/// What sub-layers have left for those behind them, as numbers that any pass over the same tokens can
/// take in.
public struct CrossedValues: Sendable, Equatable {
  /// The memory of gated memory units, [batch, tokens, width]; `nil` when there is none.
  public var memory: [Double]?
  /// Shared keys, then values, each [batch, tokens, width]; empty when there are none.
  public var keys: [[Double]]

  /// These values.
  public init(memory: [Double]? = nil, keys: [[Double]] = []) {
    self.memory = memory
    self.keys = keys
  }
}

/// The widths of what a sub-layer reads of earlier ones; `nil` for what it does not read.
struct CrossingWidths: Equatable {
  var memory: Int?
  var keys: Int?
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
    switch sublayer.kind {
    case MixerKind.gmu.name: return CrossingWidths(memory: sublayer["d_memory"].int)
    case MixerKind.crossAttention.name:
      let (groups, dim) = (sublayer["n_kv_heads"].int ?? 0, sublayer["head_dim"].int ?? 0)
      return CrossingWidths(keys: groups * dim)
    default: return CrossingWidths()
    }
  }
}

extension PieceLoader {
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
