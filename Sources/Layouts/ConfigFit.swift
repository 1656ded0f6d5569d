import Hub
import OrderedCollections
import Tensors

/// Finds the keys of a config that the tensors contradict: those under another value of which every
/// tensor has its place.
struct ConfigFit {
  let layout: Layout
  let inventory: Inventory
  let raw: JSONObject
  let vocabulary: Vocabulary
  let inertKeys: Set<String>

  /// A model that fits, and what is wrong with the config.
  struct Result {
    var binder: Binder
    var problem: Diagnostic
  }

  private struct Change {
    var path: ConfigPath
    var value: JSONValue
    var config: JSONObject
    var binder: Binder
    /// Whether the config has the key at all.
    var isWritten: Bool
  }

  /// Keys that one config may have wrong; with more of them it is another model's.
  private static let mostKeys = 3

  /// The fewest keys with which everything fits; `nil` when no few would do.
  func fit(of binder: Binder) -> Result? {
    guard !binder.expansion.problems.contains(where: { $0.severity == .error }) else { return nil }
    let sizes = binder.sizes
    // Layers that are not there are rather the file's fault.
    guard !sizes.lacksLayersOnly else { return nil }
    var trials = ConfigPath.trials(raw, inventory)
    var changes: [Change] = []
    var config = raw
    var current = binder
    while changes.count < Self.mostKeys {
      let tried = self.changes(of: config, current, &trials)
      let whole = tried.filter { $0.binder.misfitCount == 0 }
      if let first = whole.first(where: \.isWritten) ?? whole.first {
        let others = changes.isEmpty ? whole.filter { $0.path != first.path } : []
        return Result(
          binder: first.binder, problem: problem(changes + [first], others, binder))
      }
      // Another width or depth as a whole is told by its sizes.
      guard !sizes.differ,
        let best = tried.min(by: { $0.binder.misfitCount < $1.binder.misfitCount }),
        best.binder.misfitCount * 4 <= current.misfitCount * 3
      else { return nil }
      changes.append(best)
      config = best.config
      current = best.binder
    }
    return nil
  }

  // MARK: Trials

  private func changes(
    of config: JSONObject, _ binder: Binder, _ trials: inout Int
  ) -> [Change] {
    var changes: [Change] = []
    // A head that stands alone is not taken for an embedding, whatever would follow from it.
    let tying = layout.model.tied.names
    let paths = layout.config.keys.filter { !tying.contains($0.name) }.flatMap { key in
      ConfigPath.all(of: key, in: config, layout)
        + (key.members?.known ?? []).filter { config[key.name]?[$0] == nil }.map {
          ConfigPath(
            key: key.name, written: layout.config.written(key.name, in: config), members: [$0])
        }
    }
    for path in paths {
      let written = path.value(in: config)
      let value =
        written ?? (path.members.isEmpty ? self.key(path)?.initial : nil) ?? .null
      for other in candidates(for: path, value, config, binder, &trials) where other != value {
        guard trials > 0 else { return changes }
        guard let changed = path.setting(other, in: config), let found = bind(changed, &trials),
          found.misfitCount < binder.misfitCount
        else { continue }
        changes.append(
          Change(
            path: path, value: other, config: changed, binder: found, isWritten: written != nil))
        if found.misfitCount == 0 { break }
      }
    }
    return changes
  }

  private func key(_ path: ConfigPath) -> Layout.Config.Key? {
    layout.config.keys.first { $0.name == path.key }
  }

  /// What the tensors are under another config; `nil` where that has faults of its own.
  private func bind(_ config: JSONObject, _ trials: inout Int) -> Binder? {
    trials -= 1
    let expansion = layout.tryOut(
      config: config, vocabulary: vocabulary, inventory: inventory, inertKeys: inertKeys)
    guard expansion.isComplete, !expansion.problems.contains(where: { $0.severity == .error })
    else { return nil }
    var binder = Binder(layout: layout, inventory: inventory, expansion: expansion)
    binder.bind()
    return binder
  }

  /// Values that the tensors might speak for.
  private func candidates(
    for path: ConfigPath, _ value: JSONValue, _ config: JSONObject, _ binder: Binder,
    _ trials: inout Int
  ) -> [JSONValue] {
    var all: OrderedSet<JSONValue> = []
    let initial = path.members.isEmpty ? key(path)?.initial : nil
    if case .bool(let flag) = value { return [.bool(!flag)] }
    // Of a mapping its members are tried.
    if value.object != nil, path.members.isEmpty { return initial == .some(.null) ? [.null] : [] }
    all.append(contentsOf: words(path).map { .string($0) })
    if let list = value.array, list.allSatisfy({ $0.int != nil }) {
      all.append(.array(toggled(list, binder)))
      if let initial { all.append(initial) }
      return Array(all)
    }
    let isOpen = value == .null
    if isOpen { all.append(contentsOf: [.bool(true), .bool(false)]) }
    guard isOpen || value.double != nil else { return Array(all) + [initial].compactMap(\.self) }
    let isFraction = value.double != nil && value.int == nil
    if !isFraction {
      all.append(contentsOf: slopes(path, value.int ?? 1, config, binder, &trials).map { .int($0) })
    }
    for extent in binder.extents.prefix(8) {
      for (asked, found) in zip(extent.asked.dims, extent.found.dims) where asked != found {
        if asked > 0, let number = value.double {
          var scaled = [number * Double(found) / Double(asked)]
          // A number of heads makes them smaller.
          if found > 0 { scaled.append(number * Double(asked) / Double(found)) }
          for scaled in scaled {
            if !isFraction, let whole = Int(exactly: scaled) {
              all.append(.int(whole))
            } else {
              all.append(.double(scaled))
            }
          }
        }
        if !isFraction { all.append(.int(found)) }
      }
    }
    if path.key == layout.model.layerCount.source?.first,
      let layers = ConfigSizes.layers(layout, inventory)
    {
      all.append(.int(layers))
    }
    // The default may say the same in another way.
    if let initial { all.append(initial) }
    if !isOpen { all.append(.null) }
    return Array(all)
  }

