import Hub
public import Tensors

extension Layout {
  /// Parses a layout file; every key must be one of the schema's (`formats/README.md`).
  ///
  /// - Parameters:
  ///   - text: the file's text.
  ///   - file: its name, for messages.
  ///   - inertGroups: the lists that `config.inert` may name as `@group`.
  /// - Throws: `layout.yaml`, `layout.schema` with line and column.
  public init(
    yaml text: String, file: String, inertGroups: [String: [String]] = [:]
  ) throws(Diagnostic) {
    let root = try YAMLCursor(text: text, file: file)
    self = try Layout(root, inertGroups: inertGroups)
    if let first = root.findings.problems.first { throw first }
  }

  /// Reads a layout as far as it goes: what is wrong with its parts is in `root.findings`.
  ///
  /// - Throws: `layout.schema` where the whole is no mapping.
  init(_ root: YAMLCursor, inertGroups: [String: [String]]) throws(Diagnostic) {
    let fields = root.attemptFields(Layout.keys)
    if !root.isMapping { throw root.error("should be a mapping") }
    func need<T>(
      _ key: String, or placeholder: T, _ read: (YAMLCursor) throws(Diagnostic) -> T
    ) -> T {
      if let value = fields[key] { return value.attempt(or: placeholder, read) }
      root.findings.problems.append(root.error("has no '\(key)'"))
      root.findings.broken.insert(key)
      return placeholder
    }
    func optional<T>(
      _ key: String, or placeholder: T, _ read: (YAMLCursor) throws(Diagnostic) -> T
    ) -> T {
      fields[key].map { $0.attempt(or: placeholder, read) } ?? placeholder
    }
    func text(_ cursor: YAMLCursor) throws(Diagnostic) -> String { try cursor.string() }
    name = need("layout", or: "", text)
    framework = need("framework", or: "", text)
    also = optional("also", or: []) { (c) throws(Diagnostic) in try c.strings() }
    family = need("family", or: .null) { (c) throws(Diagnostic) in try c.expression() }
    title = need("title", or: "", text)
    source = need("source", or: "", text)
    files = need("files", or: Files(container: "", weights: [:], config: "")) {
      (c) throws(Diagnostic) in try Files(c)
    }
    detect = need("detect", or: Detect()) { (c) throws(Diagnostic) in try Detect(c) }
    config = need("config", or: Config(keys: [], inert: [], neutral: [], requirements: [])) {
      (c) throws(Diagnostic) in try Config(c, inertGroups)
    }
    lets = optional("let", or: []) { (c) throws(Diagnostic) in try c.lets() }
    model = need("model", or: Model(layerCount: .null, tied: .null, attributes: [], tensors: [])) {
      (c) throws(Diagnostic) in try Model(c)
    }
    layers = need(
      "layers", or: Layers(prefix: NameTemplate(literal: ""), lets: [], attributes: [], slots: [])
    ) { (c) throws(Diagnostic) in try Layers(c) }
    mixers = need("mixers", or: [:]) { (c) throws(Diagnostic) in
      var mixers: [String: Mixer] = [:]
      for (key, value) in try c.members() {
        mixers[key] = value.attempt(or: Mixer(kind: "", attributes: [], tensors: [])) {
          (c) throws(Diagnostic) in try Mixer(c)
        }
      }
      return mixers
    }
    ignore = optional("ignore", or: []) { (c) throws(Diagnostic) in
      YAMLCursor.attempt(each: try c.elements()) { (c) throws(Diagnostic) in try Ignored(c) }
    }
    write = optional("write", or: nil) { (c) throws(Diagnostic) in try Write(c) }
    guard !root.findings.broken.contains("mixers"), let slots = fields["layers"] else { return }
    for (i, slot) in layers.slots.enumerated() {
      for (j, option) in slot.options.enumerated() where mixers[option.mixer] == nil {
        let cursor = slots["slots"]?[i]?["options"]?[j]?["mixer"] ?? root
        let near = Nearest.name(to: option.mixer, among: mixers.keys.sorted())
        root.findings.problems.append(
          cursor.error(
            "names no mixer of this file: '\(option.mixer)'",
            help: near.map { "did you mean \($0)?" }
              ?? "mixers of this file: \(mixers.keys.sorted().joined(separator: ", "))"))
      }
    }
  }

