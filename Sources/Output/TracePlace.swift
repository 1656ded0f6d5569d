import Checkpoints
package import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A trace's place on the disk: written whole or not at all, and over nothing but an older trace. A
/// slip of the hand must not replace the weights that it is a trace of.
package struct TracePlace {
  /// Where the file is written first.
  package let directory: String
  /// Its name there.
  package let partial: String
  private let path: String

  /// Looks at the place before the work begins.
  ///
  /// - Parameter sources: files that are read.
  /// - Throws: `trace.path` for a place that cannot hold a trace; `trace.exists` where another kind of
  ///   file, or one that is read, stands.
  package init(_ path: String, sources: [String]) throws(Diagnostic) {
    let parts = path.split(separator: "/", omittingEmptySubsequences: false)
    let parent = parts.dropLast().joined(separator: "/")
    directory = parts.count > 1 ? (parent.isEmpty ? "/" : parent) : "."
    guard let name = parts.last, !name.isEmpty, name != ".", name != ".." else {
      throw Diagnostic(code: "trace.path", subject: path, message: "names no file")
    }
    guard access(directory, W_OK) == 0 else {
      throw Diagnostic.system("trace.path", directory, "cannot be written to")
    }
    self.path = path
    partial = PartialFile.path(of: String(name), in: directory).split(separator: "/").last
      .map(String.init)!
    var info = stat()
    guard stat(path, &info) == 0 else { return }
    func exists(_ message: String) -> Diagnostic {
      Diagnostic(
        code: "trace.exists", subject: path, message: message,
        help: "choose another name, or remove it first")
    }
    for source in sources {
      var other = stat()
      guard stat(source, &other) == 0 else { continue }
      if other.st_dev == info.st_dev, other.st_ino == info.st_ino {
        throw exists("is a file that is read")
      }
    }
    guard info.st_mode & S_IFMT == S_IFREG, info.st_size == 0 || Self.isTrace(path) else {
      throw exists("exists and is no trace")
    }
  }

  /// Puts the file in its place.
  ///
  /// - Throws: `io.write`.
  package func commit() throws(Diagnostic) {
    guard rename("\(directory)/\(partial)", path) == 0 else {
      throw Diagnostic.system("io.write", path, "cannot be put in place")
    }
  }

  /// Removes what was written.
  package func discard() { unlink("\(directory)/\(partial)") }

  private static func isTrace(_ path: String) -> Bool {
    guard let reader = try? SafetensorsReader(path: path) else { return false }
    let names = Set(reader.tensors.map(\.name))
    return names.contains("input_ids") && names.contains("logits")
  }
}
