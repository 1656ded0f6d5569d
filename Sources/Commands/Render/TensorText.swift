import Tensors
import WeighbridgeKit

/// Values of a tensor for a terminal.
struct TensorText {
  private let view: TensorView

  init(_ view: TensorView) { self.view = view }

  var text: String {
    let info = view.info
    var lines = [
      "\(info.name.string)  \(info.typeName) \(info.shape)" + (view.piece.map { "  \($0)" } ?? "")
    ]
    if view.info.shape.dims.count < 2 {
      lines += vector
    } else if !view.rows.isEmpty {
      lines.append(matrix)
    }
    let left = info.shape.rows - view.rows.count
    if left > 0 {
      lines.append(
        "  \(info.shape.dims.count < 2 ? "values" : "rows") \(view.rows.lowerBound) to "
          + "\(view.rows.upperBound - 1) of \(info.shape.rows)")
    }
    if let statistics = view.statistics { lines.append(summary(statistics)) }
    if let histogram = view.histogram { lines += bars(histogram) }
    return lines.joined(separator: "\n")
  }

  private func shown(_ value: TensorNumber) -> String {
    switch value {
    case .float(let x): Shown.number(x)
    case .integer(let x): "\(x)"
    case .unsigned(let x): "\(x)"
    case .bool(let x): "\(x)"
    }
  }

  /// A vector in lines that begin with the index of their first value.
  private var vector: [String] {
    let texts = view.values.map(shown)
    let width = (texts.map(\.count).max() ?? 1) + 2
    let index = "\(max(0, view.rows.upperBound - 1))".count
    let columns = max(1, (Standard.width - index - 3) / width)
    return stride(from: 0, to: texts.count, by: columns).map { start in
      let number = padded("\(view.rows.lowerBound + start)", index)
      return "  \(number) "
        + texts[start..<min(start + columns, texts.count)].map { padded($0, width) }.joined()
    }
  }

  /// A line for each row; what does not fit is left out in the middle.
  private var matrix: String {
    let count = view.values.count / view.rows.count
    let texts = view.values.map(shown)
    let width = (texts.map(\.count).max() ?? 1) + 2
    let index = "\(view.rows.upperBound - 1)".count
    let room = max(2, (Standard.width - index - 6) / width)
    return view.rows.enumerated().map { place, row in
      let cells = texts[place * count..<(place + 1) * count]
      let line =
        count <= room
        ? cells.map { padded($0, width) }.joined()
        : cells.prefix((room + 1) / 2).map { padded($0, width) }.joined() + "  …"
          + cells.suffix(room / 2).map { padded($0, width) }.joined()
      return "  \(padded("\(row)", index)) \(line)"
    }.joined(separator: "\n")
  }

  private func summary(_ statistics: TensorStatistics) -> String {
    var facts = [
      "min \(Shown.number(statistics.min))", "max \(Shown.number(statistics.max))",
      "mean \(Shown.number(statistics.mean))", "std \(Shown.number(statistics.std))",
    ]
    for (name, count) in [
      ("NaN", statistics.nan), ("inf", statistics.inf), ("zeros", statistics.zeros),
    ] where count > 0 { facts.append("\(count) \(name)") }
    return "  " + facts.joined(separator: ", ")
  }

  private func bars(_ histogram: Histogram) -> [String] {
    let edges = histogram.edges.map { Shown.number($0) }
    let most = max(1, histogram.counts.max() ?? 1)
    let edgeWidth = edges.map(\.count).max() ?? 1
    let countWidth = "\(most)".count
    let room = max(10, min(60, Standard.width - edgeWidth - countWidth - 8))
    return histogram.counts.enumerated().map { bin, count in
      let eighths = Int((Double(count) / Double(most) * Double(room * 8)).rounded(.up))
      let bar =
        String(repeating: "█", count: eighths / 8)
        + (eighths % 8 == 0 ? "" : String(Array("▏▎▍▌▋▊▉")[eighths % 8 - 1]))
      return "  \(padded(edges[bin], edgeWidth))  \(padded("\(count)", countWidth))"
        + (bar.isEmpty ? "" : "  \(bar)")
    }
  }

  private func padded(_ text: String, _ width: Int) -> String {
    String(repeating: " ", count: max(0, width - text.count)) + text
  }
}
