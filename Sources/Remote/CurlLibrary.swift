import CCurlLoader
import Synchronization
import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// libcurl, loaded when it is first used, and its handles: each keeps connections open for the next
/// request.
enum CurlLibrary {
  /// A handle, used by one thread at a time.
  struct Handle: @unchecked Sendable {
    let pointer: UnsafeMutableRawPointer
    /// The server that it was last used for.
    var origin = ""
  }

  private static let idle = Mutex<[Handle]>([])
  private static let loading = Mutex(())
  private static let mostIdle = 16

  /// Loads the library.
  ///
  /// - Throws: `source.library`.
  static func load() throws(Diagnostic) {
    let (state, missing) = loading.withLock { _ in
      var name: UnsafePointer<CChar>?
      let state = ccurl_load(&name)
      return (state, name.map { String(cString: $0) } ?? "")
    }
    guard state != 0 else { return }
    let message =
      switch state {
      case 1: "is not on this system, and is needed to read from a URL"
      case 2: "lacks \(missing), which is needed to read from a URL"
      default: "cannot be started"
      }
    throw Diagnostic(
      code: "source.library", subject: "libcurl.so.4", message: message,
      help: "install it (Debian: apt install libcurl4), or download the files and give their path")
  }

  /// `8.5.0 OpenSSL/3.0.13`; the library is loaded.
  static var version: String {
    let words = String(cString: ccurl_version()).split(separator: " ").prefix(2)
    return words.joined(separator: " ").replacing("libcurl/", with: "", maxReplacements: 1)
  }

  /// A handle without options, one with a connection to `origin` if there is any.
  static func handle(for origin: String) throws(Diagnostic) -> Handle {
    let old = idle.withLock { idle in
      let place = idle.lastIndex { $0.origin == origin } ?? idle.indices.last
      return place.map { idle.remove(at: $0) }
    }
    if var old {
      ccurl_easy_reset(old.pointer)
      old.origin = origin
      return old
    }
    guard let pointer = ccurl_easy_init() else {
      throw Diagnostic(
        code: "source.library", subject: "libcurl.so.4", message: "gives no handle: out of memory")
    }
    return Handle(pointer: pointer, origin: origin)
  }

  /// Keeps a handle for the next request.
  static func putBack(_ handle: Handle) {
    let isKept = idle.withLock { idle in
      guard idle.count < mostIdle else { return false }
      idle.append(handle)
      return true
    }
    if !isKept { ccurl_easy_cleanup(handle.pointer) }
  }

  /// The files with the authorities that servers are trusted by, where the environment names others
  /// than the system's: the variables of curl, of Python's requests, and of OpenSSL.
  static let authorities: (file: String?, directory: String?) = {
    func value(_ name: String) -> String? {
      guard let text = getenv(name), text.pointee != 0 else { return nil }
      return String(cString: text)
    }
    return (
      value("CURL_CA_BUNDLE") ?? value("REQUESTS_CA_BUNDLE") ?? value("SSL_CERT_FILE"),
      value("SSL_CERT_DIR")
    )
  }()
}
