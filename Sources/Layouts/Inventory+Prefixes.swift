import Hub
import Tensors

/// Prefixes that wrappers add to a model's names, and the one that a base model's names lack.
extension Inventory {
  /// A part of the names that is taken off or put on.
  public struct Renaming: Sendable, Hashable {
    /// The first tensor of which it is true, as the file calls it.
    public var from: String
    /// The name without it.
    public var to: String
    /// The removed part: a prefix, or wrappers' modules inside names.
    public var dropped: String
    /// The number of names that it applies to.
    public var count: Int

    /// A renaming.
    public init(from: String, to: String, dropped: String, count: Int) {
      self.from = from
      self.to = to
      self.dropped = dropped
      self.count = count
    }
  }

  /// The first component of more than half of the names, with its dot; `nil` when the names have
  /// none in common.
  public var commonPrefix: String? {
    var counts: [Substring: Int] = [:]
    for (name, count) in kinds {
      guard let dot = name.firstIndex(of: ".") else { continue }
      counts[name[...dot], default: 0] += count
    }
    // The kinds count names that differ in numbers as one: a prefix with a number is of one tensor.
    guard let (prefix, count) = counts.max(by: { ($0.value, $1.key) < ($1.value, $0.key) }),
      count * 2 > names.count
    else { return nil }
    return String(prefix)
  }

  /// The same tensors with `prefix` taken off the names that begin with it; `nil` when that would
  /// give two tensors one name.
  public func dropping(_ prefix: String) -> Inventory? {
    var outside = self.outside
    var shorter: [String] = []
    shorter.reserveCapacity(names.count)
    for (number, name) in names.enumerated() {
      if name.utf8.starts(with: prefix.utf8), name.utf8.count > prefix.utf8.count {
        shorter.append(String(name.dropFirst(prefix.count)))
      } else {
        outside.insert(number)
        shorter.append(name)
      }
    }
    return renamed(shorter, outside: outside, base: base)
  }

  /// The same tensors with `base` put in front of their names, as the loader of a head class does
  /// with a file of its base model; `nil` when some name has it or no name lacks it.
  ///
  /// - Parameter head: the name of the head, which lies beside the base model.
  public func adding(base: String, head: String?) -> Inventory? {
    guard self.base == nil, !names.isEmpty, !names.contains(where: { $0.hasPrefix(base) }) else {
      return nil
    }
    return renamed(
      names.enumerated().map { $1 == head || outside.contains($0) ? $1 : base + $1 },
      outside: outside, base: base)
  }

  /// How the file's names were changed, one entry per prefix.
  public var renamings: [Renaming] {
    var all: [Renaming] = []
    for (number, count) in kindNumbers {
      let from = infos[number].name.string
      var to = names[number]
      if let base, to.hasPrefix(base), !from.hasSuffix(to) { to = String(to.dropFirst(base.count)) }
      guard from != to else { continue }
      let dropped: String
      if from.hasSuffix(to) {
        dropped = String(from.dropLast(to.count))
      } else {
        let parts = from.split(separator: ".").filter { Self.wrappers.contains($0) }
        dropped = Set(parts).sorted().map { $0 + "." }.joined(separator: ", ")
      }
      if let place = all.firstIndex(where: { $0.dropped == dropped }) {
        all[place].count += count
      } else {
        all.append(Renaming(from: from, to: to, dropped: dropped, count: count))
      }
    }
    return all
  }
}
