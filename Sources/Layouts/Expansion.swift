public import Hub
public import OrderedCollections
public import Tensors

/// A layout under one config: the model that it describes, and every tensor that it expects.
public struct Expansion: Sendable {
  /// A tensor that the layout expects.
  public struct ExpectedTensor: Sendable {
    /// The name.
    public var name: String
    /// The sub-layer that its pieces belong to; `nil` for the model's own.
    public var sublayer: Int?
    /// What it is.
    public var form: TensorForm

    /// The shape.
    public var shape: Shape { form.shape }
    /// Its rows, as runs of rows of pieces, in order.
    public var segments: [RowSegment] { form.segments }
    /// The same by piece: each with its own shape, and where its rows lie in the tensor.
    public var pieces: [HeldPiece] { form.pieces }
    /// For the head: what becomes of it when it is the embedding.
    public var tied: Layout.Tied? { form.tied }
  }

  /// A tensor but for its name: the layers of a model have most of their forms in common.
  public final class TensorForm: Sendable {
    /// The name, behind the prefixes of layer and mixer.
    let name: NameTemplate
    /// The shape.
    public let shape: Shape
    /// Another shape of the same elements in the same order, in which the file may have it.
    public let alternative: Shape?
    /// Its rows, as runs of rows of pieces, in order.
    public let segments: [RowSegment]
    /// The same by piece: each with its own shape, and where its rows lie in the tensor.
    public let pieces: [HeldPiece]
    /// The roles of the pieces.
    public let roles: [String]
    /// For the head: what becomes of it when it is the embedding.
    public let tied: Layout.Tied?

    init(
      name: NameTemplate, shape: Shape, alternative: Shape?, segments: [RowSegment],
      pieces: [HeldPiece], tied: Layout.Tied?
    ) {
      self.name = name
      self.shape = shape
      self.alternative = alternative
      self.segments = segments
      self.pieces = pieces
      roles = pieces.map(\.role)
      self.tied = tied
    }
  }

  /// A piece as a tensor holds it; a tensor holds all rows of each of its pieces.
  public struct HeldPiece: Sendable, Hashable {
    /// The role.
    public var role: String
    /// The piece's own shape.
    public var shape: Shape
    /// Its rows, in their order; a row that the tensor repeats is listed once.
    public var runs: [RowRun]
  }

  /// A buffer that carries no weight but that the framework wants in the file.
  public struct Buffer: Sendable, Hashable {
    /// The name.
    public var name: String
    /// The shape.
    public var shape: Shape
    /// The float32 numbers that are written; `nil` for zeros.
    public var values: [Double]?
  }

  /// The model; whether it is tied is what the config says.
  public var spec: ModelSpec
  /// The tensors, in the layout's own order.
  public var tensors: [ExpectedTensor]
  /// Buffers to be written.
  public var buffers: [Buffer]
  /// The problems.
  public var problems: [Diagnostic]
  /// Whether the config could be followed to its end, so that every tensor is listed.
  public var isComplete: Bool
  /// Whether the checkpoint is of an older form that the framework's present version does not load.
  public var isLegacy: Bool
  /// Why the config could not be followed to its end, as it was met; `nil` where it could, or where
  /// the layout itself is to blame.
  var failure: ConfigFailure?

  /// Whether several sub-layers may hold one tensor.
  var hasSharedTensors: Bool {
    spec.sublayers.contains { $0.kind == "shared_block" }
  }
}

/// Where a config led to something that cannot be.
struct ConfigFailure {
  /// What was found there.
  var problem: Diagnostic
  /// The expression that led there.
  var expression: Expression?
  /// The values that the attribute may have, where it is one that has another.
  var expected: String?
}

