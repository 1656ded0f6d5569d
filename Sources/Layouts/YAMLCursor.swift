import Hub
import Tensors
import Yams

/// A node of a YAML file with where it stands, for strict reading: every key must be asked for.
struct YAMLCursor {
  let node: YAMLNode
  let path: String
  /// The problems so far, shared by all cursors of a file.
  let findings: Findings
  /// Where the error of this value is told: at the key, if the value begins on a later line.
  let place: YAMLNode.Place

  /// The problems, and the parts that could not be read.
  final class Findings {
    var problems: [Diagnostic] = []
    var broken: Set<String> = []
  }

  init(text: String, file: String) throws(Diagnostic) {
    self.init(try YAMLNode(text: text, file: file))
  }

  init(_ node: YAMLNode) {
    self.init(node: node, path: "", findings: Findings(), place: node.place)
  }

  private init(node: YAMLNode, path: String, findings: Findings, place: YAMLNode.Place) {
    self.node = node
    self.path = path
    self.findings = findings
    self.place = place
  }

  /// What `read` makes of this value; a mistake in it is noted, and `placeholder` stands in.
  func attempt<T>(
    or placeholder: T, _ read: (YAMLCursor) throws(Diagnostic) -> T
  ) -> T {
    do throws(Diagnostic) { return try read(self) } catch {
      findings.problems.append(error)
      findings.broken.insert(path)
      return placeholder
    }
  }

  /// What `read` makes of each element or member; those with mistakes are noted and left out.
  static func attempt<T>(
    each cursors: [YAMLCursor], _ read: (YAMLCursor) throws(Diagnostic) -> T
  ) -> [T] {
    cursors.compactMap { cursor in
      cursor.attempt(or: nil) { (c) throws(Diagnostic) in try read(c) }
    }
  }
}

extension YAMLNode {
  /// The value that a file holds.
  ///
  /// - Throws: `layout.yaml`.
  init(text: String, file: String) throws(Diagnostic) {
    try Self.checkDepth(text, file)
    try Self.checkMarks(text, file)
    do {
      // Yams resolves tags by regular expressions, which took half of a start; see `scalar`.
      guard let node = try Yams.compose(yaml: text, .basic) else {
        throw Diagnostic(code: "layout.yaml", subject: file, message: "is empty")
      }
      try Self.checkSize(node, file)
      self.init(node, file)
    } catch let error as Diagnostic {
      throw error
    } catch {
      throw Self.noYAML(error, file)
    }
  }

  /// The parser's message with its place.
  private static func noYAML(_ error: any Error, _ file: String) -> Diagnostic {
    switch error as? YamlError {
    case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
      .composer(_, let problem, let mark, _):
      Diagnostic(
        code: "layout.yaml", subject: "\(file):\(mark.line):\(mark.column)",
        message: "is no YAML: \(problem)")
    case .duplicatedKeysInMapping(let keys, let context):
      Diagnostic(
        code: "layout.yaml", subject: "\(file):\(context.mark.line):\(context.mark.column)",
        message: "has a key twice: \(keys.joined(separator: ", "))")
    default: Diagnostic(code: "layout.yaml", subject: file, message: "\(error)")
    }
  }

  /// Values of one file, those that aliases repeat counted each time.
  private static let mostValues = 1_000_000
  /// Levels of brackets, and columns in which a block may start.
  private static let mostLevels = 200

