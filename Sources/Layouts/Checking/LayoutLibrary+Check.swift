public import Tensors

extension LayoutLibrary {
  /// A layout file that was looked at from end to end.
  public struct Checked: Sendable {
    /// The layout; `nil` when the file is no mapping at all.
    public var layout: Layout?
    /// Everything that is wrong, each with file, line and column.
    public var problems: [Diagnostic]

    /// Whether the layout can be used.
    public var isSound: Bool {
      layout != nil && !problems.contains { $0.severity == .error }
    }
  }

  /// Checks a layout file: what cannot be parsed, what means nothing, and what the file's own rules
  /// would not read back. At most one mistake of parsing is told for each part of the file.
  ///
  /// - Parameters:
  ///   - text: the file's text.
  ///   - file: its name, for messages.
  ///   - words: what layouts may speak of.
  public func check(yaml text: String, file: String, words: LayoutWords) -> Checked {
    do throws(Diagnostic) {
      let root = YAMLCursor(try node(text, file: file))
      let layout = try Layout(root, inertGroups: shared.inertGroups)
      var check = LayoutCheck(layout, root, words)
      let problems = root.findings.problems + check.run()
      return Checked(layout: layout, problems: problems.inOrderOfLines)
    } catch {
      return Checked(layout: nil, problems: [error])
    }
  }

  /// Adds the layout of a file if it is sound; one of the same name is replaced.
  ///
  /// - Throws: every mistake that `check` finds.
  public mutating func add(
    yaml text: String, file: String, words: LayoutWords
  ) throws(Problems) {
    let checked = check(yaml: text, file: file, words: words)
    guard let layout = checked.layout, checked.isSound else {
      throw Problems(checked.problems.filter { $0.severity == .error })
    }
    add(layout, text, file: file)
  }

  /// The text of a layout's file, with all that it extends; a file that extends nothing is as it was
  /// written, with its comments. `nil` for a name that is no layout's own.
  ///
  /// - Throws: `layout.yaml`, `layout.schema`.
  public func yaml(of name: String) throws(Diagnostic) -> String? {
    guard let found = files.first(where: { $0.front.name == name }) else { return nil }
    // The lines of the file itself are there in what it says, if it extends nothing.
    let whole = try node(found.text, file: found.file)
    let isWhole = !found.text.split(separator: "\n").contains { line in
      line.drop { $0 == " " }.hasPrefix("extends:") || line.contains("{extends:")
    }
    return isWhole ? found.text : whole.yaml
  }

  /// The config file names of layouts given with the run.
  public var givenConfigNames: [String] {
    files.filter(\.isGiven).map(\.layout.files.config)
  }
}

extension [Diagnostic] {
  /// By the lines that the subjects end with, `file:line:column`; those of one place as they are.
  fileprivate var inOrderOfLines: [Diagnostic] {
    func place(_ problem: Diagnostic) -> (Int, Int) {
      let parts = problem.subject.split(separator: ":").suffix(2).map { Int($0) ?? 0 }
      return parts.count == 2 ? (parts[0], parts[1]) : (0, 0)
    }
    return enumerated().map { (place($1), $0, $1) }.sorted { a, b in
      (a.0.0, a.0.1, a.1) < (b.0.0, b.0.1, b.1)
    }.map(\.2)
  }
}