extension Layout {
  /// What this layout makes of `config`: the model and its tensors.
  ///
  /// - Parameters:
  ///   - raw: the framework's own config.
  ///   - vocabulary: the mixers' declarations.
  ///   - inventory: the tensors at hand, for layouts whose config leaves something open; `nil` when
  ///     a config is tried out before there are any.
  ///   - inertKeys: keys that the layout does not know and that the user says change nothing; a key of
  ///     a mapping has the mapping's name and a dot before it.
  public func expand(
    config raw: JSONObject, vocabulary: Vocabulary, inventory: Inventory?,
    inertKeys: Set<String> = []
  ) -> Expansion {
    var builder = Expander(layout: self, vocabulary: vocabulary, inertKeys: inertKeys)
    builder.expand(raw, inventory)
    if let failure = builder.failure {
      var blame = ConfigBlame(
        layout: self, vocabulary: vocabulary, inventory: inventory, inertKeys: inertKeys)
      // Whether anything is unsupported cannot be told of values that cannot be.
      blame.unsupported = Set(
        builder.problems.filter { $0.code == "config.unsupported" }.map(\.subject))
      builder.problems.removeAll { $0.code == "config.unsupported" }
      builder.problems += blame.problems(of: failure, in: raw)
    } else {
      builder.problems += ConfigBlame.unusable(config, in: raw)
    }
    return expansion(builder)
  }

  /// As `expand`, without looking for the key that is to blame for a failure.
  func tryOut(
    config raw: JSONObject, vocabulary: Vocabulary, inventory: Inventory?, inertKeys: Set<String>
  ) -> Expansion {
    var builder = Expander(layout: self, vocabulary: vocabulary, inertKeys: inertKeys)
    builder.expand(raw, inventory)
    if let failure = builder.failure { builder.problems.append(failure.problem) }
    return expansion(builder)
  }

  private func expansion(_ builder: Expander) -> Expansion {
    Expansion(
      spec: builder.spec, tensors: builder.tensors, buffers: builder.buffers,
      problems: builder.problems, isComplete: builder.isComplete,
      isLegacy: builder.isLegacy, failure: builder.failure)
  }
}

extension Layout.Config {
  /// The name under which a config holds a key: its own or an alias.
  func written(_ key: String, in raw: JSONObject) -> String {
    guard raw[key] == nil else { return key }
    if let dot = key.firstIndex(of: ".") {
      return written(String(key[..<dot]), in: raw) + key[dot...]
    }
    return keys.first { $0.name == key }?.aliases.first { raw[$0] != nil } ?? key
  }
}

extension Inventory {
  /// `exists`, `rows`, `columns` and `values` of a tensor, for expressions.
  var functions: [String: Scope.Function] { Expander.functions(self) }
}

private struct Expander {
  let layout: Layout
  let vocabulary: Vocabulary
  let inertKeys: Set<String>
  var spec = ModelSpec(family: "", attributes: [:], layerCount: 0, sublayers: [])
  var tensors: [Expansion.ExpectedTensor] = []
  var buffers: [Expansion.Buffer] = []
  var problems: [Diagnostic] = []
  var isComplete = false
  var isLegacy = false
  var failure: ConfigFailure?
  /// The expression being evaluated.
  var current: Expression?
  /// The values that the attribute in hand may have.
  var expected: String?
  /// Runs of rows of all tensors so far.
  var segmentCount = 0
  var knownForms: [OptionPlace: KnownForms] = [:]
  static let mostSegments = 1 << 22

  /// A config asks for at most this many layers; more is a mistake or an attack.
  static let mostLayers = 10_000
  /// And for at most this many, or one for each tensor that is there: work and messages follow the
  /// checkpoint, not what its config claims.
  static let mostLayersUnseen = 512

  mutating func expand(_ raw: JSONObject, _ inventory: Inventory?) {
    do throws(Diagnostic) {
      guard var scope = try readConfig(raw, inventory) else { return }
      for binding in layout.lets {
        scope.values[binding.name] = try value(of: binding.value, in: scope)
      }
      for requirement in layout.config.requirements {
        current = requirement.that
        if try !requirement.that.bool(in: scope) {
          let found = found(requirement.key, raw, scope)
          problems.append(
            Diagnostic(
              code: "config.unsupported", subject: layout.config.written(requirement.key, in: raw),
              message: "is \(found.brief): \(requirement.why)",
              help: "this changes the mathematics; no layout here expresses it"))
        }
      }
      spec.family = try value(of: layout.family, in: scope).string ?? ""
      try expandModel(&scope, inventory)
      try expandLayers(scope)
      try expandBuffers(scope)
      if let dated = layout.write?.dated, try dated.bool(in: scope) { isLegacy = true }
      isComplete = true
    } catch {
      // What follows from a key that is not supported is no other mistake.
      guard ["expression.value", "config.value"].contains(error.code) else {
        if !problems.contains(where: { $0.code == "config.unsupported" }) { problems.append(error) }
        return
      }
      failure = ConfigFailure(problem: error, expression: current, expected: expected)
    }
  }

