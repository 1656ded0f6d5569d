import Tensors

/// A tensor of several ranks: FSDP's ShardedTensor, or a DTensor.
struct Sharding {
  /// What it is called.
  let kind: String
  /// The size of the whole, as the file gives it.
  private let size: PickleRef
  /// The tensors that this file holds of it.
  private let parts: [PickleRef]
  /// Whether its parts are terms of a sum.
  private let isPartial: Bool
  private let graph: PickleGraph
  /// How many ranks it lies on, where that is told.
  private let ranks: Int?

  /// The arguments `items` of a subclass's rebuild: function, class, arguments, state; `nil` when the
  /// class `type` is no tensor of several ranks.
  init?(_ type: PickleGlobal, _ items: [PickleRef], _ graph: PickleGraph) {
    guard type.module.hasPrefix("torch.distributed"), items.count >= 4,
      graph.global(items[0])?.name == "_rebuild_wrapper_subclass",
      let arguments = graph.tuple(items[2]).map(Array.init), arguments.count >= 3
    else { return nil }
    self.graph = graph
    // (class, dtype, size, …)
    size = arguments[2]
    switch type.name {
    case "DTensor":
      kind = "DTensor"
      let state = Self.attributes(items[3], graph)
      parts = state["_local_tensor"].map { [$0] } ?? []
      let spec = state["_spec"].map { Self.attributes(of: $0, graph) } ?? [:]
      let placements = spec["placements"].flatMap { graph.tuple($0).map(Array.init) }
      isPartial =
        placements?.contains { ref in
          let name = graph.object(ref).flatMap { graph.global($0.callee) }?.name
          return name.map { !["Replicate", "Shard", "_StridedShard"].contains($0) } ?? true
        } ?? true
      let mesh = spec["mesh"].map { Self.attributes(of: $0, graph) } ?? [:]
      ranks = mesh["_flatten_rank_map"].flatMap { graph.tuple($0)?.count }
    case "ShardedTensor":
      kind = "ShardedTensor"
      // (local shards, metadata, process group, sharding, …)
      let state = graph.tuple(items[3]).map(Array.init) ?? []
      var shards: [PickleRef] = []
      if let first = state.first, case .list(let index) = graph[first] {
        shards = graph.lists[Int(index)]
      }
      parts = shards.prefix(2).compactMap { Self.attributes(of: $0, graph)["tensor"] }
      isPartial = false
      let metadata = state.count > 1 ? Self.attributes(of: state[1], graph) : [:]
      if let list = metadata["shards_metadata"], case .list(let index) = graph[list] {
        ranks = graph.lists[Int(index)].count
      } else {
        ranks = nil
      }
    default: return nil
    }
  }

  /// The one part that is the whole tensor, as on a mesh of one device or when every rank has a copy;
  /// `nil` when this file holds less.
  func whole(ofSize ints: (PickleRef) -> [Int]?) -> PickleRef? {
    guard parts.count == 1, !isPartial || ranks == 1, let size = ints(size),
      var object = graph.object(parts[0])
    else { return nil }
    for _ in 0..<4 {
      guard let name = graph.global(object.callee)?.name,
        let items = graph.tuple(object.arguments).map({ Array($0.prefix(4)) })
      else { return nil }
      if name.hasPrefix("_rebuild_tensor") {
        guard items.count > 2, let local = ints(items[2]), local == size else { return nil }
        return parts[0]
      }
      guard let inner = items.first.flatMap({ graph.object($0) }) else { return nil }
      object = inner
    }
    return nil
  }

  /// One error for all tensors that are held in part.
  func diagnostic(_ file: String, _ names: [String]) -> Diagnostic {
    let over = ranks.map { $0 > 1 ? " sharded over \($0) ranks" : "" } ?? ""
    let shown = names.prefix(3).map { Tensors.shown($0) }.joined(separator: ", ")
    return .pytorch(
      "sharded-tensor", file,
      names.count == 1
        ? "tensor \(shown) is a \(kind)\(over), of which this file holds one rank's part"
        : "\(names.count) tensors, such as \(shown), are \(kind)s\(over), of which this file holds"
          + " one rank's part",
      help: "save a full state dict: `get_model_state_dict(model, options=StateDictOptions("
        + "full_state_dict=True))`, or FSDP's FullStateDictConfig; a directory of"
        + " torch.distributed.checkpoint is gathered with `dcp_to_torch_save`")
  }

  /// What an object's state gives by name.
  private static func attributes(of ref: PickleRef, _ graph: PickleGraph) -> [String: PickleRef] {
    guard let state = graph.object(ref)?.state else { return [:] }
    return attributes(state, graph)
  }

  /// A state: a dict, or a pair of dicts as classes with `__slots__` have.
  private static func attributes(_ state: PickleRef, _ graph: PickleGraph) -> [String: PickleRef] {
    var result: [String: PickleRef] = [:]
    let dicts = graph.tuple(state).map { Array($0.prefix(2)) } ?? [state]
    for items in dicts.compactMap({ graph.items($0) }) {
      for at in stride(from: 0, to: items.count, by: 2) {
        guard let key = graph.string(items[at]) else { continue }
        result[key] = items[at + 1]
      }
    }
    return result
  }
}
