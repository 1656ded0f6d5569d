/// Finds the files under `Fixtures/`.
public enum Fixtures {
  /// The path of `Fixtures/`, next to the package's manifest.
  public static let root = repository + "/Fixtures"

  /// The path of the repository.
  public static let repository: String = {
    let parts = #filePath.split(separator: "/", omittingEmptySubsequences: false)
    return parts.dropLast(3).joined(separator: "/")
  }()

  /// The path of `Fixtures/<relative>`.
  public static func path(_ relative: String) -> String { root + "/" + relative }

  /// The paths of what is in `Fixtures/<folder>`, in order.
  public static func list(_ folder: String) -> [String] {
    Files.names(in: path(folder)).map { path(folder) + "/" + $0 }
  }

  /// The code that stands before `__` in the name of a malformed fixture.
  public static func expectedCode(_ path: String) -> String {
    let name = String(path.split(separator: "/").last ?? "")
    var code = ""
    var rest = Substring(name)
    while !rest.isEmpty, !rest.hasPrefix("__") { code.append(rest.removeFirst()) }
    return code
  }
}
