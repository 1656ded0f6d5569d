import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A server of HTTP/1.1 on this machine whose answers a test decides, faults included.
public final class HTTPServer: Sendable {
  /// A request.
  public struct Request: Sendable {
    /// `GET`.
    public var method: String
    /// The path with its query, as it was sent.
    public var target: String
    /// The headers by their names in lower case.
    public var headers: [String: String]

    /// The bytes asked for.
    public var range: Range<Int>? {
      guard let text = headers["range"], text.hasPrefix("bytes=") else { return nil }
      let ends = text.dropFirst(6).split(separator: "-")
      guard ends.count == 2, let first = Int(ends[0]), let last = Int(ends[1]), first <= last else {
        return nil
      }
      return first..<last + 1
    }
  }

  /// An answer.
  public struct Answer: Sendable {
    /// The status.
    public var status: Int
    /// The headers besides Content-Length.
    public var headers: [(String, String)]
    /// The body.
    public var body: [UInt8]
    /// What Content-Length says; `nil` for the body's own.
    public var contentLength: Int?
    /// Whether there is a Content-Length at all; without one the connection's end is the body's.
    public var hasLength = true
    /// Whether the body is sent in chunks.
    public var isChunked = false
    /// Bytes of the body after which the connection is closed.
    public var cutsAfter: Int?
    /// Bytes of the body after which nothing comes any more.
    public var stallsAfter: Int?

    /// An answer.
    public init(
      _ status: Int, _ headers: [(String, String)] = [], body: [UInt8] = [], cutsAfter: Int? = nil
    ) {
      self.status = status
      self.headers = headers
      self.body = body
      self.cutsAfter = cutsAfter
    }

    /// What a good server answers for a file: a part where one is asked for, all of it where the file is
    /// not the one of If-Range.
    public static func file(
      _ bytes: [UInt8], _ request: Request, etag: String? = "\"1\"", modified: String? = nil,
      type: String = "application/octet-stream"
    ) -> Answer {
      var headers = [("Content-Type", type), ("Accept-Ranges", "bytes")]
      if let etag { headers.append(("ETag", etag)) }
      if let modified { headers.append(("Last-Modified", modified)) }
      let isOther = request.headers["if-range"].map { $0 != etag } ?? false
      guard let range = request.range, !isOther else { return Answer(200, headers, body: bytes) }
      guard range.lowerBound < bytes.count else {
        return Answer(416, headers + [("Content-Range", "bytes */\(bytes.count)")])
      }
      let part = range.lowerBound..<min(range.upperBound, bytes.count)
      return Answer(
        206,
        headers + [
          ("Content-Range", "bytes \(part.lowerBound)-\(part.upperBound - 1)/\(bytes.count)")
        ], body: Array(bytes[part]))
    }

    /// On to somewhere else.
    public static func redirect(_ target: String, _ status: Int = 302) -> Answer {
      Answer(status, [("Location", target)])
    }
  }

  private struct State {
    var requests: [Request] = []
    var connections: Set<Int32> = []
    var isClosed = false
  }

  private let answer: @Sendable (Request, Int) -> Answer
  private let state = Mutex(State())
  private let listener: Int32
  /// The port on 127.0.0.1.
  public let port: Int