  /// The keys of a layout file.
  static let keys = [
    "layout", "framework", "also", "family", "title", "source", "files", "detect", "config", "let",
    "model", "layers", "mixers", "ignore", "write",
  ]
}

extension Layout.Files {
  init(_ cursor: YAMLCursor) throws(Diagnostic) {
    let fields = try cursor.fields(["container", "weights", "config", "nesting"])
    guard let container = fields["container"], let weights = fields["weights"],
      let config = fields["config"]
    else { throw cursor.error("needs container, weights and config") }
    self.container = try container.string()
    self.config = try config.string()
    var names: [String: String] = [:]
    for (key, value) in try weights.members() { names[key] = try value.string() }
    self.weights = names
    nesting = try fields["nesting"]?.string()
  }
}

extension Layout.Detect {
  /// Nothing that tells a layout apart.
  init() { (tensors, absent, strip) = ([], [], []) }

  init(_ cursor: YAMLCursor) throws(Diagnostic) {
    let fields = try cursor.fields([
      "tensors", "absent", "strip", "config", "format", "model_types", "base", "tied",
    ])
    tensors = try fields["tensors"]?.strings() ?? []
    absent = try fields["absent"]?.strings() ?? []
    strip = try fields["strip"]?.strings() ?? []
    config = try fields["config"].map { (c) throws(Diagnostic) in try c.expression() }
    format = try fields["format"]?.string()
    modelTypes = try fields["model_types"]?.strings()
    base = try fields["base"]?.string()
    if let cursor = fields["tied"] {
      let members = try cursor.members()
      guard members.count == 1 else { throw cursor.error("should be {head: embedding}") }
      tied = TiedNames(head: members[0].key, embedding: try members[0].value.string())
    }
  }
}

extension Layout.Config {
  init(_ cursor: YAMLCursor, _ inertGroups: [String: [String]]) throws(Diagnostic) {
    let fields = try cursor.fields(["keys", "inert", "require"])
    var keys: [Key] = []
    for (name, value) in try fields["keys"]?.members() ?? [] {
      let placeholder = Key(name: name, initial: .null, aliases: [], members: nil)
      keys.append(
        value.attempt(or: placeholder) { (c) throws(Diagnostic) in try Key(name: name, c) })
    }
    self.keys = keys
    let inert = YAMLCursor.attempt(each: try fields["inert"]?.elements() ?? []) {
      (element) throws(Diagnostic) in
      let name = try element.string()
      guard name.hasPrefix("@") else { return [name] }
      let group = String(name.dropFirst())
      if let keys = inertGroups[group] { return keys }
      throw element.error(
        "names no group of inert keys: '\(name)'",
        help: Nearest.name(to: group, among: inertGroups.keys.sorted()).map {
          "did you mean @\($0)?"
        } ?? "groups: \(inertGroups.keys.sorted().map { "@\($0)" }.joined(separator: ", "))")
    }
    self.inert = inert.flatMap(\.self) + (inertGroups["everywhere"] ?? [])
    neutral = (inertGroups["neutral"] ?? []).compactMap { entry in
      let parts = entry.split(separator: "=", maxSplits: 1).map(String.init)
      guard parts.count == 2, let value = try? JSONParser.parse(parts[1], file: "inert-keys.yaml")
      else { return nil }
      return (parts[0], value)
    }
    requirements = YAMLCursor.attempt(each: try fields["require"]?.elements() ?? []) {
      (element) throws(Diagnostic) in
      let parts = try element.fields(["that", "key", "why"])
      guard let that = parts["that"], let key = parts["key"], let why = parts["why"] else {
        throw element.error("needs that, key and why")
      }
      return Requirement(
        that: try that.expression(), key: try key.string(), why: try why.string())
    }
  }
}

