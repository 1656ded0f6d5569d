import Hub
import Layouts
import Tensors
import Testing

@Suite("Expressions")
struct ExpressionTests {
  static let scope = Scope(
    [
      "d_model": 96, "n": 3, "flag": true, "off": false, "none": nil, "eps": 0.5,
      "attn": ["layers": [1, 3], "window_size": 8], "list": [4, 2, 9],
    ],
    functions: ["twice": { (v) throws(Diagnostic) in .int(2 * (v.first?.int ?? 0)) }])

  static func value(_ text: String) throws -> JSONValue {
    try Expression(parsing: text).value(in: scope)
  }

  @Test(
    "operators bind and round as in Python",
    arguments: [
      ("1 + 2 * 3", 7), ("(1 + 2) * 3", 9), ("2 ** 3 ** 2", 512), ("-2 ** 2", -4),
      ("7 // 2", 3), ("-7 // 2", -4), ("7 // -2", -4), ("-7 % 3", 2), ("7 % -3", -2),
      ("7 / 2", 3.5), ("2 ** -1", 0.5), ("7.5 // 2", 3.0), ("-7.5 % 2", 0.5), ("1e-5", 0.00001),
      ("10 - 4 - 3", 3), ("2 * d_model", 192), ("d_model ** 0.5 * d_model ** 0.5 < 96.1", true),
      ("'a' + 'b'", "ab"), ("[1] + [2]", [1, 2]),
    ] as [(String, JSONValue)])
  func arithmetic(text: String, expected: JSONValue) throws {
    #expect(try Self.value(text) == expected)
  }

  @Test(
    "comparisons and logic",
    arguments: [
      ("1 == 1.0", true), ("[1, 2] == [1.0, 2.0]", true), ("'1' == 1", false), ("1 != 2", true),
      ("2 < 2", false), ("2 <= 2", true), ("3 > 2", true), ("3 >= 4", false),
      ("not 1 == 2", true), ("not flag or flag", true), ("flag and not off", true),
      ("off and missing", false), ("flag or missing", true), ("true or false and false", true),
      ("2 in list", true), ("5 in list", false), ("5 not in list", true), ("1 in null", false),
      ("'layers' in attn", true), ("'x' in attn", false), ("null == none", true),
    ] as [(String, JSONValue)])
  func logic(text: String, expected: JSONValue) throws {
    #expect(try Self.value(text) == expected)
  }

  @Test(
    "null falls through members and ??, conditions choose",
    arguments: [
      ("none ?? 5", 5), ("0 ?? 5", 0), ("none ?? none ?? 7", 7), ("none.a.b", nil),
      ("attn.window_size", 8), ("attn.missing", nil), ("attn['layers'][1]", 3), ("none[2]", nil),
      ("list[-1]", 9), ("flag ? 1 : 2", 1), ("off ? 1 : flag ? 2 : 3", 2), ("none ? 1 : 2", 2),
      ("n ? 1 : 2", 1),
    ] as [(String, JSONValue)])
  func nulls(text: String, expected: JSONValue) throws {
    #expect(try Self.value(text) == expected)
  }

  @Test(
    "lists, objects and comprehensions",
    arguments: [
      ("[1, 'a', null,]", [1, "a", nil]), ("[]", []), ("{'a': n + 1, 'b': []}", ["a": 4, "b": []]),
      ("[x * 2 for x in list]", [8, 4, 18]), ("[x for x in list if x > 3]", [4, 9]),
      ("len([x for x in list if x > 100])", 0),
    ] as [(String, JSONValue)])
  func collections(text: String, expected: JSONValue) throws {
    #expect(try Self.value(text) == expected)
  }

  @Test(
    "every function",
    arguments: [
      ("ceil(6.1)", 7), ("ceil(d_model / 16)", 6), ("floor(-0.5)", -1), ("int(-7.9)", -7),
      ("int(95 * 8 / 3)", 253), ("float(3)", 3.0), ("sqrt(d_model * d_model)", 96.0),
      ("round_up(96, 64)", 128), ("round_up(128, 64)", 128), ("round_up(1, 256)", 256),
      ("period([0, 2, 4], range(6))", 2), ("period([0], range(6))", 6),
      ("period([0, 2], range(6))", .null), ("period([], range(2))", .null),
      ("period([3], [1, 3, 5, 6], -1)", 4), ("period([1, 3, 5], [1, 3, 5, 6], -1)", 2),
      ("period([1, 4], range(6), 1)", 3), ("period([], [])", .null),
      ("min(3, 1, 2)", 1), ("max(list)", 9), ("len(list)", 3), ("len(attn)", 2), ("len('äb')", 3),
      ("range(3)", [0, 1, 2]), ("all([true, 1])", true), ("all([true, 0])", false),
      ("any([false, null])", false), ("any([false, true])", true), ("all([])", true),
      ("unique([1, 1.0, 2, 1])", [1, 2]), ("flatten([[1, 2], [], 3])", [1, 2, 3]),
      ("is_list(list)", true), ("is_list(3)", false),
      ("is_number(n)", true), ("is_number('n')", false),
      ("text([1, 5])", "[1, 5]"), ("python_list('[1, 5,]')", [1, 5]), ("python_list('(2,)')", [2]),
      ("python_list('[]')", []), ("twice(21)", 42),
    ] as [(String, JSONValue)])
  func functions(text: String, expected: JSONValue) throws {
    #expect(try Self.value(text) == expected)
  }

