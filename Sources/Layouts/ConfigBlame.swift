import Hub
import OrderedCollections
import Tensors

extension ConfigFailure {
  /// An attribute with a value that it cannot have.
  static func problem(
    _ kind: String, _ attribute: String, _ value: JSONValue, _ expected: String
  ) -> Diagnostic {
    Diagnostic(
      code: "config.value", subject: "\(kind)'s \(attribute)",
      message: "would be \(value.brief); it should be \(expected)")
  }
}

/// Finds the keys of a config that are to blame for what cannot be computed from it.
///
/// A key is to blame where another value of it, and of no other, would lead past the failure. Where
/// several would, one whose own value is odd is the cause; so nothing needs to be known of any key.
struct ConfigBlame {
  let layout: Layout
  let vocabulary: Vocabulary
  let inventory: Inventory?
  let inertKeys: Set<String>
  /// Keys whose values the layout does not support: the failure may follow from one of them.
  var unsupported: Set<String> = []
  private var replaced: Set<ConfigPath> = []
  /// Configs that may still be tried.
  private var trials = 0

  init(
    layout: Layout, vocabulary: Vocabulary, inventory: Inventory?, inertKeys: Set<String>
  ) {
    self.layout = layout
    self.vocabulary = vocabulary
    self.inventory = inventory
    self.inertKeys = inertKeys
  }

  /// Faults of one config that are told, at most.
  private static let mostFaults = 12

  /// What is wrong, an error for each key; the failure itself where no key explains it.
  mutating func problems(of failure: ConfigFailure, in raw: JSONObject) -> [Diagnostic] {
    var config = raw
    trials = ConfigPath.trials(raw, inventory)
    var next: ConfigFailure? = failure
    var problems: [Diagnostic] = []
    while let failure = next, problems.count < Self.mostFaults {
      // What a stand-in leads to is no fault of the config's.
      guard let found = cause(of: failure, in: config),
        problems.isEmpty || isOdd(found.path, found.value)
      else { break }
      problems.append(diagnostic(found.path, found.value, failure))
      replaced.insert(found.path)
      config = found.config
      next = found.next
    }
    return problems.isEmpty ? [failure.problem] : problems
  }

  /// Keys that the mathematics depends on and that hold no number where one belongs, though nothing is
  /// computed from them under this config.
  static func unusable(_ keys: Layout.Config, in raw: JSONObject) -> [Diagnostic] {
    keys.keys.compactMap { key in
      guard key.initial?.double != nil else { return nil }
      let written = keys.written(key.name, in: raw)
      guard let value = raw[written],
        value.string != nil || value.double.map({ !$0.isFinite }) ?? false
      else { return nil }
      return Diagnostic(
        code: "config.value", subject: written,
        message: "is \(value.brief); expected a finite number",
        help: "correct it, or give the config that belongs to this checkpoint with --config")
    }
  }

  private struct Cause {
    var path: ConfigPath
    var value: JSONValue?
    /// The config with a stand-in.
    var config: JSONObject
    /// What it fails at then.
    var next: ConfigFailure?
  }

  private mutating func cause(of failure: ConfigFailure, in config: JSONObject) -> Cause? {
    let named = (failure.expression?.members.map(\.name) ?? []) + (failure.expression?.names ?? [])
    func rank(_ path: ConfigPath) -> Int {
      let doubt = isOdd(path, path.value(in: config)) ? 0 : unsupported.contains(path.key) ? 1 : 2
      return 2 * doubt + (named.contains(path.words.last!) ? 0 : 1)
    }
    let all = paths(of: failure, in: config).filter { !replaced.contains($0) }
      .map { (path: $0, rank: rank($0)) }
    let ranked = (0..<6).flatMap { rank in all.filter { $0.rank == rank }.map(\.path) }
    var second: Cause?
    for path in ranked {
      let value = path.value(in: config)
      for other in standIns(for: path, value) {
        guard trials > 0 else { return second }
        guard let changed = path.setting(other, in: config) else { continue }
        trials -= 1
        let expansion = layout.tryOut(
          config: changed, vocabulary: vocabulary, inventory: inventory, inertKeys: inertKeys)
        let cause = Cause(path: path, value: value, config: changed, next: expansion.failure)
        guard let next = expansion.failure else { return cause }
        // That it fails elsewhere may be the stand-in's fault, or another key's.
        if next.problem.subject != failure.problem.subject, second == nil { second = cause }
      }
    }
    return second
  }

  /// The keys from which the failing expression follows, and their members.
  private func paths(of failure: ConfigFailure, in config: JSONObject) -> [ConfigPath] {
    var names: OrderedSet<String> = OrderedSet(failure.expression?.names.sorted() ?? [])
    var position = 0
    while position < names.count {
      let name = names[position]
      position += 1
      for binding in layout.lets + layout.layers.lets where binding.name == name {
        names.append(contentsOf: binding.value.names.sorted())
      }
    }
    // Without an expression any key may be the one.
    let known = layout.config.keys.filter { key in
      names.isEmpty || names.contains(key.name)
        || key.name.split(separator: ".").first.map { names.contains(String($0)) } ?? false
    }
    return known.flatMap { ConfigPath.all(of: $0, in: config, layout) }
      .filter { $0.value(in: config) != nil }
  }

  private func key(_ path: ConfigPath) -> Layout.Config.Key? {
    layout.config.keys.first { $0.name == path.key }
  }