  private mutating func value(
    of expression: Expression, in scope: Scope
  ) throws(Diagnostic) -> JSONValue {
    current = expression
    return try expression.value(in: scope)
  }

  /// What a config says for a key, `ssm_cfg.layer` of a mapping, or what stands for it.
  private func found(_ key: String, _ raw: JSONObject, _ scope: Scope) -> JSONValue {
    let path = key.split(separator: ".").map(String.init)
    guard path.count > 1 else { return raw[key] ?? scope.values[key] ?? .null }
    let whole = raw[layout.config.written(path[0], in: raw)] ?? scope.values[path[0]] ?? .null
    return path.dropFirst().reduce(whole) { $0[$1] ?? .null }
  }

  // MARK: Config

  /// The scope of the config's keys, or `nil` when some are missing.
  private mutating func readConfig(_ raw: JSONObject, _ inventory: Inventory?) throws(Diagnostic)
    -> Scope?
  {
    var scope = Scope(["config": .object(raw), "reading": .bool(inventory != nil)])
    var known: Set<String> = []
    var complete = true
    for key in layout.config.keys {
      known.insert(key.name)
      known.formUnion(key.aliases)
      let present = ([key.name] + key.aliases).filter { raw[$0] != nil }
      if let first = present.first {
        let value = raw[first]!
        for other in present.dropFirst() where !raw[other]!.isSame(as: value) {
          problems.append(
            Diagnostic(
              code: "config.conflict", subject: first,
              message: "is \(value.brief), but its other name \(other) says \(raw[other]!.brief)",
              help: "remove the one that is wrong"))
        }
        Self.set(value, as: key.name, in: &scope)
        if first != key.name { isLegacy = true }
      } else if let initial = key.initial {
        Self.set(initial, as: key.name, in: &scope)
      } else {
        complete = false
        problems.append(
          Diagnostic(
            code: "config.missing-key", subject: key.name,
            message: "is not in the config, and \(layout.framework) has no default for it",
            help: "add it to the config, or give the right one with --config"))
      }
    }
    let inert = layout.config.inert.map { Glob($0) }
    for (key, value) in raw
    where !known.contains(key) && !inert.contains(where: { $0.matches(key) }) {
      // A key that is switched off cannot change the mathematics, whatever it means.
      unknown(
        key, value,
        isOff: [.null, .bool(false), .int(0), .array([]), .string("")].contains(value))
    }
    for key in layout.config.keys {
      guard let members = key.members, let value = scope.values[key.name] else { continue }
      check(value, of: layout.config.written(key.name, in: raw), members)
    }
    for key in inertKeys.sorted() where known.contains(key) { notInert(key) }
    scope.functions = Expander.functions(inventory)
    return complete ? scope : nil
  }

  /// A key that the layout does not know.
  private mutating func unknown(_ key: String, _ value: JSONValue, isOff: Bool) {
    if inertKeys.contains(key) {
      problems.append(
        Diagnostic(
          .note, code: "config.inert-key", subject: key,
          message: "is \(value.brief); as --inert says, it changes nothing"))
      return
    }
    if let neutral = layout.config.neutral.first(where: { Glob($0.glob).matches(key) })?.value,
      value != .null
    {
      guard !Self.isNeutral(value, neutral) else { return }
      problems.append(
        Diagnostic(
          code: "config.unsupported", subject: key,
          message: "is \(value.brief): \(layout.name) does not compute with this factor; only "
            + "\(neutral.brief) would change nothing",
          help: "this changes the mathematics; no layout here expresses it"))
      return
    }
    problems.append(
      Diagnostic(
        isOff ? .warning : .error, code: "config.unknown-key", subject: key,
        message: "is \(value.brief), and \(layout.name) does not know this key",
        help: isOff
          ? nil : "if it changes nothing in the forward pass, say --inert \(key)"))
  }

