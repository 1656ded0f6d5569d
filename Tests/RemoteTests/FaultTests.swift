import Foundation
import Synchronization
import Tensors
import TestSupport
import Testing

@testable import Remote

/// What servers and networks do wrong, and what is made of it.
@Suite("Faults of servers")
struct FaultTests {
  typealias Answer = HTTPServer.Answer

  /// Numbers that repeat nowhere in a file of a test.
  static func bytes(_ count: Int, seed: UInt64 = 1) -> [UInt8] {
    var state = seed
    return (0..<count).map { _ in
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return UInt8(truncatingIfNeeded: state >> 56)
    }
  }

  /// As patient as a test can be.
  static var policy: HTTPPolicy {
    var policy = HTTPPolicy()
    policy.firstWait = 0.01
    policy.mostWait = 2
    policy.connectSeconds = 5
    policy.stallSeconds = 1
    policy.wholeBytes = 300_000
    policy.headBytes = 4096
    return policy
  }

  static func open(_ server: HTTPServer, _ path: String = "/file") throws -> RandomAccessFile {
    try Remote.file(server.url(path), environment: HubEnvironment { _ in nil }, policy: policy)
  }

  /// The code of what goes wrong when all of the file is read.
  static func fault(_ server: HTTPServer, _ path: String = "/file") -> Diagnostic? {
    #expect(throws: Diagnostic.self) {
      let file = try open(server, path)
      _ = try file.bytes(at: 0, count: file.byteCount)
    }
  }

  static let data = bytes(200_000)

  @Test("a good server is asked for the parts that are wanted, and for the head once")
  func parts() throws {
    let data = Self.data
    let server = HTTPServer { request, _ in .file(data, request) }
    let file = try Self.open(server)
    #expect(file.byteCount == 200_000 && file.isRemote)
    #expect(try file.bytes(at: 0, count: 8) == Array(data[..<8]))
    #expect(try file.bytes(at: 8, count: 4000) == Array(data[8..<4008]))
    #expect(server.requests.count == 1)
    #expect(server.requests[0].range == 0..<4096)
    #expect(server.requests[0].headers["accept-encoding"] == "identity")
    #expect(server.requests[0].headers["authorization"] == nil)
    #expect(try file.bytes(at: 100_000, count: 10) == Array(data[100_000..<100_010]))
    #expect(server.requests.count == 2)
    #expect(server.requests[1].range == 100_000..<116_384)
    #expect(server.requests[1].headers["if-range"] == "\"1\"")
    #expect(try file.bytes(at: 0, count: 200_000) == data)
    // Past the end nothing is asked for.
    let count = server.requests.count
    let problem = #expect(throws: Diagnostic.self) { try file.bytes(at: 199_999, count: 2) }
    #expect(problem?.code == "io.truncated")
    #expect(server.requests.count == count)
  }

  @Test("reading on reads ahead in ever larger parts")
  func readAhead() throws {
    let data = Self.bytes(3_000_000)
    let server = HTTPServer { request, _ in .file(data, request) }
    let file = try Self.open(server)
    var read: [UInt8] = []
    for start in stride(from: 0, to: data.count, by: 10_000) {
      read += try file.bytes(at: start, count: min(10_000, data.count - start))
    }
    #expect(read == data)
    #expect(server.requests.count < 15)
  }

  @Test("several threads ask for one stretch once")
  func threads() throws {
    let data = Self.bytes(1_000_000)
    let server = HTTPServer { request, _ in .file(data, request) }
    let file = try Self.open(server)
    let wrong = Mutex(0)
    DispatchThreads.run(16) { number in
      for round in 0..<20 {
        let start = (round * 50_000 + number * 2_000) % 990_000
        let found = try? file.bytes(at: start, count: 9_000)
        if found != Array(data[start..<start + 9_000]) { wrong.withLock { $0 += 1 } }
      }
    }
    #expect(wrong.withLock { $0 } == 0)
  }

  @Test("places that are asked for before they are read come in few requests")
  func prefetch() throws {
    let data = Self.bytes(2_000_000)
    let running = Mutex((now: 0, most: 0))
    let server = HTTPServer { request, _ in
      running.withLock {
        $0.now += 1
        $0.most = max($0.most, $0.now)
      }
      usleep(5000)
      running.withLock { $0.now -= 1 }
      return .file(data, request)
    }
    let file = try Self.open(server)
    let places = (0..<50).map { 10_000 + $0 * 39_000 }
    file.prefetch(places)
    let count = server.requests.count
    #expect(count <= 51)
    // At once, also where there are fewer cores.
    #expect(running.withLock { $0.most } > 2)
    for place in places {
      #expect(try file.bytes(at: place, count: 100) == Array(data[place..<place + 100]))
    }
    #expect(server.requests.count == count)
  }

  @Test("a small file of a server without ranges is read whole, with a note")
  func whole() throws {
    let data = Self.data
    let server = HTTPServer { _, _ in Answer(200, [("ETag", "\"1\"")], body: data) }
    let file = try Self.open(server)
    #expect(try file.bytes(at: 150_000, count: 50_000) == Array(data[150_000...]))
    #expect(server.requests.count == 1)
    let opened = try Remote.open(
      server.url("/whole/file.bin"), environment: HubEnvironment { _ in nil }, policy: Self.policy)
    let notes = RemotePlaces.notes(of: opened.path)
    #expect(notes.map(\.code) == ["source.whole"])
    #expect(notes[0].message.contains("1 file of 200000 bytes was read whole"))
  }

  @Test("a large file of a server without ranges is refused, whatever length it gives")
  func noRanges() {
    let data = Self.bytes(400_000)
    let honest = HTTPServer { _, _ in Answer(200, body: data) }
    let first = Self.fault(honest)
    #expect(first?.code == "source.no-ranges")
    #expect(first?.message.contains("400000 bytes") == true)
    #expect(first?.help?.contains("download") == true)
    let silent = HTTPServer { _, _ in
      var answer = Answer(200, body: data)
      answer.isChunked = true
      return answer
    }
    let second = Self.fault(silent)
    #expect(second?.code == "source.no-ranges")
    #expect(second?.message.contains("more than 300000 bytes") == true)
  }

  @Test("an answer whose end nothing tells is refused, as a cut one would not be noticed")
  func noLength() {
    let server = HTTPServer { _, _ in
      var answer = Answer(200, body: Self.data)
      answer.hasLength = false
      return answer
    }
    #expect(Self.fault(server)?.code == "source.length")
  }

  @Test("an empty file is empty")
  func empty() throws {
    let server = HTTPServer { request, _ in .file([], request) }
    let file = try Self.open(server)
    #expect(file.byteCount == 0)
    #expect(try file.bytes(at: 0, count: 0) == [])
  }

  @Test(
    "statuses have their codes",
    arguments: [
      (401, "source.denied", 1), (403, "source.denied", 1), (404, "source.not-found", 1),
      (410, "source.not-found", 1), (416, "source.range", 1), (429, "source.busy", 5),
      (500, "source.server", 5), (503, "source.server", 5), (418, "source.status", 1),
      (204, "source.status", 1),
    ])
  func statuses(status: Int, code: String, tries: Int) {
    let server = HTTPServer { _, _ in Answer(status, body: status == 204 ? [] : [1, 2, 3]) }
    let problem = Self.fault(server)
    #expect(problem?.code == code)
    #expect(problem?.message.contains("\(status)") == true)
    #expect(problem?.subject == server.url("/file"))
    #expect(server.requests.count == tries)
  }

  @Test(
    "what passes is waited for: 429 with Retry-After, 5xx", arguments: [429, 500, 502, 503, 504])
  func passes(status: Int) throws {
    let data = Self.data
    let server = HTTPServer { request, number in
      number < 2
        ? Answer(status, status == 429 ? [("Retry-After", "1")] : []) : .file(data, request)
    }
    let clock = ContinuousClock()
    let start = clock.now
    let file = try Self.open(server)
    #expect(try file.bytes(at: 0, count: 100) == Array(data[..<100]))
    #expect(server.requests.count == 3)
    if status == 429 { #expect(clock.now - start >= .seconds(2)) }
  }

  @Test("a server that asks to wait for too long is told of at once")
  func tooLong() {
    let server = HTTPServer { _, _ in Answer(429, [("Retry-After", "3600")]) }
    let problem = Self.fault(server)
    #expect(problem?.code == "source.busy")
    #expect(problem?.message.contains("3600 seconds") == true)
    #expect(server.requests.count == 1)
  }

  @Test("cut connections are resumed where they were cut")
  func resumed() throws {
    let data = Self.bytes(2_000_000)
    let server = HTTPServer { request, number in
      var answer = Answer.file(data, request)
      if number % 2 == 1 { answer.cutsAfter = 300_000 }
      return answer
    }
    let file = try Self.open(server)
    #expect(try file.bytes(at: 0, count: data.count) == data)
    let ranges = server.requests.compactMap(\.range)
    #expect(ranges.contains(4096 + 300_000..<2_000_000))
    #expect(server.requests.allSatisfy { $0.range != nil })
  }

  @Test("a head that is cut is completed later")
  func cutHead() throws {
    let data = Self.data
    let server = HTTPServer { request, number in
      var answer = Answer.file(data, request)
      if number == 0 { answer.cutsAfter = 100 }
      return answer
    }
    let file = try Self.open(server)
    #expect(try file.bytes(at: 0, count: 1000) == Array(data[..<1000]))
  }

  @Test("a connection that is cut again and again without a byte is given up")
  func givenUp() {
    let data = Self.data
    let server = HTTPServer { request, number in
      var answer = Answer.file(data, request)
      if number > 0 { answer.cutsAfter = 0 }
      return answer
    }
    let problem = Self.fault(server)
    #expect(problem?.code == "source.cut")
    #expect(server.requests.count == 6)
  }

  @Test("parts of a few bytes each do not go on for ever")
  func crumbs() {
    let data = Self.data
    let server = HTTPServer { request, number in
      var request = request
      if number > 0, let range = request.range {
        request.headers["range"] = "bytes=\(range.lowerBound)-\(range.lowerBound)"
      }
      return .file(data, request)
    }
    #expect(Self.fault(server)?.code == "source.cut")
    #expect(server.requests.count < 10)
  }

  @Test("shorter parts than asked for are put together")
  func shortParts() throws {
    let data = Self.bytes(1_500_000)
    let server = HTTPServer { request, _ in
      var request = request
      if let range = request.range, range.count > 200_000 {
        request.headers["range"] = "bytes=\(range.lowerBound)-\(range.lowerBound + 199_999)"
      }
      return .file(data, request)
    }
    let file = try Self.open(server)
    #expect(try file.bytes(at: 0, count: data.count) == data)
  }

  @Test("a server that goes silent is given up, and asked again first")
  func stalls() throws {
    let data = Self.data
    let server = HTTPServer { request, number in
      var answer = Answer.file(data, request)
      if number == 1 { answer.stallsAfter = 1000 }
      return answer
    }
    let file = try Self.open(server)
    #expect(try file.bytes(at: 0, count: data.count) == data)
    #expect(server.requests.count == 3)
  }

  @Test("a port where nobody listens is told")
  func refused() throws {
    var port = 0
    do { port = HTTPServer { _, _ in Answer(200) }.port }
    let problem = #expect(throws: Diagnostic.self) {
      try Remote.file("http://127.0.0.1:\(port)/x", policy: Self.policy)
    }
    #expect(problem?.code == "source.connect")
  }

  @Test("a host that is not known is told at once")
  func unknownHost() {
    let problem = #expect(throws: Diagnostic.self) {
      try Remote.file("https://no-such-host.invalid/x", policy: Self.policy)
    }
    #expect(problem?.code == "source.connect")
  }

  @Test("what is no TLS is not trusted")
  func noTLS() {
    let server = HTTPServer { _, _ in Answer(200) }
    let problem = #expect(throws: Diagnostic.self) {
      try Remote.file("https://127.0.0.1:\(server.port)/x", policy: Self.policy)
    }
    #expect(problem?.code == "source.tls")
  }
}

