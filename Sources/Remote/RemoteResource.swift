import Synchronization
import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Something at a URL: asked for with patience, followed where it was moved to, resumed where a
/// connection was cut, and watched for changes.
final class RemoteResource: Sendable {
  /// Where an answer may send on to.
  enum Leaving: Sendable {
    /// Nowhere else than to the same host.
    case never
    /// Once to another host, as a hub sends to where it stores the file.
    case once
  }

  /// The token, and where alone it goes to.
  struct Token: Sendable {
    var value: String
    var origin: String
  }

  /// The URL for messages.
  let path: String
  let url: RemoteURL
  let policy: HTTPPolicy
  private let leaving: Leaving
  private let token: Token?
  /// What to do where the server wants a login.
  private let loginHelp: String
  private let state = Mutex(State())
  /// Bytes of the largest file: 64 TiB.
  private static let mostBytes = 1 << 46
  /// Bytes of an answer that count as progress where more was asked for.
  private static let leastPart = 64 << 10
  /// Bytes of an error's page that are read so that the connection can be used again.
  private static let mostPage = 64 << 10

  private struct State {
    /// Where the last answer came from, if from elsewhere.
    var moved: RemoteURL?
    var validators: Validators?
    var fault: Diagnostic?
  }

  /// What an answer says of the file's state.
  struct Validators: Sendable, Equatable {
    var etag: String?
    var modified: String?
    var byteCount: Int

    /// Whether a change that keeps the number of bytes can be told.
    var areTelling: Bool { etag != nil || modified != nil }
    /// The ETag, where it stands for the very bytes.
    var strongETag: String? {
      etag.flatMap { $0.hasPrefix("\"") && !$0.contains("\r") ? $0 : nil }
    }
  }

  init(
    path: String, url: RemoteURL, leaving: Leaving, token: Token?, loginHelp: String,
    policy: HTTPPolicy
  ) {
    self.path = path
    self.url = url
    self.leaving = leaving
    self.token = token
    self.loginHelp = loginHelp
    self.policy = policy
  }

  // MARK: Reading

  /// What the first answer brought.
  struct Opened: Sendable {
    var validators: Validators
    /// The bytes from the beginning on, fewer than the file has unless `isWhole`.
    var head: [UInt8]
    /// Whether the server answers no ranges, so that the whole file was read.
    var isWhole: Bool
    /// `text/html; charset=utf-8`.
    var contentType: String
  }

  /// Asks for the first bytes, and so for the size and state of the file.
  ///
  /// - Throws: `source.*`; `source.no-ranges` for a large file of a server that answers no ranges.
  func open() throws(Diagnostic) -> Opened {
    var tries = 0
    while true {
      var head: [UInt8] = []
      var opened: Opened?
      var most = policy.headBytes
      let ending = try exchange(0..<policy.headBytes, validator: nil) {
        (answer) throws(Diagnostic) in
        head = []
        let type = answer["content-type"] ?? ""
        switch answer.status {
        case 206:
          let (range, total) = try self.partial(answer, asked: 0..<policy.headBytes)
          most = range.count
          opened = Opened(
            validators: Validators(answer, byteCount: total), head: [], isWhole: false,
            contentType: type)
        case 416:
          guard answer.contentRange?.total == 0 else {
            throw self.fault(
              "range", "refuses the first bytes (416), though the file is not said to be empty",
              "try again; if it stays so, download the file and give its path")
          }
          most = 0
          opened = Opened(
            validators: Validators(answer, byteCount: 0), head: [], isWhole: true,
            contentType: type)
        default:
          most = policy.wholeBytes
          try self.checkWhole(answer, most: most)
          opened = Opened(
            validators: Validators(answer, byteCount: answer.contentLength ?? 0), head: [],
            isWhole: true, contentType: type)
        }
      } take: { (bytes) throws(Diagnostic) in
        guard head.count + bytes.count <= most else {
          if opened?.isWhole == true { throw self.noRanges(nil) }
          throw self.fault(
            "length", "sends more bytes than the \(most) that it says",
            "the server or something between is broken; download the file another way")
        }
        head += bytes
      }
      guard var opened else { preconditionFailure("an answer without a head") }
      if case .cut(let reason) = ending {
        // The head is kept; what is missing of it is asked for later.
        guard opened.isWhole else {
          opened.head = head
          return try note(opened)
        }
        tries += 1
        guard tries < policy.attempts else { throw cut(head.count, reason) }
        wait(before: tries)
        continue
      }
      if opened.isWhole { opened.validators.byteCount = head.count }
      opened.head = head
      return try note(opened)
    }
  }

