public import OrderedCollections
public import Tensors

/// A layout under one config: the model that it describes, and every tensor that it expects.
public struct Expansion: Sendable {
  /// A tensor that the layout expects.
  public struct Expected: Sendable, Hashable {
    /// The name.
    public var name: String
    /// The sub-layer that its pieces belong to; `nil` for the model's own.
    public var sublayer: Int?
    /// The shape.
    public var shape: Shape
    /// Its rows, as runs of rows of pieces, in order.
    public var segments: [RowSegment]
    /// For the head: what becomes of it when it is the embedding.
    public var tied: Layout.Tied?
  }

  /// A buffer that carries no weight but that the framework wants in the file.
  public struct Buffer: Sendable, Hashable {
    /// The name.
    public var name: String
    /// The shape; float32 zeros are written.
    public var shape: Shape
  }

  /// The model; whether it is tied is what the config says.
  public var spec: ModelSpec
  /// The tensors, in the layout's own order.
  public var tensors: [Expected]
  /// Buffers to be written.
  public var buffers: [Buffer]
  /// What was found wrong.
  public var problems: [Diagnostic]
  /// Whether the config could be followed to its end, so that every tensor is listed.
  public var isComplete: Bool
  /// Whether the checkpoint is of an older form that the framework's present version does not load.
  public var isDated: Bool
}

extension Layout {
  /// What this layout makes of `config`: the model and its tensors.
  ///
  /// - Parameters:
  ///   - raw: the framework's own config.
  ///   - vocabulary: the mixers' declarations.
  ///   - inventory: the tensors at hand, for layouts whose config leaves something open; `nil` when
  ///     a config is tried out before there are any.
  public func expand(
    config raw: JSONObject, vocabulary: Vocabulary, inventory: Inventory?
  ) -> Expansion {
    var builder = Expander(layout: self, vocabulary: vocabulary)
    builder.expand(raw, inventory)
    return Expansion(
      spec: builder.spec, tensors: builder.tensors, buffers: builder.buffers,
      problems: builder.problems, isComplete: builder.isComplete,
      isDated: builder.isDated)
  }
}

