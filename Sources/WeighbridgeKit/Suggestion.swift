import Hub
import Output

/// The name that somebody may have meant.
public enum Suggestion {
  /// The nearest of `names`, when it is near enough: a third of the letters may differ.
  ///
  ///     Suggestion.nearest("Samba_412M", ["Samba_421M", "LLaMA_438M"])  // "Samba_421M"
  public static func nearest(_ name: String, _ names: [String]) -> String? {
    Nearest.name(to: name, among: names)
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
}