  private func note(_ opened: Opened) throws(Diagnostic) -> Opened {
    state.withLock { $0.validators = opened.validators }
    return opened
  }

  /// All bytes of something small that is no file: an answer of an interface.
  ///
  /// - Throws: `source.*`.
  func document(most: Int) throws(Diagnostic) -> [UInt8] {
    var tries = 0
    while true {
      var body: [UInt8] = []
      let ending = try exchange(nil, validator: nil) { (answer) throws(Diagnostic) in
        body = []
        guard answer.status == 200 else { throw self.unexpected(answer) }
        try self.checkEncoding(answer)
      } take: { (bytes) throws(Diagnostic) in
        guard body.count + bytes.count <= most else {
          throw self.fault("length", "answers with more than \(most) bytes", nil)
        }
        body += bytes
      }
      guard case .cut(let reason) = ending else { return body }
      tries += 1
      guard tries < policy.attempts else { throw cut(body.count, reason) }
      wait(before: tries)
    }
  }

  /// Hands the bytes `range` to `take` as they come, in order; goes on where a connection is cut.
  ///
  /// What failed for good fails from then on, as whoever asked may have passed over it.
  ///
  /// - Throws: `source.*`, `source.changed` for a file that is not what it was; what `take` throws.
  func stream(
    _ range: Range<Int>, _ take: (UnsafeRawBufferPointer) throws(Diagnostic) -> Void
  ) throws(Diagnostic) {
    try checkUnchanged()
    do throws(Diagnostic) { try streamOnce(range, take) } catch {
      if error.code.hasPrefix("source.") { state.withLock { $0.fault = $0.fault ?? error } }
      throw error
    }
  }

  private func streamOnce(
    _ range: Range<Int>, _ take: (UnsafeRawBufferPointer) throws(Diagnostic) -> Void
  ) throws(Diagnostic) {
    guard let known = state.withLock({ $0.validators }) else {
      preconditionFailure("not opened")
    }
    var at = range.lowerBound
    var stalls = 0
    while at < range.upperBound {
      let asked = at..<range.upperBound
      var end = range.upperBound
      let ending = try exchange(asked, validator: known.strongETag) {
        (answer) throws(Diagnostic) in
        if answer.status == 416 {
          throw self.changed("has fewer bytes than the \(known.byteCount) that it had")
        }
        guard answer.status == 206 else {
          let now = Validators(answer, byteCount: answer.contentLength ?? known.byteCount)
          guard now == known else { throw self.changed(Self.difference(known, now)) }
          throw self.noRanges(answer.contentLength)
        }
        let (range, total) = try self.partial(answer, asked: asked)
        let now = Validators(answer, byteCount: total)
        if now.byteCount != known.byteCount
          || now.etag != nil && known.etag != nil && now.etag != known.etag
          || (now.etag == nil || known.etag == nil) && now.modified != known.modified
        {
          throw self.changed(Self.difference(known, now))
        }
        end = range.upperBound
      } take: { (bytes) throws(Diagnostic) in
        guard at + bytes.count <= end else {
          throw self.fault(
            "length", "sends more bytes than it says: \(end - asked.lowerBound) were announced",
            "the server or something between is broken; download the file another way")
        }
        try take(bytes)
        at += bytes.count
      }
      // A part that is shorter than what was asked for is allowed, but not crumbs without end.
      if at == asked.upperBound || at == end && at - asked.lowerBound >= Self.leastPart { continue }
      var reason = "the connection was closed"
      if case .cut(let words) = ending { reason = words }
      stalls = at - asked.lowerBound >= Self.leastPart ? 0 : stalls + 1
      guard stalls < policy.attempts else { throw cut(at, reason) }
      wait(before: stalls)
    }
  }

  /// - Throws: `source.changed` once a change was seen, or what else failed for good.
  func checkUnchanged() throws(Diagnostic) {
    if let fault = state.withLock({ $0.fault }) { throw fault }
  }

  // MARK: Answers

