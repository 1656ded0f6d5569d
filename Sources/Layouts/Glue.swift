public import Hub
public import Tensors

/// How a tensor is put together from pieces, along its rows (axis 0). Every glue is a bijection of
/// rows, so one text serves both directions.
public indirect enum Glue: Sendable, Hashable {
  /// The piece itself.
  case piece(String)
  /// One after the other.
  case concat([Glue])
  /// In `groups` groups, each holding its share of every part in turn: lit_gpt's fused q, k, v.
  case interleave([Glue], groups: Expression)
  /// Rotary pairs of each of `heads` heads lie side by side, `(2i, 2i + 1)`; the hub has them half a
  /// head apart, `(i, i + d/2)`. With `width` only the first rows of each head are pairs, and the pairs
  /// are half of these apart.
  case rotaryPairs(Glue, heads: Expression, width: Expression? = nil)
  /// The part of each of `count` numbered pieces, one behind the other: experts in one tensor.
  case stack(Glue, count: Expression)
  /// Every row `times` times in a row: torchscale's angle, each frequency twice.
  case duplicate(Glue, times: Expression)
  /// The image of a piece under a function, in place of the piece. The one glue that rounds: a
  /// conversion from the piece to its image or back says so.
  case image(of: String, by: PieceFunction)

  /// The roles that it is made of, in order.
  public var roles: [String] {
    switch self {
    case .piece(let role): [role]
    case .concat(let parts), .interleave(let parts, _): parts.flatMap(\.roles)
    case .rotaryPairs(let part, _, _), .duplicate(let part, _), .stack(let part, _): part.roles
    case .image(let role, let function):
      [PieceFunction.image(of: role, by: function) ?? role]
    }
  }

  /// The expressions that say how.
  var expressions: [Expression] {
    switch self {
    case .piece, .image: []
    case .concat(let parts): parts.flatMap(\.expressions)
    case .interleave(let parts, let groups): parts.flatMap(\.expressions) + [groups]
    case .rotaryPairs(let part, let count, let width):
      part.expressions + [count] + [width].compactMap(\.self)
    case .duplicate(let part, let count), .stack(let part, let count):
      part.expressions + [count]
    }
  }

  /// The same of the pieces with `number` in place of `{e}`.
  func numbered(_ number: Int) -> Glue {
    switch self {
    case .piece(let role): .piece(MixerKind.numbered(role, number))
    case .concat(let parts): .concat(parts.map { $0.numbered(number) })
    case .interleave(let parts, let groups):
      .interleave(parts.map { $0.numbered(number) }, groups: groups)
    case .rotaryPairs(let part, let heads, let width):
      .rotaryPairs(part.numbered(number), heads: heads, width: width)
    case .duplicate(let part, let times): .duplicate(part.numbered(number), times: times)
    case .stack, .image: self
    }
  }

  /// The same with every stack written out.
  ///
  /// - Throws: `expression.value`; `layout.glue` for more pieces than any checkpoint has.
  func unstacked(in scope: Scope) throws(Diagnostic) -> Glue {
    func all(_ parts: [Glue]) throws(Diagnostic) -> [Glue] {
      var result: [Glue] = []
      for part in parts { result.append(try part.unstacked(in: scope)) }
      return result
    }
    switch self {
    case .piece, .image: return self
    case .concat(let parts): return .concat(try all(parts))
    case .interleave(let parts, let groups): return .interleave(try all(parts), groups: groups)
    case .rotaryPairs(let part, let heads, let width):
      return .rotaryPairs(try part.unstacked(in: scope), heads: heads, width: width)
    case .duplicate(let part, let times):
      return .duplicate(try part.unstacked(in: scope), times: times)
    case .stack(let part, let count):
      let count = try Glue.copies(count, in: scope)
      return .concat((0..<count).map { part.numbered($0) })
    }
  }

  /// How many numbered pieces or tensors `count` asks for.
  ///
  /// - Throws: `expression.value`; `layout.glue` for a number that no checkpoint has.
  static func copies(_ count: Expression, in scope: Scope) throws(Diagnostic) -> Int {
    let number = try count.int(in: scope)
    guard (0...MixerKind.mostCopies).contains(number) else {
      throw Diagnostic(
        code: "layout.glue", subject: count.text,
        message: "asks for \(number); from 0 to \(MixerKind.mostCopies) are possible")
    }
    return number
  }
}

/// Some rows of a piece, standing next to each other.
public struct RowSegment: Sendable, Hashable {
  /// The piece's role.
  public var role: String
  /// The first row of the piece.
  public var start: Int
  /// How many.
  public var count: Int
}

