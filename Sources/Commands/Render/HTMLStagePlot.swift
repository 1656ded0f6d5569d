import Hub
import Parity

/// Error by stage on a logarithmic axis, with float32's noise and the bound behind it. A stage is a
/// row, so that any number of them can be read on a page as narrow as a phone; across, everything
/// is in percent, so that letters keep their size.
struct HTMLStagePlot {
  let stages: [ParityReport.Stage]
  /// The first stage out of bounds.
  let first: String?

  private let axis: LogAxis
  /// The height of a row: a deep model's plot still fits a sheet of paper.
  private let row: Double
  private static let top = 38.0

  init(stages: [ParityReport.Stage], first: String?) {
    self.stages = stages
    self.first = first
    axis = LogAxis(stages.flatMap { [$0.maxAbs, $0.noise, $0.bound] })
    row = stages.count > 28 ? 16 : 20
  }

  var html: HTML {
    let labels: [HTML] = stages.map { stage in
      let mark: HTML = stage.name == first ? "<li class=\"first\">▶ " : "<li>"
      return "\(mark)\(stage.name)</li>"
    }
    let height = Int(Self.top + row * Double(stages.count) + 4)
    let size = stages.count > 52 ? "dense long" : stages.count > 28 ? "dense" : ""
    return """
      <figure>
      <div class="plot \(size)"><ol aria-hidden="true">\(labels)</ol>
      <svg width="100%" height="\(height)" role="img" aria-labelledby="plot-title plot-desc">
      <title id="plot-title">Largest absolute error of each stage, on a logarithmic axis</title>
      <desc id="plot-desc">\(description)</desc>
      <text x="100%" y="12" text-anchor="end">largest absolute error, logarithmic</text>
      \(grid(height))\(bands)\(path)\(markers)</svg></div>
      \(legend)<figcaption>\(explanation)</figcaption></figure>

      """
  }

  private var explanation: String {
    let noise =
      "Stages are in the order of computation. The noise is measured: how far A computed in float32 is "
      + "from A computed in float64. "
    if stages.contains(where: { $0.bound < $0.noise }) {
      return noise
        + "Both sides have the same weights here: the bound is float64's noise, left of float32's band."
    }
    // A bound that was given, or one for a coarser type, is another multiple of the noise.
    let isSix = stages.contains { abs($0.bound - 6 * $0.noise) <= 1e-9 * $0.bound }
    return noise + (isSix ? "The bound is six times that." : "")
  }

  private var description: String {
    let out = stages.count { !$0.ok }
    let largest = stages.max { $0.maxAbs < $1.maxAbs }
    let told =
      out == 0
      ? "All \(stages.count) stages are within their bounds."
      : "\(out) of \(stages.count) stages are out of bounds, the first is \(first ?? "")."
    let most = largest.map {
      " The largest error is \(Shown.number($0.maxAbs)), at \($0.name)."
    }
    return told + (most ?? "") + " The table below has every number."
  }

  private func y(_ i: Int) -> Double { Self.top + row * Double(i) }

  private func at(_ value: Double) -> String { HTML.coordinate(axis.percent(value)) + "%" }

  private func grid(_ height: Int) -> HTML {
    HTML(
      axis.ticks.map { tick in
        let x = HTML.coordinate(tick.percent) + "%"
        return """
          <line class="grid" x1="\(x)" x2="\(x)" y1="\(Int(Self.top) - 4)" y2="\(height)"/>\
          <text x="\(x)" y="\(Int(Self.top) - 8)" text-anchor="middle">\(tick.label)</text>

          """
      })
  }

  private var bands: HTML {
    HTML(
      stages.enumerated().map { i, stage in
        let y = HTML.coordinate(y(i))
        let highlight: HTML =
          stage.name == first
          ? """
          <rect class="first-row" x="0" y="\(y)" width="100%" height="\(Int(row))"/>
          """ : ""
        return """
          \(highlight)<rect class="allowed" x="0" y="\(y)" width="\(at(stage.bound))" \
          height="\(Int(row))"/>\
          <rect class="noise" x="0" y="\(y)" width="\(at(stage.noise))" height="\(Int(row))"/>\
          <line class="bound" x1="\(at(stage.bound))" x2="\(at(stage.bound))" y1="\(y)" \
          y2="\(HTML.coordinate(self.y(i + 1)))"/>

          """
      })
  }

