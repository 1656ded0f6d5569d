/// Tells whether a value of a pickle holds a storage, at any depth: what holds none is no weights.
struct StorageReach {
  private static let generators: Set<String> = ["torch.Generator", "torch._C.Generator"]

  private let graph: PickleGraph
  /// Values that are known to hold none.
  private var clean: [Bool] = []
  /// Steps left; a file that asks for more is taken to hold storages.
  private var steps: Int

  init(_ graph: PickleGraph) {
    self.graph = graph
    steps = 4 * graph.values.count + (1 << 16)
  }

  /// Whether `ref` is a storage or holds one.
  mutating func holdsStorage(_ ref: PickleRef) -> Bool {
    if clean.isEmpty { clean = [Bool](repeating: false, count: graph.values.count) }
    var stack = [ref]
    var visited: [PickleRef] = []
    func forget(_ clean: inout [Bool]) { for ref in visited { clean[Int(ref.index)] = false } }
    while let next = stack.popLast() {
      guard !clean[Int(next.index)] else { continue }
      steps -= 1
      if case .persistent = graph[next] {
        forget(&clean)
        return true
      }
      guard steps > 0 else {
        forget(&clean)
        return true
      }
      clean[Int(next.index)] = true
      visited.append(next)
      switch graph[next] {
      case .tuple: stack += graph.tuple(next) ?? []
      case .list(let index): stack += graph.lists[Int(index)]
      case .dict(let index): stack += graph.dicts[Int(index)]
      case .object(let index):
        let object = graph.objects[Int(index)]
        // A random generator keeps its state as a tensor of bytes.
        if let name = graph.global(object.callee)?.qualified, Self.generators.contains(name) {
          continue
        }
        stack += [object.callee, object.arguments] + object.items + object.elements
        if let state = object.state { stack.append(state) }
      default: break
      }
    }
    return false
  }
}
