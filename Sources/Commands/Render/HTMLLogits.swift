import Hub
import Parity

/// How the predictions agree, and what each side says where they do not.
struct HTMLLogits {
  let logits: LogitAgreement

  var html: HTML {
    guard logits.positions > 0 else { return "<p>The trace holds no logits to compare.</p>\n" }
    var facts: [(name: String, value: HTML)] = [
      ("same likeliest token", share(logits.top1)),
      ("same five likeliest", share(logits.top5)),
      ("KL divergence, mean", "\(Shown.number(logits.klMean)) nats"),
      ("KL divergence, largest", "\(Shown.number(logits.klMax)) nats"),
      ("largest error of a logit", "\(Shown.number(logits.maxAbs))"),
    ]
    if let a = logits.nllA, let b = logits.nllB {
      facts.append(("mean loss, A", "\(Shown.number(a)) nats"))
      facts.append(("mean loss, B", "\(Shown.number(b)) nats"))
      facts.append(("change of the loss", "\(Shown.number(b - a)) nats"))
    }
    return "\(HTML.facts(facts))\(positions)"
  }

  private func share(_ count: Int) -> HTML {
    """
    \(Shown.number(Double(count) / Double(logits.positions) * 100)) % <small class="soft">\
    \(count) of \(logits.positions)</small>
    """
  }

  private var positions: HTML {
    guard logits.klMax > 0 || logits.worst.contains(where: { $0.kl > 0 }) else {
      return "<p>No position differs at all.</p>\n"
    }
    let rows: [HTML] = logits.worst.filter { $0.kl > 0 }.map { position in
      let next: HTML = position.next.map { "\($0)" as HTML } ?? "–"
      return """
        <tr class="\(position.agrees ? "" : "out")">\
        <th scope="row" class="n">\(position.sequence) : \(position.index)</th>\
        <td class="n">\(Shown.number(position.kl))<br>\(position.agrees ? "same top" : "other top")\
        </td><td class="guesses">\(guesses(position.a, position.next, "a"))</td>\
        <td class="guesses">\(guesses(position.b, position.next, "b"))</td>\
        <td class="n">\(next)</td></tr>

        """
    }
    let apart = logits.positions - logits.top1
    let told: HTML =
      apart == 0
      ? "<p>Nowhere is another token likeliest.</p>"
      : "<p>At \(apart) of \(logits.positions) positions another token is likeliest.</p>"
    let caption =
      "Where (sequence : position) the two are furthest apart, and the tokens that each thinks likeliest to "
      + "follow, with their probability; ✓ is the one that did"
    return """
      \(told)
      \(HTML.table(
        caption,
        [
          ("where", true), ("KL, nats", true), ("A", false), ("B", false),
          ("next", true),
        ], rows))
      """
  }

  private func guesses(_ guesses: [LogitAgreement.Guess], _ next: Int?, _ side: String) -> HTML {
    if guesses.contains(where: { $0.probability.isNaN }) {
      return "<span class=\"word bad\">✕ NaN</span> nothing is predicted"
    }
    return HTML(
      guesses.prefix(3).map { guess in
        let width = guess.probability.isFinite ? min(max(guess.probability, 0), 1) * 100 : 0
        return """
          <div class="guess \(side)"><span>\(guess.token)\(guess.token == next ? " ✓" : "")</span>\
          <span>\(percent(guess.probability))</span><i style="width:\(HTML.coordinate(width))%"></i>\
          </div>
          """
      })
  }

  private func percent(_ probability: Double) -> String {
    guard probability.isFinite else { return "\(probability)" }
    let tenths = Int((probability * 1000).rounded())
    return "\(tenths / 10).\(tenths % 10) %"
  }
}