  /// Whether a factor, or each of a list of factors, has the value that changes nothing.
  private static func isNeutral(_ value: JSONValue, _ neutral: JSONValue) -> Bool {
    if let list = value.array, neutral.array == nil {
      return list.allSatisfy { $0.isSame(as: neutral) }
    }
    return value.isSame(as: neutral)
  }

  private mutating func notInert(_ key: String) {
    problems.append(
      Diagnostic(
        code: "config.inert", subject: key,
        message: "is a key that \(layout.name) computes with",
        help: "--inert is for keys that the layout does not know"))
  }

  /// Looks at every key of a mapping, or of each mapping of a list.
  private mutating func check(
    _ value: JSONValue, of path: String, _ members: Layout.Config.Members
  ) {
    if let list = value.array {
      var seen: Set<String> = []
      // Mappings of a list are alike; what is wrong in many is said once.
      for element in list {
        guard let object = element.object else { continue }
        check(.object(object.filter { seen.insert($0.key).inserted }), of: path, members)
      }
      return
    }
    guard let object = value.object else { return }
    let inert = members.inert.map { Glob($0) }
    for (key, value) in object {
      let name = "\(path).\(key)"
      if let only = members.only.first(where: { $0.name == key }) {
        if inertKeys.contains(name) { notInert(name) }
        guard !only.values.contains(where: { $0.isSame(as: value) }) else { continue }
        problems.append(
          Diagnostic(
            code: "config.unsupported", subject: name,
            message: "is \(value.brief): only "
              + "\(only.values.map(\.brief).joined(separator: " and ")) "
              + "\(only.values.count == 1 ? "is" : "are") supported",
            help: "this changes the mathematics; no layout here expresses it"))
      } else if members.known.contains(key) {
        if inertKeys.contains(name) { notInert(name) }
      } else if !inert.contains(where: { $0.matches(key) }) {
        // Where a switch stands that nobody knows, off may not be its default.
        unknown(name, value, isOff: value == .null)
      }
    }
  }

  /// Gives a key its value; `ssm.state_size` becomes the member `state_size` of `ssm`.
  private static func set(_ value: JSONValue, as name: String, in scope: inout Scope) {
    var parts = name.split(separator: ".").map(String.init)
    guard parts.count > 1 else {
      scope.values[name] = value
      return
    }
    func object(_ old: JSONValue?, _ rest: ArraySlice<String>) -> JSONValue {
      guard let first = rest.first else { return value }
      var members = old?.object ?? [:]
      members[first] = object(members[first], rest.dropFirst())
      return .object(members)
    }
    let root = parts.removeFirst()
    scope.values[root] = object(scope.values[root], parts[...])
  }

  /// `exists`, `rows`, `columns` and `values` of a tensor; without tensors none exists.
  static func functions(_ inventory: Inventory?) -> [String: Scope.Function] {
    @Sendable func find(_ arguments: [JSONValue]) -> Int? {
      arguments.first?.string.flatMap { inventory?[$0] }
    }
    return [
      "exists": { (v) throws(Diagnostic) in .bool(find(v) != nil) },
      "rows": { (v) throws(Diagnostic) in
        find(v).flatMap { inventory!.infos[$0].shape.dims.first }.map { .int($0) } ?? .null
      },
      "columns": { (v) throws(Diagnostic) in
        find(v).flatMap { inventory!.infos[$0].shape.dims.last }.map { .int($0) } ?? .null
      },
      "values": { (v) throws(Diagnostic) in
        find(v).flatMap { inventory!.values($0) }.map { .array($0.map { .double($0) }) } ?? .null
      },
    ]
  }

  // MARK: Model and layers