  /// Refuses what would take the parser too deep, which calls itself for every level.
  private static func checkDepth(_ text: String, _ file: String) throws(Diagnostic) {
    var (brackets, column, starts) = (0, 0, true)
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "["), UInt8(ascii: "{"): (brackets, starts) = (brackets + 1, false)
      case UInt8(ascii: "]"), UInt8(ascii: "}"): (brackets, starts) = (max(0, brackets - 1), false)
      case UInt8(ascii: "\n"), UInt8(ascii: "\r"): (column, starts) = (0, true)
      case UInt8(ascii: " "), UInt8(ascii: "-"), UInt8(ascii: "?"), UInt8(ascii: ":"):
        if starts { column += 1 }
      default: starts = false
      }
      guard brackets <= mostLevels, column <= 2 * mostLevels else {
        throw Diagnostic(
          code: "layout.yaml", subject: file,
          message: "is nested more than \(mostLevels) levels deep")
      }
    }
  }

  /// Characters that may be written by their number.
  private static let mostEscapes = 1000

  /// Refuses keys that take minutes to compare, also when their marks are written by their numbers.
  private static func checkMarks(_ text: String, _ file: String) throws(Diagnostic) {
    var (escapes, isEscape) = (0, false)
    for byte in text.utf8 {
      if isEscape, byte | 0x20 == UInt8(ascii: "u") { escapes += 1 }
      isEscape = byte == UInt8(ascii: "\\") && !isEscape
    }
    guard text.isStreamSafe, escapes <= mostEscapes else {
      throw Diagnostic(
        code: "layout.yaml", subject: file,
        message:
          "has more than 30 combining marks in a row, or more than \(mostEscapes) characters "
          + "written by their number")
    }
  }

  /// Refuses aliases of aliases that say much in few bytes.
  private static func checkSize(_ node: Node, _ file: String) throws(Diagnostic) {
    var left = mostValues
    func visit(_ node: Node) throws(Diagnostic) {
      left -= 1
      guard left >= 0 else {
        throw Diagnostic(
          code: "layout.yaml", subject: file,
          message: "holds more than \(mostValues) values when its aliases are followed")
      }
      if let sequence = node.sequence {
        for element in sequence { try visit(element) }
      } else if let mapping = node.mapping {
        for (key, value) in mapping {
          try visit(key)
          try visit(value)
        }
      }
    }
    try visit(node)
  }

  private init(_ node: Node, _ file: String) {
    func place(_ node: Node) -> Place {
      Place(file: file, line: node.mark?.line ?? 0, column: node.mark?.column ?? 0)
    }
    if let mapping = node.mapping {
      content = .mapping(
        mapping.map {
          Member(
            key: $0.key.scalar?.string, keyPlace: place($0.key), value: YAMLNode($0.value, file))
        })
    } else if let sequence = node.sequence {
      content = .sequence(sequence.map { YAMLNode($0, file) })
    } else {
      content = .scalar(node.scalar?.string ?? "", isPlain: node.scalar?.style == .plain)
    }
    self.place = place(node)
  }
}

extension YAMLCursor {
  func error(_ message: String, help: String? = nil) -> Diagnostic {
    Diagnostic(
      code: "layout.schema", subject: "\(place)",
      message: "\(path.isEmpty ? "the file" : path) \(message)", help: help)
  }

  /// The path of a member or an element, as `places` has it too.
  static func join(_ path: String, _ key: String) -> String {
    path.isEmpty ? key : "\(path).\(key)"
  }

  private func child(_ node: YAMLNode, _ key: String, at keyPlace: YAMLNode.Place? = nil)
    -> YAMLCursor
  {
    let isBelow = keyPlace.map { $0.line < node.place.line && $0.file == node.place.file } ?? false
    return YAMLCursor(
      node: node, path: Self.join(path, key), findings: findings,
      place: isBelow ? keyPlace! : node.place)
  }

  /// Where everything stands, by path.
  var places: [String: YAMLNode.Place] {
    var places: [String: YAMLNode.Place] = [path: place]
    if let members = node.members {
      for member in members {
        guard let key = member.key else { continue }
        places.merge(child(member.value, key, at: member.keyPlace).places) { first, _ in first }
      }
    } else if let elements = node.elements {
      for (i, element) in elements.enumerated() {
        places.merge(child(element, "[\(i)]").places) { first, _ in first }
      }
    }
    return places
  }

  var isMapping: Bool { node.members != nil }
  var isSequence: Bool { node.elements != nil }
  var isNull: Bool {
    if case .scalar(let text, let isPlain) = node.content {
      Self.value(text, isPlain: isPlain) == .null
    } else {
      false
    }
  }

  /// The members of a mapping, in order.
  func members() throws(Diagnostic) -> [(key: String, value: YAMLCursor)] {
    guard let mapping = node.members else { throw error("should be a mapping") }
    var members: [(key: String, value: YAMLCursor)] = []
    for member in mapping {
      guard let name = member.key else { throw error("has a key that is no text") }
      members.append((name, child(member.value, name, at: member.keyPlace)))
    }
    return members
  }