extension Glue {
  /// The rows of the tensor, as runs of rows of its pieces, in order.
  ///
  /// - Parameters:
  ///   - rows: the number of rows of each piece.
  ///   - scope: what the glue's expressions see.
  /// - Throws: `layout.glue` when the rows do not divide as they must; `expression.value`.
  public func segments(rows: [String: Int], scope: Scope) throws(Diagnostic) -> [RowSegment] {
    var merged: [RowSegment] = []
    for segment in try pieces(rows, scope) where segment.count > 0 {
      if let last = merged.last, last.role == segment.role,
        last.start + last.count == segment.start
      {
        merged[merged.count - 1].count += segment.count
      } else {
        merged.append(segment)
      }
    }
    return merged
  }

  private func pieces(_ rows: [String: Int], _ scope: Scope) throws(Diagnostic) -> [RowSegment] {
    switch self {
    case .image: return try Glue.piece(roles[0]).pieces(rows, scope)
    case .piece(let role):
      guard let count = rows[role] else {
        throw Diagnostic(code: "layout.glue", subject: role, message: "is no piece of this mixer")
      }
      return [RowSegment(role: role, start: 0, count: count)]
    case .concat(let parts):
      var all: [RowSegment] = []
      for part in parts { all += try part.pieces(rows, scope) }
      return all
    case .interleave(let parts, let groups):
      let groups = try groups.int(in: scope)
      var shares: [[RowSegment]] = []
      for part in parts { shares.append(try part.pieces(rows, scope)) }
      var all: [RowSegment] = []
      guard groups > 0 else { throw uneven(groups, "groups") }
      try afford(groups, of: shares.map(\.count).max() ?? 0)
      for group in 0..<groups {
        for share in shares {
          let total = share.reduce(0) { $0 + $1.count }
          guard total % groups == 0 else { throw uneven(groups, "groups of \(total) rows") }
          all += Glue.slice(share, group * (total / groups), total / groups)
        }
      }
      return all
    case .stack: return try unstacked(in: scope).pieces(rows, scope)
    case .rotaryPairs(let part, let heads, let pairs):
      let heads = try heads.int(in: scope)
      let share = try part.pieces(rows, scope)
      let total = share.reduce(0) { $0 + $1.count }
      guard heads > 0, total % heads == 0, pairs != nil || (total / heads) % 2 == 0 else {
        throw uneven(heads, "heads of \(total) rows")
      }
      // With no rows, any number of heads is possible.
      try afford(max(total, heads), of: share.count)
      let width = total / heads
      let turning = try pairs?.int(in: scope) ?? width
      guard (0...width).contains(turning), turning % 2 == 0 else {
        throw uneven(turning, "rotating rows of a head of \(width)")
      }
      var all: [RowSegment] = []
      for head in 0..<heads {
        for pair in 0..<turning / 2 {
          all += Glue.slice(share, head * width + pair, 1)
          all += Glue.slice(share, head * width + pair + turning / 2, 1)
        }
        all += Glue.slice(share, head * width + turning, width - turning)
      }
      return all
    case .duplicate(let part, let times):
      let times = try times.int(in: scope)
      let share = try part.pieces(rows, scope)
      let total = share.reduce(0) { $0 + $1.count }
      guard times > 0 else { throw uneven(times, "copies") }
      try afford(max(total, 1).checkedTimes(times) ?? .max, of: share.count)
      var all: [RowSegment] = []
      for row in 0..<total {
        for _ in 0..<times { all += Glue.slice(share, row, 1) }
      }
      return all
    }
  }

  /// Runs of rows of one tensor: more are a config's claim, and no checkpoint's.
  private static let mostRuns = 1 << 20

  private func afford(_ count: Int, of runs: Int) throws(Diagnostic) {
    guard let all = count.checkedTimes(max(runs, 1)), all <= Glue.mostRuns else {
      throw Diagnostic(
        code: "layout.glue", subject: roles.joined(separator: "+"),
        message: "would be glued from more than \(Glue.mostRuns) runs of rows",
        help: "the config asks for heads or groups that no checkpoint has")
    }
  }

  private func uneven(_ count: Int, _ what: String) -> Diagnostic {
    Diagnostic(
      code: "layout.glue", subject: roles.joined(separator: "+"),
      message: "cannot be divided into \(count) \(what)")
  }

  /// `count` rows from row `start` on of the rows that `segments` list.
  private static func slice(_ segments: [RowSegment], _ start: Int, _ count: Int) -> [RowSegment] {
    var result: [RowSegment] = []
    var position = 0
    for segment in segments {
      let from = max(start, position)
      let to = min(start + count, position + segment.count)
      if from < to {
        result.append(
          RowSegment(role: segment.role, start: segment.start + from - position, count: to - from))
      }
      position += segment.count
    }
    return result
  }
}
