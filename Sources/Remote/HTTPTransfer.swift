import CCurlLoader
import Tensors

/// The status and headers of an answer.
struct HTTPHead: Sendable {
  var status = 0
  /// Names in lower case.
  var headers: [(name: String, value: String)] = []

  /// The value of the last header of that name, given in lower case.
  subscript(name: String) -> String? { headers.last { $0.name == name }?.value }

  /// The number of bytes of the body, where it is said.
  var contentLength: Int? { self["content-length"].flatMap { Self.number($0) } }

  /// Whether the end of the body is told from a cut connection.
  var tellsItsEnd: Bool {
    contentLength != nil || self["transfer-encoding"]?.lowercased().contains("chunked") == true
  }

  static func number(_ text: some StringProtocol) -> Int? {
    guard !text.isEmpty, text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
    return Int(text)
  }

  /// `bytes 0-99/1000`; `range` is `nil` for `bytes */1000`, and `total` for `bytes 0-99/*`.
  var contentRange: (range: Range<Int>?, total: Int?)? {
    guard let text = self["content-range"] else { return nil }
    let words = text.split(separator: " ")
    guard words.count == 2, words[0].lowercased() == "bytes" else { return nil }
    let parts = words[1].split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count == 2 else { return nil }
    let total = Self.number(parts[1])
    guard total != nil || parts[1] == "*" else { return nil }
    if parts[0] == "*" { return (nil, total) }
    let ends = parts[0].split(separator: "-", omittingEmptySubsequences: false)
    guard ends.count == 2, let first = Self.number(ends[0]), let last = Self.number(ends[1]),
      first <= last, let end = last.checkedPlus(1), end <= total ?? .max
    else { return nil }
    return (first..<end, total)
  }
}

/// One request and its answer, on one thread.
final class HTTPTransfer {
  /// How it ended.
  enum Ending {
    /// The answer is complete.
    case complete
    /// `take` wanted no more.
    case stopped
    /// libcurl gave up: its number, and its words for it.
    case failed(code: Int, reason: String)
  }

  /// The last answer's: what comes before it (`100 Continue`) is dropped.
  private(set) var head = HTTPHead()
  /// Where a redirection leads, made absolute.
  private(set) var target: String?
  private var headBytes = 0
  private var take: (HTTPHead, UnsafeRawBufferPointer) -> Bool
  private var isStopped = false
  /// More headers are an attack.
  private static let mostHeadBytes = 256 << 10

  private init(_ take: @escaping (HTTPHead, UnsafeRawBufferPointer) -> Bool) { self.take = take }

  /// Asks for `url` and hands the body to `take` as it comes, until that answers no.
  ///
  /// - Throws: `source.library`.
  static func run(
    _ url: RemoteURL, headers: [String], range: Range<Int>?, policy: HTTPPolicy,
    _ take: (HTTPHead, UnsafeRawBufferPointer) -> Bool
  ) throws(Diagnostic) -> (ending: Ending, head: HTTPHead, target: String?) {
    try CurlLibrary.load()
    let handle = try CurlLibrary.handle(for: url.origin)
    let result = withoutActuallyEscaping(take) { take in
      let transfer = HTTPTransfer(take)
      let ending = transfer.perform(handle.pointer, url, headers, range, policy)
      return (ending, transfer.head, transfer.target)
    }
    CurlLibrary.putBack(handle)
    return result
  }

