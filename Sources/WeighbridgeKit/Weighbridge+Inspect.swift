import Checkpoints
import Conversion
import Dispatch
public import Hub
import Layouts
public import OrderedCollections
import Synchronization
public import Tensors

/// What a checkpoint is, for people and for scripts.
public struct Inspection: Sendable {
  /// A tensor and what it is for.
  public struct Tensor: Sendable {
    /// The file's content.
    public var info: TensorInfo
    /// The pieces that it holds, joined by `+`; `nil` for a tensor without weight or of an unknown
    /// layout.
    public var piece: String?
    /// The sub-layer, in the flat list; `nil` for a tensor of the model as a whole.
    public var sublayer: Int?
    /// The roles of its pieces; empty where `piece` is `nil`.
    public var roles: [String]
    /// Its values, when they were asked for.
    public var stats: TensorStatistics?
    /// How ranks cut it: `2 x 4`; `nil` for a tensor in one part.
    public var grid: String?
  }

  /// The path as given.
  public var path: String
  /// The container.
  public var container: Container
  /// The layout's framework; `nil` when no layout fits.
  public var framework: String?
  /// The layout's own name.
  public var layoutName: String?
  /// The family.
  public var family: String?
  /// Numbers of the model; tied weights count once.
  public var parameters: Int
  /// Bytes of all tensors.
  public var bytes: Int
  /// The model's attributes by canonical name, and those of its mixers where all agree.
  public var config: JSONObject
  /// The model; `nil` when no layout fits.
  public var spec: ModelSpec?
  /// Parameters of each kind of sub-layer.
  public var parametersByKind: OrderedDictionary<String, Int>
  /// Groups of names that hold one tensor.
  public var tied: [[String]]
  /// The tensors.
  public var tensors: [Tensor]
  /// Texts that the file keeps beside its tensors, by name.
  public var metadata: OrderedDictionary<String, String>
  /// Everything noticed.
  public var problems: [Diagnostic]
}

extension Weighbridge {
  /// Describes a checkpoint.
  ///
  /// - Parameters:
  ///   - input: where it is.
  ///   - withStatistics: reads every tensor for its extremes, mean and spread.
  ///   - filters: globs; only tensors whose name matches one of them are listed, all where there is none.
  /// - Throws: when the files cannot be read.
  public func inspect(
    _ input: CheckpointInput, withStatistics: Bool = false, filters: [String] = []
  ) throws(Problems) -> Inspection {
    var loaded = try load(input)
    // What it is goes by the names all the same; that a model cannot be used is for others to say.
    for (number, problem) in loaded.problems.enumerated()
    where ["layout.unknown", "config.missing", "checkpoint.one-shard"].contains(problem.code) {
      loaded.problems[number].severity = .warning
    }
    // A config of another model says nothing of what these tensors are.
    let described = loaded.bound.flatMap { $0.isOfOtherModel ? nil : $0 }
    var byKind: OrderedDictionary<String, Int> = [:]
    var parameters = 0
    // The layout's tensor that each tensor is.
    var places = [Int?](repeating: nil, count: loaded.source.tensors.count)
    if let bound = described {
      for (place, tensor) in bound.tensors.enumerated() where places[tensor.number] == nil {
        places[tensor.number] = place
      }
      var counts = [Int](repeating: 0, count: bound.spec.sublayers.count + 1)
      // A block that several sub-layers share counts once.
      var counted: Set<PieceLocation> = []
      for (id, location) in bound.pieces {
        guard counted.insert(location).inserted else { continue }
        // torchscale's tables are buffers: they are computed, not learnt.
        if id.sublayer == nil, id.role.hasPrefix("rotary.") { continue }
        counts[id.sublayer ?? counts.count - 1] += location.shape.elementCount ?? 0
      }
      for (number, count) in counts.enumerated() where count > 0 {
        parameters += count
        let kind =
          number < bound.spec.sublayers.count
          ? bound.spec.sublayers[number].kind : "embedding and head"
        byKind[kind, default: 0] += count
      }
    } else {
      var seen: Set<TensorInfo.Extent> = []
      for info in loaded.source.tensors {
        if let extent = info.extent, info.byteCount > 0, !seen.insert(extent).inserted { continue }
        parameters += info.shape.elementCount ?? 0
      }
    }
    byKind.sort { ($1.value, $0.key) < ($0.value, $1.key) }
    var tensors: [Inspection.Tensor] = []
    let globs = filters.map { Glob($0) }
    var matches = [Int](repeating: 0, count: globs.count)
    let listed = loaded.source.tensors.indices.filter { number in
      let name = loaded.source.tensors[number].name.string
      let found = globs.indices.filter { globs[$0].matches(name) }
      for glob in found { matches[glob] += 1 }
      return globs.isEmpty || !found.isEmpty
    }
    tensors.reserveCapacity(listed.count)
    let statistics =
      withStatistics ? try self.statistics(of: listed, loaded.source) : [:]
    let tiled = loaded.source as? any TiledSource
    for number in listed {
      let info = loaded.source.tensors[number]
      let expected = places[number].map { described!.tensors[$0].expected }
      let roles = expected?.form.roles ?? []
      tensors.append(
        Inspection.Tensor(
          info: info, piece: expected.map { Self.text(of: roles, in: $0.sublayer) },
          sublayer: expected?.sublayer, roles: roles, stats: statistics[number],
          grid: tiled?.grid(of: number)))
    }
    var problems = loaded.problems
    for (filter, count) in zip(filters, matches) where count == 0 {
      let names = loaded.source.tensors.map(\.name.string)
      problems.append(
        Diagnostic(
          .warning, code: "inspect.no-match", subject: filter,
          message: "matches none of \(names.count) tensors",
          help: Suggestion.nearest(filter, names).map { "did you mean \($0)?" }))
    }
    return Inspection(
      path: loaded.location.path, container: loaded.source.container,
      framework: loaded.bound?.layout.framework, layoutName: loaded.bound?.layout.name,
      family: loaded.bound?.spec.family, parameters: parameters,
      bytes: loaded.source.tensors.reduce(0) { $0 + $1.storedByteCount },
      config: described.map { canonicalConfig($0.spec) } ?? [:], spec: described?.spec,
      parametersByKind: byKind, tied: ties(loaded), tensors: tensors,
      metadata: OrderedDictionary(
        uniqueKeysWithValues: loaded.source.metadata.sorted { $0.key < $1.key }),
      problems: problems)
  }

