import Hub
import Tensors
import Yams

/// A node of a YAML file with where it stands, for strict reading: every key must be asked for.
struct YAMLCursor {
  let node: Node
  let file: String
  let path: String

  init(text: String, file: String) throws(Diagnostic) {
    try Self.checkDepth(text, file)
    try Self.checkMarks(text, file)
    do {
      // Yams resolves tags by regular expressions, which took half of a start; see `scalar`.
      guard let node = try Yams.compose(yaml: text, .basic) else {
        throw Diagnostic(code: "layout.yaml", subject: file, message: "is empty")
      }
      try Self.checkSize(node, file)
      self.init(node: node, file: file, path: "")
    } catch let error as Diagnostic {
      throw error
    } catch {
      throw Diagnostic(code: "layout.yaml", subject: file, message: "\(error)")
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

  private init(node: Node, file: String, path: String) {
    self.node = node
    self.file = file
    self.path = path
  }

  func error(_ message: String, help: String? = nil) -> Diagnostic {
    let mark = node.mark.map { ":\($0.line):\($0.column)" } ?? ""
    return Diagnostic(
      code: "layout.schema", subject: "\(file)\(mark)",
      message: "\(path.isEmpty ? "the file" : path) \(message)", help: help)
  }

  private func child(_ node: Node, _ key: String) -> YAMLCursor {
    YAMLCursor(node: node, file: file, path: path.isEmpty ? key : "\(path).\(key)")
  }

  var isMapping: Bool { node.mapping != nil }
  var isSequence: Bool { node.sequence != nil }
  var isNull: Bool { node.scalar.map(Self.value) == .null }

  /// The members of a mapping, in order.
  func members() throws(Diagnostic) -> [(key: String, value: YAMLCursor)] {
    guard let mapping = node.mapping else { throw error("should be a mapping") }
    var members: [(key: String, value: YAMLCursor)] = []
    for (key, value) in mapping {
      guard let name = key.scalar?.string else { throw error("has a key that is no text") }
      members.append((name, child(value, name)))
    }
    return members
  }

  /// The members by key; a key that is not in `known` is an error that lists them.
  func fields(_ known: [String]) throws(Diagnostic) -> [String: YAMLCursor] {
    var fields: [String: YAMLCursor] = [:]
    for (key, value) in try members() {
      guard known.contains(key) else {
        throw value.error(
          "is no key of the schema", help: "known here: \(known.joined(separator: ", "))")
      }
      fields[key] = value
    }
    return fields
  }

  /// The elements of a sequence.
  func elements() throws(Diagnostic) -> [YAMLCursor] {
    guard let sequence = node.sequence else { throw error("should be a list") }
    return sequence.enumerated().map { child($1, "[\($0)]") }
  }

  func string() throws(Diagnostic) -> String {
    guard let scalar = node.scalar else { throw error("should be a text") }
    return scalar.string
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
      bindings.append(Layout.Binding(name: key, value: try value.expression()))
    }
    return bindings
  }

  /// The plain value: quoted scalars are texts, others by YAML's own rules.
  func json() throws(Diagnostic) -> JSONValue {
    if let mapping = node.mapping {
      var object = JSONObject()
      for (key, value) in mapping {
        object[key.scalar?.string ?? ""] = try child(value, key.scalar?.string ?? "").json()
      }
      return .object(object)
    }
    if let sequence = node.sequence {
      var values: [JSONValue] = []
      for (i, value) in sequence.enumerated() { values.append(try child(value, "[\(i)]").json()) }
      return .array(values)
    }
    guard let scalar = node.scalar else { throw error("should be a value") }
    return Self.value(scalar)
  }

  /// What a scalar stands for: a plain one null, a truth value or a number, if it is spelled so.
  private static func value(_ scalar: Node.Scalar) -> JSONValue {
    guard scalar.style == .plain else { return .string(scalar.string) }
    switch scalar.string {
    case "", "~", "null", "Null", "NULL": return .null
    case "true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON": return .bool(true)
    case "false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF": return .bool(false)
    default: break
    }
    let isNumber = scalar.string.utf8.allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "+"), UInt8(ascii: "-"),
        UInt8(ascii: "."), UInt8(ascii: "e"), UInt8(ascii: "E"):
        true
      default: false
      }
    }
    guard isNumber else { return .string(scalar.string) }
    return Int(scalar.string).map { .int($0) } ?? Double(scalar.string).map { .double($0) }
      ?? .string(scalar.string)
  }
}