  private mutating func expandModel(_ scope: inout Scope, _ inventory: Inventory?)
    throws(Diagnostic)
  {
    current = layout.model.layerCount
    let count = try layout.model.layerCount.int(in: scope)
    let most = inventory.map { max(Expander.mostLayersUnseen, $0.infos.count) } ?? .max
    guard (0...min(most, Expander.mostLayers)).contains(count) else {
      throw Diagnostic(
        code: "config.value", subject: layout.model.layerCount.text,
        message: "gives \(count) layers; from 0 to \(min(most, Expander.mostLayers)) are possible"
          + (most < Expander.mostLayers ? " with \(inventory?.infos.count ?? 0) tensors" : ""))
    }
    spec.layerCount = count
    scope.values["n_layer"] = .int(count)
    // Null: no config says it, and either can be written.
    let tied = try value(of: layout.model.tied, in: scope)
    var attributes: JSONObject = [
      "tied": tied == .null ? .null : .bool(try layout.model.tied.bool(in: scope))
    ]
    for binding in layout.model.attributes {
      attributes[binding.name] = try value(of: binding.value, in: scope)
    }
    spec.attributes = try complete(attributes, vocabulary.model)
    try check(spec.attributes, of: vocabulary.model, layout.model.attributes, in: scope)
    let inner = self.scope(for: [:], in: scope)
    current = nil
    for form in try forms(layout.model.tensors, vocabulary.model, inner) {
      try add(form, name: try form.name.expand(in: inner), sublayer: nil)
    }
  }

  private mutating func expandLayers(_ outer: Scope) throws(Diagnostic) {
    let shared = outer.nested
    for i in 0..<spec.layerCount {
      var scope = shared
      scope.values["i"] = .int(i)
      for binding in layout.layers.lets {
        scope.values[binding.name] = try value(of: binding.value, in: scope)
      }
      let prefix = try layout.layers.prefix.expand(in: scope)
      for (number, slot) in layout.layers.slots.enumerated() {
        current = slot.when
        if let when = slot.when, try !when.bool(in: scope) { continue }
        guard let option = try choose(slot, scope) else {
          throw Diagnostic(
            code: "config.unsupported", subject: "layer \(i)",
            message: "is of a kind that \(layout.name) does not know")
        }
        try addSublayer(
          slot.options[option], OptionPlace(slot: number, option: option), layer: i, prefix: prefix,
          scope: scope)
      }
    }
  }

  private mutating func choose(_ slot: Layout.Slot, _ scope: Scope) throws(Diagnostic) -> Int? {
    for (number, option) in slot.options.enumerated() {
      guard let when = option.when else { return number }
      current = when
      if try when.bool(in: scope) { return number }
    }
    return nil
  }

  private mutating func addSublayer(
    _ option: Layout.Option, _ place: OptionPlace, layer: Int, prefix: String, scope: Scope
  ) throws(Diagnostic) {
    let form = try form(of: option, place, scope)
    let index = spec.sublayers.count
    spec.sublayers.append(
      ModelSpec.Sublayer(layer: layer, kind: form.kind, attributes: form.attributes))
    if let norm = option.norm {
      // A norm without a name has no parameters.
      let own = try norm.expand(in: scope)
      let name = prefix + own
      for tensor in own.isEmpty ? [] : form.norm {
        try add(tensor, name: name + (try tensor.name.expand(in: scope)), sublayer: index)
      }
    }
    let prefix = prefix + (try option.prefix.expand(in: scope))
    var inner = scope
    if form.tensors.contains(where: { $0.name.hasHoles }) {
      inner = self.scope(for: form.attributes, in: scope)
    }
    for tensor in form.tensors {
      try add(tensor, name: prefix + (try tensor.name.expand(in: inner)), sublayer: index)
    }
  }

  // MARK: Forms

  /// Where a layout offers a sub-layer: the slot's number and the option's within it.
  struct OptionPlace: Hashable {
    var slot: Int
    var option: Int
  }

  /// A sub-layer but for the layer that it stands in.
  struct SublayerForm {
    var kind: String
    var attributes: JSONObject
    var norm: [Expansion.TensorForm]
    var tensors: [Expansion.TensorForm]
  }

  /// The forms of an option that were met so far.
  struct KnownForms {
    /// What may differ from layer to layer of what the form is made from.
    var names: [String]
    /// Forms by the values of these names.
    var forms: [[JSONValue]: SublayerForm]
  }

