import Hub

/// A pattern in which `*` stands for any run of characters, dots included.
public struct Glob: Sendable, Hashable {
  /// The pattern as it was given.
  public let text: String
  private let pattern: [UInt8]

  /// A pattern.
  public init(_ pattern: String) {
    text = pattern
    self.pattern = Array(pattern.utf8)
  }

  /// Whether it stands for itself only.
  var isLiteral: Bool { !pattern.contains { $0 == UInt8(ascii: "*") || $0 == UInt8(ascii: "?") } }

  /// Whether numbers of different names are the same to it: it holds no digit, and nothing that
  /// stands for a part of a number.
  var ignoresNumbers: Bool {
    !pattern.contains { NameClasses.isDigit($0) || $0 == UInt8(ascii: "?") }
  }

  /// A pattern that matches whatever this one does with other numbers in place of its own.
  var withoutNumbers: Glob {
    Glob(
      String(
        decoding: pattern.map {
          NameClasses.isDigit($0) || $0 == UInt8(ascii: "?") ? UInt8(ascii: "*") : $0
        }, as: UTF8.self))
  }

  /// Whether all of `text` matches.
  public func matches(_ text: String) -> Bool {
    var copy = text
    return copy.withUTF8 { text in
      var p = 0
      var t = 0
      var star = -1
      var mark = 0
      while t < text.count {
        if p < pattern.count, pattern[p] == UInt8(ascii: "*") {
          star = p
          mark = t
          p += 1
        } else if p < pattern.count, pattern[p] == text[t] || pattern[p] == UInt8(ascii: "?") {
          p += 1
          t += 1
        } else if star >= 0 {
          p = star + 1
          mark += 1
          t = mark
        } else {
          return false
        }
      }
      while p < pattern.count, pattern[p] == UInt8(ascii: "*") { p += 1 }
      return p == pattern.count
    }
  }
}
