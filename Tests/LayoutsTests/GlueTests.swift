import Hub
import Layouts
import Tensors
import TestSupport
import Testing

@Suite("Glue")
struct GlueTests {
  /// Rows as texts: `q3` is row 3 of piece q.
  static func rows(_ glue: Glue, _ counts: [String: Int], _ scope: Scope = Scope()) throws
    -> [String]
  {
    try glue.segments(rows: counts, scope: scope).flatMap { segment in
      (segment.start..<segment.start + segment.count).map { "\(segment.role)\($0)" }
    }
  }

  static func number(_ value: Int) -> Expression { Expression(literal: "\(value)") }

  @Test("a concatenation is one piece behind the other, and neighbours become one segment")
  func concat() throws {
    let glue = Glue.concat([.piece("x"), .piece("z")])
    #expect(try Self.rows(glue, ["x": 2, "z": 3]) == ["x0", "x1", "z0", "z1", "z2"])
    #expect(try glue.segments(rows: ["x": 2, "z": 3], scope: Scope()).count == 2)
    #expect(glue.roles == ["x", "z"])
  }

  @Test("grouped q, k, v: each group has its queries, its key and its value")
  func interleave() throws {
    let glue = Glue.interleave([.piece("q"), .piece("k"), .piece("v")], groups: Self.number(2))
    // 4 query heads, 2 groups, heads of 1 row.
    #expect(
      try Self.rows(glue, ["q": 4, "k": 2, "v": 2]) == [
        "q0", "q1", "k0", "v0", "q2", "q3", "k1", "v1",
      ])
    // One group is plain q, k, v.
    let one = Glue.interleave([.piece("q"), .piece("k"), .piece("v")], groups: Self.number(1))
    #expect(try one.segments(rows: ["q": 4, "k": 2, "v": 2], scope: Scope()).count == 3)
  }

  @Test("rotary pairs: halves of a head are interleaved, head by head")
  func rotaryPairs() throws {
    let glue = Glue.rotaryPairs(.piece("q"), heads: Self.number(2))
    #expect(try Self.rows(glue, ["q": 8]) == ["q0", "q2", "q1", "q3", "q4", "q6", "q5", "q7"])
  }

  @Test("of rotary pairs that are a part of a head, the rest stays behind them")
  func partialRotaryPairs() throws {
    let glue = Glue.rotaryPairs(.piece("q"), heads: Self.number(2), width: Self.number(4))
    #expect(
      try Self.rows(glue, ["q": 10]) == [
        "q0", "q2", "q1", "q3", "q4", "q5", "q7", "q6", "q8", "q9",
      ])
    for width in [3, 6, -2] {
      let glue = Glue.rotaryPairs(.piece("q"), heads: Self.number(2), width: Self.number(width))
      #expect(throws: Diagnostic.self) { try Self.rows(glue, ["q": 10]) }
    }
  }

  @Test("a stack has the part of each numbered piece in turn")
  func stack() throws {
    let part = Glue.concat([.piece("experts.{e}.gate"), .piece("experts.{e}.up")])
    let glue = Glue.stack(part, count: Self.number(2))
    #expect(glue.roles == ["experts.{e}.gate", "experts.{e}.up"])
    let counts = [
      "experts.0.gate": 1, "experts.0.up": 2, "experts.1.gate": 1, "experts.1.up": 2,
    ]
    #expect(
      try Self.rows(glue, counts) == [
        "experts.0.gate0", "experts.0.up0", "experts.0.up1", "experts.1.gate0", "experts.1.up0",
        "experts.1.up1",
      ])
    for count in [-1, 1 << 40] {
      #expect(throws: Diagnostic.self) {
        try Self.rows(.stack(part, count: Self.number(count)), counts)
      }
    }
  }

  @Test("a duplicated row stands several times in a row")
  func duplicate() throws {
    let glue = Glue.duplicate(.piece("a"), times: Self.number(2))
    #expect(try Self.rows(glue, ["a": 3]) == ["a0", "a0", "a1", "a1", "a2", "a2"])
  }

  @Test("rows that do not divide are an error with the piece's name")
  func uneven() {
    for glue in [
      Glue.interleave([.piece("q"), .piece("k")], groups: Self.number(3)),
      .rotaryPairs(.piece("q"), heads: Self.number(4)),
      .rotaryPairs(.piece("q"), heads: Self.number(0)),
      .interleave([.piece("q")], groups: Self.number(-1)),
      .duplicate(.piece("q"), times: Self.number(0)),
      .piece("other"),
    ] {
      let error = #expect(throws: Diagnostic.self) {
        _ = try glue.segments(rows: ["q": 4, "k": 2], scope: Scope())
      }
      #expect(error?.code == "layout.glue")
      #expect(error?.subject.contains(glue.roles[0]) == true)
    }
  }

  @Test("an expression of a glue sees the scope")
  func scope() throws {
    let glue = Glue.interleave([.piece("q"), .piece("k")], groups: Expression(literal: "g // 2"))
    #expect(
      try Self.rows(glue, ["q": 4, "k": 2], Scope(["g": 4])) == [
        "q0", "q1", "k0", "q2", "q3", "k1",
      ])
  }

  /// A random glue over pieces `a`, `b`, `c`, …, each used once, with row counts that fit it.
  static func random(_ random: inout SeededRandom, depth: Int, next: inout Int) -> (
    glue: Glue, rows: [String: Int], total: Int
  ) {
    let choice = depth == 0 ? 0 : Int.random(in: 0..<4, using: &random)
    switch choice {
    case 1, 2:
      let groups = choice == 1 ? 1 : Int.random(in: 1...4, using: &random)
      var parts: [Glue] = []
      var rows: [String: Int] = [:]
      var total = 0
      for _ in 0..<Int.random(in: 1...3, using: &random) {
        // Only pieces can be sized at will; so a grouped part is a piece.
        if choice == 2 {
          let name = "p\(next)"
          next += 1
          let count = groups * Int.random(in: 1...5, using: &random)
          parts.append(.piece(name))
          rows[name] = count
          total += count
        } else {
          let part = Self.random(&random, depth: depth - 1, next: &next)
          parts.append(part.glue)
          rows.merge(part.rows) { a, _ in a }
          total += part.total
        }
      }
      let glue: Glue = choice == 1 ? .concat(parts) : .interleave(parts, groups: number(groups))
      return (glue, rows, total)
    case 3:
      let heads = Int.random(in: 1...4, using: &random)
      let name = "p\(next)"
      next += 1
      let count = heads * 2 * Int.random(in: 1...5, using: &random)
      return (.rotaryPairs(.piece(name), heads: number(heads)), [name: count], count)
    default:
      let name = "p\(next)"
      next += 1
      let count = Int.random(in: 1...9, using: &random)
      return (.piece(name), [name: count], count)
    }
  }

  @Test("every glue without copies is a bijection of rows", arguments: 0..<200)
  func bijection(seed: Int) throws {
    var generator = SeededRandom(UInt64(seed))
    var next = 0
    let (glue, counts, total) = Self.random(&generator, depth: 3, next: &next)
    let found = try Self.rows(glue, counts)
    let expected = counts.flatMap { name, count in (0..<count).map { "\(name)\($0)" } }
    #expect(found.count == total)
    #expect(found.sorted() == expected.sorted(), "seed \(seed): \(glue)")
    // Segments are as long as they can be: no two neighbours could be one.
    let segments = try glue.segments(rows: counts, scope: Scope())
    for (a, b) in zip(segments, segments.dropFirst()) {
      #expect(a.role != b.role || a.start + a.count != b.start, "seed \(seed)")
    }
  }

  @Test("grouped q, k, v equal lit_gpt's view (G, q_per_kv + 2, head_size)", arguments: 0..<60)
  func groupedQKV(seed: Int) throws {
    var generator = SeededRandom(UInt64(seed))
    let groups = Int.random(in: 1...5, using: &generator)
    let perGroup = Int.random(in: 1...4, using: &generator)
    let width = Int.random(in: 1...6, using: &generator)
    let glue = Glue.interleave(
      [.piece("q"), .piece("k"), .piece("v")], groups: Self.number(groups))
    let counts = [
      "q": groups * perGroup * width, "k": groups * width, "v": groups * width,
    ]
    var expected: [String] = []
    for g in 0..<groups {
      for slot in 0..<perGroup + 2 {
        for row in 0..<width {
          if slot < perGroup {
            expected.append("q\((g * perGroup + slot) * width + row)")
          } else {
            expected.append("\(slot == perGroup ? "k" : "v")\(g * width + row)")
          }
        }
      }
    }
    #expect(try Self.rows(glue, counts) == expected, "seed \(seed)")
  }
}
