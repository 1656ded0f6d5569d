extension String {
  /// Whether all of it is printable ASCII, so that each byte is a character.
  public var isPrintableASCII: Bool {
    var copy = self
    return copy.withUTF8 { bytes in
      // Without an exit from the loop, so that it takes many bytes at a time.
      var odd: UInt8 = 0
      for byte in bytes { odd |= byte &- 0x20 < 0x5F ? 0 : 1 }
      return odd == 0
    }
  }

  /// Whether the bytes show that nothing of it need be made visible; `false` where only the scalars
  /// could tell.
  ///
  /// - Parameter lines: line breaks and tabs stay as they are.
  public func isPlain(lines: Bool) -> Bool {
    var copy = self
    return copy.withUTF8 { bytes in
      var start = 0
      while start < bytes.count {
        let end = min(start + 64, bytes.count)
        var odd: UInt8 = 0
        for byte in UnsafeBufferPointer(rebasing: bytes[start..<end]) {
          odd |= byte &- 0x20 < 0x5F || lines && byte &- 0x09 < 2 ? 0 : 1
        }
        if odd != 0 {
          for i in start..<end where !Self.isPlain(bytes, i, lines) { return false }
        }
        start = end
      }
      return true
    }
  }

  /// Whether the byte at `i` neither is nor begins a scalar that is made visible. Beyond ASCII these
  /// begin with C2 (controls), D8, and E2 80 or E2 81 (directions, separators); dashes, quotes and
  /// the ellipsis are E2 80 90 to E2 80 A7.
  private static func isPlain(_ bytes: UnsafeBufferPointer<UInt8>, _ i: Int, _ lines: Bool) -> Bool
  {
    switch bytes[i] {
    case 0x20..<0x7F: true
    case 0x09, 0x0A: lines
    case 0x00..<0x20, 0x7F, 0xC2, 0xD8: false
    case 0xE2:
      i + 2 < bytes.count
        && (bytes[i + 1] > 0x81 || bytes[i + 1] == 0x80 && 0x90...0xA7 ~= bytes[i + 2])
    default: true
    }
  }

  /// The text for a terminal: characters that would move its cursor, change its colours or title, or
  /// turn the direction of what stands around them, as `\u001b`.
  ///
  /// Names in checkpoints and configs come from anywhere. The form is JSON's, so that a JSON text
  /// stays one and means the same.
  ///
  /// - Parameter lines: line breaks and tabs stay as they are.
  public func visible(lines: Bool) -> String {
    guard !isPlain(lines: lines), unicodeScalars.contains(where: { !$0.isPlain(lines: lines) })
    else { return self }
    var text = ""
    for scalar in unicodeScalars {
      if scalar.isPlain(lines: lines) {
        text.unicodeScalars.append(scalar)
      } else {
        text += "\\u" + hex(UInt16(truncatingIfNeeded: scalar.value))
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
      let text = words
      return text.utf8.count > limit ? text.prefix(limit) + "…" : text
    }
  }

  /// The text for a message, which may say Infinity.
  private var words: String {
    guard holdsNonFinite else { return text() }
    switch self {
    case .array(let values): return "[\(values.map(\.words).joined(separator: ", "))]"
    case .object(let object):
      return
        "{\(object.map { "\(JSONValue.string($0).text()): \($1.words)" }.joined(separator: ", "))}"
    case .double(let value): return JSONWriter.text(of: value)
    default: return text()
    }
  }
}
