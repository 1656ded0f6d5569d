public import Tensors

/// A small side-effect-free expression over JSON values, as layouts use it for shapes, conditions and
/// config values.
///
/// Numbers, `'texts'`, `true`, `false`, `null`, `[lists]`, `{'key': value}`, names, `a.b`, `a[b]`,
/// `f(x)`, `+ - * / // % **`, comparisons, `in`, `not in`, `and or not`, `a ?? b` (b when a is null),
/// `c ? a : b`, and `[x.layer for x in list if condition]`. As in Python, `/` gives a fraction and
/// `//` rounds down.
///
///     try Expression(parsing: "2 * d_model").value(in: Scope(["d_model": 64]))  // 128
public struct Expression: Sendable, Hashable, CustomStringConvertible {
  /// The text it was parsed from.
  public let text: String
  let node: Node

  indirect enum Node: Sendable, Hashable {
    case literal(JSONValue)
    case name(String)
    case member(Node, String)
    case index(Node, Node)
    case call(String, [Node])
    case list([Node])
    case object([Entry])
    case comprehension(value: Node, variable: String, list: Node, condition: Node?)
    case unary(String, Node)
    case binary(String, Node, Node)
    case conditional(Node, Node, Node)
  }

  struct Entry: Sendable, Hashable {
    var key: String
    var value: Node
  }

  /// Parses `text`.
  ///
  /// - Throws: `expression.syntax` with the column.
  public init(parsing text: String) throws(Diagnostic) {
    self.text = text
    var parser = ExpressionParser(text)
    node = try parser.parseWhole()
  }

  /// Parses a literal of the program's own source; traps on a syntax error, which any test shows.
  public init(literal text: String) {
    do {
      try self.init(parsing: text)
    } catch {
      preconditionFailure(error.description)
    }
  }

  /// The text it was parsed from.
  public var description: String { text }

  /// The names that it refers to, without those that it binds itself.
  public var names: Set<String> { Expression.names(of: node, bound: []) }

  private static func names(of node: Node, bound: Set<String>) -> Set<String> {
    switch node {
    case .literal: []
    case .name(let name): bound.contains(name) ? [] : [name]
    case .member(let base, _): names(of: base, bound: bound)
    case .index(let a, let b), .binary(_, let a, let b):
      names(of: a, bound: bound).union(names(of: b, bound: bound))
    case .call(_, let nodes), .list(let nodes):
      nodes.reduce(into: []) { $0.formUnion(names(of: $1, bound: bound)) }
    case .object(let entries):
      entries.reduce(into: []) { $0.formUnion(names(of: $1.value, bound: bound)) }
    case .comprehension(let value, let variable, let list, let condition):
      names(of: list, bound: bound)
        .union(names(of: value, bound: bound.union([variable])))
        .union(condition.map { names(of: $0, bound: bound.union([variable])) } ?? [])
    case .unary(_, let a): names(of: a, bound: bound)
    case .conditional(let a, let b, let c):
      names(of: a, bound: bound).union(names(of: b, bound: bound))
        .union(names(of: c, bound: bound))
    }
  }
}

/// Precedence climbing over a token list.
struct ExpressionParser {
  private enum Token: Hashable {
    case number(JSONValue)
    case text(String)
    case word(String)
    case symbol(String)
    case end
  }

  private let source: String
  private var tokens: [(token: Token, column: Int)] = []
  private var position = 0
  private var depth = 0

  init(_ source: String) { self.source = source }

  mutating func parseWhole() throws(Diagnostic) -> Expression.Node {
    try tokenize()
    let node = try parse(0)
    guard peek == .end else { throw error("unexpected \(spelled(peek))") }
    return node
  }

  private var peek: Token { tokens[position].token }

  private mutating func next() -> Token {
    let token = tokens[position].token
    if token != .end { position += 1 }
    return token
  }

  private func spelled(_ token: Token) -> String {
    switch token {
    case .number(let value): value.text()
    case .text(let text): "'\(text)'"
    case .word(let word): word
    case .symbol(let symbol): symbol
    case .end: "end"
    }
  }

  private func error(_ message: String, column: Int? = nil) -> Diagnostic {
    Diagnostic(
      code: "expression.syntax", subject: "'\(source)'",
      message:
        "\(message) at column \((column ?? tokens[min(position, tokens.count - 1)].column) + 1)")
  }

  private mutating func tokenize() throws(Diagnostic) {
    let characters = Array(source.unicodeScalars)
    var i = 0
    func isWord(_ c: Unicode.Scalar) -> Bool {
      c == "_" || c.properties.isAlphabetic || ("0"..."9").contains(c)
    }
    while i < characters.count {
      let c = characters[i]
      let start = i
      if c == " " || c == "\n" || c == "\t" {
        i += 1
      } else if ("0"..."9").contains(c) {
        while i < characters.count,
          ("0"..."9").contains(characters[i]) || characters[i] == "."
            || characters[i] == "e" || characters[i] == "E"
            || ((characters[i] == "-" || characters[i] == "+")
              && (characters[i - 1] == "e" || characters[i - 1] == "E"))
        { i += 1 }
        var text = ""
        text.unicodeScalars.append(contentsOf: characters[start..<i])
        if let value = Int(text) {
          tokens.append((.number(.int(value)), start))
        } else if let value = Double(text) {
          tokens.append((.number(.double(value)), start))
        } else {
          throw error("'\(text)' is no number", column: start)
        }
      } else if c == "'" {
        i += 1
        var text = ""
        while i < characters.count, characters[i] != "'" {
          text.unicodeScalars.append(characters[i])
          i += 1
        }
        guard i < characters.count else { throw error("text without an end", column: start) }
        i += 1
        tokens.append((.text(text), start))
      } else if isWord(c) {
        var text = ""
        while i < characters.count, isWord(characters[i]) {
          text.unicodeScalars.append(characters[i])
          i += 1
        }
        tokens.append((.word(text), start))
      } else {
        var symbol = String(c)
        if i + 1 < characters.count {
          let pair = symbol + String(characters[i + 1])
          if ["==", "!=", "<=", ">=", "//", "**", "??"].contains(pair) { symbol = pair }
        }
        guard
          [
            "==", "!=", "<=", ">=", "//", "**", "??", "<", ">", "+", "-", "*", "/", "%", "(", ")",
            "[", "]", "{", "}", ",", ".", ":", "?",
          ].contains(symbol)
        else { throw error("unexpected '\(symbol)'", column: start) }
        tokens.append((.symbol(symbol), start))
        i += symbol.unicodeScalars.count
      }
    }
    tokens.append((.end, characters.count))
  }

