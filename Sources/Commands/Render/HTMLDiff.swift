import Hub
import Parity
import WeighbridgeKit

/// Two checkpoints' weights side by side, to look at.
struct HTMLDiff {
  let diff: CheckpointDiff
  let a: String
  let b: String

  func text(command: String) -> String {
    let differing = diff.pieces.filter { !$0.status.isSame }
    let isCast = differing.allSatisfy { if case .cast = $0.status { true } else { false } }
    var decisive: [String] = []
    for attribute in diff.attributes where !attribute.isRounding {
      if !decisive.contains(attribute.name) { decisive.append(attribute.name) }
    }
    var parts: [String] = []
    if !differing.isEmpty {
      parts.append(
        "\(differing.count) of \(diff.pieces.count) pieces of weight "
          + (isCast ? "have another type" : "differ"))
    }
    if !decisive.isEmpty {
      parts.append(
        "the configs differ in "
          + (decisive.count <= 4
            ? decisive.joined(separator: ", ") : "\(decisive.count) attributes"))
    }
    var page = HTMLPage(
      title: "\(diff.isEqual ? "equal" : "different"): \(a) and \(b)",
      kicker: "Weighbridge · diff",
      verdict: diff.isEqual
        ? "Equal: A and B hold the same model."
        : "Different: \(parts.joined(separator: ", and ")).",
      tone: diff.isEqual ? .good : .bad)
    page.lead = """
      <p>A is <code>\(a)</code>, B is <code>\(b)</code>.</p>
      <p>\(diff.pieces.count - differing.count) of \(diff.pieces.count) pieces of weight are bitwise \
      equal or without effect.</p>
      """
    page.add(
      "Weights",
      "\(HTMLHeatMap(spec: diff.spec, pieces: diff.pieces).html)\(HTML.pieces(differing))")
    if !diff.attributes.isEmpty { page.add("Config", HTML.attributes(diff.attributes)) }
    if !diff.problems.isEmpty { page.add("Noticed", HTML.problems(diff.problems)) }
    return page.text(command: command)
  }
}
