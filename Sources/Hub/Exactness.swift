/// What a conversion preserves.
public enum Exactness: String, Sendable, Hashable, Comparable, Codable {
  /// Renames and byte moves: every value has its bits.
  case bitwise
  /// The same function in real arithmetic; other rounding.
  case exact
  /// A stated rounding.
  case rounding
  /// Something of the source is lost: rows of the vocabulary, values too large for the type.
  case lossy

  /// From the most to the least exact.
  public static func < (a: Exactness, b: Exactness) -> Bool { a.rank < b.rank }

  private var rank: Int {
    switch self {
    case .bitwise: 0
    case .exact: 1
    case .rounding: 2
    case .lossy: 3
    }
  }
}

/// Why a conversion is no better than it is.
public struct Reason: Sendable, Hashable {
  /// The exactness that remains.
  public var exactness: Exactness
  /// What was done, and why that is so.
  public var text: String

  /// A reason.
  public init(_ exactness: Exactness, _ text: String) {
    self.exactness = exactness
    self.text = text
  }
}
