/// The name that somebody may have meant.
package enum Nearest {
  /// The nearest of `names`, when it is near enough: a third of the letters may differ.
  package static func name(to name: String, among names: some Sequence<String>) -> String? {
    let wanted = Array(name.lowercased().utf8)
    let best = names.map { ($0, distance(wanted, Array($0.lowercased().utf8))) }
      .min { ($0.1, $0.0) < ($1.1, $1.0) }
    guard let best, best.1 <= max(1, wanted.count / 3) else { return nil }
    return best.0
  }

  /// Levenshtein's distance.
  package static func distance(_ a: [UInt8], _ b: [UInt8]) -> Int {
    var row = Array(0...b.count)
    for i in 0..<a.count {
      var diagonal = row[0]
      row[0] = i + 1
      for j in 0..<b.count {
        let cost = a[i] == b[j] ? diagonal : min(diagonal, row[j], row[j + 1]) + 1
        diagonal = row[j + 1]
        row[j + 1] = cost
      }
    }
    return row[b.count]
  }
}