/// Servers that say what is not so.
@Suite("Lies of servers")
struct LieTests {
  typealias Answer = HTTPServer.Answer
  static let data = FaultTests.bytes(100_000)

  /// What a test changes of a good answer, from request number `from` on.
  static func fault(
    from: Int = 0, _ change: @escaping @Sendable (inout Answer, HTTPServer.Request) -> Void
  ) -> (Diagnostic?, HTTPServer) {
    let server = HTTPServer { request, number in
      var answer = Answer.file(Self.data, request)
      if number >= from { change(&answer, request) }
      return answer
    }
    return (FaultTests.fault(server), server)
  }

  static func set(_ answer: inout Answer, _ name: String, _ value: String?) {
    answer.headers.removeAll { $0.0 == name }
    if let value { answer.headers.append((name, value)) }
  }

  @Test(
    "a Content-Range that does not fit is refused",
    arguments: [
      nil, "bytes 1-4096/100000", "bytes 0-9000/100000", "bytes 0-4095/*", "bytes */100000",
      "lines 1-2/3",
      "bytes 0-4095/99999999999999999", "bytes 0-4095/4000",
    ])
  func contentRange(text: String?) {
    let (problem, server) = Self.fault { answer, _ in Self.set(&answer, "Content-Range", text) }
    #expect(problem?.code == "source.range")
    #expect(server.requests.count == 1)
  }