extension Layout.Config.Key {
  init(name: String, _ cursor: YAMLCursor) throws(Diagnostic) {
    let fields = try cursor.fields(["default", "required", "aliases", "members"])
    if fields["default"] == nil, fields["required"] == nil {
      throw cursor.error("needs 'default' or 'required: true'")
    }
    self.name = name
    initial = try fields["default"]?.json().resolvingFloatTags
    aliases = try fields["aliases"]?.strings() ?? []
    members = try fields["members"].map { (c) throws(Diagnostic) in
      try Layout.Config.Members(c)
    }
  }
}

extension Layout.Config.Members {
  init(_ cursor: YAMLCursor) throws(Diagnostic) {
    let fields = try cursor.fields(["known", "inert", "only"])
    known = try fields["known"]?.strings() ?? []
    inert = try fields["inert"]?.strings() ?? []
    var only: [Only] = []
    for (name, values) in try fields["only"]?.members() ?? [] {
      var all: [JSONValue] = []
      for element in try values.elements() { all.append(try element.json()) }
      only.append(Only(name: name, values: all))
    }
    self.only = only
  }
}

extension Layout.Model {
  init(_ cursor: YAMLCursor) throws(Diagnostic) {
    let fields = try cursor.fields(["n_layer", "tied", "attributes", "tensors"])
    guard let count = fields["n_layer"], let tied = fields["tied"],
      let attributes = fields["attributes"], let tensors = fields["tensors"]
    else { throw cursor.error("needs n_layer, tied, attributes and tensors") }
    layerCount = try count.expression()
    self.tied = try tied.expression()
    self.attributes = try attributes.bindings()
    self.tensors = try Layout.Tensor.all(tensors)
  }
}

extension Layout.Layers {
  init(_ cursor: YAMLCursor) throws(Diagnostic) {
    let fields = try cursor.fields(["prefix", "let", "attributes", "slots"])
    guard let prefix = fields["prefix"], let slots = fields["slots"] else {
      throw cursor.error("needs prefix and slots")
    }
    self.prefix = try prefix.template()
    lets = try fields["let"]?.lets() ?? []
    attributes = try fields["attributes"]?.bindings() ?? []
    var all: [Layout.Slot] = []
    for element in try slots.elements() {
      all.append(
        element.attempt(or: Layout.Slot(options: [])) { (c) throws(Diagnostic) in
          try Layout.Slot(c)
        })
    }
    self.slots = all
  }
}

extension Layout.Slot {
  init(_ cursor: YAMLCursor) throws(Diagnostic) {
    let fields = try cursor.fields(["when", "options"])
    guard let options = fields["options"] else { throw cursor.error("needs options") }
    when = try fields["when"].map { (c) throws(Diagnostic) in try c.expression() }
    var all: [Layout.Option] = []
    for option in try options.elements() { all.append(try Layout.Option(option)) }
    self.options = all
  }
}

extension Layout.Option {
  init(_ cursor: YAMLCursor) throws(Diagnostic) {
    let fields = try cursor.fields(["when", "mixer", "norm", "prefix", "attributes"])
    guard let mixer = fields["mixer"], let prefix = fields["prefix"] else {
      throw cursor.error("needs mixer and prefix")
    }
    when = try fields["when"].map { (c) throws(Diagnostic) in try c.expression() }
    self.mixer = try mixer.string()
    norm = try fields["norm"].map { (c) throws(Diagnostic) in try c.template() }
    self.prefix = try prefix.template()
    attributes = try fields["attributes"]?.bindings() ?? []
  }
}

extension Layout.Mixer {
  init(_ cursor: YAMLCursor) throws(Diagnostic) {
    let fields = try cursor.fields(["kind", "attributes", "tensors"])
    guard let kind = fields["kind"], let tensors = fields["tensors"] else {
      throw cursor.error("needs kind and tensors")
    }
    self.kind = try kind.string()
    attributes = try fields["attributes"]?.bindings() ?? []
    self.tensors = try Layout.Tensor.all(tensors)
  }
}

