public import Tensors

/// The names and functions that an expression may use.
public struct Scope: Sendable {
  /// A function of a scope; it says itself what was wrong with its arguments.
  public typealias Function = @Sendable ([JSONValue]) throws(Diagnostic) -> JSONValue

  /// The values by name.
  public var values: [String: JSONValue]
  /// Functions besides the built-in ones.
  public var functions: [String: Function]
  /// Where names that are not among `values` are looked for.
  private let outer: Outer?

  /// A scope.
  public init(_ values: [String: JSONValue] = [:], functions: [String: Function] = [:]) {
    self.init(values, functions, nil)
  }

  /// The attributes of a model and of a sub-layer, of which the last that has a name gives its value.
  package init(_ attributes: JSONObject, _ others: JSONObject...) {
    var values: [String: JSONValue] = [:]
    for object in [attributes] + others {
      for (name, value) in object { values[name] = value }
    }
    self.init(values, [:], nil)
  }

  private init(
    _ values: [String: JSONValue], _ functions: [String: Function], _ outer: Outer?
  ) {
    self.values = values
    self.functions = functions
    self.outer = outer
  }

  /// The value of `name`, here or farther out.
  public subscript(name: String) -> JSONValue? { values[name] ?? outer?.scope[name] }

  /// What makes scopes without values of their own in this one: a model has thousands of layers that
  /// differ in a number, and copying all values for each would be most of the work.
  package var nested: Scope { Scope([:], functions, Outer(self)) }

  private final class Outer: Sendable {
    let scope: Scope
    init(_ scope: Scope) { self.scope = scope }
  }
}

extension Expression {
  /// The value in `scope`.
  ///
  /// - Throws: `expression.value` naming the expression and what did not fit.
  public func value(in scope: Scope) throws(Diagnostic) -> JSONValue {
    var budget = Evaluator.mostValues
    return try Evaluator(expression: self, scope: scope).value(node, &budget)
  }

  /// The value, which must be a whole number.
  ///
  /// - Throws: `expression.value`.
  public func int(in scope: Scope) throws(Diagnostic) -> Int {
    let value = try value(in: scope)
    if let int = value.int { return int }
    if let double = value.double, let int = Int(exactly: double) { return int }
    throw Diagnostic(
      code: "expression.value", subject: "'\(text)'",
      message: "should be a whole number, found \(value.brief)")
  }

  /// The value, which must be true or false; `null` counts as false.
  ///
  /// - Throws: `expression.value`.
  public func bool(in scope: Scope) throws(Diagnostic) -> Bool {
    let value = try value(in: scope)
    guard let bool = value.truth else {
      throw Diagnostic(
        code: "expression.value", subject: "'\(text)'",
        message: "should be true or false, found \(value.brief)")
    }
    return bool
  }
}

extension JSONValue {
  /// `true` and `false` for what Python's `bool()` gives for null, truth values and numbers.
  var truth: Bool? {
    switch self {
    case .null: false
    case .bool(let value): value
    case .int(let value): value != 0
    default: nil
    }
  }

  /// Equality in which `1` equals `1.0` and members have no order.
  package func isSame(as other: JSONValue) -> Bool {
    if let a = double, let b = other.double { return a == b }
    if let a = array, let b = other.array {
      return a.count == b.count && zip(a, b).allSatisfy { $0.isSame(as: $1) }
    }
    if let a = object, let b = other.object {
      return a.count == b.count && a.allSatisfy { b[$0.key]?.isSame(as: $0.value) ?? false }
    }
    return self == other
  }
}

private struct Evaluator {
  let expression: Expression
  var scope: Scope

  /// Steps and values that one expression may take. Layout files come from anywhere, and each of
  /// `[[x for x in range(n)] for y in range(n)]` is short.
  static let mostValues = 4_000_000

