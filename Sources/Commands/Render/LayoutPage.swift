import Conversion
import Hub
import Layouts
import OrderedCollections
import Tensors
import WeighbridgeKit

/// A layout as a page to print: its files, config keys, tensors, and what becomes of its models.
struct LayoutPage {
  let layout: Layout
  let vocabulary: Vocabulary
  /// What becomes of models of this layout.
  let conversions: [Conversions]
  /// What becomes of other layouts' models here, as far as they convert.
  let arrivals: [(from: Conversions, exactness: Exactness)]

  /// A tensor by its template.
  struct Row {
    var kind: String
    /// Behind the prefix of the layer and of the mixer's module, if it is in a layer.
    var name: String
    /// What comes before the name.
    var prefix: String
    var shape: String
    var pieces: String
    var when: String
  }

  func text(width: Int) -> String {
    var lines = ["\(layout.name): \(layout.title)", String(repeating: "=", count: min(width, 72))]
    lines += Paragraph.fold("read from \(layout.source)", width: width, indent: 0, hanging: 2)
    lines.append(
      layout.write == nil
        ? "read only"
        : "written as \(weights) and \(layout.files.config) (\(layout.files.container))"
    )
    lines += ["", "Config keys", ""]
    var keys = Table([("key", .left), ("default", .folded), ("also called", .folded)])
    for key in layout.config.keys {
      keys.add([
        key.name, key.initial.map(\.brief) ?? "required", key.aliases.joined(separator: ", "),
      ])
    }
    lines.append(keys.text(width: width))
    var limits = layout.config.requirements.map { "\($0.key): \($0.why)" }
    for key in layout.config.keys {
      limits += (key.members?.only ?? []).map {
        "\(key.name).\($0.name): only \($0.values.map(\.brief).joined(separator: " and "))"
      }
    }
    if !limits.isEmpty {
      lines += ["", "Not supported, and refused by name", ""]
      for limit in limits {
        lines += Paragraph.fold(limit, width: width, indent: 2, hanging: 4)
      }
    }
    let rows = self.rows
    var kinds: [String] = []
    for row in rows where !kinds.contains(row.kind) { kinds.append(row.kind) }
    for kind in kinds {
      let summary =
        kind == "model" ? "embedding, final norm, head" : vocabulary.kinds[kind]?.summary
      lines += ["", "Tensors of \(kind): \(summary ?? "")"]
      if kind != "model" { lines.append("all begin with \(layout.layers.prefix.text)") }
      lines.append("")
      var table = Table([
        ("tensor", .whole), ("shape", .folded), ("holds", .folded), ("when", .folded),
      ])
      for row in rows where row.kind == kind {
        table.add([row.name, row.shape, row.pieces, row.when])
      }
      lines.append(table.text(width: width))
    }
    lines += definitions(rows.map(\.when), width)
    lines += becomes(width)
    return lines.joined(separator: "\n")
  }

  /// What the words mean that conditions are made of, and those that these are made of.
  private func definitions(_ conditions: [String], _ width: Int) -> [String] {
    let bindings = layout.lets + layout.layers.lets
    var wanted = conditions
    var used: Set<String> = []
    while let text = wanted.popLast() {
      let words = text.split { !($0.isLetter || $0.isNumber || $0 == "_") }.map(String.init)
      for binding in bindings where words.contains(binding.name) {
        if used.insert(binding.name).inserted { wanted.append(binding.value.text) }
      }
    }
    let shown = bindings.filter { used.contains($0.name) }
    guard !shown.isEmpty else { return [] }
    return ["", "Where a condition says", ""]
      + shown.flatMap {
        Paragraph.fold("\($0.name): \($0.value.text)", width: width, indent: 2, hanging: 6)
      }
  }

  private var weights: String {
    layout.files.weights[layout.files.container] ?? layout.files.container
  }

  private func becomes(_ width: Int) -> [String] {
    guard !conversions.isEmpty || !arrivals.isEmpty else { return [] }
    var lines: [String] = []
    for conversion in conversions {
      lines += ["", "What becomes of a \(conversion.exampleModel.name) of \(layout.name)", ""]
      for (framework, verdict) in conversion.verdicts {
        switch verdict {
        case .converts(let exactness, let reasons, let target):
          lines.append("  \(framework): \(exactness.rawValue), as \(target)")
          for reason in reasons {
            lines += Paragraph.fold(
              "\(reason.exactness.rawValue): \(reason.text)", width: width, indent: 6, hanging: 8)
          }
        case .refused(let problems):
          lines.append("  \(framework): refused")
          for problem in problems.prefix(3) {
            lines += Paragraph.fold(
              "\(problem.subject) \(problem.message)", width: width, indent: 6, hanging: 8)
          }
          if problems.count > 3 { lines.append("      and \(problems.count - 3) more") }
        }
      }
    }
    if !arrivals.isEmpty {
      lines += ["", "What becomes a \(layout.name)", ""]
      for arrival in arrivals {
        lines.append(
          "  \(arrival.from.exampleModel.name) of \(arrival.from.exampleModel.layout): "
            + arrival.exactness.rawValue)
      }
    }
    return lines
  }

