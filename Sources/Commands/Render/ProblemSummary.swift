import Tensors

/// Problems as a person reads them: one telling for each cause, and how many more there are.
///
/// A config that does not fit is one cause and a thousand tensors out of place. Problems of one code
/// whose messages differ only in numbers and quoted values are one group; what follows from a config
/// that is wrong is counted, not told.
struct ProblemSummary {
  /// Problems that are alike.
  struct Group: Sendable {
    /// The first of them.
    let first: Diagnostic
    /// All of them while they are few; empty otherwise.
    fileprivate(set) var members: [Diagnostic]
    /// How many there are.
    fileprivate(set) var count: Int
    /// The subjects behind the first's, numbers as `*`, each once, up to `mostNames`.
    fileprivate(set) var names: [String]

    static let mostMembers = 3
    static let mostNames = 12

    fileprivate init(_ first: Diagnostic) {
      self.first = first
      members = [first]
      count = 1
      names = []
    }

    fileprivate mutating func add(_ problem: Diagnostic) {
      count += 1
      if count <= Self.mostMembers { members.append(problem) } else { members = [] }
      let name = ProblemSummary.kind(of: problem.subject)
      if names.count < Self.mostNames, !names.contains(name) { names.append(name) }
    }

    /// `and 482 more like it, such as a, b`; empty for one problem.
    func more(names most: Int) -> String {
      guard count > 1 else { return "" }
      let shown = names.prefix(most).map { $0.visible(lines: false) }
      let isAll = shown.count == names.count && names.count < Self.mostNames
      return "and \(count - 1) more like it\(isAll ? ":" : ", such as") "
        + shown.joined(separator: ", ")
    }
  }

  /// What is told, the causes first.
  let groups: [Group]
  /// What follows from them and is only counted.
  let consequences: [Group]
  private let total: Int

  /// What a config that does not fit does to tensors.
  private static let consequenceCodes: Set<String> = [
    "layout.missing-tensor", "layout.unexpected-tensor", "layout.shape",
  ]

  init(_ problems: [Diagnostic]) {
    var groups: [Group] = []
    var places: [String: Int] = [:]
    for problem in problems {
      let key =
        "\(problem.severity.rawValue) \(problem.code) \(Self.shape(of: problem.message))"
      if let place = places[key] {
        groups[place].add(problem)
      } else {
        places[key] = groups.count
        groups.append(Group(problem))
      }
    }
    let isRoot = { (group: Group) in
      group.first.severity == .error
        && (group.first.code.hasPrefix("config.") || group.first.code.hasPrefix("checkpoint."))
    }
    let hasRoot = groups.contains(where: isRoot)
    let isConsequence = { (group: Group) in
      hasRoot && group.first.severity == .error
        && Self.consequenceCodes.contains(group.first.code)
    }
    func rank(_ group: Group) -> Int {
      switch group.first.severity {
      case .error: isRoot(group) ? 0 : 1
      case .warning: 2
      case .note: 3
      }
    }
    let told = groups.filter { !isConsequence($0) }
    self.groups = told.enumerated().sorted { (rank($0.1), $0.0) < (rank($1.1), $1.0) }.map(\.1)
    consequences = groups.filter(isConsequence)
    total = problems.count
  }

  /// The lines, at most `most`, of which one group takes at most `mostOfOne`.
  func lines(most: Int = 24, mostOfOne: Int = 14) -> [String] {
    var lines: [String] = []
    var left: [Group] = []
    var isShort = false
    // One line for the consequences, one for what finds no room, one that says how to see it all.
    let room = most - 3
    for group in groups {
      var block = group.members.flatMap(Self.lines)
      // A few that are alike are one thing too, unless each is a line or two.
      if group.members.isEmpty || block.count > mostOfOne || group.count > 1 && block.count > 4 {
        block = Self.lines(of: group.first)
        if block.count > mostOfOne - 1 {
          block = Array(block.prefix(mostOfOne - 2)) + ["  …"]
          isShort = true
        }
        if group.count > 1 {
          block.append("  \(group.more(names: 3))")
          isShort = true
        }
      }
      if lines.isEmpty || left.isEmpty && lines.count + block.count <= room {
        lines += block
      } else {
        left.append(group)
      }
    }
    if !left.isEmpty {
      lines.append("and \(Self.counted(left)) besides")
      isShort = true
    }
    if !consequences.isEmpty {
      lines.append("note: \(Self.counted(consequences)) may follow from this")
      isShort = true
    }
    if isShort { lines.append("  --all-problems lists all \(total)") }
    return lines
  }

  private static func lines(of problem: Diagnostic) -> [String] {
    problem.description.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
  }

  /// `96 problems (48 layout.shape, 48 layout.missing-tensor)`.
  private static func counted(_ groups: [Group]) -> String {
    var counts: [(code: String, count: Int)] = []
    for group in groups {
      if let place = counts.firstIndex(where: { $0.code == group.first.code }) {
        counts[place].count += group.count
      } else {
        counts.append((group.first.code, group.count))
      }
    }
    let total = counts.reduce(0) { $0 + $1.count }
    let shown = counts.prefix(6).map { "\($0.count) \($0.code)" }.joined(separator: ", ")
    return
      "\(total) \(total == 1 ? "problem" : "problems") (\(shown)\(counts.count > 6 ? ", …" : ""))"
  }

  /// `backbone.layers.*.mixer.A_log` of `backbone.layers.3.mixer.A_log`.
  static func kind(of subject: String) -> String {
    let short = subject.count > 120 ? "\(subject.prefix(119))…" : subject
    return short.split(separator: ".", omittingEmptySubsequences: false).map {
      !$0.isEmpty && $0.utf8.allSatisfy { (48...57).contains($0) } ? "*" : String($0)
    }.joined(separator: ".")
  }

  /// A message without its numbers, lists and quoted values.
  static func shape(of message: String) -> String {
    var shape: [UInt8] = []
    var quote: UInt8?
    var depth = 0
    for byte in message.prefix(1000).utf8 {
      if let open = quote {
        if byte == open { quote = nil }
        continue
      }
      switch byte {
      case UInt8(ascii: "\""): quote = byte
      case UInt8(ascii: "["), UInt8(ascii: "{"), UInt8(ascii: "("): depth += 1
      case UInt8(ascii: "]"), UInt8(ascii: "}"), UInt8(ascii: ")"): depth = max(0, depth - 1)
      case UInt8(ascii: "0")...UInt8(ascii: "9"): continue
      default:
        if depth == 0 { shape.append(byte) }
      }
    }
    // `is true, and` and `is 3, and` are one message.
    let words = String(decoding: shape, as: UTF8.self).split(separator: " ").map { word in
      let bare = word.filter { !$0.isPunctuation && !$0.isSymbol }
      return ["true", "false", "null", "e", "Infinity"].contains(bare) ? "" : String(bare)
    }
    return words.filter { !$0.isEmpty }.joined(separator: " ")
  }
}