  /// The statistics of tensors, by number, computed on all cores: work is cut by values, not by tensors,
  /// and joined in their order, so that the result is the same for any number of threads.
  private func statistics(
    of numbers: [Int], _ source: any TensorSource
  ) throws(Problems) -> [Int: TensorStatistics] {
    let reader = PieceReader(source: source)
    var blocks: [(number: Int, range: Range<Int>)] = []
    var total = 0
    for number in numbers where source.tensors[number].dtype.isFloat {
      total += source.tensors[number].byteCount
      blocks += TensorStatistics.blocks(of: source.tensors[number]).map { (number, $0) }
    }
    let meter = Meter(total: total, progress)
    let found = Mutex(
      (
        parts: [TensorStatistics](repeating: .init(), count: blocks.count),
        failure: Diagnostic?.none
      ))
    let next = Atomic(0)
    DispatchQueue.concurrentPerform(iterations: min(threads, max(1, blocks.count))) { [blocks] _ in
      while true {
        let place = next.wrappingAdd(1, ordering: .relaxed).oldValue
        guard place < blocks.count, found.withLock({ $0.failure == nil }) else { return }
        let (number, range) = blocks[place]
        do throws(Diagnostic) {
          let part = TensorStatistics(
            of: try TensorStatistics.values(of: number, range, reader))
          found.withLock { $0.parts[place] = part }
          let info = source.tensors[number]
          meter?.add(range.count * info.dtype.bitWidth / 8, info.name.string)
        } catch { found.withLock { if $0.failure == nil { $0.failure = error } } }
      }
    }
    let (parts, failure) = found.withLock { ($0.parts, $0.failure) }
    if let failure { throw Problems([failure]) }
    var result: [Int: TensorStatistics] = [:]
    for number in numbers where source.tensors[number].dtype.isFloat { result[number] = .init() }
    for (block, part) in zip(blocks, parts) { result[block.number, default: .init()] += part }
    return result
  }

  /// `3.in_x.weight+3.in_z.weight`.
  private static func text(of roles: [String], in sublayer: Int?) -> String {
    var text = ""
    for role in roles {
      if !text.isEmpty { text += "+" }
      text += PieceID(sublayer, role).description
    }
    return text
  }

  /// The model's attributes, and those of the mixers where all sub-layers that have them agree.
  private func canonicalConfig(_ spec: ModelSpec) -> JSONObject {
    var config: JSONObject = [:]
    for (name, value) in spec.attributes { config[name] = value }
    config["n_layer"] = .int(spec.layerCount)
    var values: OrderedDictionary<String, [JSONValue]> = [:]
    for (number, sublayer) in spec.sublayers.enumerated() {
      // Most are as the one before.
      if number > 0, sublayer.attributes == spec.sublayers[number - 1].attributes { continue }
      for (name, value) in sublayer.attributes where !(values[name] ?? []).contains(value) {
        values[name, default: []].append(value)
      }
    }
    for (name, all) in values where all.count == 1 && config[name] == nil { config[name] = all[0] }
    return config
  }

  /// Names of one and the same tensor: by storage, and head and embedding by value.
  private func ties(_ loaded: LoadedCheckpoint) -> [[String]] {
    var groups = loaded.bound?.ties ?? []
    // In the order of a file in which no two tensors share their bytes there is nothing to look for.
    let extents = loaded.source.tensors.lazy.filter { $0.byteCount > 0 }.map(\.extent)
    if zip(extents, extents.dropFirst()).allSatisfy({ a, b in
      guard let a, let b else { return a == nil && b == nil }
      return (a.file, a.offset) < (b.file, b.offset)
    }) {
      return groups
    }
    var firsts: [TensorInfo.Extent: Int] = [:]
    var shared: OrderedDictionary<Int, [String]> = [:]
    firsts.reserveCapacity(loaded.source.tensors.count)
    for (number, info) in loaded.source.tensors.enumerated() where info.byteCount > 0 {
      guard let extent = info.extent else { continue }
      if let first = firsts.updateValue(number, forKey: extent) {
        firsts[extent] = first
        shared[first, default: [loaded.source.tensors[first].name.string]].append(info.name.string)
      }
    }
    shared.sort { $0.key < $1.key }
    for names in shared.values where !groups.contains(where: { Set($0) == Set(names) }) {
      groups.append(names)
    }
    return groups
  }
}