extension Layout.Tensor {
  /// A mapping from names to glues; a list of glues gives one name several forms, by `when`.
  static func all(_ cursor: YAMLCursor) throws(Diagnostic) -> [Layout.Tensor] {
    var tensors: [Layout.Tensor] = []
    for (key, value) in try cursor.members() {
      tensors += value.attempt(or: []) { (value) throws(Diagnostic) -> [Layout.Tensor] in
        let name: NameTemplate
        do throws(Diagnostic) { name = try NameTemplate(parsing: key) } catch {
          throw value.error(error.message)
        }
        let forms = value.isSequence ? try value.elements() : [value]
        var all: [Layout.Tensor] = []
        for form in forms { all.append(try Layout.Tensor(name: name, form)) }
        return all
      }
    }
    return tensors
  }

  init(name: NameTemplate, _ cursor: YAMLCursor) throws(Diagnostic) {
    self.name = name
    guard cursor.isMapping else {
      glue = .piece(try cursor.string())
      return
    }
    let fields = try cursor.fields(Glue.keys + ["shape", "or", "when", "tied", "each"])
    glue = try Glue(fields, at: cursor)
    func extents(_ cursor: YAMLCursor) throws(Diagnostic) -> [Expression] {
      var extents: [Expression] = []
      for element in try cursor.elements() { extents.append(try element.expression()) }
      return extents
    }
    shape = try fields["shape"].map(extents)
    alternative = try fields["or"].map(extents)
    when = try fields["when"].map { (c) throws(Diagnostic) in try c.expression() }
    each = try fields["each"].map { (c) throws(Diagnostic) in try c.expression() }
    if let value = fields["tied"] {
      guard let choice = Layout.Tied(rawValue: try value.string()) else {
        throw value.error("should be absent or both")
      }
      tied = choice
    }
  }
}

extension Glue {
  static let keys = [
    "piece", "concat", "interleave", "groups", "rotary_pairs", "heads", "width", "duplicate",
    "times", "stack", "count", "neg_exp",
  ]

  init(_ cursor: YAMLCursor) throws(Diagnostic) {
    if cursor.isMapping {
      self = try Glue(cursor.fields(Glue.keys), at: cursor)
    } else {
      self = .piece(try cursor.string())
    }
  }

  init(_ fields: [String: YAMLCursor], at cursor: YAMLCursor) throws(Diagnostic) {
    func parts(_ cursor: YAMLCursor) throws(Diagnostic) -> [Glue] {
      var all: [Glue] = []
      for element in try cursor.elements() { all.append(try Glue(element)) }
      return all
    }
    if let piece = fields["piece"] {
      self = .piece(try piece.string())
    } else if let list = fields["concat"] {
      self = .concat(try parts(list))
    } else if let list = fields["interleave"], let groups = fields["groups"] {
      self = .interleave(try parts(list), groups: try groups.expression())
    } else if let inner = fields["rotary_pairs"], let heads = fields["heads"] {
      self = .rotaryPairs(
        try Glue(inner), heads: try heads.expression(),
        width: try fields["width"].map { (c) throws(Diagnostic) in try c.expression() })
    } else if let inner = fields["duplicate"], let times = fields["times"] {
      self = .duplicate(try Glue(inner), times: try times.expression())
    } else if let inner = fields["stack"], let count = fields["count"] {
      self = .stack(try Glue(inner), count: try count.expression())
    } else if let inner = fields["neg_exp"] {
      let role = try inner.string()
      guard PieceFunction.image(of: role, by: .negExp) != nil else {
        throw inner.error("no kind has -exp of '\(role)'; a_log has it")
      }
      self = .image(of: role, by: .negExp)
    } else {
      throw cursor.error(
        "needs one of piece, concat, interleave with groups, rotary_pairs with heads, duplicate with times, stack with count, neg_exp"
      )
    }
  }
}

extension Layout.Ignored {
  init(_ cursor: YAMLCursor) throws(Diagnostic) {
    let fields = try cursor.fields(["tensors", "why", "parameter", "rest", "write"])
    guard let glob = fields["tensors"], let why = fields["why"] else {
      throw cursor.error("needs tensors and why")
    }
    self.glob = try glob.string()
    self.why = try why.string()
    isParameter = try fields["parameter"]?.json().bool ?? false
    isRest = try fields["rest"]?.json().bool ?? false
    if let write = fields["write"] {
      let parts = try write.fields(["name", "shape", "values", "when"])
      guard let name = parts["name"], (parts["shape"] == nil) != (parts["values"] == nil) else {
        throw write.error("needs name, and shape or values")
      }
      var dims: [Int] = []
      for element in try parts["shape"]?.elements() ?? [] {
        guard let dim = try element.json().int else { throw element.error("should be a number") }
        dims.append(dim)
      }
      self.write = Written(
        name: try name.template(), shape: dims,
        values: try parts["values"].map { (c) throws(Diagnostic) in try c.expression() },
        when: try parts["when"].map { (c) throws(Diagnostic) in try c.expression() })
    }
  }
}