  /// The members by key; a key that is not in `known` is an error that lists them.
  func fields(_ known: [String]) throws(Diagnostic) -> [String: YAMLCursor] {
    var fields: [String: YAMLCursor] = [:]
    for (key, value) in try members() {
      guard known.contains(key) else { throw value.noKey(key, known) }
      fields[key] = value
    }
    return fields
  }

  /// The members by key; those that are not in `known` are noted and left out.
  func attemptFields(_ known: [String]) -> [String: YAMLCursor] {
    var fields: [String: YAMLCursor] = [:]
    for (key, value) in (try? members()) ?? [] {
      if known.contains(key) {
        fields[key] = value
      } else {
        findings.problems.append(value.noKey(key, known))
      }
    }
    return fields
  }

  private func noKey(_ key: String, _ known: [String]) -> Diagnostic {
    let near = Nearest.name(to: key, among: known)
    return error(
      "is no key of the schema",
      help: "known here: \(known.joined(separator: ", "))"
        + (near.map { "; did you mean \($0)?" } ?? ""))
  }

  /// A member, if there is one.
  subscript(key: String) -> YAMLCursor? {
    node.members?.first { $0.key == key }.map { child($0.value, key, at: $0.keyPlace) }
  }

  /// An element, if there is one.
  subscript(index: Int) -> YAMLCursor? {
    guard let elements = node.elements, elements.indices.contains(index) else { return nil }
    return child(elements[index], "[\(index)]")
  }

  /// The elements of a sequence.
  func elements() throws(Diagnostic) -> [YAMLCursor] {
    guard let elements = node.elements else { throw error("should be a list") }
    return elements.enumerated().map { child($1, "[\($0)]") }
  }

  func string() throws(Diagnostic) -> String {
    guard let text = node.text else { throw error("should be a text") }
    return text
  }

  func strings() throws(Diagnostic) -> [String] {
    var texts: [String] = []
    for element in try elements() { texts.append(try element.string()) }
    return texts
  }

  /// An expression: a text as it stands; numbers, truth values and null are themselves.
  func expression() throws(Diagnostic) -> Expression {
    let text = try string()
    do { return try Expression(parsing: isNull ? "null" : text) } catch {
      throw self.error("is no expression: \(error.message)")
    }
  }

  func template() throws(Diagnostic) -> NameTemplate {
    let text = try string()
    do { return try NameTemplate(parsing: text) } catch { throw self.error(error.message) }
  }

  func bindings() throws(Diagnostic) -> [Layout.Binding] {
    var bindings: [Layout.Binding] = []
    for (key, value) in try members() {
      let expression = value.attempt(or: .null) { (c) throws(Diagnostic) in try c.expression() }
      bindings.append(Layout.Binding(name: key, value: expression))
    }
    return bindings
  }

  /// Bindings that may read each other, in whatever order the file has them: an extended layout's come
  /// before those of the one that extends it, and may read them.
  func lets() throws(Diagnostic) -> [Layout.Binding] { try bindings().inOrder }

  /// The plain value: quoted scalars are texts, others by YAML's own rules.
  func json() throws(Diagnostic) -> JSONValue {
    switch node.content {
    case .mapping(let members):
      var object = JSONObject()
      for member in members {
        let key = member.key ?? ""
        object[key] = try child(member.value, key, at: member.keyPlace).json()
      }
      return .object(object)
    case .sequence(let elements):
      var values: [JSONValue] = []
      for (i, value) in elements.enumerated() { values.append(try child(value, "[\(i)]").json()) }
      return .array(values)
    case .scalar(let text, let isPlain): return Self.value(text, isPlain: isPlain)
    }
  }

  /// What a scalar stands for: a plain one null, a truth value or a number, if it is spelled so.
  private static func value(_ text: String, isPlain: Bool) -> JSONValue {
    guard isPlain else { return .string(text) }
    switch text {
    case "", "~", "null", "Null", "NULL": return .null
    case "true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON": return .bool(true)
    case "false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF": return .bool(false)
    default: break
    }
    let isNumber = text.utf8.allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "+"), UInt8(ascii: "-"),
        UInt8(ascii: "."), UInt8(ascii: "e"), UInt8(ascii: "E"):
        true
      default: false
      }
    }
    guard isNumber else { return .string(text) }
    return Int(text).map { .int($0) } ?? Double(text).map { .double($0) } ?? .string(text)
  }
}
