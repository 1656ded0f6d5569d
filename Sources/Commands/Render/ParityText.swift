import Hub
import Inference
import OrderedCollections
import Parity
import Tensors
import WeighbridgeKit

/// A parity check for a terminal and for scripts.
enum ParityText {
  static func document(_ result: ParityResult) -> JSONObject {
    let report = result.report
    return [
      "verdict": .string(result.passes ? "pass" : "fail"),
      "precision": .string(result.precision.rawValue),
      "tokens": [.int(result.tokens.batch), .int(result.tokens.length)],
      "weights": [
        "equal": .int(result.equalPieces),
        "differ": .array(
          result.differing.map {
            [
              "piece": .string($0.id.description), "status": .string($0.status.words),
              "a": .array($0.tensorsA.map { .string($0) }),
              "b": .array($0.tensorsB.map { .string($0) }),
            ]
          }),
      ],
      "attributes": .array(
        result.attributes.map {
          ["place": .string($0.place), "name": .string($0.name), "a": $0.a, "b": $0.b]
        }),
      "stages": .array(
        report.stages.map {
          [
            "name": .string($0.name), "max_abs": .double($0.maxAbs),
            "relative": .double($0.relative), "bound": .double($0.bound),
            "noise": .double($0.noise), "ok": .bool($0.ok),
          ]
        }),
      "first_divergence": report.firstDivergence.map {
        [
          "stage": .string($0.stage), "sublayer": $0.sublayer.map { .int($0) } ?? .null,
          "kind": .string($0.kind), "suspects": .array($0.suspects.map { .string($0) }),
          "attributes": .array($0.attributes.map { .string($0) }), "proven": .bool($0.isProven),
        ]
      } ?? .null,
      "logits": [
        "max_abs": .double(report.logits.maxAbs), "kl_max": .double(report.logits.klMax),
        "kl_mean": .double(report.logits.klMean),
        "top1_agreement": .double(report.logits.top1Agreement),
        "top5_agreement": .double(report.logits.top5Agreement),
        "nll_a": JSONReport.number(report.logits.nllA),
        "nll_b": JSONReport.number(report.logits.nllB),
      ],
      "generation": result.generation.map {
        [
          "tokens": .int(max($0.a.count, $0.b.count)), "equal": .bool($0.isEqual),
          "sequences": .int($0.sequences),
          "difference": $0.difference.map {
            [
              "sequence": .int($0.sequence), "index": .int($0.index),
              "margin": .double($0.margin), "explained": .bool($0.isExplained),
            ]
          } ?? .null,
          "a": .array($0.a.map { .int($0) }), "b": .array($0.b.map { .int($0) }),
        ]
      } ?? .null,
      "engine": JSONReport.engine(result.engine),
      "problems": JSONReport.problems(result.problems),
    ]
  }

  /// What was found, behind the names of the two.
  private static func words(_ result: ParityResult) -> String {
    if result.passes { return "compute the same" }
    return result.report.stages.allSatisfy(\.isFinite) ? "differ" : "cannot be compared: not finite"
  }

