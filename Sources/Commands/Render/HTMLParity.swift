import Hub
import Parity
import WeighbridgeKit

/// A parity check to look at.
struct HTMLParity {
  let result: ParityResult
  let a: String
  let b: String
  let isTrace: Bool

  func text(command: String) -> String {
    let report = result.report
    var page = HTMLPage(
      title: "\(result.passes ? "pass" : "FAIL"): parity of \(a) and \(b)",
      kicker: "Weighbridge · parity", verdict: verdict, tone: result.passes ? .good : .bad)
    page.lead = lead
    page.add("Error by stage", stages)
    if let divergence = report.firstDivergence, let sublayer = divergence.sublayer {
      page.add(
        "Where in the stack",
        HTMLStack(spec: result.spec, marked: sublayer, words: "parts here").html)
    }
    if !isTrace {
      page.add("Weights", weights)
      if !result.attributes.isEmpty {
        page.add("Config", HTML.attributes(result.attributes))
      }
    }
    page.add("Predictions", HTMLLogits(logits: report.logits).html)
    if let generation = result.generation { page.add("Continuation", continuation(generation)) }
    if !result.problems.isEmpty { page.add("Noticed", HTML.problems(result.problems)) }
    return page.text(command: command)
  }

  private var verdict: String {
    let other = isTrace ? "the trace" : "B"
    if result.passes { return "Pass: A and \(other) compute the same function." }
    if let divergence = result.report.firstDivergence {
      let stage = result.report.stages.first { $0.name == divergence.stage }
      if let stage, stage.notFiniteA > 0, stage.notFiniteB > 0 {
        return "Fail: not finite from \(divergence.stage) on, where nothing can be compared."
      }
      guard let sublayer = divergence.sublayer else {
        return "Fail: A and \(other) part at \(divergence.stage)."
      }
      let layer = result.spec.sublayers[sublayer].layer
      let isShown =
        divergence.isProven || !divergence.attributes.isEmpty
        || divergence.isNotFinite && !divergence.suspects.isEmpty
      return
        "Fail: A and \(other) part in \(isShown ? "the \(divergence.kind) of " : "")layer \(layer)."
    }
    if let problem = result.problems.first(where: { $0.severity == .error }) {
      return "Fail: \(problem.subject) \(problem.message)."
    }
    return "Fail: A and \(other) continue a prompt differently."
  }

  private var lead: HTML {
    let out = result.report.stages.count { !$0.ok }
    let count = result.report.stages.count
    let bounds =
      out == 0
      ? "all \(count) stages are within their bounds"
      : "\(out) of \(count) stages are out of bounds"
    return """
      <p>A is <code>\(a)</code>, \(isTrace ? "the trace" : "B") is <code>\(b)</code>.</p>
      <p>On \(result.tokens.batch) × \(result.tokens.length) tokens in \(result.precision.rawValue), \
      \(bounds). Computed by \(result.engine.text).</p>
      \(rounding)\(divergence)
      """
  }

  /// A cast is no fault, but it is no equality either.
  private var rounding: HTML {
    let casts = result.differing.count { if case .cast = $0.status { true } else { false } }
    guard casts > 0 else { return HTML() }
    return """
      <p>\(casts) pieces of weight have another type in B. A was rounded alike where a cast is meant; \
      what that costs is told under Predictions, against A as it is.</p>

      """
  }

  private var divergence: HTML {
    guard let divergence = result.report.firstDivergence else { return HTML() }
    let place: HTML =
      divergence.sublayer.map { index in
        """
         in sub-layer \(index), the <strong>\(divergence.kind)</strong> of layer \
        \(result.spec.sublayers[index].layer)
        """
      } ?? ""
    var html: HTML = """
      <p><strong>First divergence:</strong> <code>\(divergence.stage)</code>\(place).</p>

      """
    if !divergence.suspects.isEmpty {
      let told =
        divergence.isNotFinite
        ? "These tensors hold NaN or infinity:"
        : divergence.isProven
          ? "Explained by these tensors; with the reference's in their place it is within bounds:"
          : "Suspects:"
      html += "<p>\(told)</p>\n\(HTML.names(divergence.suspects))"
    }
    if !divergence.attributes.isEmpty {
      html += "<p>The configs differ there in:</p>\n\(HTML.names(result.divergingAttributes))"
    }
    return html
  }

