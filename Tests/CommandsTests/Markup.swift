/// The tags of a page, which must be balanced.
struct Markup {
  /// An opening tag.
  struct Tag {
    var name: String
    var attributes: [String: String] = [:]
  }

  struct Unbalanced: Error {
    let found: String
    let open: [String]
  }

  private(set) var tags: [Tag] = []

  func count(_ name: String) -> Int { tags.count { $0.name == name } }

  init(_ html: String) throws {
    let empty: Set<String> = ["meta", "link", "br", "wbr"]
    var open: [String] = []
    var rest = html.unicodeScalars[...]
    while let start = rest.firstIndex(of: "<") {
      rest = rest[start...].dropFirst()
      // The end of the tag, past quoted values.
      var quote: Unicode.Scalar?
      let end = rest.firstIndex { scalar in
        if quote != nil {
          if scalar == quote { quote = nil }
          return false
        }
        if scalar == "\"" { quote = scalar }
        return scalar == ">"
      }
      guard let end else { throw Unbalanced(found: "an open tag", open: open) }
      let text = String(String.UnicodeScalarView(rest[..<end]))
      rest = rest[end...].dropFirst()
      if text.lowercased().hasPrefix("!doctype") { continue }
      if text.hasPrefix("/") {
        guard open.popLast() == String(text.dropFirst()) else {
          throw Unbalanced(found: text, open: open)
        }
        continue
      }
      let tag = try Self.tag(text)
      tags.append(tag)
      if !text.hasSuffix("/"), !empty.contains(tag.name) { open.append(tag.name) }
    }
    guard open.isEmpty else { throw Unbalanced(found: "the end", open: open) }
  }

  /// `name a="b" c="d"`: every value quoted.
  private static func tag(_ text: String) throws -> Tag {
    var rest = text.hasSuffix("/") ? text.dropLast() : text[...]
    let name = String(rest.prefix { $0.isLetter || $0.isNumber })
    rest = rest.dropFirst(name.count)
    var tag = Tag(name: name)
    guard !name.isEmpty else { throw Unbalanced(found: text, open: []) }
    while true {
      rest = rest.drop { $0.isWhitespace }
      if rest.isEmpty { return tag }
      let key = String(rest.prefix { $0 != "=" })
      rest = rest.dropFirst(key.count)
      guard rest.hasPrefix("=\""), let end = rest.dropFirst(2).firstIndex(of: "\""),
        tag.attributes[key] == nil
      else { throw Unbalanced(found: text, open: []) }
      tag.attributes[key] = String(rest[rest.index(rest.startIndex, offsetBy: 2)..<end])
      rest = rest[rest.index(after: end)...]
    }
  }
}