  @Test("a later part that begins elsewhere is refused")
  func otherPart() {
    let (problem, _) = Self.fault(from: 1) { answer, request in
      answer = .file(Self.data, request)
      Self.set(&answer, "Content-Range", "bytes 0-\(answer.body.count - 1)/100000")
    }
    #expect(problem?.code == "source.range")
    #expect(problem?.message.contains("where 4096 to 99999 were asked for") == true)
  }

  @Test("Content-Length against Content-Range is refused", arguments: [0, 1])
  func lengths(from: Int) {
    let (problem, _) = Self.fault(from: from) { answer, _ in
      answer.body.removeLast()
    }
    #expect(problem?.code == "source.length")
  }

  @Test("a body that is longer than its range is refused", arguments: [0, 1])
  func tooLong(from: Int) {
    let (problem, _) = Self.fault(from: from) { answer, _ in
      answer.body.append(7)
      answer.isChunked = true
    }
    #expect(problem?.code == "source.length")
  }

  @Test("a body that always ends before its length is given up")
  func tooShort() {
    let (problem, server) = Self.fault { answer, _ in
      answer.contentLength = answer.body.count
      answer.body = []
    }
    #expect(problem?.code == "source.cut")
    #expect(server.requests.count == 5)
  }

  @Test("a whole answer that ends before its length is given up")
  func shortWhole() {
    let server = HTTPServer { _, _ in
      var answer = Answer(200, body: [1, 2, 3])
      answer.contentLength = 10
      return answer
    }
    #expect(FaultTests.fault(server)?.code == "source.cut")
  }

