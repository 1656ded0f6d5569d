import Hub
import Layouts
import OrderedCollections
import Tensors

/// Compares a model with what the target's config was read back as: every difference is something
/// that the target cannot express.
struct SpecComparison {
  let target: Layout
  let write: Layout.Write
  let vocabulary: Vocabulary
  let provenance: ConfigProvenance
  var problems: [Diagnostic] = []

  init(
    target: Layout, write: Layout.Write, vocabulary: Vocabulary, provenance: ConfigProvenance
  ) {
    self.target = target
    self.write = write
    self.vocabulary = vocabulary
    self.provenance = provenance
  }

  mutating func compare(_ model: inout HubModel, _ back: ModelSpec) {
    compareModel(&model, back)
    guard model.spec.sublayers.count == back.sublayers.count else {
      problems.append(
        Diagnostic(
          code: "convert.stack", subject: "the stack of sub-layers",
          message:
            "has \(model.spec.sublayers.count) sub-layers; as \(target.title) it would have \(back.sublayers.count)"
        ))
      return
    }
    var groups: OrderedDictionary<String, (Diagnostic, [Int])> = [:]
    for (i, (own, other)) in zip(model.spec.sublayers, back.sublayers).enumerated() {
      if own.kind != other.kind {
        report(
          "kind", "\(own.kind)", .string(own.kind), .string(other.kind), layer: own.layer, &groups)
        continue
      }
      for attribute in vocabulary.kinds[own.kind]?.attributes ?? [] {
        let a = own[attribute.name]
        let b = other[attribute.name]
        if same(a, b) { continue }
        if accepts(own.kind, attribute.name, &model) { continue }
        report(attribute.name, own.kind, a, b, layer: own.layer, &groups)
      }
      _ = i
    }
    for (diagnostic, layers) in groups.values {
      var diagnostic = diagnostic
      if let told = variety(diagnostic.subject, model.spec, back) { diagnostic.message = told }
      let shown = layers.prefix(6).map(String.init).joined(separator: ", ")
      diagnostic.notes.append(
        "in layer\(layers.count > 1 ? "s" : "") \(shown)\(layers.count > 6 ? " …" : "")")
      problems.append(diagnostic)
    }
  }

  private mutating func compareModel(_ model: inout HubModel, _ back: ModelSpec) {
    for attribute in vocabulary.model.attributes {
      let a = model.spec[attribute.name]
      let b = back[attribute.name]
      // The number of meaningful tokens changes nothing that is computed.
      if attribute.name == "vocab_size" || same(a, b) { continue }
      if attribute.name == "tied" {
        if a == true && b == false || b == .null { continue }
        problems.append(
          Diagnostic(
            code: "convert.inexpressible", subject: "tied",
            message:
              "the head differs from the embedding\(provenance.clause(kind: "model", attribute: "tied")), but \(target.title) ties the two"
          ))
        continue
      }
      if accepts("model", attribute.name, &model) { continue }
      problems.append(inexpressible(attribute.name, "model", a, b))
    }
  }

  private func same(_ a: JSONValue, _ b: JSONValue) -> Bool {
    a.isSame(as: b)
  }

  private func accepts(_ kind: String, _ attribute: String, _ model: inout HubModel) -> Bool {
    guard let found = write.accepts.first(where: { $0.kind == kind && $0.attribute == attribute })
    else { return false }
    model.note(.rounding, found.reason)
    return true
  }

  private func report(
    _ attribute: String, _ kind: String, _ a: JSONValue, _ b: JSONValue, layer: Int,
    _ groups: inout OrderedDictionary<String, (Diagnostic, [Int])>
  ) {
    let key = "\(kind).\(attribute).\(a.text()).\(b.text())"
    if groups[key] == nil { groups[key] = (inexpressible(attribute, kind, a, b), []) }
    groups[key]!.1.append(layer)
  }

  /// For an attribute that has several values in the source and must have one in the target.
  private func variety(_ subject: String, _ own: ModelSpec, _ back: ModelSpec) -> String? {
    let parts = subject.split(separator: ".", maxSplits: 1).map(String.init)
    guard parts.count == 2 else { return nil }
    func values(_ spec: ModelSpec) -> OrderedDictionary<JSONValue, [Int]> {
      var layers: OrderedDictionary<JSONValue, [Int]> = [:]
      for sublayer in spec.sublayers where sublayer.kind == parts[0] {
        layers[sublayer[parts[1]], default: []].append(sublayer.layer)
      }
      return layers
    }
    let found = values(own)
    guard found.count > 1, values(back).count == 1 else { return nil }
    let told = found.map { value, layers in
      let shown = layers.prefix(4).map(String.init).joined(separator: ", ")
      return "\(value.brief) in layers \(shown)\(layers.count > 4 ? " …" : "")"
    }
    return
      "differs among layers\(provenance.clause(kind: parts[0], attribute: parts[1])): \(told.joined(separator: "; ")); \(target.title) has one for all"
  }

  private func inexpressible(
    _ attribute: String, _ kind: String, _ a: JSONValue, _ b: JSONValue
  ) -> Diagnostic {
    let summary =
      (vocabulary.kinds[kind] ?? vocabulary.model).attributes.first { $0.name == attribute }?
      .summary
    return Diagnostic(
      code: "convert.inexpressible", subject: "\(kind).\(attribute)",
      message:
        "is \(a.brief) in the source\(provenance.clause(kind: kind, attribute: attribute, value: a)); \(target.title) can only express \(b.text())",
      notes: summary.map { ["\(attribute): \($0)"] } ?? [],
      help: "no config of \(target.framework) says this; choose another target")
  }
}