  private func standIns(for path: ConfigPath, _ value: JSONValue?) -> [JSONValue?] {
    var all: [JSONValue?] = []
    if path.members.isEmpty, let initial = key(path)?.initial { all.append(initial) }
    if !path.members.isEmpty { all.append(nil) }
    all += [.int(1), .int(2), .int(64), .double(1), .double(0.5), .bool(true), .bool(false), .null]
    return all.filter { $0 != value }
  }

  /// Whether no config would have this value, whatever the others are.
  private func isOdd(_ path: ConfigPath, _ value: JSONValue?) -> Bool {
    guard let value else { return false }
    if value == .null { return path.members.isEmpty && key(path)?.initial != .some(.null) }
    if let domain = domain(of: path) { return !domain.allows(value) }
    if let number = value.double, !number.isFinite || number < 0 { return true }
    guard path.members.isEmpty, let initial = key(path)?.initial, initial != .null else {
      return value.double == 0
    }
    switch initial {
    case .bool: return value.bool == nil
    case .string: return value.string == nil
    case .int(let usual): return value.int == nil || usual > 0 && value.int == 0
    case .double(let usual): return value.double == nil || usual > 0 && value.double == 0
    default: return false
    }
  }

  /// The domain of the attribute that a key gives as it is: `num_heads`, `float(rope_theta)`,
  /// `head_dim ?? …`.
  private func domain(of path: ConfigPath) -> MixerKind.Domain? {
    func look(_ bindings: [Layout.Binding], _ kind: MixerKind?) -> MixerKind.Domain? {
      for binding in bindings {
        guard binding.value.source == path.words,
          let attribute = kind?.attributes.first(where: { $0.name == binding.name })
        else { continue }
        return attribute.domain
      }
      return nil
    }
    if let found = look(layout.model.attributes, vocabulary.model) { return found }
    let mixers = layout.mixers.sorted { $0.key < $1.key }.map(\.value)
    for mixer in mixers {
      if let found = look(
        mixer.attributes + layout.layers.attributes, vocabulary.kinds[mixer.kind])
      {
        return found
      }
    }
    return nil
  }

  private func diagnostic(
    _ path: ConfigPath, _ value: JSONValue?, _ failure: ConfigFailure
  ) -> Diagnostic {
    let expected: String
    if let domain = domain(of: path), isOdd(path, value) {
      expected = domain.expected
    } else if let own = failure.expected, failure.expression?.source == path.words {
      expected = own
    } else {
      switch path.members.isEmpty ? key(path)?.initial : nil {
      case .bool: expected = "true or false"
      case .int(let usual): expected = usual > 0 ? "a whole number from 1 on" : "a whole number"
      case .double: expected = "a finite number above 0"
      case .string(let usual): expected = "a text such as '\(usual)'"
      default: expected = failure.expected ?? "a value from which the model follows"
      }
    }
    return Diagnostic(
      code: "config.value", subject: path.text,
      message: "is \(value?.brief ?? "missing"); expected \(expected)",
      notes: ["\(failure.problem.subject) \(failure.problem.message)"],
      help: "correct it, or give the config that belongs to this checkpoint with --config")
  }
}

/// A key of a config as it is written there, or a member of the mappings that it holds.
struct ConfigPath: Hashable {
  /// The key's own name.
  var key: String
  /// The name under which the config has it.
  var written: String
  /// The way to a member.
  var members: [String]

  /// As messages have it: `ssm_cfg.d_state`.
  var text: String { ([written] + members).joined(separator: ".") }
  /// As expressions have it.
  var words: [String] { key.split(separator: ".").map(String.init) + members }

  /// How many other configs may be tried in place of one: the work of each grows with the config and the
  /// tensors, and both come from anywhere.
  static func trials(_ config: JSONObject, _ inventory: Inventory?) -> Int {
    func weight(_ value: JSONValue) -> Int {
      switch value {
      case .array(let values): values.reduce(1) { $0 + weight($1) }
      case .object(let object): object.reduce(1) { $0 + weight($1.value) }
      case .string(let text): 1 + text.utf8.count / 8
      default: 1
      }
    }
    let whole = weight(.object(config)) + 2 * (inventory?.infos.count ?? 0)
    return max(12, min(1_200, 2_000_000 / (1_000 + whole)))
  }

  /// A key's paths: its members, where it holds mappings, and itself.
  static func all(
    of key: Layout.Config.Key, in config: JSONObject, _ layout: Layout
  ) -> [ConfigPath] {
    let written = layout.config.written(key.name, in: config)
    var names: OrderedSet<String> = []
    for element in config[written]?.array ?? [config[written] ?? .null] {
      names.append(contentsOf: element.object.map { Array($0.keys) } ?? [])
    }
    return names.prefix(64).map { ConfigPath(key: key.name, written: written, members: [$0]) }
      + [ConfigPath(key: key.name, written: written, members: [])]
  }

  /// The value; of a list of mappings the first that has it.
  func value(in config: JSONObject) -> JSONValue? {
    guard let member = members.first else { return config[written] }
    let whole = config[written]
    return (whole?.array ?? [whole ?? .null]).lazy.compactMap { $0[member] }.first
  }

  /// The config with another value there, or without it; `nil` where there is no such place.
  func setting(_ value: JSONValue?, in config: JSONObject) -> JSONObject? {
    var config = config
    guard let member = members.first else {
      config[written] = value
      return config
    }
    switch config[written] {
    case .object(var object)?:
      object[member] = value
      config[written] = .object(object)
    case .array(let elements)?:
      config[written] = .array(
        elements.map { element in
          guard var object = element.object else { return element }
          object[member] = value
          return .object(object)
        })
    default: return nil
    }
    return config
  }
}
