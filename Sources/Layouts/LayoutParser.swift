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
    let fields = try root.fields([
      "layout", "framework", "family", "title", "source", "files", "detect", "config", "let",
      "model", "layers", "mixers", "ignore", "write",
    ])
    func need(_ key: String) throws(Diagnostic) -> YAMLCursor {
      guard let value = fields[key] else { throw root.error("has no '\(key)'") }
      return value
    }
    name = try need("layout").string()
    framework = try need("framework").string()
    family = try need("family").expression()
    title = try need("title").string()
    source = try need("source").string()
    files = try Files(need("files"))
    detect = try Detect(need("detect"))
    config = try Config(need("config"), inertGroups)
    lets = try fields["let"]?.bindings() ?? []
    model = try Model(need("model"))
    layers = try Layers(need("layers"))
    var mixers: [String: Mixer] = [:]
    for (key, value) in try need("mixers").members() { mixers[key] = try Mixer(value) }
    self.mixers = mixers
    var ignore: [Ignored] = []
    for element in try fields["ignore"]?.elements() ?? [] { ignore.append(try Ignored(element)) }
    self.ignore = ignore
    write = try fields["write"].map { (cursor) throws(Diagnostic) in try Write(cursor) }
    for slot in layers.slots {
      for option in slot.options where mixers[option.mixer] == nil {
        throw root.error(
          "has no mixer '\(option.mixer)'",
          help: "mixers of this file: \(mixers.keys.sorted().joined(separator: ", "))")
      }
    }
  }
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
  init(_ cursor: YAMLCursor) throws(Diagnostic) {
    let fields = try cursor.fields([
      "tensors", "absent", "strip", "config", "model_types", "base", "tied",
    ])
    tensors = try fields["tensors"]?.strings() ?? []
    absent = try fields["absent"]?.strings() ?? []
    strip = try fields["strip"]?.strings() ?? []
    config = try fields["config"].map { (c) throws(Diagnostic) in try c.expression() }
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
      let key = try value.fields(["default", "required", "aliases", "members"])
      if key["default"] == nil, key["required"] == nil {
        throw value.error("needs 'default' or 'required: true'")
      }
      keys.append(
        Key(
          name: name, initial: try key["default"]?.json().resolvingFloatTags,
          aliases: try key["aliases"]?.strings() ?? [],
          members: try key["members"].map { (c) throws(Diagnostic) in try Members(c) }))
    }
    self.keys = keys
    var inert: [String] = []
    for element in try fields["inert"]?.elements() ?? [] {
      let name = try element.string()
      if !name.hasPrefix("@") {
        inert.append(name)
      } else if let group = inertGroups[String(name.dropFirst())] {
        inert += group
      } else {
        throw element.error("names no group of inert keys")
      }
    }
    self.inert = inert
    var requirements: [Requirement] = []
    for element in try fields["require"]?.elements() ?? [] {
      let parts = try element.fields(["that", "key", "why"])
      guard let that = parts["that"], let key = parts["key"], let why = parts["why"] else {
        throw element.error("needs that, key and why")
      }
      requirements.append(
        Requirement(that: try that.expression(), key: try key.string(), why: try why.string()))
    }
    self.requirements = requirements
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
    lets = try fields["let"]?.bindings() ?? []
    attributes = try fields["attributes"]?.bindings() ?? []
    var all: [Layout.Slot] = []
    for element in try slots.elements() {
      let parts = try element.fields(["when", "options"])
      guard let options = parts["options"] else { throw element.error("needs options") }
      var list: [Layout.Option] = []
      for option in try options.elements() { list.append(try Layout.Option(option)) }
      all.append(
        Layout.Slot(
          when: try parts["when"].map { (c) throws(Diagnostic) in try c.expression() },
          options: list))
    }
    self.slots = all
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
      let name: NameTemplate
      do { name = try NameTemplate(parsing: key) } catch { throw value.error(error.message) }
      let forms = value.isSequence ? try value.elements() : [value]
      for form in forms { tensors.append(try Layout.Tensor(name: name, form)) }
    }
    return tensors
  }

  init(name: NameTemplate, _ cursor: YAMLCursor) throws(Diagnostic) {
    self.name = name
    guard cursor.isMapping else {
      glue = .piece(try cursor.string())
      return
    }
    let fields = try cursor.fields(Glue.keys + ["shape", "or", "when", "tied"])
    glue = try Glue(fields, at: cursor)
    func extents(_ cursor: YAMLCursor) throws(Diagnostic) -> [Expression] {
      var extents: [Expression] = []
      for element in try cursor.elements() { extents.append(try element.expression()) }
      return extents
    }
    shape = try fields["shape"].map(extents)
    alternative = try fields["or"].map(extents)
    when = try fields["when"].map { (c) throws(Diagnostic) in try c.expression() }
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
    "piece", "concat", "interleave", "groups", "rotary_pairs", "heads", "duplicate", "times",
    "neg_exp",
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
      self = .rotaryPairs(try Glue(inner), heads: try heads.expression())
    } else if let inner = fields["duplicate"], let times = fields["times"] {
      self = .duplicate(try Glue(inner), times: try times.expression())
    } else if let inner = fields["neg_exp"] {
      let role = try inner.string()
      guard PieceFunction.image(of: role, by: .negExp) != nil else {
        throw inner.error("no kind has -exp of '\(role)'; a_log has it")
      }
      self = .image(of: role, by: .negExp)
    } else {
      throw cursor.error(
        "needs one of piece, concat, interleave with groups, rotary_pairs with heads, duplicate with times, neg_exp"
      )
    }
  }
}

