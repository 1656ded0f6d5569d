import OrderedCollections
package import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// What an interrupted conversion has finished: one JSON line for what it is a conversion of, and one
/// for each finished shard. A line that was cut short does not count.
package struct Journal {
  package static let fileName = ".weighbridge-journal"

  /// A finished shard.
  package struct Entry {
    package var name: String
    package var byteCount: Int
    package var sha256: String

    package init(name: String, byteCount: Int, sha256: String) {
      self.name = name
      self.byteCount = byteCount
      self.sha256 = sha256
    }
  }

  /// The digest of the plan.
  package let plan: String
  /// The source files with their state.
  package let sources: [RandomAccessFile]
  /// What decides the shards' bytes besides the plan.
  package let shards: String
  /// The tool's version: another may write other bytes.
  package let version: String
  private var path = ""
  private var sync = true

  package init(plan: String, sources: [RandomAccessFile], shards: String, version: String) {
    self.plan = plan
    self.sources = sources
    self.shards = shards
    self.version = version
  }

  private var head: String {
    JSONValue.object([
      "journal": 1, "version": .string(version), "plan": .string(plan),
      "shards": .string(shards),
      "sources": .array(
        sources.map {
          let identity = $0.identity
          return [
            .string($0.name), .string("\(identity.device):\(identity.inode)"),
            .int(identity.byteCount), .int(identity.modified),
          ]
        }),
    ]).text()
  }

  /// The finished shards of an earlier run of the same conversion; begins a new journal where there
  /// is none or another's.
  package mutating func open(in directory: String, sync: Bool) throws(Diagnostic) -> [String: Entry]
  {
    path = directory + "/" + Self.fileName
    self.sync = sync
    var finished: [String: Entry] = [:]
    var lines: [String] = []
    if let file = try? RandomAccessFile(path: path),
      let bytes = try? file.bytes(at: 0, count: file.byteCount)
    {
      // Without its line break a line was cut short.
      lines = String(decoding: bytes, as: UTF8.self).split(
        separator: "\n", omittingEmptySubsequences: false
      ).dropLast().map(String.init)
    }
    if lines.first == head {
      for line in lines.dropFirst() {
        guard let value = try? JSONParser.parse(Array(line.utf8), file: path),
          let name = value["shard"]?.string, let count = value["bytes"]?.int,
          let sha256 = value["sha256"]?.string
        else { continue }
        finished[name] = Entry(name: name, byteCount: count, sha256: sha256)
      }
    }
    // Written anew, so that no torn line stands before the next one.
    var text = head + "\n"
    for entry in finished.values.sorted(by: { $0.name < $1.name }) { text += Self.line(entry) }
    try TextFile.write(text, to: path + ".new")
    guard rename(path + ".new", path) == 0 else {
      throw Diagnostic.system("io.write", path, "cannot be written")
    }
    return finished
  }

  /// Whether a journal of another conversion lies in `directory`.
  package func isForeign(in directory: String) -> Bool {
    guard let file = try? RandomAccessFile(path: directory + "/" + Self.fileName),
      let bytes = try? file.bytes(at: 0, count: file.byteCount)
    else { return false }
    return !bytes.starts(with: Array((head + "\n").utf8))
  }

  private static func line(_ entry: Entry) -> String {
    JSONValue.object([
      "shard": .string(entry.name), "bytes": .int(entry.byteCount),
      "sha256": .string(entry.sha256),
    ]).text() + "\n"
  }

  /// Notes a shard that is finished and on the disk.
  package func add(_ entry: Entry) throws(Diagnostic) {
    let descriptor = openForAppending(path)
    guard descriptor >= 0 else { throw Diagnostic.system("io.write", path, "cannot be opened") }
    defer { close(descriptor) }
    let bytes = Array(Self.line(entry).utf8)
    guard bytes.withUnsafeBytes({ write(descriptor, $0.baseAddress, $0.count) }) == bytes.count,
      !sync || fsync(descriptor) == 0
    else { throw Diagnostic.system("io.write", path, "cannot be written") }
  }

  /// Removes it when all is done.
  package func remove() throws(Diagnostic) {
    guard unlink(path) == 0 else { throw Diagnostic.system("io.write", path, "cannot be removed") }
  }
}

/// The C library's `open`, which the method of that name would hide.
private func openForAppending(_ path: String) -> Int32 {
  open(path, O_WRONLY | O_APPEND | O_CLOEXEC)
}
