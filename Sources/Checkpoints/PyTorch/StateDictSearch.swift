import Tensors

/// The dicts of tensors in a pickled checkpoint that could be its model, and the choice among them.
struct StateDictSearch {
  /// A dict that holds tensors.
  struct Candidate {
    /// The keys on the way to it; empty for the pickle's root.
    var path: [String]
    var ref: PickleRef
    /// How many tensors it holds itself.
    var tensors: Int
    /// Whether one of them looks like weights: a number for each of several places.
    var hasWeights: Bool
    /// Whether it lies among what trainers keep for themselves; never read unasked.
    var isAside: Bool

    /// The keys joined, as `--key` takes them.
    var key: String { path.joined(separator: ".") }
    /// As messages say it.
    var shown: String {
      path.isEmpty ? "the top level" : "`\(String(Tensors.shown(key).dropFirst().dropLast()))`"
    }
    var isUsual: Bool { path.allSatisfy(ModelRole.usual.contains) }
    var isAverage: Bool { path.contains(where: ModelRole.isAverage) }
  }

  /// What was chosen.
  struct Choice {
    var candidate: Candidate
    /// What was read under which key, and what was left.
    var notes: [Diagnostic]
  }

  let graph: PickleGraph
  let decoder: TensorDecoder
  let subject: String

  private static let depthLimit = 4
  private static let candidateLimit = 64
  /// What optimizers keep for each parameter.
  static let optimizerNames: Set<String> = [
    "exp_avg", "exp_avg_sq", "exp_inf", "max_exp_avg_sq", "momentum_buffer", "prev", "square_avg",
    "grad_avg", "acc_delta", "sum", "step", "step_size", "fp32_param",
  ]

  // MARK: Finding

  /// The dicts of tensors at or under `root`, the shallowest first.
  func candidates(under root: PickleRef) -> [Candidate] {
    var found: [Candidate] = []
    var queue: [(ref: PickleRef, path: [String], isAside: Bool)] = [(root, [], false)]
    var seen: Set<PickleRef> = [root]
    var next = 0
    while next < queue.count, found.count < Self.candidateLimit {
      let (ref, path, isAside) = queue[next]
      next += 1
      guard let items = graph.items(ref) else { continue }
      var tensors = 0
      var onlyOptimizers = true
      var hasWeights = false
      var inside: [String: PickleRef] = [:]
      var order: [String] = []
      for at in stride(from: 0, to: items.count, by: 2) {
        guard let key = graph.string(items[at]) else { continue }
        let value = items[at + 1]
        if decoder.kind(value) == .tensor {
          tensors += 1
          if !Self.optimizerNames.contains(key) { onlyOptimizers = false }
          if !hasWeights, !ModelRole.isTrainersOwn(key) { hasWeights = decoder.isWeights(value) }
        } else if graph.items(value) != nil {
          if inside.updateValue(value, forKey: key) == nil { order.append(key) }
        }
      }
      // An optimizer's own state dict.
      if inside["state"] != nil, items.contains(where: { graph.string($0) == "param_groups" }) {
        continue
      }
      let candidate = Candidate(
        path: path, ref: ref, tensors: tensors, hasWeights: hasWeights, isAside: isAside)
      if tensors > 0, !onlyOptimizers, !isAside || candidate.isAverage { found.append(candidate) }
      guard path.count < Self.depthLimit else { continue }
      for key in order where !ModelRole.isTrainersOwn(key) {
        guard let value = inside[key], seen.insert(value).inserted else { continue }
        queue.append((value, path + [key], isAside || ModelRole.isAside(key)))
      }
    }
    return found
  }

  // MARK: Choosing

  /// The model among the dicts of tensors under `root`; `nil` when there is none.
  ///
  /// - Throws: `pytorch.ambiguous-state-dict`.
  func choose(under root: PickleRef) throws(Diagnostic) -> Choice? {
    let all = candidates(under: root)
    let weights = all.filter(\.hasWeights)
    let (pool, strays) = merged(weights.isEmpty ? all : weights)
    let open = pool.filter { !$0.isAside }
    let usual = open.filter(\.isUsual)
    let others = open.filter { !$0.isUsual && !$0.isAverage }
    let averages = open.filter { !$0.isUsual && $0.isAverage }
    let group: [Candidate]
    if !usual.isEmpty {
      group = usual
    } else if !others.isEmpty {
      // A handful of statistics beside a model is no second model.
      let most = others.map(\.tensors).max() ?? 0
      group = others.filter { $0.tensors > most / 4 }
    } else {
      group = averages
    }
    guard let first = group.first else { return nil }
    guard group.count == 1 else { throw ambiguous(group) }
    var notes: [Diagnostic] = []
    if !first.isUsual {
      notes.append(
        Diagnostic(
          .note, code: "pytorch.state-dict-key", subject: subject,
          message: "its weights are read from \(first.shown), where its only model lies"))
    }
    let left = pool.filter { $0.ref != first.ref }
    if !left.isEmpty { notes.append(leftOut(left, beside: first)) }
    if let stray = strays.first(where: { $0.hasWeights }) {
      notes.append(
        Diagnostic(
          .warning, code: "pytorch.passed-over", subject: subject,
          message: "\(stray.shown) holds \(stray.tensors) tensors of its own beside"
            + " \(first.shown): \(names(of: stray.ref).sorted().prefix(4).map { shown($0) }.joined(separator: ", "))",
          notes: ["they are not converted"]))
    }
    return Choice(candidate: first, notes: notes)
  }