  private static let normRules = [
    Layout.Tensor(name: NameTemplate(literal: ".weight"), glue: .piece("norm.weight")),
    Layout.Tensor(
      name: NameTemplate(literal: ".bias"), glue: .piece("norm.bias"),
      when: Expression(literal: "norm == 'layer'")),
  ]

  /// What the sub-layer is in the layer that `scope` is of. Most layers are like another but for
  /// their number: what was made for one serves all that agree in what it was made from.
  private mutating func form(
    of option: Layout.Option, _ place: OptionPlace, _ scope: Scope
  ) throws(Diagnostic) -> SublayerForm {
    let mixer = layout.mixers[option.mixer]!
    var known =
      knownForms.removeValue(forKey: place)
      ?? KnownForms(names: varyingNames(option, mixer), forms: [:])
    defer { knownForms[place] = known }
    let values = known.names.map { scope[$0] ?? .null }
    if let form = known.forms[values] { return form }
    guard let kind = vocabulary.kinds[mixer.kind] else {
      throw Diagnostic(
        code: "layout.schema", subject: layout.name,
        message: "mixer '\(option.mixer)' is of the unknown kind '\(mixer.kind)'")
    }
    var attributes: JSONObject = [:]
    let bindings = layout.layers.attributes + mixer.attributes + option.attributes
    for binding in bindings {
      expected = kind.attributes.first { $0.name == binding.name }?.domain.expected
      attributes[binding.name] = try value(of: binding.value, in: scope)
    }
    attributes = try complete(attributes, kind)
    try check(attributes, of: kind, bindings, in: scope)
    current = nil
    let inner = self.scope(for: attributes, in: scope)
    let form = SublayerForm(
      kind: mixer.kind, attributes: attributes,
      norm: option.norm == nil ? [] : try forms(Self.normRules, kind, inner),
      tensors: try forms(mixer.tensors, kind, inner))
    known.forms[values] = form
    return form
  }

  /// The names that differ from layer to layer and that an option's expressions speak of.
  private func varyingNames(_ option: Layout.Option, _ mixer: Layout.Mixer) -> [String] {
    var names: Set<String> = []
    for binding in layout.layers.attributes + mixer.attributes + option.attributes {
      names.formUnion(binding.value.names)
    }
    for rule in mixer.tensors {
      for expression in [rule.when].compactMap(\.self) + (rule.shape ?? [])
        + (rule.alternative ?? []) + rule.glue.expressions + [rule.each].compactMap(\.self)
      {
        names.formUnion(expression.names)
      }
    }
    return (["i"] + layout.layers.lets.map(\.name)).filter { names.contains($0) }
  }

  /// `outer` with the model's attributes and a sub-layer's.
  private func scope(for attributes: JSONObject, in outer: Scope) -> Scope {
    var scope = outer.nested
    for (name, value) in spec.attributes { scope.values[name] = value }
    for (name, value) in attributes { scope.values[name] = value }
    return scope
  }

  /// `attributes` in the kind's order with its defaults; unknown and missing ones are the layout's
  /// mistake.
  private func complete(_ attributes: JSONObject, _ kind: MixerKind) throws(Diagnostic)
    -> JSONObject
  {
    var all: JSONObject = [:]
    for attribute in kind.attributes {
      guard let value = attributes[attribute.name] ?? attribute.initial else {
        throw Diagnostic(
          code: "layout.schema", subject: layout.name,
          message: "says nothing of \(kind.name)'s \(attribute.name)")
      }
      all[attribute.name] = attribute.normal(value)
    }
    if let stray = attributes.keys.first(where: { all[$0] == nil }) {
      throw Diagnostic(
        code: "layout.schema", subject: layout.name,
        message: "speaks of \(kind.name)'s '\(stray)', which it does not have")
    }
    return all
  }

