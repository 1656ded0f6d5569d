import Tensors

/// The dict of names and tensors in a pickled checkpoint, and the way to it.
struct StateDict {
  /// The dict.
  var ref: PickleRef
  /// Names and values, later ones of a name winning as in Python, at the place of the first.
  var entries: [(name: String, value: PickleRef)]

  private static let wrappers = ["model", "state_dict", "model_state_dict", "module"]

  /// Finds the state dict: the root itself, or what lies under `model`, `state_dict`,
  /// `model_state_dict` or `module`, at most four deep.
  ///
  /// - Throws: `pytorch.no-state-dict`, `pytorch.ambiguous-state-dict`, `pytorch.whole-module`,
  ///   `pytorch.duplicate-name`.
  static func find(
    in graph: PickleGraph, _ decoder: TensorDecoder, subject: String
  ) throws(Problems) -> StateDict {
    var search = Search(graph: graph, decoder: decoder, subject: subject)
    let found: PickleRef
    do throws(Diagnostic) {
      guard let ref = try search.tensors(in: graph.root, depth: 0) else {
        throw none(in: graph, decoder, subject)
      }
      found = ref
    } catch { throw Problems([error]) }
    return try StateDict(ref: found, graph, subject)
  }

  private init(ref: PickleRef, _ graph: PickleGraph, _ subject: String) throws(Problems) {
    self.ref = ref
    let items = graph.items(ref) ?? []
    var entries: [(name: String, value: PickleRef)] = []
    entries.reserveCapacity(items.count / 2)
    var seen: Set<TensorName> = []
    var problems = ProblemList()
    for at in stride(from: 0, to: items.count, by: 2) {
      guard let name = graph.string(items[at]) else { continue }
      guard seen.insert(TensorName(name)).inserted else {
        problems.add(
          .pytorch(
            "duplicate-name", "\(subject): tensor \(quoted(name))",
            "stands twice in the state dict",
            help: "Python would keep the last one; " + Diagnostic.saveAgain))
        continue
      }
      entries.append((name, items[at + 1]))
    }
    try problems.check()
    self.entries = entries
  }

  /// The walk through the wrappers; each dict is looked through once, however often it is shared.
  private struct Search {
    let graph: PickleGraph
    let decoder: TensorDecoder
    let subject: String
    var known: [PickleRef: PickleRef?] = [:]

    /// The dict of tensors at or under `ref`, if there is one.
    mutating func tensors(in ref: PickleRef, depth: Int) throws(Diagnostic) -> PickleRef? {
      if let known = known[ref] { return known }
      guard depth <= 4, let items = graph.items(ref) else { return nil }
      known[ref] = .some(nil)
      var inside: [String: PickleRef] = [:]
      var holdsTensors = false
      for at in stride(from: 0, to: items.count, by: 2) {
        guard let key = graph.string(items[at]) else { continue }
        if decoder.kind(items[at + 1]) == .tensor { holdsTensors = true }
        if wrappers.contains(key) { inside[key] = items[at + 1] }
      }
      var found: [(key: String, ref: PickleRef)] = []
      for key in wrappers {
        guard let value = inside[key], let inner = try tensors(in: value, depth: depth + 1),
          !found.contains(where: { $0.ref == inner })
        else { continue }
        found.append((key, inner))
      }
      guard found.count <= 1 else {
        let keys = found.map { "`\($0.key)`" }.joined(separator: " and ")
        throw .pytorch(
          "ambiguous-state-dict", subject, "holds tensors under \(keys)",
          help: "save the one that is meant alone")
      }
      let result = found.first?.ref ?? (holdsTensors ? ref : nil)
      known[ref] = .some(result)
      return result
    }
  }

  private static func none(
    in graph: PickleGraph, _ decoder: TensorDecoder, _ subject: String
  ) -> Diagnostic {
    let help = "save `model.state_dict()`, bare or under `model`, with `torch.save`"
    var notes: [String] = []
    var suspect: PickleGlobal?
    if let items = graph.items(graph.root) {
      var keys: [String] = []
      for at in stride(from: 0, to: items.count, by: 2).prefix(40) {
        let key = graph.string(items[at])
        keys.append("\(key.map(quoted) ?? graph.kind(items[at])): \(graph.kind(items[at + 1]))")
        if let key, wrappers.contains(key), decoder.kind(items[at + 1]) == .opaque {
          suspect = callee(items[at + 1], graph)
        }
      }
      let more = items.count > 80 ? ", …" : ""
      notes = [
        keys.isEmpty
          ? "the dict is empty" : "its top level holds \(keys.joined(separator: ", "))\(more)"
      ]
    } else if decoder.kind(graph.root) == .opaque {
      suspect = callee(graph.root, graph)
    }
    if let suspect {
      return .pytorch(
        "whole-module", subject,
        "holds a whole object of \(quoted(suspect.qualified)) instead of a state dict; its class is"
          + " not known here and is never called",
        notes: notes, help: help)
    }
    return .pytorch(
      "no-state-dict", subject,
      "holds \(graph.kind(graph.root)) without tensors at its top or under"
        + " \(wrappers.joined(separator: ", "))",
      notes: notes, help: help)
  }

  private static func callee(_ ref: PickleRef, _ graph: PickleGraph) -> PickleGlobal? {
    graph.object(ref).flatMap { graph.global($0.callee) }
  }
}