  /// The range and the total of a 206.
  private func partial(
    _ answer: HTTPHead, asked: Range<Int>
  ) throws(Diagnostic) -> (range: Range<Int>, total: Int) {
    try checkEncoding(answer)
    let help = "the server or something between is broken; download the file another way"
    guard let said = answer.contentRange else {
      let found = answer["content-range"].map { "\"\($0)\"" } ?? "none"
      throw fault(
        "range", "answers with a part of the file, and its Content-Range is \(found)", help)
    }
    guard let range = said.range, let total = said.total else {
      throw fault("range", "does not say how large the file is", help)
    }
    guard range.lowerBound == asked.lowerBound, range.upperBound <= asked.upperBound else {
      throw fault(
        "range",
        "answers with bytes \(range.lowerBound) to \(range.upperBound - 1) of \(total), where "
          + "\(asked.lowerBound) to \(asked.upperBound - 1) were asked for", help)
    }
    guard total <= Self.mostBytes else {
      throw fault("range", "is said to have \(total) bytes, more than any file", help)
    }
    if let length = answer.contentLength, length != range.count {
      throw fault(
        "length",
        "contradicts itself: Content-Range says \(range.count) bytes, Content-Length \(length)",
        help)
    }
    return (range, total)
  }

  private func checkEncoding(_ answer: HTTPHead) throws(Diagnostic) {
    guard let encoding = answer["content-encoding"], encoding.lowercased() != "identity" else {
      return
    }
    throw fault(
      "encoding", "sends the file packed with \(encoding), which was not asked for",
      "download the file and give its path")
  }

  private func checkWhole(_ answer: HTTPHead, most: Int) throws(Diagnostic) {
    guard answer.status == 200 else { throw unexpected(answer) }
    try checkEncoding(answer)
    if let length = answer.contentLength, length > most { throw noRanges(length) }
    guard answer.tellsItsEnd else {
      throw fault(
        "length", "does not say how long its answer is, so that a cut one would not be noticed",
        "download the file and give its path")
    }
  }

  private func noRanges(_ length: Int?) -> Diagnostic {
    let size = length.map { "\($0) bytes" } ?? "more than \(policy.wholeBytes) bytes"
    return fault(
      "no-ranges",
      "lies on a server that answers no ranges, and with \(size) is too large to be read whole",
      "download it (curl -LO), and give its path")
  }

  private static func difference(_ a: Validators, _ b: Validators) -> String {
    if a.byteCount != b.byteCount { return "went from \(a.byteCount) to \(b.byteCount) bytes" }
    if a.etag != b.etag {
      return "had the ETag \(a.etag ?? "(none)") and now has \(b.etag ?? "(none)")"
    }
    return "was last modified \(a.modified ?? "(unsaid)") and now \(b.modified ?? "(unsaid)")"
  }

  private func changed(_ what: String) -> Diagnostic {
    fault("changed", "\(what) while it was read", "run it again")
  }

  private func cut(_ at: Int, _ reason: String) -> Diagnostic {
    fault(
      "cut", "breaks off at byte \(at) again and again: \(reason)",
      "try again later, or download the file and give its path")
  }

  private func unexpected(_ answer: HTTPHead) -> Diagnostic {
    fault(
      "status", "is answered with the status \(answer.status)",
      "look at the URL in a browser; what is wanted is the file itself")
  }

  func fault(_ code: String, _ message: String, _ help: String?, notes: [String] = []) -> Diagnostic
  {
    Diagnostic(
      code: "source.\(code)", subject: path, message: message, notes: notes, help: help)
  }

  // MARK: Exchanges

  /// How an exchange that was accepted ended.
  private enum Ending {
    case complete
    /// With libcurl's reason.
    case cut(String)
  }