  private func perform(
    _ handle: UnsafeMutableRawPointer, _ url: RemoteURL, _ headers: [String], _ range: Range<Int>?,
    _ policy: HTTPPolicy
  ) -> Ending {
    func set(_ option: Int, _ value: Int) {
      _ = ccurl_set_long(handle, Int32(option), value)
    }
    func set(_ option: Int, _ value: String) {
      _ = ccurl_set_text(handle, Int32(option), value)
    }
    set(CCURL_URL, url.text)
    set(CCURL_HTTPGET, 1)
    // Only these, whatever the library can do.
    let protocols = Int(CCURL_PROTOCOL_HTTP | CCURL_PROTOCOL_HTTPS)
    set(CCURL_PROTOCOLS, protocols)
    // Each step is looked at here.
    set(CCURL_FOLLOWLOCATION, 0)
    set(CCURL_PATH_AS_IS, 1)
    // Several connections at once, each with one answer at a time.
    set(CCURL_HTTP_VERSION, Int(CCURL_HTTP_1_1))
    set(CCURL_SSL_VERIFYPEER, 1)
    set(CCURL_SSL_VERIFYHOST, 2)
    if let file = CurlLibrary.authorities.file { set(CCURL_CAINFO, file) }
    if let place = CurlLibrary.authorities.directory { set(CCURL_CAPATH, place) }
    set(CCURL_NOSIGNAL, 1)
    set(CCURL_SUPPRESS_CONNECT_HEADERS, 1)
    set(CCURL_BUFFERSIZE, 128 << 10)
    set(CCURL_CONNECTTIMEOUT, policy.connectSeconds)
    set(CCURL_LOW_SPEED_LIMIT, policy.leastBytesPerSecond)
    set(CCURL_LOW_SPEED_TIME, policy.stallSeconds)
    set(CCURL_USERAGENT, "weighbridge")
    if let range { set(CCURL_RANGE, "\(range.lowerBound)-\(range.upperBound - 1)") }
    var list: UnsafeMutableRawPointer?
    // Bytes as they lie in the file, not packed for the way.
    for header in ["Accept-Encoding: identity"] + headers {
      list = ccurl_slist_append(list, header) ?? list
    }
    defer { ccurl_slist_free_all(list) }
    _ = ccurl_set_pointer(handle, Int32(CCURL_HTTPHEADER), list)
    let words = UnsafeMutablePointer<CChar>.allocate(capacity: Int(CCURL_ERROR_SIZE))
    words[0] = 0
    defer { words.deallocate() }
    _ = ccurl_set_pointer(handle, Int32(CCURL_ERRORBUFFER), words)
    let own = Unmanaged.passUnretained(self).toOpaque()
    _ = ccurl_set_pointer(handle, Int32(CCURL_HEADERDATA), own)
    _ = ccurl_set_pointer(handle, Int32(CCURL_WRITEDATA), own)
    _ = ccurl_set_take(handle, Int32(CCURL_HEADERFUNCTION)) { bytes, size, count, own in
      let transfer = Unmanaged<HTTPTransfer>.fromOpaque(own!).takeUnretainedValue()
      return transfer.takeHeader(UnsafeRawBufferPointer(start: bytes, count: size * count))
        ? size * count : 0
    }
    _ = ccurl_set_take(handle, Int32(CCURL_WRITEFUNCTION)) { bytes, size, count, own in
      let transfer = Unmanaged<HTTPTransfer>.fromOpaque(own!).takeUnretainedValue()
      return transfer.takeBody(UnsafeRawBufferPointer(start: bytes, count: size * count))
        ? size * count : 0
    }
    let code = ccurl_perform(handle)
    var place: UnsafePointer<CChar>?
    if ccurl_get_text(handle, Int32(CCURL_INFO_REDIRECT_URL), &place) == 0, let place {
      target = String(cString: place)
    }
    if isStopped { return .stopped }
    guard code != 0 else { return .complete }
    let reason = words[0] == 0 ? String(cString: ccurl_easy_strerror(code)) : String(cString: words)
    return .failed(code: Int(code), reason: reason)
  }

  private func takeHeader(_ bytes: UnsafeRawBufferPointer) -> Bool {
    headBytes += bytes.count
    guard headBytes <= Self.mostHeadBytes else { return false }
    let line = String(decoding: bytes, as: UTF8.self)
    if line.hasPrefix("HTTP/") {
      head = HTTPHead()
      head.status =
        line.split(separator: " ").dropFirst().first.flatMap { HTTPHead.number($0) } ?? 0
      return true
    }
    guard let colon = line.firstIndex(of: ":") else { return true }
    let space: (Character) -> Bool = { $0 == " " || $0 == "\t" || $0.isNewline }
    var value = line[line.index(after: colon)...].drop(while: space)
    while let last = value.last, space(last) { value.removeLast() }
    head.headers.append((line[..<colon].lowercased(), String(value)))
    return true
  }

  private func takeBody(_ bytes: UnsafeRawBufferPointer) -> Bool {
    guard take(head, bytes) else {
      isStopped = true
      return false
    }
    return true
  }
}

/// How patient the client is, and how much it takes.
package struct HTTPPolicy: Sendable {
  /// Tries of one request.
  package var attempts = 5
  /// Seconds before the second try; twice as many before each further one.
  package var firstWait = 0.25
  /// Seconds that a server may ask to wait.
  package var mostWait = 60.0
  /// Seconds for a connection to be made.
  package var connectSeconds = 30
  /// Seconds with fewer bytes than `leastBytesPerSecond` after which a connection counts as dead.
  package var stallSeconds = 30
  /// See `stallSeconds`.
  package var leastBytesPerSecond = 256
  /// Bytes of a file that is read whole where the server answers no ranges.
  package var wholeBytes = 64 << 20
  /// Bytes of the first request: most headers are shorter.
  package var headBytes = 256 << 10

  /// The usual one.
  package init() {}
}