  /// Looks at every attribute's domain, and at what must hold between them.
  ///
  /// - Throws: `config.value`.
  private mutating func check(
    _ attributes: JSONObject, of kind: MixerKind, _ bindings: [Layout.Binding], in scope: Scope
  ) throws(Diagnostic) {
    func binding(_ name: String) -> Expression? { bindings.last { $0.name == name }?.value }
    for attribute in kind.attributes {
      let value = attributes[attribute.name] ?? .null
      guard !attribute.allows(value) else { continue }
      current = binding(attribute.name)
      expected = attribute.domain.expected
      throw ConfigFailure.problem(kind.name, attribute.name, value, attribute.domain.expected)
    }
    expected = nil
    guard !kind.rules.isEmpty else { return }
    let inner = self.scope(for: attributes, in: scope)
    for rule in kind.rules {
      current = binding(rule.attribute)
      expected = rule.expected
      if try !rule.that.bool(in: inner) {
        throw ConfigFailure.problem(
          kind.name, rule.attribute, attributes[rule.attribute] ?? .null, rule.expected)
      }
    }
    expected = nil
  }

  // MARK: Tensors

  /// The tensors of `rules` that are there.
  private func forms(
    _ rules: [Layout.Tensor], _ kind: MixerKind, _ scope: Scope
  ) throws(Diagnostic) -> [Expansion.TensorForm] {
    var forms: [Expansion.TensorForm] = []
    var segmentCount = self.segmentCount
    for rule in try numbered(rules, scope) {
      var shapes: [String: Shape] = [:]
      let roles = rule.glue.roles
      for role in roles where shapes[role] == nil {
        guard let piece = kind.piece(role) else {
          throw Diagnostic(
            code: "layout.schema", subject: layout.name,
            message: "\(rule.name) is glued from '\(role)', which \(kind.name) does not have")
        }
        shapes[role] = try piece.shape(in: scope)
      }
      let rows = shapes.mapValues { $0.dims.first ?? 1 }
      let segments = try rule.glue.segments(rows: rows, scope: scope)
      segmentCount += segments.count
      try afford(segmentCount, rule.name)
      var dims: [Int] = []
      if let explicit = rule.shape {
        dims = try extents(explicit, of: rule, scope)
      } else {
        dims = roles.first.flatMap { shapes[$0] }?.dims ?? []
        if !dims.isEmpty { dims[0] = segments.reduce(0) { $0 + $1.count } }
      }
      forms.append(
        Expansion.TensorForm(
          name: rule.name, shape: Shape(dims),
          alternative: try alternative(of: rule, to: Shape(dims), scope), segments: segments,
          pieces: held(segments, shapes, in: dims), tied: rule.tied))
    }
    return forms
  }

  /// The rules that hold, one for each tensor, with their stacks written out.
  private func numbered(
    _ rules: [Layout.Tensor], _ scope: Scope
  ) throws(Diagnostic) -> [Layout.Tensor] {
    var all: [Layout.Tensor] = []
    for rule in rules {
      if let when = rule.when, try !when.bool(in: scope) { continue }
      var rule = rule
      rule.glue = try rule.glue.unstacked(in: scope)
      guard let each = rule.each else {
        all.append(rule)
        continue
      }
      for number in 0..<(try Glue.copies(each, in: scope)) { all.append(rule.numbered(number)) }
    }
    return all
  }

  private func extents(
    _ expressions: [Expression], of rule: Layout.Tensor, _ scope: Scope
  ) throws(Diagnostic) -> [Int] {
    var dims: [Int] = []
    for extent in expressions {
      let dim = try extent.int(in: scope)
      guard (0...MixerKind.mostExtent).contains(dim) else {
        throw Diagnostic(
          code: "config.value", subject: rule.name.text, message: "would have the extent \(dim)")
      }
      dims.append(dim)
    }
    return dims
  }

  /// The rule's other shape, which must be a view of the same elements: the rows stay rows.
  private func alternative(
    of rule: Layout.Tensor, to shape: Shape, _ scope: Scope
  ) throws(Diagnostic) -> Shape? {
    guard let expressions = rule.alternative else { return nil }
    let other = Shape(try extents(expressions, of: rule, scope))
    guard other.dims.first == shape.dims.first, other.elementCount == shape.elementCount else {
      throw Diagnostic(
        code: "layout.schema", subject: layout.name,
        message: "\(rule.name) is \(shape) or \(other), which are not the same elements")
    }
    return other
  }

