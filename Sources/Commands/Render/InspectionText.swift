import Hub
import Layouts
import OrderedCollections
import Tensors
import WeighbridgeKit

/// What a checkpoint is, for a terminal: everything but its tensors.
struct InspectionText {
  let inspection: Inspection

  var text: String {
    var lines: [String] = []
    lines.append(inspection.path)
    func fact(_ name: String, _ value: String) {
      lines.append("  \(name)\(String(repeating: " ", count: max(1, 12 - name.count)))\(value)")
    }
    fact("container", inspection.container.rawValue)
    fact(
      "layout",
      inspection.framework.map { "\($0) (\(inspection.layoutName ?? $0))" } ?? "unknown")
    if let family = inspection.family { fact("family", family) }
    fact("parameters", "\(inspection.parameters) (\(Shown.count(inspection.parameters)))")
    fact("bytes", "\(inspection.bytes) (\(Shown.bytes(inspection.bytes)))")
    fact("dtypes", dtypes)
    if !inspection.parametersByKind.isEmpty {
      fact(
        "by kind",
        inspection.parametersByKind.map { "\($0.key) \(Shown.count($0.value))" }
          .joined(separator: ", "))
    }
    if let spec = inspection.spec {
      fact("stack", stack(spec))
      fact(
        "config",
        inspection.config.filter { $0.value != .null }.map { "\($0.key)=\($0.value.text())" }
          .joined(separator: " "))
    }
    // Every file of transformers says that its format is PyTorch's.
    for (name, value) in inspection.metadata
    where value.utf8.count <= 200 && (name, value) != ("format", "pt") {
      fact("metadata", "\(name)=\(value)")
    }
    for names in inspection.tied { fact("tied", names.joined(separator: " = ")) }
    lines = lines.flatMap { line in
      let indent = line.prefix { $0 == " " }.count
      return Paragraph.fold(
        String(line.dropFirst(indent)), width: Standard.width, indent: indent, hanging: 14)
    }
    return lines.joined(separator: "\n")
  }

  private var dtypes: String {
    var counts: OrderedDictionary<String, Int> = [:]
    for tensor in inspection.tensors { counts[tensor.info.typeName, default: 0] += 1 }
    return counts.map { "\($0.value) x \($0.key)" }.joined(separator: ", ")
  }

  /// The sub-layers with repetitions folded: `12 x (mamba, mlp, attention[window 2048], mlp)`.
  private func stack(_ spec: ModelSpec) -> String {
    let names = spec.sublayers.map { sublayer in
      var name = sublayer.kind
      if sublayer.kind == "attention" {
        let window = sublayer["window"].int.map { "window \($0)" } ?? "full"
        name += "[\(window)\(sublayer["rope_base"] == .null ? ", nope" : "")]"
      }
      return name
    }
    for period in 1...max(1, names.count / 2) where names.count > 1 && names.count % period == 0 {
      let unit = Array(names[..<period])
      if stride(from: 0, to: names.count, by: period).allSatisfy({
        Array(names[$0..<$0 + period]) == unit
      }) {
        return "\(names.count / period) x (\(unit.joined(separator: ", ")))"
      }
    }
    var runs: [(String, Int)] = []
    for name in names {
      if runs.last?.0 == name { runs[runs.count - 1].1 += 1 } else { runs.append((name, 1)) }
    }
    return runs.map { $0.1 == 1 ? $0.0 : "\($0.1) x \($0.0)" }.joined(separator: ", ")
  }
}
