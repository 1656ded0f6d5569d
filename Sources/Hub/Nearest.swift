/// Suggestions for misspelt names.
package enum Nearest {
  /// The name closest to `name`, if at most a third of its letters differ.
  package static func name(to name: String, among names: some Sequence<String>) -> String? {
    let wanted = Array(name.lowercased().utf8)
    let best = names.map { ($0, distance(wanted, Array($0.lowercased().utf8))) }
      .min { ($0.1, $0.0) < ($1.1, $1.0) }
    // Any letter is one slip from any other.
    let most = wanted.count < 2 ? 0 : max(1, wanted.count / 3)
    guard let best, !wanted.isEmpty, best.1 <= most else { return nil }
    return best.0
  }

  /// The Levenshtein distance, with a swap of neighbouring letters counted as one edit.
  package static func distance(_ a: [UInt8], _ b: [UInt8]) -> Int {
    var before: [Int] = []
    var last = Array(0...b.count)
    for i in a.indices {
      var row = [i + 1]
      for j in b.indices {
        var best = min(last[j] + (a[i] == b[j] ? 0 : 1), last[j + 1] + 1, row[j] + 1)
        if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] { best = min(best, before[j - 1] + 1) }
        row.append(best)
      }
      (before, last) = (last, row)
    }
    return last[b.count]
  }
}