  /// Starts a server; `answer` is given each request and its number from 0.
  public init(_ answer: @escaping @Sendable (_ request: Request, _ number: Int) -> Answer) {
    self.answer = answer
    #if canImport(Glibc)
      listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    #else
      listener = socket(AF_INET, SOCK_STREAM, 0)
    #endif
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let descriptor = listener
    port = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
        precondition(bind(descriptor, pointer, size) == 0 && listen(descriptor, 64) == 0)
        precondition(getsockname(descriptor, pointer, &size) == 0)
      }
      return Int(UInt16(bigEndian: pointer.pointee.sin_port))
    }
    // The thread ends when the socket is closed; it does not keep this object alive.
    Self.thread { [weak self] in
      while true {
        let connection = accept(descriptor, nil, nil)
        guard connection >= 0 else { return }
        guard let server = self, server.keep(connection) else {
          close(connection)
          return
        }
        Self.thread { [weak server] in
          while server?.serve(connection) == true {}
          server?.drop(connection)
        }
      }
    }
  }

  deinit {
    shutdown(listener, Int32(SHUT_RDWR))
    close(listener)
    for connection in state.withLock({ $0.connections }) {
      shutdown(connection, Int32(SHUT_RDWR))
    }
  }

  /// The URL of a path.
  public func url(_ path: String) -> String { "http://127.0.0.1:\(port)\(path)" }

  /// The requests so far.
  public var requests: [Request] { state.withLock { $0.requests } }

  /// Serves the files of a directory by their paths.
  public convenience init(directory: String) {
    self.init { request, _ in
      let path = directory + request.target.prefix { $0 != "?" }
      var info = stat()
      guard stat(path, &info) == 0, info.st_mode & S_IFMT == S_IFREG else { return Answer(404) }
      let bytes = Files.read(path)
      return .file(bytes, request, etag: "\"\(bytes.count)-\(info.st_mtim.tv_sec)\"")
    }
  }

  private func keep(_ connection: Int32) -> Bool {
    state.withLock { state in
      state.connections.insert(connection)
      return true
    }
  }

  private func drop(_ connection: Int32) {
    state.withLock { _ = $0.connections.remove(connection) }
    close(connection)
  }

  private static func thread(_ body: @escaping @Sendable () -> Void) {
    let box = Unmanaged.passRetained(Box(body))
    #if canImport(Darwin)
      var id: pthread_t?
    #else
      var id = pthread_t()
    #endif
    pthread_create(
      &id, nil,
      { pointer in
        #if canImport(Darwin)
          let pointer: UnsafeMutableRawPointer? = pointer
        #endif
        Unmanaged<Box>.fromOpaque(pointer!).takeRetainedValue().body()
        return nil
      }, box.toOpaque())
    #if canImport(Darwin)
      pthread_detach(id!)
    #else
      pthread_detach(id)
    #endif
  }

  private final class Box: Sendable {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
  }

  /// Answers one request; whether another may come.
  private func serve(_ connection: Int32) -> Bool {
    guard let request = Self.request(connection) else { return false }
    let number = state.withLock { state in
      state.requests.append(request)
      return state.requests.count - 1
    }
    let answer = answer(request, number)
    var head = "HTTP/1.1 \(answer.status) Status\r\n"
    for (name, value) in answer.headers { head += "\(name): \(value)\r\n" }
    if answer.isChunked {
      head += "Transfer-Encoding: chunked\r\n"
    } else if answer.hasLength {
      head += "Content-Length: \(answer.contentLength ?? answer.body.count)\r\n"
    }
    head += "\r\n"
    guard Self.send(connection, Array(head.utf8)) else { return false }
    var body = answer.body
    if let most = answer.cutsAfter ?? answer.stallsAfter { body = Array(body.prefix(most)) }
    if answer.isChunked {
      guard Self.send(connection, Array("\(String(body.count, radix: 16))\r\n".utf8)),
        Self.send(connection, body)
      else { return false }
      if answer.cutsAfter == nil, answer.stallsAfter == nil {
        let end = body.isEmpty ? "\r\n" : "\r\n0\r\n\r\n"
        guard Self.send(connection, Array(end.utf8)) else { return false }
      }
    } else if !Self.send(connection, body) {
      return false
    }
    if answer.stallsAfter != nil {
      // Until the client goes.
      var byte: UInt8 = 0
      _ = recv(connection, &byte, 1, 0)
    }
    return answer.hasLength && answer.cutsAfter == nil && answer.stallsAfter == nil
      && (answer.isChunked || answer.contentLength ?? answer.body.count == answer.body.count)
  }

  private static func send(_ connection: Int32, _ bytes: [UInt8]) -> Bool {
    var done = 0
    while done < bytes.count {
      let count = bytes.withUnsafeBytes {
        #if canImport(Darwin)
          Darwin.send(connection, $0.baseAddress! + done, bytes.count - done, 0)
        #elseif canImport(Musl)
          Musl.send(connection, $0.baseAddress! + done, bytes.count - done, Int32(MSG_NOSIGNAL))
        #else
          Glibc.send(connection, $0.baseAddress! + done, bytes.count - done, Int32(MSG_NOSIGNAL))
        #endif
      }
      guard count > 0 else { return false }
      done += count
    }
    return true
  }

  /// Reads up to the empty line.
  private static func request(_ connection: Int32) -> Request? {
    var bytes: [UInt8] = []
    while !bytes.suffix(4).elementsEqual([13, 10, 13, 10]) {
      var byte: UInt8 = 0
      guard recv(connection, &byte, 1, 0) == 1, bytes.count < 1 << 16 else { return nil }
      // Nothing but a method begins with a letter: a greeting of TLS ends here.
      guard !bytes.isEmpty || (0x41...0x5A).contains(byte) else {
        _ = send(connection, Array("HTTP/1.1 400 Status\r\n\r\n".utf8))
        return nil
      }
      bytes.append(byte)
    }
    let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\r\n")
    let words = (lines.first ?? "").split(separator: " ")
    guard words.count == 3 else { return nil }
    var headers: [String: String] = [:]
    for line in lines.dropFirst() {
      guard let colon = line.firstIndex(of: ":") else { continue }
      headers[line[..<colon].lowercased()] = String(
        line[line.index(after: colon)...].drop { $0 == " " })
    }
    return Request(method: String(words[0]), target: String(words[1]), headers: headers)
  }
}
