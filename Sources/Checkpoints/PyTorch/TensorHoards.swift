import Tensors

/// The places of a pickled checkpoint that hold tensors, whatever holds them: also lists and numbered
/// dicts, which no key reaches.
struct TensorHoards {
  /// A list, tuple or dict that holds tensors itself.
  struct Hoard {
    var ref: PickleRef
    /// The way to it: `ema.shadow_params`, `models[0]`.
    var path: String
    /// The same in Python, behind what `torch.load` gives: `["models"][0]`.
    var python: String
    /// Its tensors.
    var tensors: [PickleRef]
    /// Whether each of them has a name.
    var isNamed: Bool
  }

  let graph: PickleGraph
  let decoder: TensorDecoder

  private struct Step {
    var ref: PickleRef
    var path: String
    var python: String
    var depth: Int
  }

  private static let depthLimit = 32
  private static let hoardLimit = 256

  /// The hoards at and under the root, the shallowest first. `passedOver` are not looked into.
  func find(passing passedOver: Set<PickleRef> = []) -> [Hoard] {
    var found: [Hoard] = []
    var queue = [Step(ref: graph.root, path: "", python: "", depth: 0)]
    var seen = passedOver.union([graph.root])
    var next = 0
    while next < queue.count, found.count < Self.hoardLimit {
      let step = queue[next]
      next += 1
      var tensors: [PickleRef] = []
      var isNamed = true
      var inside: [Step] = []
      func meet(_ value: PickleRef, _ path: String, _ python: String, named: Bool) {
        if decoder.kind(value) == .tensor {
          tensors.append(value)
          isNamed = isNamed && named
        } else if step.depth < Self.depthLimit, seen.insert(value).inserted {
          inside.append(Step(ref: value, path: path, python: python, depth: step.depth + 1))
        }
      }
      if let items = graph.items(step.ref) {
        let isOptimizer = items.contains { graph.string($0) == "param_groups" }
        for at in stride(from: 0, to: items.count, by: 2) {
          if let key = graph.string(items[at]) {
            let path = step.path.isEmpty ? key : "\(step.path).\(key)"
            if Self.isOthers(key) || key == "state" && isOptimizer { continue }
            meet(items[at + 1], path, "\(step.python)[\(shown(key))]", named: true)
          } else if let key = graph.int(items[at]) {
            meet(
              items[at + 1], "\(step.path)[\(key)]", "\(step.python)[\(key)]",
              named: false)
          }
        }
      }
      var list: [PickleRef] = []
      switch graph[step.ref] {
      case .list(let index): list = graph.lists[Int(index)]
      case .tuple: list = Array(graph.tuple(step.ref) ?? [])
      default: break
      }
      for (number, value) in list.enumerated() {
        meet(
          value, "\(step.path)[\(number)]", "\(step.python)[\(number)]", named: false)
      }
      if !tensors.isEmpty {
        found.append(
          Hoard(
            ref: step.ref, path: step.path, python: step.python, tensors: tensors, isNamed: isNamed)
        )
      }
      queue += inside
    }
    return found
  }

  /// What an optimizer keeps for each parameter has the parameters' shapes too.
  private static func isOthers(_ key: String) -> Bool {
    ModelRole.isTrainersOwn(key) && !key.lowercased().contains("optim")
      || StateDictSearch.optimizerNames.contains(key) || key.hasPrefix("exp_avg")
      || key.hasPrefix("grad") || key.hasPrefix("momentum")
  }

  /// Those that hold, in whatever order, the shapes of nearly all `tensors`.
  func copies(of tensors: [PickleRef], passing passedOver: Set<PickleRef>) -> [Hoard] {
    let shapes = tensors.compactMap(decoder.extents).filter { !$0.isEmpty }
    guard !shapes.isEmpty else { return [] }
    var wanted: [[Int]: Int] = [:]
    for shape in shapes { wanted[shape, default: 0] += 1 }
    return find(passing: passedOver).filter { hoard in
      var left = wanted
      var hits = 0
      for shape in hoard.tensors.compactMap(decoder.extents) where left[shape, default: 0] > 0 {
        left[shape]! -= 1
        hits += 1
      }
      return hits * 10 >= shapes.count * 8
    }
  }
}
