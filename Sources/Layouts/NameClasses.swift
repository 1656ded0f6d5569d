import Hub

/// A checkpoint's names by what they are but for their numbers.
///
/// A model of a thousand layers has a dozen kinds of names; a question about names is asked of one
/// name of each kind, and of all names only where a number matters.
struct NameClasses: Sendable {
  /// The names that differ in numbers only.
  struct Class: Sendable {
    /// The first of them.
    var first: Int
    /// All of them, in order.
    var members: [Int]
  }

  /// What names of a class have in common; hashed at once, not byte after byte as arrays are.
  private struct Key: Hashable {
    var bytes: [UInt8] = []

    func hash(into hasher: inout Hasher) {
      bytes.withUnsafeBytes { hasher.combine(bytes: $0) }
    }
  }

  /// In the order of their first names.
  let classes: [Class]

  init(_ names: [String]) {
    var classes: [Class] = []
    var places: [Key: Int] = [:]
    var key = Key()
    for (number, name) in names.enumerated() {
      key.bytes.removeAll(keepingCapacity: true)
      var name = name
      name.withUTF8 { bytes in
        var inNumber = false
        for byte in bytes {
          let isDigit = Self.isDigit(byte)
          // A NUL is in no name that a reader lets through, and a clash would only cost time.
          if !isDigit { key.bytes.append(byte) } else if !inNumber { key.bytes.append(0) }
          inNumber = isDigit
        }
      }
      if let place = places[key] {
        classes[place].members.append(number)
      } else {
        places[key] = classes.count
        classes.append(Class(first: number, members: [number]))
      }
    }
    self.classes = classes
  }

  static func isDigit(_ byte: UInt8) -> Bool { byte &- UInt8(ascii: "0") < 10 }

  /// The first name that `glob` matches.
  func first(_ glob: Glob, in names: [String]) -> Int? {
    if glob.ignoresNumbers { return classes.first { glob.matches(names[$0.first]) }?.first }
    // Only the names of kinds that some numbers would make match are looked at one by one.
    let relaxed = glob.withoutNumbers
    return classes.filter { relaxed.matches(names[$0.first]) }
      .compactMap { $0.members.first { glob.matches(names[$0]) } }.min()
  }

  /// Whether some name begins with `prefix`.
  func hasPrefix(_ prefix: String, in names: [String]) -> Bool {
    guard !prefix.utf8.contains(where: Self.isDigit) else {
      return names.contains { $0.utf8.starts(with: prefix.utf8) }
    }
    return classes.contains { names[$0.first].utf8.starts(with: prefix.utf8) }
  }
}
