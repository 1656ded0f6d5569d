import Hub
import Tensors

extension YAMLNode {
  /// The value as YAML: mappings of mappings as blocks, all else on one line where it is short.
  var yaml: String {
    var lines: [String] = []
    for member in members ?? [] {
      if !lines.isEmpty, member.value.members != nil { lines.append("") }
      lines += YAMLNode.lines(of: member, indent: 0)
    }
    return lines.joined(separator: "\n") + "\n"
  }

  private static let width = 96

  private static func lines(of member: Member, indent: Int) -> [String] {
    let front =
      String(repeating: " ", count: indent) + scalar(member.key ?? "", isPlain: true) + ":"
    let flow = member.value.flow
    let isShort = front.utf8.count + flow.utf8.count < width
    if case .scalar = member.value.content { return ["\(front) \(flow)"] }
    let holdsMore =
      member.value.members?.contains { $0.value.members != nil || $0.value.elements != nil }
      ?? false
    if isShort, !holdsMore, indent > 0 { return ["\(front) \(flow)"] }
    if let members = member.value.members, !members.isEmpty {
      return [front] + members.flatMap { lines(of: $0, indent: indent + 2) }
    }
    if let elements = member.value.elements, !elements.isEmpty, !isShort {
      return [front] + elements.flatMap { lines(of: $0, indent: indent + 2) }
    }
    return ["\(front) \(flow)"]
  }

  /// An element of a list.
  private static func lines(of element: YAMLNode, indent: Int) -> [String] {
    let space = String(repeating: " ", count: indent)
    let flow = element.flow
    guard indent + flow.utf8.count >= width, let members = element.members, !members.isEmpty else {
      return ["\(space)- \(flow)"]
    }
    var lines = members.flatMap { Self.lines(of: $0, indent: indent + 2) }
    lines[0] = "\(space)- " + lines[0].dropFirst(indent + 2)
    return lines
  }

  /// The value on one line.
  private var flow: String {
    switch content {
    case .scalar(let text, let isPlain): Self.scalar(text, isPlain: isPlain)
    case .sequence(let elements): "[" + elements.map(\.flow).joined(separator: ", ") + "]"
    case .mapping(let members):
      "{"
        + members.map { "\(Self.scalar($0.key ?? "", isPlain: true)): \($0.value.flow)" }
        .joined(separator: ", ") + "}"
    }
  }

  /// Plain where it was plain and may be so anywhere; a text in quotes otherwise.
  private static func scalar(_ text: String, isPlain: Bool) -> String {
    let isSafe =
      !text.isEmpty
      && text.utf8.allSatisfy { byte in
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
          UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "."),
          UInt8(ascii: "-"), UInt8(ascii: "+"), UInt8(ascii: " "), UInt8(ascii: "/"),
          UInt8(ascii: "("), UInt8(ascii: ")"), UInt8(ascii: "="), UInt8(ascii: "<"):
          true
        default: false
        }
      }
    let first = text.utf8.first ?? 0
    let startsWell =
      first != UInt8(ascii: "-") && first != UInt8(ascii: " ") && first != UInt8(ascii: "=")
      || Double(text) != nil
    // The key of an entry that is left out when it is null ends with a question mark.
    let isKey =
      text.hasSuffix("?") && text.dropLast().allSatisfy { $0.isLetter || $0 == "_" || $0.isNumber }
    if isPlain, isSafe && startsWell && text.utf8.last != UInt8(ascii: " ") || isPlain && isKey {
      return text
    }
    if isPlain, text.isEmpty { return "null" }
    return JSONValue.string(text).text()
  }
}
