import Hub
import Layouts
import OrderedCollections
import Parity
import WeighbridgeKit

/// Which pieces of weight differ: a table for each kind of sub-layer, layers down, roles across. A
/// cell has a sign and words besides its colour.
struct HTMLHeatMap {
  let spec: ModelSpec
  let pieces: [CheckpointDiff.Piece]

  var html: HTML {
    // One table a kind, in the order in which kinds appear; the model's own pieces come first.
    var tables: OrderedDictionary<String, Grid> = ["model": Grid()]
    for sublayer in spec.sublayers { tables[sublayer.kind] = Grid() }
    for piece in pieces {
      let kind = piece.id.sublayer.map { spec.sublayers[$0].kind } ?? "model"
      tables[kind]?.add(piece)
    }
    let maps = tables.filter { !$0.value.roles.isEmpty }.map { table($0.key, $0.value) }
    return """
      \(legend)<div class="maps">
      \(maps)</div>

      """
  }

  /// The pieces of one kind.
  private struct Grid {
    var roles: [String] = []
    var rows: OrderedDictionary<Int?, [String: CheckpointDiff.Piece]> = [:]

    mutating func add(_ piece: CheckpointDiff.Piece) {
      if !roles.contains(piece.id.role) { roles.append(piece.id.role) }
      rows[piece.id.sublayer, default: [:]][piece.id.role] = piece
    }
  }

  private func table(_ kind: String, _ grid: Grid) -> HTML {
    let caption = "\(kind): \(told(grid.rows.values.flatMap(\.values).map(\.status)))"
    let heads: [HTML] = grid.roles.map {
      "<th scope=\"col\"><span class=\"turn\">\($0)</span></th>"
    }
    let rows: [HTML] = grid.rows.map { sublayer, row in
      let cells: [HTML] = grid.roles.map { role in row[role].map(cell) ?? "<td></td>" }
      let head: HTML =
        sublayer.map { "layer\u{A0}\(spec.sublayers[$0].layer)" as HTML } ?? "model"
      return "<tr><th scope=\"row\">\(head)</th>\(cells)</tr>\n"
    }
    return HTML.region(
      caption,
      """
      <table class="map"><caption>\(caption)</caption>
      <thead><tr><th scope="col" class="corner">\(kind == "model" ? "" : "layer")</th>\(heads)</tr>\
      </thead>
      <tbody>
      \(rows)</tbody></table>
      """)
  }

  private func told(_ statuses: [CheckpointDiff.Status]) -> String {
    let casts = statuses.count { if case .cast = $0 { true } else { false } }
    let differing = statuses.count { !$0.isSame } - casts
    var parts: [String] = []
    if differing > 0 { parts.append("\(differing) \(differing == 1 ? "differs" : "differ")") }
    if casts > 0 { parts.append("\(casts) in another type") }
    return parts.isEmpty ? "none differs" : parts.joined(separator: ", ")
  }

  private func cell(_ piece: CheckpointDiff.Piece) -> HTML {
    let names = piece.tensorsB.isEmpty ? piece.tensorsA : piece.tensorsB
    return """
      <td class="\(piece.status.heat)" title="\(names.joined(separator: " + ")): \
      \(piece.status.words)">\(piece.status.sign)<span class="vh"> \(piece.status.words)</span></td>
      """
  }

  private var legend: HTML {
    let entries: [(String, String, String)] = [
      ("m0", "=", "equal"), ("mc", "~", "the same in another type"),
      ("m1", "≠", "differs below 1e-6"), ("m2", "≠", "below 1e-4"), ("m3", "≠", "below 0.01"),
      ("m4", "≠", "0.01 or more, NaN, another shape"), ("m4", "A", "only in A"),
      ("m4", "B", "only in B"),
    ]
    let items: [HTML] = entries.map {
      "<li><span class=\"swatch \($0.0)\" aria-hidden=\"true\">\($0.1)</span>\($0.2)</li>\n"
    }
    return "<ul class=\"legend\">\n\(items)</ul>\n"
  }
}

extension CheckpointDiff.Status {
  /// Whether the piece is the same on both sides, or without effect where it is missing.
  var isSame: Bool { self == .equal || self == .neutral }

  /// In words, for people.
  var words: String {
    switch self {
    case .equal: "equal"
    case .neutral: "without effect"
    case .cast(let from, let to): "cast of \(from.rawValue) to \(to.rawValue)"
    case .rounded(let narrow): "rounded to \(narrow.rawValue), and widened again"
    case .differs(let maxAbs, let count, let total):
      maxAbs.isFinite
        ? "differs by up to \(Shown.number(maxAbs)) in \(count) of \(total)"
        : "differs by NaN or infinity, in \(count) of \(total)"
    case .shapes(let x, let y): "shape \(x) against \(y)"
    case .onlyInA: "only in A"
    case .onlyInB: "only in B"
    }
  }

  /// One character.
  fileprivate var sign: String {
    switch self {
    case .equal, .neutral: "="
    case .cast, .rounded: "~"
    case .differs, .shapes: "≠"
    case .onlyInA: "A"
    case .onlyInB: "B"
    }
  }

  /// The class of a cell's colour.
  fileprivate var heat: String {
    switch self {
    case .equal, .neutral: "m0"
    case .cast, .rounded: "mc"
    case .differs(let maxAbs, _, _):
      maxAbs < 1e-6 ? "m1" : maxAbs < 1e-4 ? "m2" : maxAbs < 1e-2 ? "m3" : "m4"
    case .shapes, .onlyInA, .onlyInB: "m4"
    }
  }
}
