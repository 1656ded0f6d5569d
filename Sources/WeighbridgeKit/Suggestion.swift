import Hub
import Output

/// The name that somebody may have meant.
public enum Suggestion {
  /// The nearest of `names`, when it is near enough: a third of the letters may differ.
  ///
  ///     Suggestion.nearest("Samba_412M", ["Samba_421M", "LLaMA_438M"])  // "Samba_421M"
  public static func nearest(_ name: String, _ names: [String]) -> String? {
    let best = names.map {
      ($0, distance(Array(name.lowercased().utf8), Array($0.lowercased().utf8)))
    }
    .min { ($0.1, $0.0) < ($1.1, $1.0) }
    guard let best, best.1 <= max(1, name.utf8.count / 3) else { return nil }
    return best.0
  }

  /// The nearest name in the directory that `path` is in.
  static func path(_ path: String) -> String? {
    var parts = path.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
    while parts.count > 1, parts.last == "" { parts.removeLast() }
    let name = parts.removeLast()
    let directory = parts.joined(separator: "/")
    let place = parts.isEmpty ? "." : directory.isEmpty ? "/" : directory
    let names = (try? TextFile.names(in: place)) ?? []
    return nearest(name, names).map { parts.isEmpty ? $0 : "\(directory)/\($0)" }
  }

  /// Levenshtein's distance.
  static func distance(_ a: [UInt8], _ b: [UInt8]) -> Int {
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