  @Test("a packed answer, which nobody asked for, is refused")
  func packed() {
    let (problem, _) = Self.fault { answer, _ in Self.set(&answer, "Content-Encoding", "gzip") }
    #expect(problem?.code == "source.encoding")
  }

  @Test("a file of another ETag, size or time later on has changed", arguments: [0, 1, 2, 3])
  func changed(way: Int) {
    let other = FaultTests.bytes(100_000, seed: 2)
    let longer = FaultTests.bytes(100_001, seed: 2)
    let server = HTTPServer { request, number in
      let isFirst = number == 0
      switch way {
      case 0: return .file(isFirst ? Self.data : other, request, etag: isFirst ? "\"1\"" : "\"2\"")
      case 1: return .file(isFirst ? Self.data : longer, request, etag: nil)
      case 2:
        return .file(
          isFirst ? Self.data : other, request, etag: nil,
          modified: isFirst
            ? "Mon, 02 Nov 2026 10:00:00 GMT" : "Mon, 02 Nov 2026 10:00:01 GMT")
      default:
        // A server that knows nothing of If-Range.
        var request = request
        request.headers["if-range"] = nil
        return .file(
          isFirst ? Self.data : other, request, etag: isFirst ? "W/\"1\"" : "W/\"2\"")
      }
    }
    let problem = FaultTests.fault(server)
    #expect(problem?.code == "source.changed")
    let words = [
      "had the ETag \"1\" and now has \"2\"", "went from 100000 to 100001 bytes",
      "was last modified", "had the ETag W/\"1\" and now has W/\"2\"",
    ]
    #expect(problem?.message.contains(words[way]) == true)
  }

  @Test("a file that became shorter, or went, has changed or is not there")
  func gone() {
    let short = HTTPServer { request, number in
      .file(number == 0 ? Self.data : Array(Self.data[..<100]), request, etag: nil)
    }
    #expect(FaultTests.fault(short)?.code == "source.changed")
    let gone = HTTPServer { request, number in
      number == 0 ? .file(Self.data, request) : Answer(404)
    }
    #expect(FaultTests.fault(gone)?.code == "source.not-found")
  }

