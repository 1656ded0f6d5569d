public import Checkpoints
import Conversion
public import Layouts
public import OrderedCollections
public import Tensors

/// What a checkpoint is, for people and for scripts.
public struct Inspection: Sendable {
  /// A tensor and what it is for.
  public struct Tensor: Sendable {
    /// What the file says.
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
  /// Everything noticed.
  public var problems: [Diagnostic]
}

extension Weighbridge {
  /// Tells what a checkpoint is.
  ///
  /// - Parameters:
  ///   - input: where it is.
  ///   - withStatistics: reads every tensor for its extremes, mean and spread.
  ///   - filter: a glob; only tensors whose name matches are listed.
  /// - Throws: when the files cannot be read.
  public func inspect(
    _ input: CheckpointInput, withStatistics: Bool = false, filter: String? = nil
  ) throws(Problems) -> Inspection {
    let loaded = try load(input)
    var roles: [Int: (sublayer: Int?, roles: [String])] = [:]
    var byKind: OrderedDictionary<String, Int> = [:]
    var parameters = 0
    if let bound = loaded.bound {
      for (expected, number) in bound.tensors {
        let own = expected.segments.map(\.role).reduce(into: [String]()) {
          if !$0.contains($1) { $0.append($1) }
        }
        roles[number] = (expected.sublayer, own)
      }
      for (id, location) in bound.pieces {
        let count = location.shape.elementCount ?? 0
        // torchscale's tables are buffers: they are computed, not learnt.
        if id.sublayer == nil, id.role.hasPrefix("rotary.") { continue }
        parameters += count
        byKind[
          id.sublayer.map { bound.spec.sublayers[$0].kind } ?? "embedding and head", default: 0] +=
          count
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
    let glob = filter.map { Glob($0) }
    let reader = PieceReader(source: loaded.source)
    let meter = Meter(total: loaded.source.tensors.reduce(0) { $0 + $1.byteCount }, progress)
    for (number, info) in loaded.source.tensors.enumerated() {
      if let glob, !glob.matches(info.name.string) { continue }
      var stats: TensorStatistics?
      if withStatistics {
        do throws(Diagnostic) { stats = try TensorStatistics(of: number, reader) } catch {
          throw Problems([error])
        }
        meter?.add(info.byteCount, info.name.string)
      }
      let held = roles[number]
      tensors.append(
        Inspection.Tensor(
          info: info,
          piece: held.map { held in
            held.roles.map { PieceID(held.sublayer, $0).description }.joined(separator: "+")
          }, sublayer: held?.sublayer, roles: held?.roles ?? [], stats: stats))
    }
    var problems = loaded.problems
    if let filter, tensors.isEmpty {
      let names = loaded.source.tensors.map(\.name.string)
      problems.append(
        Diagnostic(
          .warning, code: "inspect.no-match", subject: filter,
          message: "matches none of \(names.count) tensors",
          help: Suggestion.nearest(filter, names).map { "did you mean \($0)?" }))
    }
    return Inspection(
      path: input.path, container: loaded.source.container,
      framework: loaded.bound?.layout.framework, layoutName: loaded.bound?.layout.name,
      family: loaded.bound?.spec.family, parameters: parameters,
      bytes: loaded.source.tensors.reduce(0) { $0 + $1.byteCount },
      config: loaded.bound.map { canonicalConfig($0.spec) } ?? [:], spec: loaded.bound?.spec,
      parametersByKind: byKind, tied: ties(loaded), tensors: tensors, problems: problems)
  }

  /// The model's attributes, and those of the mixers where all sub-layers that have them agree.
  private func canonicalConfig(_ spec: ModelSpec) -> JSONObject {
    var config: JSONObject = [:]
    for (name, value) in spec.attributes { config[name] = value }
    config["n_layer"] = .int(spec.layerCount)
    var values: OrderedDictionary<String, [JSONValue]> = [:]
    for sublayer in spec.sublayers {
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
    var byExtent: OrderedDictionary<TensorInfo.Extent, [String]> = [:]
    for info in loaded.source.tensors where info.byteCount > 0 {
      if let extent = info.extent { byExtent[extent, default: []].append(info.name.string) }
    }
    for names in byExtent.values where names.count > 1 {
      if !groups.contains(where: { Set($0) == Set(names) }) { groups.append(names) }
    }
    return groups
  }
}