  /// The tensors as templates, with their shapes in the config's terms and the pieces they hold.
  var rows: [Row] {
    var rows: [Row] = []
    for tensor in layout.model.tensors {
      rows.append(row("model", tensor.name.text, tensor, vocabulary.model, tensor.when?.text))
    }
    for slot in layout.layers.slots {
      for option in slot.options {
        guard let mixer = layout.mixers[option.mixer] else { continue }
        let kind = vocabulary.kinds[mixer.kind]
        if let norm = option.norm {
          rows.append(
            Row(
              kind: mixer.kind, name: norm.text + ".weight", prefix: layout.layers.prefix.text,
              shape: "[d_model]", pieces: "norm.weight", when: option.when?.text ?? ""))
        }
        for tensor in mixer.tensors {
          let name = option.prefix.text + tensor.name.text
          let when = [option.when?.text, tensor.when?.text].compactMap { $0 }
          rows.append(
            row(
              mixer.kind, name, tensor, kind, when.isEmpty ? nil : when.joined(separator: " and "),
              prefix: layout.layers.prefix.text))
        }
      }
    }
    return rows
  }

  private func row(
    _ kind: String, _ name: String, _ tensor: Layout.Tensor, _ pieces: MixerKind?, _ when: String?,
    prefix: String = ""
  ) -> Row {
    let roles = tensor.glue.roles
    var extents = (pieces?.piece(roles[0])?.shape ?? []).map(\.text)
    if let explicit = tensor.shape {
      extents = explicit.map(\.text)
    } else if !extents.isEmpty {
      extents[0] = Self.height(tensor.glue, pieces)
    }
    return Row(
      kind: kind, name: name, prefix: prefix, shape: "[\(extents.joined(separator: ", "))]",
      pieces: roles.joined(separator: " + "), when: when ?? "")
  }

  /// The number of rows of what is glued together.
  private static func height(_ glue: Glue, _ kind: MixerKind?) -> String {
    switch glue {
    case .image: glue.roles.first.flatMap { kind?.piece($0)?.shape.first?.text } ?? "?"
    case .piece(let role): kind?.piece(role)?.shape.first?.text ?? "?"
    case .concat(let parts), .interleave(let parts, _): sum(parts.map { height($0, kind) })
    case .rotaryPairs(let part, _, _): height(part, kind)
    case .stack(let part, let count): "(\(count.text)) * (\(height(part, kind)))"
    case .duplicate(let part, let times): "(\(times.text)) * (\(height(part, kind)))"
    }
  }

  /// `a + a + b` as `2 * a + b`.
  private static func sum(_ terms: [String]) -> String {
    var counts: OrderedDictionary<String, Int> = [:]
    for term in terms { counts[term, default: 0] += 1 }
    return counts.map { $0.value == 1 ? $0.key : "\($0.value) * \($0.key)" }
      .joined(separator: " + ")
  }
}

/// What converts to what, as a table in Markdown: the one that README.md shows.
enum ConversionTable {
  static func markdown(_ conversions: [Conversions]) -> String {
    guard let first = conversions.first else { return "" }
    let frameworks = Array(first.verdicts.keys)
    var lines = [
      "| model | of | \(frameworks.map { "`\($0)`" }.joined(separator: " | ")) |",
      "|---|---|\(frameworks.map { _ in "---" }.joined(separator: "|"))|",
    ]
    for conversion in conversions {
      let cells = conversion.verdicts.values.map { verdict in
        switch verdict {
        case .converts(let exactness, _, _): exactness.rawValue
        case .refused: "–"
        }
      }
      lines.append(
        "| \(conversion.exampleModel.name) | `\(conversion.exampleModel.layout)` | "
          + "\(cells.joined(separator: " | ")) |")
    }
    return lines.joined(separator: "\n")
  }

  /// The same for scripts.
  static func document(_ conversions: [Conversions]) -> JSONValue {
    .array(
      conversions.map { conversion in
        [
          "model": .string(conversion.exampleModel.name),
          "layout": .string(conversion.exampleModel.layout),
          "framework": .string(conversion.framework),
          "fixture": conversion.exampleModel.fixture.map { .string($0) } ?? .null,
          "to": .object(conversion.verdicts.mapValues(value)),
        ]
      })
  }

  private static func value(_ verdict: Conversions.Verdict) -> JSONValue {
    switch verdict {
    case .converts(let exactness, let reasons, let layout):
      [
        "exactness": .string(exactness.rawValue), "layout": .string(layout),
        "reasons": .array(reasons.map { .string($0.text) }),
      ]
    case .refused(let problems):
      ["exactness": .null, "problems": JSONReport.problems(problems)]
    }
  }
}