  /// Sends one request, again where that may help, and to where it was moved.
  ///
  /// - Parameters:
  ///   - range: the bytes wanted; `nil` for a plain request.
  ///   - validator: the strong ETag that the file must still have.
  ///   - accept: looks at the head of an answer with a status of 2xx or 416.
  ///   - take: is given the body of one with 2xx.
  private func exchange(
    _ range: Range<Int>?, validator: String?,
    accept: (HTTPHead) throws(Diagnostic) -> Void,
    take: (UnsafeRawBufferPointer) throws(Diagnostic) -> Void
  ) throws(Diagnostic) -> Ending {
    var tries = 0
    var route = Route(state.withLock { $0.moved } ?? url, asked: url)
    while true {
      var headers: [String] = []
      if let validator { headers.append("If-Range: \(validator)") }
      if let token, route.now.origin == token.origin, route.now.isPrivate {
        headers.append("Authorization: Bearer \(token.value)")
      }
      var failure: Diagnostic?
      var isAccepted = false
      var passed = 0
      func acceptOnce(_ head: HTTPHead) {
        guard !isAccepted else { return }
        isAccepted = true
        do throws(Diagnostic) { try accept(head) } catch { failure = error }
      }
      let (ending, head, target) = try HTTPTransfer.run(
        route.now, headers: headers, range: range, policy: policy
      ) { head, bytes in
        // What an error's page says is passed over.
        guard (200..<300).contains(head.status) else {
          passed += bytes.count
          return passed <= Self.mostPage
        }
        acceptOnce(head)
        guard failure == nil else { return false }
        do throws(Diagnostic) { try take(bytes) } catch { failure = error }
        return failure == nil
      }
      if let failure { throw failure }
      switch ending {
      case .failed(let code, let reason):
        if isAccepted { return .cut(reason) }
        tries += 1
        guard Self.mayPass(code), tries < policy.attempts else {
          throw unreachable(code, reason, route.now)
        }
        // What refuses a connection seldom comes back within seconds.
        guard code != Self.refused || tries < 3 else { throw unreachable(code, reason, route.now) }
        wait(before: tries)
        continue
      case .stopped, .complete: break
      }
      switch head.status {
      case 200..<300, 416:
        acceptOnce(head)
        if let failure { throw failure }
        let last = route.now
        state.withLock { $0.moved = last == url ? nil : last }
        return .complete
      case 301, 302, 303, 307, 308:
        // An address that was lent for a time has run out.
        if route.isOld {
          route = Route(url, asked: url)
          continue
        }
        try route.go(to: target, leaving: leaving, resource: self)
      case 408, 429, 500, 502, 503, 504:
        tries += 1
        let asked = RetryAfter.seconds(head["retry-after"])
        if let asked, asked > policy.mostWait {
          throw busy(head, "and asks to wait for \(Int(asked)) seconds")
        }
        guard tries < policy.attempts else { throw busy(head, "\(tries) times") }
        wait(before: tries, atLeast: asked ?? 0)
      default:
        if route.isOld {
          route = Route(url, asked: url)
          continue
        }
        throw refused(head, route.now)
      }
    }
  }

  /// Waits before try number `tries`, twice as long each time.
  private func wait(before tries: Int, atLeast seconds: Double = 0) {
    let wanted = max(policy.firstWait * Double(1 << min(tries - 1, 6)), seconds)
    usleep(UInt32(min(wanted, max(policy.mostWait, 0)) * 1_000_000))
  }

  private static let refused = 7

  /// Whether what libcurl failed with may be another thing a moment later: no connection, a time-out,
  /// nothing or not all received. A host that is not known, and one that is not trusted, stay so.
  private static func mayPass(_ code: Int) -> Bool { [7, 18, 28, 52, 55, 56].contains(code) }

  private func unreachable(_ code: Int, _ reason: String, _ at: RemoteURL) -> Diagnostic {
    let notes = at.shown == path ? [] : ["it was asked for at \(at.origin)"]
    switch code {
    case 1:
      return fault(
        "library", "is of a kind that this system's libcurl was built without (\(reason))",
        "install another libcurl, or download the file and give its path")
    case 28:
      return fault(
        "timeout", "does not answer in time: \(reason)", "try again later", notes: notes)
    case 35, 51, 53, 54, 58, 59, 60, 64, 66, 77, 80, 82, 83, 90, 91:
      return fault(
        "tls", "is on a server that cannot be trusted: \(reason)",
        "if your organisation has its own authority, name its file in CURL_CA_BUNDLE", notes: notes)
    case 18, 52, 55, 56:
      return fault(
        "cut", "breaks off before the answer: \(reason)", "try again later", notes: notes)
    default:
      return fault(
        "connect", "cannot be reached: \(reason)",
        "look at the host's name, the network, and the proxy (https_proxy, no_proxy)", notes: notes)
    }
  }

  private func busy(_ head: HTTPHead, _ how: String) -> Diagnostic {
    head.status == 429
      ? fault(
        "busy", "is refused for now: the server answers 429, too many requests, \(how)",
        token == nil && leaving == .once
          ? "wait, or set HF_TOKEN: who is known may ask more often" : "wait, and run it again")
      : fault(
        "server", "cannot be had: the server answers \(head.status), \(how)", "try again later")
  }