  @Test("after a change nothing is read any more, and the file says so when asked")
  func staysChanged() throws {
    let server = HTTPServer { request, number in
      .file(Self.data, request, etag: number == 1 ? "\"2\"" : "\"1\"")
    }
    let file = try FaultTests.open(server)
    try file.checkUnchanged()
    for _ in 0..<2 {
      let problem = #expect(throws: Diagnostic.self) { try file.bytes(at: 50_000, count: 1) }
      #expect(problem?.code == "source.changed")
    }
    #expect(server.requests.count == 2)
    #expect(
      (#expect(throws: Diagnostic.self) { try file.checkUnchanged() })?.code == "source.changed")
  }

  @Test("a server that stops answering ranges is told of as that")
  func stopsRanges() {
    let server = HTTPServer { request, number in
      var request = request
      if number > 0 { request.headers["range"] = nil }
      return .file(Self.data, request)
    }
    #expect(FaultTests.fault(server)?.code == "source.no-ranges")
  }

  @Test("a file without ETag and time is read, with a note")
  func noETag() throws {
    let server = HTTPServer { request, _ in .file(Self.data, request, etag: nil) }
    let opened = try Remote.open(
      server.url("/e/file.bin"), environment: HubEnvironment { _ in nil }, policy: FaultTests.policy
    )
    let file = try RandomAccessFile(path: opened.path)
    #expect(try file.bytes(at: 0, count: 100_000) == Self.data)
    #expect(server.requests.allSatisfy { $0.headers["if-range"] == nil })
    #expect(RemotePlaces.notes(of: opened.path).map(\.code) == ["source.no-etag"])
    // Two looks at it are two files for --resume.
    #expect(try FaultTests.open(server).identity != FaultTests.open(server).identity)
    let telling = HTTPServer { request, _ in .file(Self.data, request) }
    #expect(try FaultTests.open(telling).identity == FaultTests.open(telling).identity)
  }

  @Test("headers without end are given up")
  func endlessHeaders() {
    let (problem, _) = Self.fault { answer, _ in
      for number in 0..<9000 {
        answer.headers.append(("X-\(number)", String(repeating: "x", count: 60)))
      }
    }
    #expect(problem?.code.hasPrefix("source.") == true)
  }
}

/// Where answers send on to.
@Suite("Redirections")
struct RedirectTests {
  typealias Answer = HTTPServer.Answer
  static let data = FaultTests.bytes(50_000)

  @Test("within the host are followed", arguments: [301, 302, 303, 307, 308])
  func followed(status: Int) throws {
    let server = HTTPServer { request, _ in
      request.target == "/file" ? .redirect("/other/place", status) : .file(Self.data, request)
    }
    let file = try FaultTests.open(server)
    #expect(try file.bytes(at: 0, count: 50_000) == Self.data)
    // The way is known after the first time.
    #expect(server.requests.filter { $0.target == "/file" }.count == 1)
  }

  @Test("to another host are refused, and that host is not asked")
  func otherHost() {
    let other = HTTPServer { request, _ in .file(Self.data, request) }
    let target = other.url("/file?signature=secret")
    let server = HTTPServer { _, _ in .redirect(target) }
    let problem = FaultTests.fault(server)
    #expect(problem?.code == "source.redirect")
    #expect(problem?.message.contains(other.url("/file")) == true)
    #expect(problem?.description.contains("secret") == false)
    #expect(other.requests.isEmpty)
  }

  @Test(
    "without end, or to no HTTP, are refused",
    arguments: ["/file", "file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/x", ""])
  func refused(target: String) {
    let server = HTTPServer { _, _ in .redirect(target) }
    #expect(FaultTests.fault(server)?.code == "source.redirect")
    #expect(server.requests.count <= 6)
  }

  @Test("an address that was lent and has run out is asked for anew")
  func lent() throws {
    let turn = Mutex(0)
    let server = HTTPServer { request, _ in
      if request.target == "/file" {
        return .redirect("/lent/\(turn.withLock { $0 })")
      }
      guard request.target == "/lent/\(turn.withLock { $0 })" else { return Answer(403) }
      return .file(Self.data, request)
    }
    let file = try FaultTests.open(server)
    turn.withLock { $0 = 1 }
    #expect(try file.bytes(at: 0, count: 50_000) == Self.data)
    #expect(server.requests.filter { $0.target == "/file" }.count == 2)
  }
}
