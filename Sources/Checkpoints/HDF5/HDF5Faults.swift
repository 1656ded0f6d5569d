import Tensors

/// What is wrong with a file's objects: one diagnostic for each kind of fault, however many have it.
struct HDF5Faults {
  private struct Kind: Hashable {
    var code: String
    var message: String
    var help: String?
  }

  /// A hostile file can break rules in a million ways; the first hundred tell enough.
  private static let limit = 100
  private static let shown = 8

  private var order: [Kind] = []
  private var found: [Kind: (first: Diagnostic, paths: [String], count: Int)] = [:]

  /// Whether nothing is wrong.
  var isEmpty: Bool { order.isEmpty }

  /// Adds a fault of the object at `path`; `nil` for one that is told whatever else there is.
  mutating func add(_ problem: Diagnostic, path: String?) {
    let kind = Kind(code: problem.code, message: problem.message, help: problem.help)
    if found[kind] == nil {
      guard order.count < Self.limit else { return }
      order.append(kind)
    }
    found[kind, default: (problem, [], 0)].count += 1
    if let path, (found[kind]?.paths.count ?? 0) < Self.shown { found[kind]?.paths.append(path) }
  }

  /// The faults in the order in which they were met; several of one kind name the first objects.
  func diagnostics(_ file: String) -> [Diagnostic] {
    order.compactMap { found[$0] }.map { first, paths, count in
      guard count > 1 else { return first }
      let names = paths.map { HDF5Text.quoted($0) }.joined(separator: ", ")
      return .hdf5(
        String(first.code.dropFirst("hdf5.".count)), file,
        "each of \(count) objects \(first.message)",
        notes: names.isEmpty
          ? []
          : ["they are \(names)\(count > paths.count ? ", …" : "")"]
            + first.notes,
        help: first.help)
    }
  }
}

/// What a file holds beside weights that can be none: texts, tables, references, leftovers.
struct HDF5Company {
  private static let shown = 8

  private var named: [(path: String, kind: String)] = []
  private var count = 0

  /// Adds an object and says what it is: `text`.
  mutating func add(_ path: String, _ kind: String) {
    count += 1
    if named.count < Self.shown { named.append((path, kind)) }
  }

  /// Whether there is nothing but tensors.
  var isEmpty: Bool { count == 0 }

  /// The first of them: `"/log" (table), …`.
  var list: String {
    named.map { "\(HDF5Text.quoted($0.path)) (\($0.kind))" }.joined(separator: ", ")
      + (count > named.count ? ", …" : "")
  }

  /// The warning that names the first of them, or `nil` when there are none.
  func diagnostic(_ file: String) -> Diagnostic? {
    if isEmpty { return nil }
    let objects = count == 1 ? "1 object that is no tensor" : "\(count) objects that are no tensors"
    return Diagnostic(
      .warning, code: "hdf5.passed-over", subject: file, message: "holds \(objects): \(list)",
      notes: [count == 1 ? "it is not converted" : "they are not converted"])
  }
}