  func spend(_ count: Int, _ budget: inout Int) throws(Diagnostic) {
    budget -= min(count, budget + 1)
    guard budget >= 0 else {
      throw error("takes more than \(Self.mostValues) steps")
    }
  }

  /// `value`, which the expression has just made, paid for.
  func made(_ value: JSONValue, _ budget: inout Int) throws(Diagnostic) -> JSONValue {
    switch value {
    case .array(let values):
      try spend(values.count, &budget)
      for value in values { _ = try made(value, &budget) }
    case .object(let object):
      try spend(object.count, &budget)
      for (_, value) in object { _ = try made(value, &budget) }
    case .string(let text): try spend(text.utf8.count, &budget)
    default: break
    }
    return value
  }

  func error(_ message: String) -> Diagnostic {
    Diagnostic(code: "expression.value", subject: "'\(expression.text)'", message: message)
  }

  func value(_ node: Expression.Node, _ budget: inout Int) throws(Diagnostic) -> JSONValue {
    try spend(1, &budget)
    switch node {
    case .literal(let value): return value
    case .name(let name):
      guard let value = scope[name] else { throw error("nothing is called '\(name)'") }
      return value
    case .member(let base, let name):
      switch try value(base, &budget) {
      case .object(let object): return object[name] ?? .null
      case .null: return .null
      case let other: throw error("\(other.brief) has no member '\(name)'")
      }
    case .index(let base, let index):
      return try element(value(base, &budget), value(index, &budget))
    case .call(let name, let arguments):
      var values: [JSONValue] = []
      for argument in arguments {
        values.append(try value(argument, &budget))
        try spend(values.last?.array?.count ?? 0, &budget)
      }
      if let function = scope.functions[name] { return try made(function(values), &budget) }
      guard let function = Scope.builtins[name] else { throw error("no function '\(name)'") }
      let result: JSONValue
      do throws(Diagnostic) { result = try function(values) } catch {
        throw self.error("\(name): \(error.message)")
      }
      return try made(result, &budget)
    case .list(let nodes):
      var values: [JSONValue] = []
      for node in nodes { values.append(try value(node, &budget)) }
      return try made(.array(values), &budget)
    case .object(let entries):
      var object = JSONObject()
      for entry in entries { object[entry.key] = try value(entry.value, &budget) }
      return try made(.object(object), &budget)
    case .comprehension(let body, let variable, let list, let condition):
      guard let items = try value(list, &budget).array else { throw error("'in' needs a list") }
      var inner = self
      var values: [JSONValue] = []
      for item in items {
        inner.scope.values[variable] = item
        if let condition {
          guard let keep = try inner.value(condition, &budget).truth else {
            throw error("the condition should be true or false")
          }
          guard keep else { continue }
        }
        values.append(try inner.value(body, &budget))
      }
      return .array(values)
    case .unary(let name, let operand):
      let operand = try value(operand, &budget)
      if name == "not" {
        guard let truth = operand.truth else { throw error("'not' needs true or false") }
        return .bool(!truth)
      }
      switch operand {
      case .int(let value): return .int(0 &- value)
      case .double(let value): return .double(-value)
      default: throw error("'-' needs a number, found \(operand.brief)")
      }
    case .conditional(let condition, let yes, let no):
      guard let truth = try value(condition, &budget).truth else {
        throw error("the condition should be true or false")
      }
      return try value(truth ? yes : no, &budget)
    case .binary(let name, let left, let right):
      switch name {
      case "and", "or":
        guard let a = try value(left, &budget).truth else {
          throw error("'\(name)' needs true or false")
        }
        if a != (name == "and") { return .bool(a) }
        guard let b = try value(right, &budget).truth else {
          throw error("'\(name)' needs true or false")
        }
        return .bool(b)
      case "??":
        let a = try value(left, &budget)
        return a == .null ? try value(right, &budget) : a
      default:
        let (a, b) = (try value(left, &budget), try value(right, &budget))
        try spend(b.array?.count ?? 0, &budget)
        return try made(binary(name, a, b), &budget)
      }
    }
  }

