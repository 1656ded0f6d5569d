extension String {
  /// The text for a terminal: characters that would move its cursor, change its colours or title, or
  /// turn the direction of what stands around them, as `\u001b`.
  ///
  /// Names in checkpoints and configs come from anywhere. The form is JSON's, so that a JSON text
  /// stays one and means the same.
  ///
  /// - Parameter lines: line breaks and tabs stay as they are.
  public func visible(lines: Bool) -> String {
    // Nearly every text is printable ASCII, which its bytes tell.
    let isPlain = utf8.allSatisfy { $0 >= 0x20 && $0 < 0x7F || lines && ($0 == 0x09 || $0 == 0x0A) }
    guard !isPlain, unicodeScalars.contains(where: { !$0.isPlain(lines: lines) }) else {
      return self
    }
    var text = ""
    for scalar in unicodeScalars {
      if scalar.isPlain(lines: lines) {
        text.unicodeScalars.append(scalar)
      } else {
        let digits = String(scalar.value, radix: 16)
        text += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      }
    }
    return text
  }
}

extension Unicode.Scalar {
  fileprivate func isPlain(lines: Bool) -> Bool {
    switch value {
    case 0x20..<0x7F: true
    case 0x09, 0x0A: lines
    case 0..<0x20, 0x7F..<0xA0: false
    // Line and paragraph separators; marks, embeddings, overrides and isolates of direction.
    case 0x61C, 0x200E, 0x200F, 0x2028...0x202E, 0x2066...0x2069: false
    default: true
    }
  }
}

extension JSONValue {
  /// The text of the value, at most some hundred characters: messages quote values from files.
  public var brief: String {
    let limit = 200
    switch self {
    case .array(let values) where values.count > limit:
      return JSONValue.array(Array(values.prefix(limit))).brief
    case .object(let object) where object.count > limit:
      return JSONValue.object(
        JSONObject(uniqueKeysWithValues: object.elements.prefix(limit).map { ($0.key, $0.value) })
      ).brief
    default:
      let text = text()
      return text.utf8.count > limit ? text.prefix(limit) + "…" : text
    }
  }
}