  @Test(
    "a syntax error tells the column",
    arguments: [
      ("1 +", 4), ("(1", 3), ("a b", 3), ("[1 2]", 4), ("'open", 1), ("1 ~ 2", 3), ("x.", 3),
      ("{a: 1}", 3), ("1 ? 2", 6), ("", 1), ("1.2.3", 1), ("f(1", 4),
    ])
  func syntax(text: String, column: Int) {
    let error = #expect(throws: Diagnostic.self) { _ = try Expression(parsing: text) }
    #expect(error?.code == "expression.syntax")
    #expect(error?.subject == "'\(text)'")
    #expect(error?.message.hasSuffix("at column \(column)") == true, "\(error?.message ?? "")")
  }

  @Test(
    "a value that does not fit is an error that names the expression and the value",
    arguments: [
      ("missing + 1", "missing"), ("'a' * 2", "\"a\""), ("1 // 0", "zero"), ("1 % 0", "zero"),
      ("1 / 0", "zero"), ("list[3]", "outside"), ("n.member", "member"), ("nothing(1)", "nothing"),
      ("not 'a'", "true or false"), ("-'a'", "number"), ("'a' ? 1 : 2", "true or false"),
      ("[x for x in n]", "list"), ("range(-1)", "range"), ("python_list('1, 2')", "no list"),
      ("python_list('[a]')", "whole numbers"), ("round_up(3, 0)", "positive"), ("len(3)", "list"),
      ("period(list)", "two lists"),
      ("period([1], ['a'])", "whole numbers"),
      ("9223372036854775807 + 1", "too large"), ("-9223372036854775807 - 2", "too large"),
      ("4611686018427387904 * 2", "too large"), ("10 ** 30", "too large"), ("ceil('a')", "number"),
      ("int(1e300)", "bounds"), ("[1][9223372036854775807]", "outside"),
    ])
  func values(text: String, word: String) throws {
    let expression = try Expression(parsing: text)
    let error = #expect(throws: Diagnostic.self) { _ = try expression.value(in: Self.scope) }
    #expect(error?.code == "expression.value")
    #expect(error?.subject == "'\(text)'")
    #expect(error?.message.contains(word) == true, "\(error?.message ?? "")")
  }

  @Test("deep nesting is an error, not a crash")
  func depth() {
    let text = String(repeating: "(", count: 100_000) + "1"
    let error = #expect(throws: Diagnostic.self) { _ = try Expression(parsing: text) }
    #expect(error?.code == "expression.syntax")
    let minuses = String(repeating: "-", count: 100_000) + "1"
    #expect(throws: Diagnostic.self) { _ = try Expression(parsing: minuses) }
  }

  @Test(
    "an expression that makes more than its text explains is stopped",
    arguments: [
      "[[x for x in range(1000000)] for y in range(1000000)]",
      "[x in range(1000000) for x in range(1000000)]",
      "[max(range(1000000)) for x in range(1000000)]",
      "range(1000000) + range(1000000) + range(1000000) + range(1000000)",
      "unique(range(1000000))", "range(1000001)", "2 ** 62 * 2", "9223372036854775807 + 1",
    ])
  func bombs(text: String) throws {
    let expression = try Expression(parsing: text)
    let error = #expect(throws: Diagnostic.self) { try expression.value(in: Scope()) }
    #expect(error?.code == "expression.value")
  }

  @Test("the names of an expression are those that it does not bind itself")
  func names() throws {
    #expect(
      try Expression(parsing: "[s.layer for s in sub if s.kind == k] + f(x)").names == [
        "sub", "k", "x",
      ])
    #expect(try Expression(parsing: "x + len([x for x in list])").names == ["x", "list"])
  }

  @Test("a whole number may come as a fraction without remainder, and nothing else is one")
  func integers() throws {
    #expect(try Expression(parsing: "6 / 2").int(in: Self.scope) == 3)
    #expect(throws: Diagnostic.self) { try Expression(parsing: "7 / 2").int(in: Self.scope) }
    #expect(throws: Diagnostic.self) { try Expression(parsing: "'7'").int(in: Self.scope) }
    #expect(try Expression(parsing: "none").bool(in: Self.scope) == false)
    #expect(throws: Diagnostic.self) { try Expression(parsing: "'true'").bool(in: Self.scope) }
  }
}
