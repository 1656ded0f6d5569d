import WeighbridgeKit

/// A small picture for every part that tensors play: a line from the least to the greatest value of
/// each layer's tensor, with a thick stroke for the mean and the spread around it.
struct HTMLMultiples {
  let groups: [TensorGroup]

  var html: HTML {
    var kinds: [String] = []
    for group in groups where !kinds.contains(group.kind) { kinds.append(group.kind) }
    var number = 0
    let parts: [HTML] = kinds.map { kind in
      let figures: [HTML] = groups.filter { $0.kind == kind }.map { group in
        number += 1
        return figure(group, number)
      }
      let heading: HTML = kind.isEmpty ? "" : "<h3>\(kind)</h3>\n"
      return "\(heading)<div class=\"multiples\">\n\(figures)</div>\n"
    }
    return """
      <ul class="legend" aria-hidden="true">
      <li><svg width="8" height="16"><line class="range" x1="4" x2="4" y1="0" y2="16"/></svg>least to \
      greatest value</li>
      <li><svg width="8" height="16"><rect class="spread" x="1" y="2" width="6" height="12"/></svg>\
      mean ± standard deviation</li>
      <li><span class="word bad">✕ NaN, inf</span>values that are NaN or infinite</li>
      <li><span class="word warn">▲ wide, thin, flat</span>unlike the other layers</li>
      </ul>
      \(parts)
      """
  }

  private static let height = 84.0
  private static let top = 14.0

  private func figure(_ group: TensorGroup, _ number: Int) -> HTML {
    let stats = group.members.compactMap(\.tensor.stats)
    let low = stats.compactMap(\.min).filter(\.isFinite).min() ?? 0
    let high = stats.compactMap(\.max).filter(\.isFinite).max() ?? 0
    let slots = Double(group.members.count)
    let marks: [HTML] = group.members.enumerated().map { i, member in
      mark(member, at: (Double(i) + 0.5) / slots * 100, low, high)
    }
    let odd = group.members.filter { $0.oddity != nil }
    let isFault = odd.contains { $0.oddity?.isFault == true }
    let zero: HTML =
      low < 0 && high > 0
      ? """
      <line class="zero" x1="0" x2="100%" y1="\(y(0, low, high))" y2="\(y(0, low, high))"/>
      """ : ""
    let layers = group.members.compactMap(\.layer)
    let ends: HTML =
      layers.isEmpty
      ? ""
      : layers.count == 1
        ? "<span>layer \(layers[0])</span>"
        : "<span>layer \(layers[0])</span><span>\(layers[layers.count - 1])</span>"
    let notes: [HTML] = odd.prefix(4).map { member in
      let place = member.layer.map { "layer \($0): " } ?? ""
      let tone = member.oddity?.isFault == true ? "bad" : "warn"
      return """
        <p class="ends"><span class="word \(tone)">\(tone == "bad" ? "✕" : "▲")</span> \
        <span>\(place)\(member.oddity?.words ?? "")</span></p>

        """
    }
    let id = "w\(number)"
    return """
      <figure class="\(isFault ? "flag" : odd.isEmpty ? "" : "odd")">
      <figcaption><code>\(group.title)</code></figcaption>
      <p class="ends"><span>greatest \(Shown.number(high))</span></p>
      <svg width="100%" height="\(Int(Self.height))" role="img" aria-labelledby="\(id)t \(id)d">
      <title id="\(id)t">Values of \(group.title) by layer</title>
      <desc id="\(id)d">\(description(group, low, high))</desc>
      \(zero)\(marks)</svg>
      <p class="ends"><span>least \(Shown.number(low))</span></p>
      <p class="ends">\(ends)</p>
      \(notes)</figure>

      """
  }

  private func description(_ group: TensorGroup, _ low: Double, _ high: Double) -> String {
    let odd = group.members.filter { $0.oddity != nil }
    let told =
      odd.isEmpty
      ? "No layer stands out."
      : odd.map { "\($0.layer.map { "Layer \($0)" } ?? "It") has \($0.oddity?.words ?? "")." }
        .joined(separator: " ")
    return
      "\(group.members.count) tensors with values from \(Shown.number(low)) to \(Shown.number(high)). "
      + told
  }

  private func y(_ value: Double, _ low: Double, _ high: Double) -> String {
    let room = Self.height - Self.top - 4
    let share = high > low ? (value - low) / (high - low) : 0.5
    return HTML.coordinate(Self.top + (1 - min(max(share, 0), 1)) * room)
  }

  private func mark(
    _ member: TensorGroup.Member, at x: Double, _ low: Double, _ high: Double
  ) -> HTML {
    guard let stats = member.tensor.stats else { return HTML() }
    let tone = member.oddity.map { $0.isFault ? " badmark" : " oddmark" } ?? ""
    let place = HTML.coordinate(x) + "%"
    var words = "\(member.tensor.info.name.string): "
    var shapes = HTML()
    if let least = stats.min, let most = stats.max {
      words +=
        "\(Shown.number(least)) to \(Shown.number(most)), mean \(Shown.number(stats.mean)), "
        + "standard deviation \(Shown.number(stats.std))"
      shapes += """
        <line class="range\(tone)" x1="0" x2="0" y1="\(y(least, low, high))" \
        y2="\(y(most, low, high))"/>
        """
      if let mean = stats.mean, let std = stats.std {
        let upper = y(mean + std, low, high)
        let tall = max((Double(y(mean - std, low, high)) ?? 0) - (Double(upper) ?? 0), 2)
        shapes += """
          <rect class="spread\(tone)" x="-2.5" y="\(upper)" width="5" \
          height="\(HTML.coordinate(tall))"/>
          """
      }
    } else {
      words += "no value is a number"
    }
    if let oddity = member.oddity {
      words += "; \(oddity.words)"
      shapes += """
        <text class="\(oddity.isFault ? "badtext" : "oddtext")" x="0" y="9" text-anchor="middle">\
        \(oddity.isFault ? "✕" : "▲")\(oddity.sign)</text>
        """
    }
    return "<svg x=\"\(place)\" y=\"0\"><title>\(words)</title>\(shapes)</svg>\n"
  }
}
