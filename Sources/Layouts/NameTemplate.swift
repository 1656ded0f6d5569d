public import Hub
public import Tensors

/// A tensor name with expressions in braces: `transformer.h.{i}.norm_1`.
public struct NameTemplate: Sendable, Hashable, CustomStringConvertible {
  enum Segment: Sendable, Hashable {
    case literal(String)
    case hole(Expression)
  }

  /// The text it was parsed from.
  public let text: String
  private(set) var segments: [Segment]

  /// Parses `text`.
  ///
  /// - Throws: `layout.name` for a brace without its partner; `expression.syntax`.
  public init(parsing text: String) throws(Diagnostic) {
    self.text = text
    var segments: [Segment] = []
    var literal = ""
    var hole: String?
    for character in text {
      switch (character, hole) {
      case ("{", nil):
        if !literal.isEmpty { segments.append(.literal(literal)) }
        literal = ""
        hole = ""
      case ("}", .some(let inner)):
        segments.append(.hole(try Expression(parsing: inner)))
        hole = nil
      case ("}", nil), ("{", .some):
        throw Diagnostic(
          code: "layout.name", subject: "'\(text)'", message: "has a brace without its partner")
      case (_, .some(let inner)): hole = inner + String(character)
      case (_, nil): literal.append(character)
      }
    }
    guard hole == nil else {
      throw Diagnostic(
        code: "layout.name", subject: "'\(text)'", message: "has a brace without its partner")
    }
    if !literal.isEmpty { segments.append(.literal(literal)) }
    self.segments = segments
  }

  /// A name without expressions.
  init(literal text: String) {
    self.text = text
    segments = [.literal(text)]
  }

  /// The text it was parsed from.
  public var description: String { text }

  /// Whether it holds expressions.
  var hasHoles: Bool {
    segments.contains { if case .hole = $0 { true } else { false } }
  }

  /// The same with `number` in place of `{e}`.
  func numbered(_ number: Int) -> NameTemplate {
    var template = self
    template.segments = segments.map {
      if case .hole(let expression) = $0, expression.text == "e" { return .literal(String(number)) }
      return $0
    }
    return template
  }

  /// The name in `scope`.
  ///
  /// - Throws: `expression.value`.
  public func expand(in scope: Scope) throws(Diagnostic) -> String {
    if segments.count == 1, case .literal(let text) = segments[0] { return text }
    var name = ""
    for segment in segments {
      switch segment {
      case .literal(let text): name += text
      case .hole(let expression):
        let value = try expression.value(in: scope)
        name += value.string ?? value.text()
      }
    }
    return name
  }
}
