import Hub
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
      let own = groups.filter { $0.kind == kind }
      let prefix = kind.isEmpty ? Self.prefix(own.map(\.title)) : ""
      let figures: [HTML] = own.map { group in
        number += 1
        return figure(group, number, String(group.title.dropFirst(prefix.count)))
      }
      let heading: HTML =
        !kind.isEmpty
        ? "<h3>\(kind)</h3>\n"
        : prefix.isEmpty ? "" : "<p>All begin with <code>\(HTML.name(prefix))</code></p>\n"
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

  /// What all of several names begin with, up to a point and including it.
  private static func prefix(_ names: [String]) -> String {
    guard names.count > 1, let first = names.first else { return "" }
    let shared = names.dropFirst().reduce(Substring(first)) { shared, name in
      let count = zip(shared, name).prefix { $0 == $1 }.count
      return shared.prefix(count)
    }
    return String(
      shared[..<(shared.lastIndex(of: ".").map(shared.index(after:)) ?? shared.startIndex)])
  }

  private static let height = 94.0
  /// Room for two rows of signs.
  private static let top = 26.0

  private func figure(_ group: TensorGroup, _ number: Int, _ title: String) -> HTML {
    let stats = group.members.compactMap(\.tensor.stats)
    let least = stats.compactMap(\.min).filter(\.isFinite).min()
    let greatest = stats.compactMap(\.max).filter(\.isFinite).max()
    let (low, high) = (least ?? 0, greatest ?? 0)
    let slot = 100 / Double(group.members.count)
    let odd = group.members.filter { $0.oddity != nil }
    // A sign stands in the first row that has room; of many the first, for all are told below.
    var ends = odd.count > 4 ? [-100.0] : [-100.0, -100.0]
    let marks: [HTML] = group.members.enumerated().map { i, member in
      let x = (Double(i) + 0.5) * slot
      let row = member.oddity == nil ? nil : ends.firstIndex { x - $0 >= Self.signWidth }
      if let row { ends[row] = odd.count > 4 ? .infinity : x }
      return mark(member, at: x, slot, low, high, signRow: row)
    }
    let isFault = odd.contains { $0.oddity?.isFault == true }
    let zero: HTML =
      low < 0 && high > 0
      ? """
      <line class="zero" x1="0" x2="100%" y1="\(y(0, low, high))" y2="\(y(0, low, high))"/>
      """ : ""
    let layers = group.members.compactMap(\.layer)
    let axis: HTML =
      layers.isEmpty
      ? ""
      : layers.count == 1
        ? "<span>layer \(layers[0])</span>"
        : "<span>layer \(layers[0])</span><span>\(layers[layers.count - 1])</span>"
    let notes: [HTML] = group.notes().map { note in
      let place = note.place.isEmpty ? "" : "\(note.place): "
      return """
        <p class="note"><span class="word \(note.isFault ? "bad" : "warn")">\
        \(note.isFault ? "✕" : "▲")</span> \(place)\(note.words)</p>

        """
    }
    let id = "w\(number)"
    return """
      <figure class="\(isFault ? "flag" : odd.isEmpty ? "" : "odd")">
      <figcaption><code>\(HTML.name(title))</code></figcaption>
      <p class="ends"><span>greatest \(Shown.number(greatest))</span></p>
      <svg width="100%" height="\(Int(Self.height))" role="img" aria-labelledby="\(id)t \(id)d">
      <title id="\(id)t">Values of \(group.title) by layer</title>
      <desc id="\(id)d">\(description(group, low, high))</desc>
      \(zero)\(marks)</svg>
      <p class="ends"><span>least \(Shown.number(least))</span></p>
      <p class="ends">\(axis)</p>
      \(notes)</figure>

      """
  }

  private func description(_ group: TensorGroup, _ low: Double, _ high: Double) -> String {
    let notes = group.notes()
    let told =
      notes.isEmpty
      ? "No layer stands out."
      : notes.map { "\($0.place.isEmpty ? "" : "\($0.place): ")\($0.words)." }
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

  /// The room that a sign takes, in percent of a narrow picture.
  private static let signWidth = 30.0

  private func mark(
    _ member: TensorGroup.Member, at x: Double, _ slot: Double, _ low: Double, _ high: Double,
    signRow: Int?
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
        // Many layers share the width; a few have bars of a size that the eye is used to.
        let wide = slot * 0.6
        let (left, width) =
          slot > 8 ? ("-2.5", "5") : ("-\(HTML.coordinate(wide / 2))%", "\(HTML.coordinate(wide))%")
        shapes += """
          <rect class="spread\(tone)" x="\(left)" y="\(upper)" width="\(width)" \
          height="\(HTML.coordinate(tall))"/>
          """
      }
    } else {
      words += "no value is a number"
    }
    if let oddity = member.oddity { words += "; \(oddity.words)" }
    if let oddity = member.oddity, let signRow {
      let anchor = x < 12 ? "start" : x > 88 ? "end" : "middle"
      shapes += """
        <text class="\(oddity.isFault ? "badtext" : "oddtext")" x="0" y="\(9 + 12 * signRow)" \
        text-anchor="\(anchor)">\
        \(oddity.isFault ? "✕" : "▲")\(oddity.sign)</text>
        """
    }
    return "<svg x=\"\(place)\" y=\"0\"><title>\(words)</title>\(shapes)</svg>\n"
  }
}
