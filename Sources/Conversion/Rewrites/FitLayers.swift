import Hub
import Layouts
import OrderedCollections
import Tensors

extension Rewrite {
  /// Lays the flat list of sub-layers out as layers of the target.
  ///
  /// A place that may be filled takes zeros where the model has nothing for it.
  static let fitLayers = Rewrite(name: "fit_layers", need: .pattern, isNamed: false) {
    (model, context) throws(Diagnostic) in
    guard let pattern = context.pattern else { return nil }
    var result = model
    result.slots = []
    var place = 0
    var layer = 0
    var filled: OrderedDictionary<String, Int> = [:]
    while place < result.spec.sublayers.count {
      let start = place
      for (slot, rule) in pattern.slots.enumerated() {
        let here = place < result.spec.sublayers.count ? result.spec.sublayers[place] : nil
        if here.map({ rule.kinds.contains($0.kind) }) != true {
          if rule.isOptional { continue }
          guard rule.fill, let zero = zero(rule, in: result, context.vocabulary) else {
            return nil
          }
          result.insert(zero.sublayer, pieces: zero.pieces, at: place)
          filled[zero.sublayer.kind, default: 0] += 1
        }
        result.spec.sublayers[place].layer = layer
        result.slots.append(slot)
        place += 1
      }
      guard place > start else { return nil }
      layer += 1
    }
    result.spec.layerCount = layer
    model = result
    return filled.map { kind, count in
      Reason(
        .exact, "\(count) \(kind.uppercased())s of zeros are added, which add exactly nothing")
    }
  }

  /// A sub-layer of zeros, shaped like the model's others of its kind, or by the kind's blank form.
  private static func zero(
    _ rule: Layout.Write.PatternSlot, in model: HubModel, _ vocabulary: Vocabulary
  ) -> (sublayer: ModelSpec.Sublayer, pieces: [String: PieceValue])? {
    guard rule.kinds.count == 1, let kind = vocabulary.kinds[rule.kinds[0]],
      !kind.outputPieces.isEmpty, !kind.blank.isEmpty
    else { return nil }
    let likeness = model.spec.sublayers.first { $0.kind == kind.name }
    var attributes = likeness?.attributes ?? kind.blank
    if likeness == nil {
      attributes["norm"] = "rms"
      attributes["norm_eps"] = model.spec["final_norm_eps"]
    }
    // Nobody reads the memory of zeros.
    attributes["saves_memory"] = attributes["saves_memory"].map { _ in .null }
    let scope = Scope(model.spec.attributes, attributes)
    var pieces: [String: PieceValue] = [:]
    for piece in kind.pieces {
      // Of the optional pieces, only the norm before the sub-layer is written.
      guard piece.identity == nil || piece.role == "norm.weight",
        let shape = try? piece.shape(in: scope)
      else { continue }
      pieces[piece.role] = .constant(piece.identity == .one ? 1 : 0, shape)
    }
    return (ModelSpec.Sublayer(layer: 0, kind: kind.name, attributes: attributes), pieces)
  }
}

/// Why no pattern of a target holds a model.
enum PatternRefusal {
  /// Every reason.
  static func explain(
    _ model: HubModel, _ target: Layout, _ write: Layout.Write, _ provenance: ConfigProvenance
  ) -> [Diagnostic] {
    let kinds = Set(write.patterns.flatMap { $0.slots.flatMap(\.kinds) })
    var seen: Set<String> = []
    var problems: [Diagnostic] = []
    for sublayer in model.spec.sublayers
    where !kinds.contains(sublayer.kind) && seen.insert(sublayer.kind).inserted {
      problems.append(
        Diagnostic(
          code: "convert.no-such-mixer", subject: "layer \(sublayer.layer) (\(sublayer.kind))",
          message:
            "\(target.title) has no \(sublayer.kind)\(provenance.clause(kind: sublayer.kind)); its layers are made of \(kinds.sorted().joined(separator: ", "))",
          help: "another target may have it: `weighbridge layouts` lists what converts to what"))
    }
    if problems.isEmpty,
      let parallel = model.spec.sublayers.first(where: { $0["norm"] == "parallel" })
    {
      problems.append(
        Diagnostic(
          code: "convert.parallel", subject: "layer \(parallel.layer) (\(parallel.kind))",
          message:
            "reads the same norm as the mixer before it, and both are added to one stream; in \(target.title) each mixer reads the stream that the one before it leaves",
          help: "another target may have it: `weighbridge layouts` lists what converts to what"))
    }
    if problems.isEmpty {
      var stack = ""
      for sublayer in model.spec.sublayers.prefix(8) { stack += " " + sublayer.kind }
      problems.append(
        Diagnostic(
          code: "convert.stack", subject: "the stack of sub-layers",
          message:
            "\(target.title) cannot hold the order\(stack)\(model.spec.sublayers.count > 8 ? " …" : "")\(provenance.clauseOfStack())",
          notes: Set(
            write.patterns.map { pattern in
              "its layers are "
                + pattern.slots.map { $0.kinds.joined(separator: " or ") }
                .joined(separator: ", then ")
            }
          ).sorted()))
    }
    return problems
  }
}