  private func refused(_ head: HTTPHead, _ at: RemoteURL) -> Diagnostic {
    var notes: [String] = []
    if let words = head["x-error-message"] { notes.append("it says: \(words.prefix(300))") }
    if at.origin != url.origin { notes.append("the answer came from \(at.origin)") }
    let code = head["x-error-code"] ?? ""
    switch head.status {
    case 401, 403, 407, 451:
      return fault(
        "denied",
        "may not be read: the server answers \(head.status)"
          + (code == "GatedRepo" ? ", as its owner gives it only to who asked" : ""), loginHelp,
        notes: notes)
    case 404, 410:
      let what =
        ["RevisionNotFound": "has no such revision", "RepoNotFound": "is no model of the hub"][code]
      return fault(
        "not-found", (what ?? "is not there") + ": the server answers \(head.status)",
        "look at the URL in a browser", notes: notes)
    default:
      var found = unexpected(head)
      found.notes = notes
      return found
    }
  }
}

extension RemoteResource.Validators {
  init(_ answer: HTTPHead, byteCount: Int) {
    etag = answer["etag"].flatMap { $0.isEmpty ? nil : $0 }
    modified = answer["last-modified"].flatMap { $0.isEmpty ? nil : $0 }
    self.byteCount = byteCount
  }
}

/// The way from a URL to where it sends on to.
private struct Route {
  private(set) var now: RemoteURL
  private let asked: RemoteURL
  private var hops = 0
  private static let mostHops = 5

  init(_ now: RemoteURL, asked: RemoteURL) {
    self.now = now
    self.asked = asked
  }

  /// Whether it begins where an earlier answer came from.
  var isOld: Bool { hops == 0 && now != asked }

  /// Goes on to `target`.
  ///
  /// - Throws: `source.redirect`, for what nobody asked for: another host, or a way that can be read
  ///   along.
  mutating func go(
    to target: String?, leaving: RemoteResource.Leaving, resource: RemoteResource
  ) throws(Diagnostic) {
    func fault(_ message: String, _ help: String) -> Diagnostic {
      resource.fault("redirect", message, help)
    }
    let own = "download the file and give its path"
    hops += 1
    guard hops <= Self.mostHops else {
      throw fault("is sent on more than \(Self.mostHops) times", own)
    }
    guard let target, let next = try? RemoteURL(target) else {
      let where_ = target.map { " (\(RemoteURL.shown($0)))" } ?? ""
      throw fault("is sent on to what is no URL of http or https\(where_)", own)
    }
    guard next.scheme == "https" || now.scheme == "http" else {
      throw fault("is sent on from https to \(next.origin), where it could be changed", own)
    }
    // The same host, and from http to https.
    let isSame =
      next.host == now.host && (next.port == now.port || next.scheme != now.scheme)
    let mayLeave = leaving == .once && now.host == asked.host && now.port == asked.port
    guard isSame || mayLeave else {
      throw fault(
        "is sent on to another host: \(next.shown)",
        "if you trust that host, give the URL that it leads to")
    }
    now = next
  }
}

/// The header `Retry-After`.
enum RetryAfter {
  /// The seconds that it asks for: a number, or a time.
  static func seconds(_ text: String?) -> Double? {
    guard let text, !text.isEmpty else { return nil }
    if text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) { return Double(text) }
    // "Sun, 06 Nov 1994 08:49:37 GMT"
    let words = text.split(separator: " ")
    let months = [
      "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ]
    guard words.count == 6, words[5] == "GMT", let day = HTTPHead.number(words[1]),
      let month = months.firstIndex(of: String(words[2])), let year = HTTPHead.number(words[3]),
      (1970...9999).contains(year), (1...31).contains(day)
    else { return nil }
    let clock = words[4].split(separator: ":").compactMap { HTTPHead.number($0) }
    guard clock.count == 3, clock.allSatisfy({ (0...60).contains($0) }) else { return nil }
    var parts = tm()
    parts.tm_year = Int32(year - 1900)
    parts.tm_mon = Int32(month)
    parts.tm_mday = Int32(day)
    (parts.tm_hour, parts.tm_min, parts.tm_sec) = (
      Int32(clock[0]), Int32(clock[1]), Int32(clock[2])
    )
    return max(0, Double(timegm(&parts)) - Double(time(nil)))
  }
}