  func element(_ base: JSONValue, _ index: JSONValue) throws(Diagnostic) -> JSONValue {
    switch (base, index) {
    case (.array(let values), .int(let i)):
      let place = i < 0 ? i + values.count : i
      guard values.indices.contains(place) else {
        throw error("index \(i) is outside a list of \(values.count)")
      }
      return values[place]
    case (.object(let object), .string(let key)): return object[key] ?? .null
    case (.string(let text), .int(let i)):
      let count = text.utf8.count
      let place = i < 0 ? i + count : i
      guard (0..<count).contains(place), text.utf8.allSatisfy({ $0 < 128 }) else {
        throw error("index \(i) is outside a text of \(count) letters")
      }
      return .string(String(text[text.utf8.index(text.startIndex, offsetBy: place)]))
    case (.null, _): return .null
    default: throw error("\(base.brief) has no element \(index.brief)")
    }
  }

  func binary(_ name: String, _ a: JSONValue, _ b: JSONValue) throws(Diagnostic) -> JSONValue {
    switch name {
    case "==": return .bool(a.isSame(as: b))
    case "!=": return .bool(!a.isSame(as: b))
    case "in", "not in":
      let found: Bool
      switch b {
      case .array(let values): found = values.contains { $0.isSame(as: a) }
      case .object(let object): found = a.string.map { object[$0] != nil } ?? false
      case .null: found = false
      default: throw error("'\(name)' needs a list")
      }
      return .bool(found == (name == "in"))
    case "+":
      if let x = a.string, let y = b.string { return .string(x + y) }
      if let x = a.array, let y = b.array { return .array(x + y) }
    default: break
    }
    guard let x = a.double, let y = b.double else {
      throw error("'\(name)' needs numbers, found \(a.brief) and \(b.brief)")
    }
    switch name {
    case "<": return .bool(x < y)
    case "<=": return .bool(x <= y)
    case ">": return .bool(x > y)
    case ">=": return .bool(x >= y)
    default: break
    }
    if case .int(let i) = a, case .int(let j) = b, name != "/" {
      if let value = try whole(name, i, j) { return .int(value) }
    }
    switch name {
    case "+": return .double(x + y)
    case "-": return .double(x - y)
    case "*": return .double(x * y)
    case "/":
      guard y != 0 else { throw error("division by zero") }
      return .double(x / y)
    case "//":
      guard y != 0 else { throw error("division by zero") }
      return .double((x / y).rounded(.down))
    case "%":
      guard y != 0 else { throw error("division by zero") }
      return .double(x - y * (x / y).rounded(.down))
    case "**": return .double(power(x, y))
    default: throw error("no operator '\(name)'")
    }
  }

  /// Whole-number arithmetic; `nil` where the result is no whole number.
  func whole(_ name: String, _ i: Int, _ j: Int) throws(Diagnostic) -> Int? {
    let result: (Int, Bool)
    switch name {
    case "+": result = i.addingReportingOverflow(j)
    case "-": result = i.subtractingReportingOverflow(j)
    case "*": result = i.multipliedReportingOverflow(by: j)
    case "//", "%":
      guard j != 0 else { throw error("division by zero") }
      let quotient = i.dividedReportingOverflow(by: j)
      guard !quotient.overflow else { throw error("the result is too large") }
      let remainder = i - quotient.partialValue * j
      let below = remainder != 0 && (remainder < 0) != (j < 0)
      return name == "//"
        ? quotient.partialValue - (below ? 1 : 0) : remainder + (below ? j : 0)
    case "**":
      guard j >= 0, j < 63 else { return nil }
      var value = 1
      for _ in 0..<j {
        guard let next = value.checkedTimes(i) else { throw error("the result is too large") }
        value = next
      }
      return value
    default: return nil
    }
    guard !result.1 else { throw error("the result is too large") }
    return result.0
  }
}
