public import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A report's place on the disk: written whole or not at all, and never over something else.
public struct ReportFile: Sendable {
  /// The form of a report.
  public enum Form: Sendable {
    /// A page to look at.
    case html
    /// A command's document.
    case json
  }

  /// The path as given.
  public let path: String
  private let target: String
  private let directory: String

  /// Looks at the place before the work begins, so that hours of it are not lost at the end.
  ///
  /// - Throws: `report.path` for a place that cannot hold a report, `report.exists` where another
  ///   kind of file stands: a checkpoint is not replaced by a slip of the hand.
  public init(_ path: String, form: Form = .html) throws(Diagnostic) {
    self.path = path
    // A link is followed, so that what it points to is replaced and not the link.
    var target = path
    if let resolved = realpath(path, nil) {
      target = String(cString: resolved)
      free(resolved)
    }
    self.target = target
    let parts = target.split(separator: "/", omittingEmptySubsequences: false)
    let parent = parts.dropLast().joined(separator: "/")
    directory = parts.count > 1 ? (parent.isEmpty ? "/" : parent) : "."
    guard let name = parts.last, !name.isEmpty else {
      throw Diagnostic(code: "report.path", subject: path, message: "names no file")
    }
    guard access(directory, W_OK) == 0 else {
      throw Diagnostic.system("report.path", directory, "cannot be written to")
    }
    var info = stat()
    guard stat(target, &info) == 0 else { return }
    guard info.st_mode & S_IFMT == S_IFREG else {
      throw Diagnostic(
        code: "report.path", subject: path, message: "is no regular file",
        help: "give the path of \(form == .html ? "an HTML" : "a JSON") file")
    }
    let isOwn = form == .html ? ReportFile.isMarkup : ReportFile.isDocument
    guard info.st_size == 0 || isOwn(target) else {
      throw Diagnostic(
        code: "report.exists", subject: path,
        message: form == .html
          ? "exists and is no HTML file" : "exists and is no document of this tool",
        help: "choose another name, or remove it first")
    }
  }

  /// Puts a text in place; what stood there before is gone only when the new text is complete.
  ///
  /// - Throws: `io.write`.
  public func write(_ text: String) throws(Diagnostic) {
    let name = target.split(separator: "/").last ?? "report"
    let partial = PartialFile.path(of: String(name), in: directory)
    let descriptor = open(partial, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else { throw Diagnostic.system("io.write", path, "cannot be created") }
    var failure: Diagnostic?
    var text = text
    text.withUTF8 { bytes in
      var done = 0
      while done < bytes.count {
        let count = systemWrite(descriptor, bytes.baseAddress! + done, bytes.count - done)
        if count < 0 {
          if errno == EINTR { continue }
          failure = Diagnostic.system("io.write", path, "cannot be written")
          return
        }
        done += count
      }
    }
    if close(descriptor) != 0, failure == nil {
      failure = Diagnostic.system("io.write", path, "cannot be closed")
    }
    if failure == nil, rename(partial, target) != 0 {
      failure = Diagnostic.system("io.write", path, "cannot be put in place")
    }
    if let failure {
      unlink(partial)
      throw failure
    }
  }

  /// Whether a file is a document of a command: an object that lists problems. So no config is
  /// replaced by a slip of the hand.
  private static func isDocument(_ path: String) -> Bool {
    guard let file = try? RandomAccessFile(path: path), file.byteCount <= 1 << 30,
      let bytes = try? file.bytes(at: 0, count: file.byteCount),
      let value = try? JSONParser.parse(bytes, file: path)
    else { return false }
    return value["problems"]?.array != nil
  }

  /// Whether a file begins like HTML.
  private static func isMarkup(_ path: String) -> Bool {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return false }
    defer { close(descriptor) }
    var start = [UInt8](repeating: 0, count: 64)
    let count = read(descriptor, &start, start.count)
    let text = String(decoding: start.prefix(max(count, 0)), as: UTF8.self).lowercased()
    return text.hasPrefix("<!doctype html") || text.hasPrefix("<html")
  }
}

/// The C library's `write`, which the method above would hide.
private func systemWrite(_ descriptor: Int32, _ bytes: UnsafeRawPointer, _ count: Int) -> Int {
  write(descriptor, bytes, count)
}
