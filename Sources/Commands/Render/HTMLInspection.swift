import Hub
import Layouts
import OrderedCollections
import Tensors
import WeighbridgeKit

/// An inspection to look at.
struct HTMLInspection {
  let inspection: Inspection
  private let groups: [TensorGroup]

  init(_ inspection: Inspection) {
    self.inspection = inspection
    groups = TensorGroup.groups(inspection)
  }

  func text(command: String) -> String {
    let odd = groups.flatMap(\.members).filter { $0.oddity != nil }
    let faults = odd.filter { $0.oddity?.isFault == true }
    let errors = inspection.problems.filter { $0.severity == .error }
    var page = HTMLPage(
      title: "inspect: \(inspection.path)", kicker: "Weighbridge · inspect",
      verdict: verdict(faults: faults.count, odd: odd.count, errors: errors),
      tone: !faults.isEmpty ? .bad : odd.isEmpty && errors.isEmpty ? .good : .warn)
    page.lead = """
      <p><code>\(inspection.path)</code></p>
      \(outstanding)
      """
    if !inspection.problems.isEmpty { page.add("Noticed", HTML.problems(inspection.problems)) }
    page.add("What it is", facts)
    if let spec = inspection.spec, !spec.sublayers.isEmpty {
      page.add("The stack", HTMLStack(spec: spec).html)
    }
    if !inspection.parametersByKind.isEmpty { page.add("Parameters by kind", parameters) }
    if !groups.isEmpty {
      page.add("Values, layer by layer", HTMLMultiples(groups: groups).html)
    }
    page.add("Tensors", tensors)
    return page.text(command: command)
  }

  private func verdict(faults: Int, odd: Int, errors: [Diagnostic]) -> String {
    let name =
      inspection.layoutName.map { "\(inspection.family ?? "") model in the layout \($0)" }
      ?? "checkpoint of an unknown layout"
    if faults > 0 {
      return
        "Broken: \(faults == 1 ? "1 tensor holds" : "\(faults) tensors hold") NaN or infinite values."
    }
    if !errors.isEmpty {
      return "A \(name); \(errors.count == 1 ? "1 problem" : "\(errors.count) problems")."
    }
    if odd > 0 {
      return
        "A \(name); \(odd == 1 ? "1 tensor stands" : "\(odd) tensors stand") out from the other layers."
    }
    return "Sound: a \(name), every value a finite number."
  }

  /// What stands out, faults first; many tensors that are alike in one line.
  private var outstanding: HTML {
    let notes = groups.flatMap { group in group.notes().map { (group: group, note: $0) } }
    guard !notes.isEmpty else { return HTML() }
    let sorted = notes.filter(\.note.isFault) + notes.filter { !$0.note.isFault }
    let items: [HTML] = sorted.prefix(12).map { group, note in
      if note.members.count == 1 {
        let name = note.members[0].tensor.info.name.string
        return "<li><code>\(HTML.name(name))</code>: \(note.words)</li>\n"
      }
      let kind = group.kind.isEmpty ? "" : " of \(group.kind)"
      return """
        <li><code>\(HTML.name(group.title))</code>\(kind) in \(note.place): \(note.words)</li>

        """
    }
    let more: HTML = notes.count > 12 ? "<li>and \(notes.count - 12) more</li>\n" : ""
    return "<ul class=\"plain\">\n\(items)\(more)</ul>\n"
  }

  private var facts: HTML {
    var dtypes: OrderedDictionary<String, Int> = [:]
    for tensor in inspection.tensors { dtypes[tensor.info.typeName, default: 0] += 1 }
    let types = dtypes.map { "\($0.value) × \($0.key)" }.joined(separator: ", ")
    var facts: [(name: String, value: HTML)] = [
      ("layout", "\(inspection.layoutName ?? "unknown")"),
      ("framework", "\(inspection.framework ?? "unknown")"),
      ("family", "\(inspection.family ?? "unknown")"),
      ("container", "\(inspection.container.rawValue)"),
      (
        "parameters",
        """
        \(Shown.count(inspection.parameters)) <small class="soft">\(inspection.parameters)</small>
        """
      ),
      ("size", "\(Shown.bytes(inspection.bytes))"),
      ("tensors listed", "\(inspection.tensors.count)"),
      ("types", "\(types)"),
    ]
    for names in inspection.tied {
      facts.append(("one tensor", "<code>\(names.joined(separator: " = "))</code>"))
    }
    let set = inspection.config.filter { $0.value != .null }
    guard !set.isEmpty else { return HTML.facts(facts) }
    let values = set.map { name, value -> (name: String, value: HTML) in
      (name, "<code>\(value.text())</code>")
    }
    return """
      \(HTML.facts(facts))<h3>Config, by canonical names</h3>
      \(HTML.facts(values, isSmall: true))
      """
  }

  private var parameters: HTML {
    let most = Double(max(inspection.parametersByKind.values.max() ?? 1, 1))
    let total = Double(max(inspection.parameters, 1))
    let rows: [HTML] = inspection.parametersByKind.map { kind, count in
      let width = HTML.coordinate(Double(count) / most * 100)
      let share = Shown.number((Double(count) / total * 1000).rounded() / 10)
      let name = inspection.spec?.sublayers.contains { $0.kind == kind } == true ? kind : "model"
      return """
        <tr><th scope="row">\(kind)</th><td class="n">\(count)</td><td class="n">\(share) %</td>\
        <td><span class="bar block k-\(name)" style="width:\(width)%;padding:0"></span></td></tr>

        """
    }
    return HTML.table(
      "Parameters of each kind of sub-layer; tied weights count once",
      [("kind", false), ("parameters", true), ("share", true), ("", false)], rows, style: "bars")
  }

  private var tensors: HTML {
    var odd: [TensorName: TensorGroup.Oddity] = [:]
    for member in groups.flatMap(\.members) { odd[member.tensor.info.name] = member.oddity }
    let rows: [HTML] = inspection.tensors.map { tensor in
      let stats = tensor.stats
      let oddity = odd[tensor.info.name]
      let note: HTML =
        oddity.map {
          "<br><span class=\"word \($0.isFault ? "bad" : "warn")\">\($0.words)</span>"
        } ?? ""
      return """
        <tr class="\(oddity.map { $0.isFault ? "out" : "odd" } ?? "")"><th scope="row" class="name">\
        \(HTML.name(tensor.info.name.string))\(note)</th><td>\(tensor.info.typeName)</td>\
        <td class="n">\(tensor.info.shape.description)</td>\
        <td class="n">\(Shown.bytes(tensor.info.storedByteCount))</td>\
        <td class="n">\(Shown.number(stats?.min))</td><td class="n">\(Shown.number(stats?.max))</td>\
        <td class="n">\(Shown.number(stats?.mean))</td><td class="n">\(Shown.number(stats?.std))</td>\
        <td class="n">\(stats.map { "\($0.nan)" } ?? "-")</td>\
        <td class="n">\(stats.map { "\($0.inf)" } ?? "-")</td>\
        <td class="n">\(stats.map { "\($0.zeros)" } ?? "-")</td>\
        <td class="name piece">\(tensor.piece.map { HTML.name($0) } ?? "-")</td></tr>

        """
    }
    return HTML.table(
      "Every tensor with its values",
      [
        ("tensor", false), ("type", false), ("shape", true), ("size", true), ("least", true),
        ("greatest", true), ("mean", true), ("std. dev.", true), ("NaN", true), ("inf", true),
        ("zeros", true), ("piece", false),
      ], rows)
  }
}
