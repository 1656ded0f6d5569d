import Tensors

/// The name of a shard, `model-00001-of-00003.safetensors`, in its parts.
struct ShardName: Hashable {
  /// What stands before the number: `model`.
  var stem: String
  /// The number, which counts from 1 (or from 0, as some writers do).
  var number: Int
  /// How many there are.
  var count: Int
  /// The ending with its dot.
  var ending: String
  private var width: Int

  /// The parts of `name`; `nil` for a name that is no shard's.
  init?(_ name: String) {
    guard let ending = CheckpointLocation.weightsEnding(of: name) else { return nil }
    let parts = name.dropLast(ending.utf8.count)
      .split(separator: "-", omittingEmptySubsequences: false)
    guard parts.count >= 4, parts[parts.count - 2] == "of",
      let count = Self.number(parts[parts.count - 1]),
      let number = Self.number(parts[parts.count - 3]), count > 0, number <= count
    else { return nil }
    self.stem = parts.dropLast(3).joined(separator: "-")
    self.number = number
    self.count = count
    self.ending = ending
    width = parts[parts.count - 3].utf8.count
  }

  private static func number(_ text: Substring) -> Int? {
    guard !text.isEmpty, text.utf8.count < 8, text.utf8.allSatisfy({ $0 >= 48 && $0 < 58 })
    else { return nil }
    return Int(text)
  }

  /// The name of another shard of the same checkpoint.
  func name(_ number: Int) -> String {
    func digits(_ value: Int) -> String {
      let text = String(value)
      return String(repeating: "0", count: max(0, width - text.utf8.count)) + text
    }
    return "\(stem)-\(digits(number))-of-\(digits(count))\(ending)"
  }

  /// The names that the index of these shards may have: `model.safetensors.index.json`; for the
  /// variant `model.fp16` also `model.safetensors.index.fp16.json`.
  var indexes: [String] {
    var names = ["\(stem)\(ending).index.json"]
    if let dot = stem.lastIndex(of: ".") {
      names.append("\(stem[..<dot])\(ending).index\(stem[dot...]).json")
    }
    return names
  }
}

/// Shards of one checkpoint, by their names.
struct ShardSet {
  private var first: ShardName
  private var names: [Int: [String]] = [:]

  /// The sets among `names`, in order.
  static func sets(of names: [String]) -> [ShardSet] {
    var sets: [ShardSet] = []
    var places: [String: Int] = [:]
    for name in names {
      guard let parts = ShardName(name) else { continue }
      let key = "\(parts.stem)\u{0}\(parts.count)\u{0}\(parts.ending)"
      let place = places[key] ?? sets.count
      if place == sets.count {
        sets.append(ShardSet(first: parts))
        places[key] = place
      }
      sets[place].names[parts.number, default: []].append(name)
    }
    return sets
  }

  private init(first: ShardName) { self.first = first }

  /// The stem that a single file would have: `model.safetensors`.
  var whole: String { first.stem + first.ending }
  /// How many shards there should be.
  var count: Int { first.count }
  /// The names that are there, by number.
  var standing: [String] { names.sorted { $0.key < $1.key }.flatMap(\.value) }
  /// The names of the index that they may have.
  var indexes: [String] { first.indexes }

  /// The names that are missing.
  var missing: [String] {
    let numbers = names[0] != nil && names[count] == nil ? 0..<count : 1..<count + 1
    return numbers.filter { names[$0] == nil }.map { first.name($0) }
  }

  /// Whether every number is there, and once.
  var isComplete: Bool { missing.isEmpty && names.count == count && standing.count == count }
}