extension Layout.Config {
  /// The name under which a config holds a key: its own or an alias.
  func written(_ key: String, in raw: JSONObject) -> String {
    guard raw[key] == nil else { return key }
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
  var spec = ModelSpec(family: "", attributes: [:], layerCount: 0, sublayers: [])
  var tensors: [Expansion.Expected] = []
  var buffers: [Expansion.Buffer] = []
  var problems: [Diagnostic] = []
  var isComplete = false
  var isDated = false
  /// Runs of rows of all tensors so far.
  var segmentCount = 0
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
        scope.values[binding.name] = try binding.value.value(in: scope)
      }
      for requirement in layout.config.requirements {
        if try !requirement.that.bool(in: scope) {
          let found = raw[requirement.key] ?? scope.values[requirement.key] ?? .null
          problems.append(
            Diagnostic(
              code: "config.unsupported", subject: layout.config.written(requirement.key, in: raw),
              message: "is \(found.brief): \(requirement.why)",
              help: "this changes the mathematics; no layout here expresses it"))
        }
      }
      spec.family = try layout.family.value(in: scope).string ?? ""
      try expandModel(&scope, inventory)
      try expandLayers(scope)
      try expandBuffers(scope)
      if let dated = layout.write?.dated, try dated.bool(in: scope) { isDated = true }
      isComplete = true
    } catch {
      problems.append(error)
    }
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
        scope.values[key.name] = value
        if first != key.name { isDated = true }
      } else if let initial = key.initial {
        scope.values[key.name] = initial
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
      let off = [.null, .bool(false), .int(0), .array([]), .string("")].contains(value)
      problems.append(
        Diagnostic(
          off ? .warning : .error, code: "config.unknown-key", subject: key,
          message: "is \(value.brief), and \(layout.name) does not know this key",
          help: off
            ? nil : "if it changes nothing in the forward pass, remove it from the config"))
    }
    scope.functions = Expander.functions(inventory)
    return complete ? scope : nil
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
    var attributes: JSONObject = ["tied": .bool(try layout.model.tied.bool(in: scope))]
    for binding in layout.model.attributes {
      attributes[binding.name] = try binding.value.value(in: scope)
    }
    spec.attributes = try complete(attributes, vocabulary.model)
    try addTensors(
      layout.model.tensors, prefix: "", kind: vocabulary.model, sublayer: nil, scope: scope)
  }

  private mutating func expandLayers(_ outer: Scope) throws(Diagnostic) {
    for i in 0..<spec.layerCount {
      var scope = outer
      scope.values["i"] = .int(i)
      for binding in layout.layers.lets {
        scope.values[binding.name] = try binding.value.value(in: scope)
      }
      let prefix = try layout.layers.prefix.expand(in: scope)
      for slot in layout.layers.slots {
        if let when = slot.when, try !when.bool(in: scope) { continue }
        guard let option = try choose(slot, scope) else {
          throw Diagnostic(
            code: "config.unsupported", subject: "layer \(i)",
            message: "is of a kind that \(layout.name) does not know")
        }
        try addSublayer(option, layer: i, prefix: prefix, scope: scope)
      }
    }
  }

  private func choose(_ slot: Layout.Slot, _ scope: Scope) throws(Diagnostic) -> Layout.Option? {
    for option in slot.options {
      guard let when = option.when else { return option }
      if try when.bool(in: scope) { return option }
    }
    return nil
  }

  private mutating func addSublayer(
    _ option: Layout.Option, layer: Int, prefix: String, scope: Scope
  ) throws(Diagnostic) {
    let mixer = layout.mixers[option.mixer]!
    guard let kind = vocabulary.kinds[mixer.kind] else {
      throw Diagnostic(
        code: "layout.schema", subject: layout.name,
        message: "mixer '\(option.mixer)' is of the unknown kind '\(mixer.kind)'")
    }
    var attributes: JSONObject = [:]
    for binding in layout.layers.attributes + mixer.attributes + option.attributes {
      attributes[binding.name] = try binding.value.value(in: scope)
    }
    let index = spec.sublayers.count
    spec.sublayers.append(
      ModelSpec.Sublayer(
        layer: layer, kind: mixer.kind, attributes: try complete(attributes, kind)))
    if let norm = option.norm {
      let name = prefix + (try norm.expand(in: scope))
      try addTensors(
        [
          Layout.Tensor(
            name: NameTemplate(parsing: "\(name).weight"), glue: .piece("norm.weight")),
          Layout.Tensor(
            name: NameTemplate(parsing: "\(name).bias"), glue: .piece("norm.bias"),
            when: Expression(literal: "norm == 'layer'")),
        ], prefix: "", kind: kind, sublayer: index, scope: scope)
    }
    try addTensors(
      mixer.tensors, prefix: prefix + (try option.prefix.expand(in: scope)), kind: kind,
      sublayer: index, scope: scope)
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
      all[attribute.name] = value
    }
    if let stray = attributes.keys.first(where: { all[$0] == nil }) {
      throw Diagnostic(
        code: "layout.schema", subject: layout.name,
        message: "speaks of \(kind.name)'s '\(stray)', which it does not have")
    }
    return all
  }

  // MARK: Tensors

  private mutating func addTensors(
    _ rules: [Layout.Tensor], prefix: String, kind: MixerKind, sublayer: Int?, scope outer: Scope
  ) throws(Diagnostic) {
    var scope = outer
    let attributes = sublayer.map { spec.sublayers[$0].attributes } ?? spec.attributes
    for (name, value) in spec.attributes { scope.values[name] = value }
    for (name, value) in attributes { scope.values[name] = value }
    for rule in rules {
      if let when = rule.when, try !when.bool(in: scope) { continue }
      var shapes: [String: Shape] = [:]
      for role in rule.glue.roles {
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
      guard segmentCount <= Expander.mostSegments else {
        throw Diagnostic(
          code: "config.value", subject: rule.name.text,
          message: "is one of tensors that are glued from more than \(Expander.mostSegments) runs "
            + "of rows together")
      }
      var dims: [Int] = []
      if let explicit = rule.shape {
        for extent in explicit {
          let dim = try extent.int(in: scope)
          guard (0...MixerKind.mostExtent).contains(dim) else {
            throw Diagnostic(
              code: "config.value", subject: rule.name.text,
              message: "would have the extent \(dim)")
          }
          dims.append(dim)
        }
      } else {
        dims = shapes[rule.glue.roles[0]]!.dims
        if !dims.isEmpty { dims[0] = segments.reduce(0) { $0 + $1.count } }
      }
      tensors.append(
        Expansion.Expected(
          name: prefix + (try rule.name.expand(in: scope)), sublayer: sublayer,
          shape: Shape(dims), segments: segments, tied: rule.tied))
    }
  }

  private mutating func expandBuffers(_ outer: Scope) throws(Diagnostic) {
    for ignored in layout.ignore {
      guard let write = ignored.write else { continue }
      let perLayer = write.name.text.contains("{i}")
      for i in 0..<(perLayer ? spec.layerCount : 1) {
        var scope = outer
        scope.values["i"] = .int(i)
        if let when = write.when, try !when.bool(in: scope) { continue }
        buffers.append(
          Expansion.Buffer(name: try write.name.expand(in: scope), shape: Shape(write.shape)))
      }
    }
  }
}

extension MixerKind {
  /// No tensor is longer in one direction; sums of a few of these do not overflow.
  static let mostExtent = 1 << 40
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
