#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// An empty directory that is removed with everything in it when its owner goes.
public final class TemporaryDirectory: Sendable {
  /// The path, without a slash at the end.
  public let path: String

  /// Creates one where the system keeps temporary files.
  public init() {
    let base = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
    var template = Array("\(base)/weighbridge-test-XXXXXX".utf8CString)
    precondition(mkdtemp(&template) != nil, "no temporary directory can be created")
    path = template.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
  }

  deinit { Files.remove(path) }

  /// The path of `name` in it.
  public func file(_ name: String) -> String { path + "/" + name }
}