extension Layout.Ignored {
  init(_ cursor: YAMLCursor) throws(Diagnostic) {
    let fields = try cursor.fields(["tensors", "why", "write"])
    guard let glob = fields["tensors"], let why = fields["why"] else {
      throw cursor.error("needs tensors and why")
    }
    self.glob = try glob.string()
    self.why = try why.string()
    if let write = fields["write"] {
      let parts = try write.fields(["name", "shape", "when"])
      guard let name = parts["name"], let shape = parts["shape"] else {
        throw write.error("needs name and shape")
      }
      var dims: [Int] = []
      for element in try shape.elements() {
        guard let dim = try element.json().int else { throw element.error("should be a number") }
        dims.append(dim)
      }
      self.write = Written(
        name: try name.template(), shape: dims,
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
      var slots: [PatternSlot] = []
      for element in try value.elements() {
        let parts = try element.fields(["kinds", "fill"])
        guard let kinds = parts["kinds"] else { throw element.error("needs kinds") }
        slots.append(
          PatternSlot(
            kinds: try kinds.strings(), fill: try parts["fill"]?.json().bool ?? false))
      }
      list.append(Pattern(name: name, slots: slots))
    }
    self.patterns = list
    lets = try fields["let"]?.bindings() ?? []
    self.config = try Layout.Write.entries(config)
    if let number = fields["infinity"] {
      guard let value = try number.json().double else { throw number.error("should be a number") }
      infinity = value
    }
    carry = try fields["carry"]?.strings() ?? []
    rewrites = try fields["rewrites"]?.strings() ?? []
    var paddings: [Padding] = []
    for element in try fields["pad"]?.elements() ?? [] {
      let parts = try element.fields(["kind", "attribute", "multiple"])
      guard let kind = parts["kind"], let attribute = parts["attribute"],
        let multiple = try parts["multiple"]?.json().int
      else { throw element.error("needs kind, attribute and multiple") }
      paddings.append(
        Padding(kind: try kind.string(), attribute: try attribute.string(), multiple: multiple))
    }
    self.paddings = paddings
    var accepts: [Acceptance] = []
    for element in try fields["accept"]?.elements() ?? [] {
      let parts = try element.fields(["kind", "attribute", "reason"])
      guard let kind = parts["kind"], let attribute = parts["attribute"],
        let reason = parts["reason"]
      else { throw element.error("needs kind, attribute and reason") }
      accepts.append(
        Acceptance(
          kind: try kind.string(), attribute: try attribute.string(), reason: try reason.string()))
    }
    self.accepts = accepts
  }

  private static func entries(_ cursor: YAMLCursor) throws(Diagnostic) -> [Entry] {
    var entries: [Entry] = []
    for (key, value) in try cursor.members() {
      let omits = key.hasSuffix("?")
      entries.append(
        Entry(
          key: omits ? String(key.dropLast()) : key, value: try template(value),
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