  /// Settles which of a dict and the dicts inside it hold the model: the one with more tensors, or
  /// what lies under a usual key. `strays` are dicts that only wrap the others.
  private func merged(
    _ candidates: [Candidate]
  ) -> (pool: [Candidate], strays: [Candidate]) {
    var pool = candidates
    var strays: [Candidate] = []
    for outer in candidates {
      guard pool.contains(where: { $0.ref == outer.ref }) else { continue }
      let inner = pool.filter {
        $0.path.count > outer.path.count && $0.path.starts(with: outer.path)
      }
      guard !inner.isEmpty else { continue }
      let wraps =
        inner.contains { $0.path.dropFirst(outer.path.count).allSatisfy(ModelRole.usual.contains) }
        || inner.contains { !$0.isAside && !$0.isAverage && $0.tensors >= outer.tensors }
      if wraps {
        pool.removeAll { $0.ref == outer.ref }
        strays.append(outer)
      } else {
        pool.removeAll { one in
          inner.contains { $0.ref == one.ref } && !one.isAverage && !mirrors(one, outer)
        }
      }
    }
    return (pool, strays)
  }

  private func ambiguous(_ group: [Candidate]) -> Diagnostic {
    let names = group.prefix(4).map(\.shown)
    let all = names.dropLast().joined(separator: ", ") + " and " + names.last!
    let more = group.count > 4 ? " and \(group.count - 4) more" : ""
    let same = group.dropFirst().allSatisfy { mirrors($0, group[0]) }
    return .pytorch(
      "ambiguous-state-dict", subject, "holds tensors under \(all)\(more)",
      notes: [
        same
          ? "they hold the same \(group[0].tensors) names"
          : "they hold \(group.prefix(4).map { String($0.tensors) }.joined(separator: ", ")) tensors"
      ],
      help: "choose one with --key \(group.first { !$0.path.isEmpty }?.key ?? group[0].key)")
  }

  private func leftOut(_ left: [Candidate], beside read: Candidate) -> Diagnostic {
    let said = left.prefix(4).map { one in
      mirrors(one, read)
        ? "\(one.shown) holds the same \(one.tensors) names"
        : "\(one.shown) holds \(one.tensors) other tensors"
    }
    let more = left.count > 4 ? ["\(left.count - 4) more hold tensors too"] : []
    let verb = left.count == 1 ? "is left" : "are left"
    return Diagnostic(
      .warning, code: "checkpoint.other-model", subject: subject,
      message: "\(read.shown) is read; \((said + more).joined(separator: ", ")) and \(verb)",
      help: "--key \(left[0].key) reads \(left.count == 1 ? "it" : "the first of them")")
  }

  // MARK: By name

  /// The dict that `key` names: a key, keys joined with dots, or the end of a candidate's keys; what
  /// is left of `key` when only its beginning names one.
  func resolve(_ key: String) -> (ref: PickleRef, rest: String?)? {
    let parts = key.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
    if let ref = walk(graph.root, parts[...]) { return (ref, nil) }
    let ends = candidates(under: graph.root).filter {
      $0.key == key || $0.key.hasSuffix("." + key)
    }
    if ends.count == 1 { return (ends[0].ref, nil) }
    for count in stride(from: parts.count - 1, to: 0, by: -1) {
      guard let ref = walk(graph.root, parts[..<count]) else { continue }
      return (ref, parts[count...].joined(separator: "."))
    }
    return nil
  }

  private func walk(_ ref: PickleRef, _ parts: ArraySlice<String>) -> PickleRef? {
    guard !parts.isEmpty else { return candidates(under: ref).isEmpty ? nil : ref }
    guard parts.count <= 8, let items = graph.items(ref) else { return nil }
    for count in stride(from: parts.count, to: 0, by: -1) {
      let key = parts.prefix(count).joined(separator: ".")
      var value: PickleRef?
      for at in stride(from: 0, to: items.count, by: 2) where graph.string(items[at]) == key {
        value = items[at + 1]
      }
      if let value, let found = walk(value, parts.dropFirst(count)) { return found }
    }
    return nil
  }

  // MARK: Comparing

  private func names(of ref: PickleRef) -> Set<String> {
    let items = graph.items(ref) ?? []
    var names: Set<String> = []
    for at in stride(from: 0, to: items.count, by: 2) where decoder.kind(items[at + 1]) == .tensor {
      if let name = graph.string(items[at]) { names.insert(name) }
    }
    return names
  }

  /// Whether two dicts hold tensors of the same names, apart from a `module.` before all of them.
  private func mirrors(_ a: Candidate, _ b: Candidate) -> Bool {
    guard a.tensors == b.tensors else { return false }
    func bare(_ names: Set<String>) -> Set<String> {
      names.allSatisfy { $0.hasPrefix("module.") }
        ? Set(names.map { String($0.dropFirst(7)) }) : names
    }
    return bare(names(of: a.ref)) == bare(names(of: b.ref))
  }
}
