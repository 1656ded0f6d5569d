import Tensors

/// Finds models that are kept under one set of names with different prefixes.
///
/// Layers of a model mirror each other too (`layers.0`, `layers.1`; `encoder`, `decoder`): a prefix
/// counts only when it says what it is (an average, a student) or when it mirrors every other name.
struct PrefixedModels {
  /// Tensors under a prefix that mirror others.
  struct Copy {
    /// The prefix without its dot.
    var prefix: String
    /// The prefix of what it mirrors; empty when that has none.
    var original: String
    /// Whether neither is the other's copy.
    var isPeer: Bool
    /// Its tensors that mirror one, with the names that they get alone.
    var members: [(number: Int, name: TensorName)]
    /// All tensors under the prefix: also an average's own counters.
    var all: [Int]
  }

  /// The copies; of two peers one.
  private(set) var copies: [Copy] = []
  /// What all names begin with, with its dot; it stays.
  private var shared = ""
  private let tensors: [TensorInfo]
  private var groups: [String: [Int]] = [:]
  private var order: [String] = []

  /// Whether there are two models of which neither is the other's copy.
  var hasPeers: Bool { copies.contains(where: \.isPeer) }

  /// The prefixes that could be asked for.
  var keys: [String] {
    if copies.isEmpty {
      // Of an ordinary model nobody means a part.
      return order.filter { ModelRole.isAverage($0) || ModelRole.isPeer($0) }
    }
    return copies.flatMap { $0.original.isEmpty ? [$0.prefix] : [$0.original, $0.prefix] }
  }

  init(_ tensors: [TensorInfo]) {
    self.tensors = tensors
    // A wrapper around all of it says nothing of its parts.
    for _ in 0..<4 {
      groups = [:]
      order = []
      for (number, tensor) in tensors.enumerated() {
        let head = Self.head(tensor.name.string, after: shared)
        if groups[head]?.append(number) == nil {
          groups[head] = [number]
          order.append(head)
        }
      }
      guard order.count == 1, let only = order.first, !only.isEmpty else { break }
      shared += only + "."
    }
    guard order.count > 1 else { return }
    find()
  }

  /// The first part of a name behind `shared`; empty when nothing follows it.
  private static func head(_ name: String, after shared: String) -> String {
    let rest = name.utf8.dropFirst(shared.utf8.count)
    guard let dot = rest.firstIndex(of: UInt8(ascii: ".")) else { return "" }
    return String(Substring(rest[..<dot]))
  }

  private func rest(_ number: Int, under prefix: String) -> String {
    let skip = shared.utf8.count + (prefix.isEmpty ? 0 : prefix.utf8.count + 1)
    return String(Substring(tensors[number].name.string.utf8.dropFirst(skip)))
  }

  /// Whether a user's `key` names `prefix`, with or without what all names begin with.
  func isNamed(_ prefix: String, _ key: String) -> Bool {
    key == prefix || key == shared + prefix
  }

  /// The tensors under a prefix that the user names, alone.
  func members(under key: String) -> [(number: Int, name: TensorName)]? {
    var key = key
    if !shared.isEmpty, key.hasPrefix(shared) { key.removeFirst(shared.count) }
    if let copy = copies.first(where: { $0.isPeer && $0.original == key }) {
      return group(copy.original).map { ($0, TensorName(shared + rest($0, under: copy.original))) }
    }
    guard !key.isEmpty, let group = groups[key], group.count < tensors.count,
      copies.contains(where: { $0.original == key }) || ModelRole.isAverage(key)
        || ModelRole.isPeer(key)
    else { return nil }
    return group.map { ($0, TensorName(shared + rest($0, under: key))) }
  }

  private func group(_ prefix: String) -> [Int] { prefix.isEmpty ? [] : groups[prefix] ?? [] }

  // MARK: Finding