  static func text(
    _ result: ParityResult, a: String, b: String, isColoured: Bool = Standard.takesColour
  ) -> String {
    let report = result.report
    let verdict = result.passes ? "pass" : "FAIL"
    var head = Paragraph.shown(
      "\(verdict): \(a) and \(b) \(words(result)) "
        + "(\(result.precision.rawValue), \(result.tokens.batch) x \(result.tokens.length) tokens)")
    if isColoured {
      head[0] =
        (result.passes ? Ink.good : .bad).paint(verdict) + head[0].dropFirst(verdict.count)
    }
    if result.isOnePass, result.passes {
      let pieces =
        result.differing.isEmpty ? "bitwise equal" : "A's bit for bit, or A's in B's form"
      let attributes = result.attributes.isEmpty ? "the same" : "the same or explained"
      head += [""]
      head += Paragraph.shown(
        "every piece of weight is \(pieces), every attribute \(attributes): one pass stands for both sides at all \(report.stages.count) stages"
      )
      head += [""]
      return (head + lines(result).flatMap(Paragraph.shown)).joined(separator: "\n")
    }
    var table = Table(
      [
        ("stage", .left), ("max abs", .right), ("relative", .right), ("bound", .right),
        ("against bound", .whole), ("", .whole),
      ], spare: [2, 4])
    for stage in report.stages {
      table.add(
        [
          stage.name, Shown.number(stage.maxAbs), Shown.number(stage.relative),
          Shown.number(stage.bound), StageBar.text(stage), stage.ok ? "ok" : "OUT",
        ], ink: stage.ok ? .good : .bad)
    }
    head += ["", table.text(width: Standard.tableWidth, isColoured: isColoured), ""]
    return (head + lines(result).flatMap(Paragraph.shown)).joined(separator: "\n")
  }

  /// What stands below the table of the stages.
  private static func lines(_ result: ParityResult) -> [String] {
    let report = result.report
    var lines: [String] = []
    if result.equalPieces + result.differing.count > 0 {
      lines.append("weights: \(result.equalPieces) pieces equal, \(result.differing.count) not")
      for piece in result.differing.prefix(12) {
        lines.append(
          "  \(piece.id) (\(piece.tensorsB.joined(separator: "+"))): \(piece.status.words)")
      }
      if result.differing.count > 12 { lines.append("  and \(result.differing.count - 12) more") }
    }
    for group in AttributeGroup.groups(result.attributes) {
      let attribute = group.attribute
      lines.append(
        "config: \(group.place): \(attribute.name) is \(attribute.a.text()) in A, \(attribute.b.text()) in B\(attribute.isRounding ? " (rounding only)" : "")"
      )
    }
    let logits = report.logits
    lines.append(
      "logits: max abs \(Shown.number(logits.maxAbs)), KL mean \(Shown.number(logits.klMean)) max \(Shown.number(logits.klMax)), top-1 \(Shown.number(logits.top1Agreement * 100)) %, top-5 \(Shown.number(logits.top5Agreement * 100)) %"
    )
    if let nllA = logits.nllA, let nllB = logits.nllB {
      lines.append(
        "mean negative log-likelihood: A \(Shown.number(nllA)), B \(Shown.number(nllB)), "
          + "change \(Shown.number(nllB - nllA))")
    }
    if let generation = result.generation {
      lines.append(
        "generation: \(generation.a.count) tokens of \(generation.sequences) prompts, \(words(generation))"
      )
    }
    lines.append("computed by: \(result.engine.text)")
    if let divergence = report.firstDivergence {
      lines.append("")
      lines.append(
        "\(divergence.isNotFinite ? "not finite from" : "they part at") \(divergence.stage)\(divergence.isNotFinite ? " on" : "")"
          + (divergence.sublayer.map {
            ", in sub-layer \($0) (\(divergence.kind) of layer \(result.spec.sublayers[$0].layer))"
          } ?? "")
      )
      if !divergence.suspects.isEmpty {
        lines.append(
          divergence.isNotFinite
            ? "these tensors hold NaN or infinity:"
            : divergence.isProven
              ? "explained by (with the reference's in place the sub-layer is within bounds):"
              : "suspects:")
        lines += divergence.suspects.map { "  \($0)" }
      }
      if !divergence.attributes.isEmpty {
        lines.append("the configs differ there in:")
        lines += result.divergingAttributes.map { "  \($0)" }
      }
    }
    return lines
  }

  private static func words(_ generation: ParityGeneration) -> String {
    guard let difference = generation.difference else { return "equal" }
    let place = "from token \(difference.index + 1) of prompt \(difference.sequence) on"
    return
      "\(difference.isExplained ? "different" : "DIFFERENT") \(place), A's margin \(Shown.number(difference.margin))"
  }
}