  /// The texts with which the layout's expressions compare a key.
  private func words(_ path: ConfigPath) -> [String] {
    guard let name = path.words.last, key(path)?.initial?.string != nil else { return [] }
    let expressions =
      layout.config.requirements.map(\.that)
      + (layout.lets + layout.layers.lets + layout.model.attributes + layout.layers.attributes)
      .map(\.value)
    return expressions.flatMap(\.comparisons).filter { $0.subject == name }.flatMap(\.texts)
  }

  /// A list of layers with those in which something does not fit taken out, or put in.
  private func toggled(_ list: [JSONValue], _ binder: Binder) -> [JSONValue] {
    Set(list.compactMap(\.int)).symmetricDifference(binder.misfitLayers).sorted().map { .int($0) }
  }

  /// The values from which the tensors' own extents would follow, where these grow evenly with it.
  private func slopes(
    _ path: ConfigPath, _ value: Int, _ config: JSONObject, _ binder: Binder, _ trials: inout Int
  ) -> [Int] {
    guard !binder.extents.isEmpty, value >= 0, value < 1 << 40 else { return [] }
    func extents(_ value: Int) -> [String: Shape]? {
      guard let changed = path.setting(.int(value), in: config) else { return nil }
      trials -= 1
      let expansion = layout.tryOut(
        config: changed, vocabulary: vocabulary, inventory: inventory, inertKeys: inertKeys)
      guard !expansion.tensors.isEmpty else { return nil }
      let wanted = Set(binder.extents.prefix(8).map(\.name))
      var shapes: [String: Shape] = [:]
      for tensor in expansion.tensors where wanted.contains(tensor.name) {
        shapes[tensor.name] = tensor.shape
      }
      return shapes
    }
    // An even step keeps heads and groups whole that are whole under the value itself.
    let step = max(1, value)
    guard let here = extents(value), let there = extents(value + step) else { return [] }
    var values: OrderedSet<Int> = []
    for (name, _, found) in binder.extents.prefix(8) {
      guard let a = here[name]?.dims, let b = there[name]?.dims, a.count == b.count,
        a.count == found.dims.count
      else { continue }
      for axis in a.indices where b[axis] != a[axis] && found.dims[axis] != a[axis] {
        let (difference, overflow) = (found.dims[axis] - a[axis]).multipliedReportingOverflow(
          by: step)
        guard !overflow, difference % (b[axis] - a[axis]) == 0 else { continue }
        let other = value + difference / (b[axis] - a[axis])
        if other > 0 { values.append(other) }
      }
    }
    return Array(values)
  }

  // MARK: Words

  private func problem(
    _ changes: [Change], _ others: [Change], _ binder: Binder
  ) -> Diagnostic {
    func found(_ change: Change) -> String {
      guard let value = change.path.value(in: raw) else {
        let initial = change.path.members.isEmpty ? key(change.path)?.initial : nil
        return initial.map { "is not in the config, which means \($0.brief)" }
          ?? "is not in the config"
      }
      return "is \(value.brief)"
    }
    let count = binder.misfitCount
    var notes = [
      "under \(changes.count == 1 ? "this value" : "these values") \(count) "
        + "\(count == 1 ? "tensor does" : "tensors do") not fit, such as "
        + binder.someMisfits.joined(separator: ", ")
    ]
    if let extent = binder.extents.first {
      notes.append("\(extent.name) would be \(extent.asked), and is \(extent.found)")
    }
    if !others.isEmpty {
      var seen: Set<String> = [changes[0].path.text]
      let more = others.filter { seen.insert($0.path.text).inserted }.prefix(3)
      notes.append(
        "they would be those of "
          + more.map { "\($0.path.text) \($0.value.brief)" }.joined(separator: " or of ")
          + " as well")
    }
    let help = "give the config that belongs to this checkpoint with --config, or correct this one"
    if changes.count == 1 {
      return Diagnostic(
        code: "config.mismatch", subject: changes[0].path.text,
        message: "\(found(changes[0])), but the tensors are those of \(changes[0].value.brief)",
        notes: notes, help: help)
    }
    let list = changes.map { change in
      "\(change.path.text) \(found(change)), and the tensors are those of \(change.value.brief)"
    }
    return Diagnostic(
      code: "config.mismatch", subject: "config",
      message: "is not of this checkpoint in \(changes.count) keys: "
        + list.joined(separator: "; "),
      notes: notes, help: help)
  }
}