  private mutating func find() {
    let averages = order.filter { !$0.isEmpty && ModelRole.isAverage($0) }
    let peers = order.filter { !$0.isEmpty && !averages.contains($0) && ModelRole.isPeer($0) }
    // A name that says nothing must mirror all of the rest.
    let halves = order.filter {
      !$0.isEmpty && !averages.contains($0) && !peers.contains($0)
        && groups[$0]!.count >= 8 && groups[$0]!.count * 2 == tensors.count
    }
    guard !(averages.isEmpty && peers.isEmpty && halves.isEmpty) else { return }
    let bare = order.filter { !averages.contains($0) }
    for prefix in averages {
      let others = bare.filter { $0 != prefix }
      if let copy = copy(prefix, of: "", among: others) {
        copies.append(copy)
        continue
      }
      for original in others where !original.isEmpty {
        guard let copy = copy(prefix, of: original, among: [original]) else { continue }
        copies.append(copy)
        break
      }
    }
    guard copies.isEmpty else { return }
    for prefix in peers {
      let others = order.filter { $0 != prefix }
      if let copy = copy(prefix, of: "", among: others) {
        copies.append(copy)
        return
      }
      for original in others where original != "" {
        let isPeer = peers.contains(original)
        guard isPeer || ModelRole.usual.contains(original),
          var copy = copy(prefix, of: original, among: [original])
        else { continue }
        copy.isPeer = isPeer
        copies.append(copy)
        return
      }
    }
    for prefix in halves {
      let others = order.filter { $0 != prefix }
      guard let copy = copy(prefix, of: "", among: others), copy.members.count == copy.all.count
      else { continue }
      copies.append(copy)
      return
    }
  }

  /// The tensors under `prefix`, if they mirror those under `original` in the groups `among`.
  private func copy(_ prefix: String, of original: String, among: [String]) -> Copy? {
    let mine = group(prefix)
    let theirs = among.flatMap { groups[$0]! }
    guard mine.count >= 2, theirs.count >= 2 else { return nil }
    var places: [TensorName: Int] = [:]
    for number in theirs { places[TensorName(rest(number, under: original))] = number }
    let names = mine.map { rest($0, under: prefix) }
    // The average of a wrapped model keeps the wrapper's name inside its own.
    var skips = [0]
    let inner = Set(names.map { Self.head($0, after: "") }).subtracting([""])
    if inner.count == 1, let only = inner.first { skips.append(only.utf8.count + 1) }
    for skip in skips {
      let cut = names.map { String(Substring($0.utf8.dropFirst(skip))) }
      if let found = match(prefix, original, mine, cut, places) { return found }
    }
    // LitEma and its like register buffers, whose names may hold no dots.
    guard !names.contains(where: { $0.contains(".") }) else { return nil }
    var dotless: [TensorName: Int] = [:]
    var full: [TensorName: String] = [:]
    for (name, number) in places {
      let key = TensorName(name.string.filter { $0 != "." })
      guard dotless.updateValue(number, forKey: key) == nil else { return nil }
      full[key] = name.string
    }
    return match(prefix, original, mine, names, dotless) { full[TensorName($0)] ?? $0 }
  }

  private func match(
    _ prefix: String, _ original: String, _ mine: [Int], _ names: [String],
    _ places: [TensorName: Int], named: (String) -> String = { $0 }
  ) -> Copy? {
    var members: [(number: Int, name: TensorName)] = []
    for (number, name) in zip(mine, names) {
      if let other = places[TensorName(name)], tensors[other].shape == tensors[number].shape {
        members.append((number, TensorName(shared + named(name))))
      } else if tensors[number].shape.elementCount.map({ $0 > 1 }) ?? true {
        return nil
      }
    }
    // Counters such as `ema.decay` mirror nothing, and nothing mirrors a model's.
    let weights = places.values.count(where: {
      tensors[$0].shape.elementCount.map { $0 > 1 } ?? true
    })
    guard members.count >= 2, members.count * 10 >= weights * 8 else { return nil }
    return Copy(
      prefix: prefix, original: original, isPeer: false, members: members, all: mine)
  }
}
