package import Tensors

/// A URL of HTTP: its parts as they go to the server.
package struct RemoteURL: Sendable, Hashable {
  /// `http` or `https`.
  package var scheme: String
  /// The host in lower case, an IPv6 address in brackets.
  package var host: String
  /// The port, the scheme's own where none is given.
  package var port: Int
  /// The path, percent-encoded, with its first slash.
  package var path: String
  /// What stands behind the question mark, if anything.
  package var query: String?

  private static let mostBytes = 8192

  /// Takes a URL apart; what is behind `#` is left out, and what may not stand in a URL is
  /// percent-encoded.
  ///
  /// - Throws: `source.url`.
  package init(_ text: String) throws(Diagnostic) {
    func fault(_ message: String, _ help: String) -> Diagnostic {
      Diagnostic(
        code: "source.url", subject: Self.shown(text), message: message, help: help)
    }
    guard text.utf8.count <= Self.mostBytes else {
      throw fault("is longer than \(Self.mostBytes) bytes", "give a shorter URL")
    }
    guard !text.utf8.contains(where: { $0 < 0x20 || $0 == 0x7F || $0 == UInt8(ascii: "\\") }) else {
      throw fault("holds a control character or a backslash", "write the URL without it")
    }
    guard let colon = text.firstRange(of: "://") else {
      throw fault("is no URL", "a URL begins with https://")
    }
    scheme = text[..<colon.lowerBound].lowercased()
    guard scheme == "http" || scheme == "https" else {
      throw fault("is of another kind than http and https", "give a URL that begins with https://")
    }
    var rest = text[colon.upperBound...]
    if let mark = rest.firstIndex(of: "#") { rest = rest[..<mark] }
    if let mark = rest.firstIndex(of: "?") {
      query = Self.encoded(rest[rest.index(after: mark)...], query: true)
      rest = rest[..<mark]
    }
    let slash = rest.firstIndex(of: "/") ?? rest.endIndex
    path = slash == rest.endIndex ? "/" : Self.encoded(rest[slash...])
    var place = rest[..<slash]
    guard !place.contains("@") else {
      throw fault(
        "holds a user name or password, which the list of processes and reports would show",
        "leave it out; a file that wants a login has to be downloaded first")
    }
    port = scheme == "http" ? 80 : 443
    if let mark = place.lastIndex(of: ":"), !place[mark...].contains("]") {
      let digits = place[place.index(after: mark)...]
      guard digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let number = Int(digits),
        (1...65_535).contains(number)
      else { throw fault("names no port", "ports are numbers from 1 to 65535") }
      port = number
      place = place[..<mark]
    }
    host = place.lowercased()
    let isAddress = host.hasPrefix("[") && host.hasSuffix("]")
    guard !host.isEmpty,
      host.utf8.allSatisfy({
        switch $0 {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
          UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"):
          true
        case UInt8(ascii: ":"), UInt8(ascii: "["), UInt8(ascii: "]"): isAddress
        default: false
        }
      })
    else { throw fault("names no host", "hosts are of ASCII letters, digits, - and .") }
  }

  private init(copying other: RemoteURL, path: String, query: String?) {
    self = other
    self.path = path
    self.query = query
  }

  /// The same server's `path`.
  package func with(path: String, query: String? = nil) -> RemoteURL {
    RemoteURL(copying: self, path: path, query: query)
  }

  /// Scheme, host and port.
  package var origin: String {
    let isUsual = port == (scheme == "http" ? 80 : 443)
    return "\(scheme)://\(host)" + (isUsual ? "" : ":\(port)")
  }

  /// All of it.
  package var text: String { origin + path + (query.map { "?\($0)" } ?? "") }

  /// For messages and reports: without what is behind the question mark, which may be a signature.
  package var shown: String { origin + path }

  /// Whether what is said to the host stays on this machine.
  package var isLoopback: Bool {
    host == "localhost" || host == "[::1]"
      || host.hasPrefix("127.")
        && host.split(separator: ".").count == 4
        && host.utf8.allSatisfy { $0 == UInt8(ascii: ".") || (0x30...0x39).contains($0) }
  }

  /// Whether nobody on the way can read along.
  package var isPrivate: Bool { scheme == "https" || isLoopback }

  /// A text without its query and login.
  package static func shown(_ text: String) -> String {
    var text = String(text.prefix { $0 != "?" && $0 != "#" })
    if let colon = text.firstRange(of: "://"),
      let mark = text[colon.upperBound...].prefix(while: { $0 != "/" }).lastIndex(of: "@")
    {
      text.replaceSubrange(colon.upperBound..<mark, with: "…")
    }
    return text
  }

  /// Percent-encodes what may not stand in a path (or query) as it is.
  private static func encoded(_ text: Substring, query: Bool = false) -> String {
    var result = ""
    for byte in text.utf8 {
      switch byte {
      case 0x21, 0x24...0x3B, 0x3D, 0x40...0x5A, 0x5F, 0x61...0x7A, 0x7E: append(byte)
      case UInt8(ascii: "?") where query: append(byte)
      default: result += percent(byte)
      }
    }
    return result
    func append(_ byte: UInt8) { result.unicodeScalars.append(Unicode.Scalar(byte)) }
  }

  /// A file name or path of one, of which every byte means itself.
  package static func encoded(name: String, keepsSlashes: Bool = true) -> String {
    var result = ""
    for byte in name.utf8 {
      switch byte {
      case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, UInt8(ascii: "-"), UInt8(ascii: "."),
        UInt8(ascii: "_"), UInt8(ascii: "~"):
        result.unicodeScalars.append(Unicode.Scalar(byte))
      case UInt8(ascii: "/") where keepsSlashes: result += "/"
      default: result += percent(byte)
      }
    }
    return result
  }

  private static func percent(_ byte: UInt8) -> String {
    let digits = Array("0123456789ABCDEF")
    return "%" + String(digits[Int(byte >> 4)]) + String(digits[Int(byte & 15)])
  }

  /// The text that percent-encoding hides; `nil` where it is none.
  package static func decoded(_ text: String) -> String? {
    var bytes: [UInt8] = []
    var rest = Substring(text).utf8
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "%") else {
        bytes.append(byte)
        continue
      }
      guard let a = rest.popFirst(), let b = rest.popFirst(),
        let value = UInt8(String(decoding: [a, b], as: UTF8.self), radix: 16)
      else { return nil }
      bytes.append(value)
    }
    return String(validating: bytes, as: UTF8.self)
  }
}