extension Layout.Write {
  init(_ cursor: YAMLCursor) throws(Diagnostic) {
    let fields = try cursor.fields([
      "when", "dated", "patterns", "let", "config", "infinity", "carry", "rewrites", "pad",
      "accept",
    ])
    guard let patterns = fields["patterns"], let config = fields["config"] else {
      throw cursor.error("needs patterns and config")
    }
    when = try fields["when"].map { (c) throws(Diagnostic) in try c.expression() }
    dated = try fields["dated"].map { (c) throws(Diagnostic) in try c.expression() }
    var list: [Pattern] = []
    for (name, value) in try patterns.members() {
      let slots = value.attempt(or: []) { (value) throws(Diagnostic) -> [PatternSlot] in
        var slots: [PatternSlot] = []
        for element in try value.elements() {
          let parts = try element.fields(["kinds", "fill", "optional"])
          guard let kinds = parts["kinds"] else { throw element.error("needs kinds") }
          slots.append(
            PatternSlot(
              kinds: try kinds.strings(), fill: try parts["fill"]?.json().bool ?? false,
              isOptional: try parts["optional"]?.json().bool ?? false))
        }
        return slots
      }
      list.append(Pattern(name: name, slots: slots))
    }
    self.patterns = list
    lets = try fields["let"]?.lets() ?? []
    self.config = try Layout.Write.entries(config)
    if let number = fields["infinity"] {
      guard let value = try number.json().double else { throw number.error("should be a number") }
      infinity = value
    }
    carry = try fields["carry"]?.strings() ?? []
    rewrites = try fields["rewrites"]?.strings() ?? []
    paddings = YAMLCursor.attempt(each: try fields["pad"]?.elements() ?? []) {
      (element) throws(Diagnostic) in
      let parts = try element.fields(["kind", "attribute", "multiple"])
      guard let kind = parts["kind"], let attribute = parts["attribute"],
        let multiple = try parts["multiple"]?.json().int
      else { throw element.error("needs kind, attribute and multiple") }
      return Padding(kind: try kind.string(), attribute: try attribute.string(), multiple: multiple)
    }
    accepts = YAMLCursor.attempt(each: try fields["accept"]?.elements() ?? []) {
      (element) throws(Diagnostic) in
      let parts = try element.fields(["kind", "attribute", "reason"])
      guard let kind = parts["kind"], let attribute = parts["attribute"],
        let reason = parts["reason"]
      else { throw element.error("needs kind, attribute and reason") }
      return Acceptance(
        kind: try kind.string(), attribute: try attribute.string(), reason: try reason.string())
    }
  }

  private static func entries(_ cursor: YAMLCursor) throws(Diagnostic) -> [Entry] {
    var entries: [Entry] = []
    for (key, value) in try cursor.members() {
      let omits = key.hasSuffix("?")
      entries.append(
        Entry(
          key: omits ? String(key.dropLast()) : key,
          value: value.attempt(or: .constant(.null)) { (c) throws(Diagnostic) in try template(c) },
          omitsNull: omits))
    }
    return entries
  }

  /// Texts are expressions; numbers, truth values and null are themselves.
  private static func template(_ cursor: YAMLCursor) throws(Diagnostic) -> Template {
    if cursor.isMapping { return .object(try entries(cursor)) }
    if cursor.isSequence {
      var list: [Template] = []
      for element in try cursor.elements() { list.append(try template(element)) }
      return .list(list)
    }
    let value = try cursor.json()
    if case .string = value { return .expression(try cursor.expression()) }
    return .constant(value)
  }
}