  /// The operator at the cursor: its name and how tightly it binds.
  private func binaryOperator() -> (name: String, level: Int, words: Int)? {
    switch peek {
    case .symbol(let symbol):
      switch symbol {
      case "?": return ("?", 1, 1)
      case "??": return ("??", 2, 1)
      case "==", "!=", "<", "<=", ">", ">=": return (symbol, 6, 1)
      case "+", "-": return (symbol, 7, 1)
      case "*", "/", "//", "%": return (symbol, 8, 1)
      case "**": return ("**", 10, 1)
      default: return nil
      }
    case .word("or"): return ("or", 3, 1)
    case .word("and"): return ("and", 4, 1)
    case .word("in"): return ("in", 6, 1)
    case .word("not"):
      return tokens[position + 1].token == .word("in") ? ("not in", 6, 2) : nil
    default: return nil
    }
  }

  private mutating func parse(_ level: Int) throws(Diagnostic) -> Expression.Node {
    depth += 1
    defer { depth -= 1 }
    guard depth < 100 else { throw error("nested too deeply") }
    var left = try parsePrefix()
    while let found = binaryOperator(), found.level > level {
      position += found.words
      if found.name == "?" {
        let yes = try parse(0)
        try expect(":")
        left = .conditional(left, yes, try parse(0))
      } else {
        // `**` and `??` group to the right.
        let right = found.name == "**" || found.name == "??" ? found.level - 1 : found.level
        left = .binary(found.name, left, try parse(right))
      }
    }
    return left
  }

  private mutating func parsePrefix() throws(Diagnostic) -> Expression.Node {
    if peek == .word("not") {
      position += 1
      return .unary("not", try parse(5))
    }
    if peek == .symbol("-") {
      position += 1
      return .unary("-", try parse(9))
    }
    var node = try parsePrimary()
    while true {
      if peek == .symbol(".") {
        position += 1
        guard case .word(let name) = next() else { throw error("a name should follow '.'") }
        node = .member(node, name)
      } else if peek == .symbol("[") {
        position += 1
        let index = try parse(0)
        try expect("]")
        node = .index(node, index)
      } else {
        return node
      }
    }
  }

  private mutating func parsePrimary() throws(Diagnostic) -> Expression.Node {
    switch next() {
    case .number(let value): return .literal(value)
    case .text(let text): return .literal(.string(text))
    case .word("true"): return .literal(true)
    case .word("false"): return .literal(false)
    case .word("null"): return .literal(.null)
    case .word(let name):
      guard peek == .symbol("(") else { return .name(name) }
      position += 1
      return .call(name, try parseList(until: ")"))
    case .symbol("("):
      let node = try parse(0)
      try expect(")")
      return node
    case .symbol("["):
      if peek == .symbol("]") { return .list(try parseList(until: "]")) }
      let first = try parse(0)
      if peek == .word("for") {
        position += 1
        guard case .word(let variable) = next() else { throw error("a name should follow 'for'") }
        guard next() == .word("in") else { throw error("'in' expected") }
        let list = try parse(2)
        var condition: Expression.Node?
        if peek == .word("if") {
          position += 1
          condition = try parse(0)
        }
        try expect("]")
        return .comprehension(value: first, variable: variable, list: list, condition: condition)
      }
      guard peek == .symbol(",") else {
        try expect("]")
        return .list([first])
      }
      position += 1
      return .list([first] + (try parseList(until: "]")))
    case .symbol("{"):
      var entries: [Expression.Entry] = []
      while peek != .symbol("}") {
        guard case .text(let key) = next() else { throw error("a quoted key expected") }
        try expect(":")
        entries.append(Expression.Entry(key: key, value: try parse(0)))
        if peek == .symbol(",") { position += 1 } else { break }
      }
      try expect("}")
      return .object(entries)
    case let token: throw error("unexpected \(spelled(token))")
    }
  }

  private mutating func parseList(until close: String) throws(Diagnostic) -> [Expression.Node] {
    var nodes: [Expression.Node] = []
    while peek != .symbol(close) {
      nodes.append(try parse(0))
      if peek == .symbol(",") { position += 1 } else { break }
    }
    try expect(close)
    return nodes
  }

  private mutating func expect(_ symbol: String) throws(Diagnostic) {
    guard peek == .symbol(symbol) else {
      throw error("'\(symbol)' expected, found \(spelled(peek))")
    }
    position += 1
  }
}
