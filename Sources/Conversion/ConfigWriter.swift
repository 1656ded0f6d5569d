import Hub
import Layouts
import OrderedCollections
import Tensors

/// Writes a target's config from a model.
struct ConfigWriter {
  let layout: Layout
  let write: Layout.Write
  let source: JSONObject

  /// The config.
  ///
  /// - Throws: `expression.value` for a mistake in the layout.
  func config(
    for model: HubModel, pattern: String, options: ConversionOptions
  ) throws(Diagnostic) -> JSONObject {
    var scope = scope(for: model, pattern: pattern, options: options)
    for binding in write.lets {
      scope.values[binding.name] = try binding.value.value(in: scope)
    }
    var config = try object(write.config, scope)
    for key in write.carry {
      if let value = source[key], config[key] == nil { config[key] = value }
    }
    return Self.plain(config, for: layout)
  }

  /// `config` without the infinities of defaults, which need not be said, and with the number for the
  /// others that stands for infinity in a framework that reads plain JSON.
  static func plain(_ config: JSONObject, for layout: Layout) -> JSONObject {
    var plain = config
    for (key, value) in config where value.holdsNonFinite {
      let known = layout.config.keys.first { $0.name == key || $0.aliases.contains(key) }
      if let initial = known?.initial, value.isSame(as: initial) {
        plain[key] = nil
      } else if let number = layout.write?.infinity {
        plain[key] = value.replacingInfinity(by: number)
      }
    }
    return plain
  }

  /// What only transformers 5 reads of a config.
  static func warnings(_ config: JSONObject) -> [Diagnostic] {
    config.filter { $0.value.holdsNonFinite }.map { key, value in
      Diagnostic(
        .warning, code: "config.float-object", subject: key,
        message: "is \(value.brief), for which JSON has no word; it is written as transformers 5 "
          + "writes it, which transformers 4 does not read")
    }
  }

  /// Whether a condition of the layout holds for the model.
  ///
  /// - Throws: `expression.value` for a mistake in the layout.
  func holds(
    _ condition: Expression, for model: HubModel, pattern: String
  ) throws(Diagnostic) -> Bool {
    try condition.bool(in: scope(for: model, pattern: pattern, options: ConversionOptions()))
  }

  /// Why a layout is not for a model at all.
  static func notOfThisKind(_ layout: Layout, _ condition: Expression) -> Diagnostic {
    Diagnostic(
      code: "convert.no-such-mixer", subject: layout.name,
      message: "is for models of another kind (\(condition.text))")
  }

  private func scope(
    for model: HubModel, pattern: String, options: ConversionOptions
  ) -> Scope {
    var scope = Scope(model.spec.attributes)
    scope.values["n_layer"] = .int(model.spec.layerCount)
    scope.values["pattern"] = .string(pattern)
    scope.values["source"] = .object(source)
    scope.values["dtype"] = .string(SameLayoutPlan.dtypeName(model, options))
    let sublayers: [JSONValue] = model.spec.sublayers.enumerated().map { i, sublayer in
      var object = sublayer.attributes
      object["kind"] = .string(sublayer.kind)
      object["layer"] = .int(sublayer.layer)
      object["slot"] = .int(model.slots[i])
      return .object(object)
    }
    scope.values["sublayers"] = .array(sublayers)
    let spec = model.spec
    let roles = Set(
      model.pieces.keys.compactMap { id in
        id.sublayer.map { "\(spec.sublayers[$0].kind)/\(id.role)" }
      })
    scope.functions = [
      // common(kind, attribute): of the first sub-layer of the kind; reading back shows whether the
      // others agree.
      "common": { (v) throws(Diagnostic) in
        guard v.count == 2, let kind = v[0].string, let name = v[1].string else { return .null }
        return spec.sublayers.first { $0.kind == kind }?[name] ?? .null
      },
      "has": { (v) throws(Diagnostic) in
        guard v.count == 2, let kind = v[0].string, let role = v[1].string else { return false }
        return .bool(roles.contains("\(kind)/\(role)"))
      },
      "count": { (v) throws(Diagnostic) in
        .int(spec.sublayers.count { $0.kind == v.first?.string })
      },
    ]
    return scope
  }

  private func object(_ entries: [Layout.Write.Entry], _ scope: Scope) throws(Diagnostic)
    -> JSONObject
  {
    var object = JSONObject()
    for entry in entries {
      let value = try self.value(entry.value, scope)
      if entry.omitsNull, value == .null { continue }
      object[entry.key] = value
    }
    return object
  }

  private func value(_ template: Layout.Write.Template, _ scope: Scope) throws(Diagnostic)
    -> JSONValue
  {
    switch template {
    case .constant(let value): return value
    case .expression(let expression): return try expression.value(in: scope)
    case .object(let entries): return .object(try object(entries, scope))
    case .list(let templates):
      var values: [JSONValue] = []
      for template in templates { values.append(try value(template, scope)) }
      return .array(values)
    }
  }
}