  private var path: HTML {
    HTML(
      zip(stages, stages.dropFirst()).enumerated().map { i, pair in
        """
        <line class="path" x1="\(at(pair.0.maxAbs))" y1="\(HTML.coordinate(y(i) + row / 2))" \
        x2="\(at(pair.1.maxAbs))" y2="\(HTML.coordinate(y(i) + row * 1.5))"/>

        """
      })
  }

  private var markers: HTML {
    HTML(
      stages.enumerated().map { i, stage in
        let words =
          "\(stage.name): error \(Shown.number(stage.maxAbs)), bound \(Shown.number(stage.bound)), "
          + "float32's noise \(Shown.number(stage.noise)), \(stage.ok ? "within" : "out of bounds")"
        let shape: HTML =
          stage.ok
          ? "<circle class=\"dot\" r=\"4\"/>"
          : "<path class=\"out\" d=\"M-6 0L0-6L6 0L0 6Z\"/>"
        return """
          <svg x="\(at(stage.maxAbs))" y="\(HTML.coordinate(y(i) + row / 2))"><title>\(words)</title>\
          \(shape)</svg>

          """
      })
  }

  private var legend: HTML {
    """
    <ul class="legend" aria-hidden="true">
    <li><svg width="22" height="14"><rect class="noise" width="22" height="14"/></svg>float32's \
    noise on A</li>
    <li><svg width="22" height="14"><rect class="allowed" width="20" height="14"/><line \
    class="bound" x1="20" x2="20" y1="0" y2="14"/></svg>allowed, up to the bound</li>
    <li><svg width="14" height="14"><circle class="dot" cx="7" cy="7" r="4"/></svg>within</li>
    <li><svg width="14" height="14"><path class="out" d="M1 7L7 1L13 7L7 13Z"/></svg>out of \
    bounds</li>
    <li>▶ the first divergence</li>
    </ul>

    """
  }
}

/// A logarithmic axis over whole powers of ten, with a place of its own for zero at the left and for
/// what is infinite or no number at the right.
struct LogAxis {
  let low: Int
  let high: Int
  private let hasZero: Bool
  private let hasInfinity: Bool

  /// How much of the axis such a place takes, in percent.
  private static let margin = 12.0

  init(_ values: [Double]) {
    let decades = values.filter { $0 > 0 && $0.isFinite }.map(LogAxis.logarithm)
    hasZero = values.contains { $0 <= 0 }
    hasInfinity = values.contains { !$0.isFinite }
    let least = (decades.min() ?? -16).rounded(.down)
    let most = (decades.max() ?? 0).rounded(.up)
    low = Int(least)
    high = max(Int(most), low + 1)
  }

  func percent(_ value: Double) -> Double {
    if value.isNaN || value == .infinity { return 100 }
    guard value > 0 else { return 0 }
    return percent(decades: LogAxis.logarithm(value))
  }

  private func percent(decades: Double) -> Double {
    let share = (decades - Double(low)) / Double(high - low)
    let start = hasZero ? Self.margin : 0
    let end = hasInfinity ? 100 - Self.margin : 100
    return start + min(max(share, 0), 1) * (end - start)
  }

  /// Few enough marks for a phone.
  var ticks: [(percent: Double, label: String)] {
    let step = max(1, (high - low + 3) / 4)
    let powers = stride(from: low, through: high, by: step).map {
      (percent(decades: Double($0)), "1e\($0)")
    }
    return (hasZero ? [(0, "0")] : []) + powers + (hasInfinity ? [(100, "inf")] : [])
  }

  /// The decimal logarithm: of the exponent, and of the rest by halving; a plot needs no more digits.
  static func logarithm(_ value: Double) -> Double {
    var rest = value.significand
    var bits = Double(value.exponent)
    var weight = 0.5
    for _ in 0..<20 {
      rest *= rest
      if rest >= 2 {
        rest /= 2
        bits += weight
      }
      weight /= 2
    }
    return bits * 0.301_029_995_663_981_2
  }
}