  private var stages: HTML {
    let first = result.report.firstDivergence?.stage
    let rows: [HTML] = result.report.stages.map { stage in
      """
      <tr class="\(stage.ok ? "" : "out")"><th scope="row" class="name">\(stage.name)</th>\
      <td><span class="word \(stage.ok ? "good" : "bad")">\(stage.ok ? "ok" : "out")</span>\
      \(stage.name == first ? ", first" : "")</td>\
      <td class="n">\(Shown.number(stage.maxAbs))</td>\
      <td class="n">\(Shown.number(stage.relative))</td>\
      <td class="n">\(Shown.number(stage.bound))</td>\
      <td class="n">\(Shown.number(stage.noise))</td></tr>

      """
    }
    return """
      \(HTMLStagePlot(stages: result.report.stages, first: first).html)\
      \(HTML.table(
        "Every stage in the order of computation",
        [
          ("stage", false), ("", false), ("error", true), ("relative", true), ("bound", true),
          ("noise", true),
        ], rows, isTall: rows.count > 16))
      """
  }

  private var weights: HTML {
    let differing = result.differing
    let told: HTML =
      differing.isEmpty
      ? "<p>All \(result.equalPieces) pieces of weight are bitwise equal or without effect.</p>\n"
      : """
      <p>\(differing.count) of \(result.equalPieces + differing.count) pieces of weight are not \
      bitwise equal.</p>

      """
    return """
      \(told)\(HTMLHeatMap(spec: result.spec, pieces: result.pieces).html)\
      \(HTML.pieces(differing))
      """
  }

  private func continuation(_ generation: ParityGeneration) -> HTML {
    let same = zip(generation.a, generation.b).prefix { $0 == $1 }.count
    let told =
      generation.a == generation.b
      ? "Both continue the first prompt with the same \(generation.a.count) tokens."
      : "The continuations part at token \(same + 1) of \(generation.a.count)."
    func line(_ name: String, _ tokens: [Int]) -> HTML {
      let shown: [HTML] = tokens.enumerated().map { i, token in
        i == same ? "<mark>\(token)</mark> " : "\(token) "
      }
      return "<dt>\(name)</dt><dd class=\"mono\">\(shown)</dd>\n"
    }
    let other = isTrace ? "trace" : "B"
    return "<p>\(told)</p>\n<dl>\n\(line("A", generation.a))\(line(other, generation.b))</dl>\n"
  }
}

extension HTML {
  /// The attributes in which two configs differ.
  static func attributes(_ attributes: [CheckpointDiff.Attribute]) -> HTML {
    let rows: [HTML] = AttributeGroup.groups(attributes).map { group in
      let attribute = group.attribute
      return """
        <tr class="\(attribute.isRounding ? "" : "out")"><th scope="row">\(group.place)</th>\
        <td><code>\(attribute.name)</code></td><td><code>\(attribute.a.text())</code></td>\
        <td><code>\(attribute.b.text())</code></td>\
        <td>\(attribute.isRounding ? "changes rounding only" : "changes the function")</td></tr>

        """
    }
    return table(
      "What the configs say differently",
      [("where", false), ("attribute", false), ("A", false), ("B", false), ("effect", false)], rows)
  }

  /// The pieces that are not equal; nothing when there are none.
  static func pieces(_ pieces: [CheckpointDiff.Piece]) -> HTML {
    guard !pieces.isEmpty else { return HTML() }
    let rows: [HTML] = pieces.map {
      """
      <tr><th scope="row" class="name">\(name($0.id.description))</th>\
      <td class="name">\(name($0.tensorsA))</td>\
      <td class="name">\(name($0.tensorsB))</td><td class="say">\($0.status.words)</td></tr>

      """
    }
    return table(
      "The pieces that are not equal",
      [("piece", false), ("tensor in A", false), ("tensor in B", false), ("how", false)], rows)
  }
}