  /// Where each piece's rows lie in a tensor of the extents `dims`.
  private func held(
    _ segments: [RowSegment], _ shapes: [String: Shape], in dims: [Int]
  ) -> [Expansion.HeldPiece] {
    var runs: OrderedDictionary<String, [RowRun]> = [:]
    var row = 0
    for segment in segments {
      runs[segment.role, default: []].append(
        .init(tensorRow: row, pieceRow: segment.start, count: segment.count))
      row += segment.count
    }
    // Rows of pieces that are no rows of the tensor: experts stacked along an axis of their own.
    let isView =
      Shape(dims).elementCount.map { whole in
        whole
          == segments.reduce(0) { sum, segment in
            sum.addingReportingOverflow(
              segment.count.multipliedReportingOverflow(by: shapes[segment.role]!.rowElements)
                .partialValue
            ).partialValue
          }
      } ?? false
    return runs.map { role, all in
      var own: [RowRun] = []
      // A stable order: of rows that the tensor repeats the first counts.
      for run in all.enumerated().sorted(by: {
        ($0.element.pieceRow, $0.offset) < ($1.element.pieceRow, $1.offset)
      }).map(\.element) where run.pieceRow >= own.last.map({ $0.pieceRow + $0.count }) ?? 0 {
        own.append(run)
      }
      // Where a tensor has other extents than its piece, as a convolution's (E, 1, K), the piece has
      // its own if they are as many numbers.
      let lying = Shape([own.reduce(0) { $0 + $1.count }] + dims.dropFirst())
      let declared = shapes[role]!
      // Also where the rows are others, as an (E,) norm's that stands as (G, E/G).
      let isAlone = runs.count == 1 && declared.elementCount == Shape(dims).elementCount
      return Expansion.HeldPiece(
        role: role,
        shape: isAlone || isView && declared.rows == lying.rows
          || declared.elementCount == lying.elementCount ? declared : lying,
        runs: own)
    }
  }

  private func afford(_ segmentCount: Int, _ name: NameTemplate) throws(Diagnostic) {
    guard segmentCount <= Expander.mostSegments else {
      throw Diagnostic(
        code: "config.value", subject: name.text,
        message: "is one of tensors that are glued from more than \(Expander.mostSegments) runs "
          + "of rows together")
    }
  }

  private mutating func add(
    _ form: Expansion.TensorForm, name: String, sublayer: Int?
  ) throws(Diagnostic) {
    segmentCount += form.segments.count
    try afford(segmentCount, form.name)
    tensors.append(Expansion.ExpectedTensor(name: name, sublayer: sublayer, form: form))
  }

  private mutating func expandBuffers(_ outer: Scope) throws(Diagnostic) {
    for ignored in layout.ignore {
      guard let write = ignored.write else { continue }
      let perLayer = write.name.text.contains("{i}")
      for i in 0..<(perLayer ? spec.layerCount : 1) {
        var scope = outer
        scope.values["i"] = .int(i)
        if let when = write.when, try !when.bool(in: scope) { continue }
        var buffer = Expansion.Buffer(
          name: try write.name.expand(in: scope), shape: Shape(write.shape))
        if let expression = write.values {
          let list = try expression.value(in: scope).array ?? []
          let values = list.compactMap(\.double)
          guard values.count == list.count else {
            throw Diagnostic(
              code: "layout.schema", subject: layout.name,
              message: "the values of \(buffer.name) are no list of numbers")
          }
          (buffer.shape, buffer.values) = (Shape([values.count]), values)
        }
        buffers.append(buffer)
      }
    }
  }
}

extension MixerKind.Piece {
  /// The shape under the attributes in `scope`.
  ///
  /// - Throws: `expression.value`; `config.value` for a negative extent.
  public func shape(in scope: Scope) throws(Diagnostic) -> Shape {
    var dims: [Int] = []
    for extent in shape {
      let dim = try extent.int(in: scope)
      guard (0...MixerKind.mostExtent).contains(dim) else {
        throw Diagnostic(
          code: "config.value", subject: role, message: "would have the extent \(dim)")
      }
      dims.append(dim)
    }
    return Shape(dims)
  }
}
