package import Tensors

/// What an expression speaks of, found without evaluating it.
extension Expression {
  /// The expression `null`.
  package static let null = Expression(literal: "null")

  /// A call of a function.
  package struct Call: Sendable, Hashable {
    /// The function's name.
    package var name: String
    /// The arguments: the text of each that is a text constant, `nil` for any other.
    package var arguments: [String?]
  }

  /// A name or member that is compared with text constants: `s.kind == 'mlp'`, `kind in ['a', 'b']`.
  package struct Comparison: Sendable, Hashable {
    /// The name, or the member's name.
    package var subject: String
    /// Whether it is a member of something.
    package var isMember: Bool
    /// The texts.
    package var texts: [String]
  }

  /// Every call.
  package var calls: [Call] {
    var calls: [Call] = []
    Expression.walk(node) { node in
      guard case .call(let name, let arguments) = node else { return }
      calls.append(Call(name: name, arguments: arguments.map(Expression.text)))
    }
    return calls
  }

  /// Every comparison with text constants.
  package var comparisons: [Comparison] {
    var comparisons: [Comparison] = []
    Expression.walk(node) { node in
      guard case .binary(let name, let left, let right) = node,
        ["==", "!=", "in", "not in"].contains(name)
      else { return }
      for (subject, other) in [(left, right), (right, left)] {
        var texts: [String] = []
        if let text = Expression.text(other) { texts = [text] }
        if case .list(let nodes) = other { texts = nodes.compactMap(Expression.text) }
        guard !texts.isEmpty else { continue }
        switch subject {
        case .name(let name):
          comparisons.append(Comparison(subject: name, isMember: false, texts: texts))
        case .member(_, let name):
          comparisons.append(Comparison(subject: name, isMember: true, texts: texts))
        default: break
        }
      }
    }
    return comparisons
  }

  /// A member of something with a name: `ssm_cfg.d_state`.
  package struct Member: Sendable, Hashable {
    /// The name.
    package var base: String
    /// The member.
    package var name: String
  }

  /// Every member of a name that the expression does not bind itself.
  package var members: [Member] {
    let own = names
    var members: [Member] = []
    Expression.walk(node) { node in
      if case .member(.name(let base), let name) = node, own.contains(base) {
        members.append(Member(base: base, name: name))
      }
    }
    return members
  }

  /// The members of elements of `lists` that comprehensions over these ask for: `n_heads` of
  /// `[s.n_heads for s in sublayers]`.
  package func elementMembers(of lists: Set<String>) -> [String] {
    var members: [String] = []
    Expression.walk(node) { node in
      guard case .comprehension(let value, let variable, .name(let list), let condition) = node,
        lists.contains(list)
      else { return }
      for part in [value, condition].compactMap(\.self) {
        Expression.walk(part) { node in
          if case .member(.name(variable), let name) = node { members.append(name) }
        }
      }
    }
    return members
  }

  /// Whether it is `[s for s in list …]` over one of `lists`: some of its elements.
  package func isPart(of lists: Set<String>) -> Bool {
    guard case .comprehension(.name(let value), let variable, .name(let list), _) = node else {
      return false
    }
    return value == variable && lists.contains(list)
  }

  /// The name and members that it hands on as they are, if it does no more than turn their value into
  /// another type or give a default for null: `["ssm_cfg", "d_state"]` of `ssm_cfg.d_state ?? 128`.
  package var source: [String]? {
    func path(_ node: Node) -> [String]? {
      switch node {
      case .name(let name): [name]
      case .member(let base, let name): path(base).map { $0 + [name] }
      case .call(let name, let nodes)
      where nodes.count == 1 && ["float", "int", "number", "float32"].contains(name):
        path(nodes[0])
      case .binary("??", let node, _): path(node)
      default: nil
      }
    }
    return path(node)
  }

  /// The value, where it is a constant.
  package var constant: JSONValue? {
    if case .literal(let value) = node { value } else { nil }
  }

  private static func text(_ node: Node) -> String? {
    if case .literal(.string(let text)) = node { text } else { nil }
  }

  private static func walk(_ node: Node, _ visit: (Node) -> Void) {
    visit(node)
    switch node {
    case .literal, .name: break
    case .member(let base, _), .unary(_, let base): walk(base, visit)
    case .index(let a, let b), .binary(_, let a, let b):
      walk(a, visit)
      walk(b, visit)
    case .call(_, let nodes), .list(let nodes): for node in nodes { walk(node, visit) }
    case .object(let entries): for entry in entries { walk(entry.value, visit) }
    case .comprehension(let value, _, let list, let condition):
      walk(value, visit)
      walk(list, visit)
      if let condition { walk(condition, visit) }
    case .conditional(let a, let b, let c):
      walk(a, visit)
      walk(b, visit)
      walk(c, visit)
    }
  }
}
