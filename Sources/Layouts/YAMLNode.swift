/// A value of a YAML file, and where it stands.
struct YAMLNode: Sendable {
  /// A place in a file; lines and columns count from 1.
  struct Place: Sendable, Hashable, CustomStringConvertible {
    var file: String
    var line: Int
    var column: Int

    var description: String { line > 0 ? "\(file):\(line):\(column)" : file }
  }

  /// A member of a mapping.
  struct Member: Sendable {
    /// The key; `nil` when it is no text.
    var key: String?
    var keyPlace: Place
    var value: YAMLNode
  }

  indirect enum Content: Sendable {
    /// A plain scalar may be a number, a truth value or null; any other is a text.
    case scalar(String, isPlain: Bool)
    case sequence([YAMLNode])
    case mapping([Member])
  }

  var content: Content
  var place: Place

  var members: [Member]? {
    if case .mapping(let members) = content { members } else { nil }
  }

  var elements: [YAMLNode]? {
    if case .sequence(let elements) = content { elements } else { nil }
  }

  var text: String? {
    if case .scalar(let text, _) = content { text } else { nil }
  }

  /// The value of `key`.
  subscript(key: String) -> YAMLNode? { members?.first { $0.key == key }?.value }
}
