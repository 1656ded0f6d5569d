import Tensors

/// Reads the bytes of a pickle; every length is compared with what is left before it is used.
struct PickleCursor {
  let bytes: [UInt8]
  /// What messages call the pickle.
  let subject: String
  private(set) var position = 0
  /// Where the operation being read began, for messages.
  var operation = 0

  init(_ bytes: [UInt8], subject: String) {
    self.bytes = bytes
    self.subject = subject
  }

  var remaining: Int { bytes.count - position }

  /// An error at the operation being read.
  func fault(_ code: String, _ message: String, help: String? = Diagnostic.fetchAgain) -> Diagnostic
  {
    .pytorch(code, "\(subject): byte \(operation)", message, help: help)
  }

  private func need(_ count: Int) throws(Diagnostic) {
    guard remaining >= count else {
      throw fault(
        "pickle-truncated", "the pickle ends inside an operation, or has no STOP at its end")
    }
  }

  mutating func byte() throws(Diagnostic) -> UInt8 {
    try need(1)
    defer { position += 1 }
    return bytes[position]
  }

  /// An unsigned little-endian number of `count` bytes, at most 8.
  mutating func unsigned(_ count: Int) throws(Diagnostic) -> UInt64 {
    try need(count)
    var value: UInt64 = 0
    for k in 0..<count { value |= UInt64(bytes[position + k]) << UInt64(8 * k) }
    position += count
    return value
  }

  /// A length in `width` bytes and that many bytes behind it.
  mutating func block(_ width: Int) throws(Diagnostic) -> ArraySlice<UInt8> {
    let length = try unsigned(width)
    guard length <= UInt64(remaining) else {
      throw fault(
        "pickle-length", "a value claims \(length) bytes, but the pickle has \(remaining) left")
    }
    defer { position += Int(length) }
    return bytes[position..<position + Int(length)]
  }

  /// The bytes up to the end of the line, without it.
  mutating func line() throws(Diagnostic) -> ArraySlice<UInt8> {
    guard let end = bytes[position...].firstIndex(of: 0x0a) else {
      throw fault("pickle-truncated", "the pickle ends inside a line")
    }
    defer { position = end + 1 }
    return bytes[position..<end]
  }

  /// UTF-8 as a text.
  func text(_ utf8: ArraySlice<UInt8>) throws(Diagnostic) -> String {
    guard let text = String(validating: utf8, as: UTF8.self) else {
      throw fault("pickle-text", "a text of \(utf8.count) bytes is no UTF-8")
    }
    return try streamSafe(text)
  }

  /// The text, if it can be compared in little time.
  func streamSafe(_ text: String) throws(Diagnostic) -> String {
    guard text.isStreamSafe else {
      throw fault(
        "pickle-text", "a text has more than 30 combining marks in a row",
        help: "no language is written so; do not trust the file")
    }
    return text
  }
}
