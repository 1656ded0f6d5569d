import Hub
import Tensors

/// Looks for what parses and cannot work: names that mean nothing, and what the file's own rules
/// would not read back.
///
/// Each topic is a file beside this. What could not be parsed has been told and is passed over.
struct LayoutCheck {
  let layout: Layout
  let words: LayoutWords
  /// Where everything stands, by the parser's paths.
  let places: [String: YAMLNode.Place]
  /// The parts that could not be parsed, by path.
  let broken: Set<String>
  var problems: [Diagnostic] = []
  /// More are not told.
  private static let most = 100

  init(_ layout: Layout, _ root: YAMLCursor, _ words: LayoutWords) {
    self.layout = layout
    self.words = words
    places = root.places
    broken = root.findings.broken
  }

  /// Everything that is wrong, in the order of the file.
  mutating func run() -> [Diagnostic] {
    checkFiles()
    checkNames()
    checkConfig()
    checkModel()
    checkMixers()
    checkWrite()
    checkExpressions()
    return problems
  }

  /// Notes what is wrong at `path`.
  mutating func report(
    _ path: String, _ message: String, help: String? = nil, isWarning: Bool = false
  ) {
    // A file with so many has another mistake.
    guard problems.count < Self.most else { return }
    var place = places[path]
    var outer = path[...]
    // Where the path itself is not in the file, what it would stand in.
    while place == nil, let dot = outer.lastIndex(of: ".") {
      outer = outer[..<dot]
      place = places[String(outer)]
    }
    let subject = place ?? places[""]
    let problem = Diagnostic(
      isWarning ? .warning : .error, code: "layout.check", subject: subject?.description ?? "",
      message: "\(path) \(message)", help: help)
    if !problems.contains(problem) { problems.append(problem) }
  }

  /// `did you mean expand_kv_heads?`, or what there is.
  func help(_ name: String, _ known: some Sequence<String>, _ what: String) -> String? {
    guard problems.count < Self.most else { return nil }
    if let near = Nearest.name(to: name, among: known) { return "did you mean \(near)?" }
    let list = Array(known)
    return list.isEmpty ? nil : "\(what): \(list.joined(separator: ", "))"
  }

  /// Whether something at `path`, inside it, or around it could not be parsed.
  func isBroken(_ path: String) -> Bool {
    broken.contains { $0 == path || $0.hasPrefix(path + ".") || path.hasPrefix($0 + ".") }
  }
}
