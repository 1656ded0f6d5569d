public import Tensors

/// The index of a sharded checkpoint: which tensor lies in which file.
///
/// `model.safetensors.index.json` and `pytorch_model.bin.index.json` are alike:
/// `{"metadata": {"total_size": 12}, "weight_map": {"a.weight": "model-00001-of-00002.safetensors"}}`.
public struct ShardIndex: Sendable {
  /// One line of the weight map.
  public struct Entry: Sendable, Hashable {
    /// The tensor.
    public var name: TensorName
    /// Its file, relative to the index.
    public var file: String

    /// The tensor `name` in `file`.
    public init(name: TensorName, file: String) {
      self.name = name
      self.file = file
    }
  }

  /// The weight map in the order of the text.
  public var entries: [Entry]
  /// Bytes of all tensors together, as the index says; `nil` if it does not.
  public var totalSize: Int?

  /// An index.
  public init(entries: [Entry], totalSize: Int?) {
    self.entries = entries
    self.totalSize = totalSize
  }

  /// The files, ordered by name.
  public var files: [String] {
    Set(entries.map { TensorName($0.file) }).sorted().map(\.string)
  }

  /// Reads an index.
  ///
  /// - Parameters:
  ///   - bytes: the JSON text.
  ///   - path: its file, for messages.
  /// - Throws: `json.*`; `shards.index` when it has no weight map of texts, `shards.path` for a
  ///   file that is not beside or below the index.
  public init(parsing bytes: [UInt8], path: String) throws(Problems) {
    var parsed = Parsed(path: path)
    do throws(JSONError) {
      var scanner = try JSONScanner(bytes)
      try parsed.root(&scanner)
      if !parsed.hasTooMany { try scanner.finish() }
    } catch {
      throw Problems([error.diagnostic(file: path, bytes: bytes)])
    }
    if !parsed.hasMap, parsed.problems.isEmpty {
      parsed.add("shards.index", nil, "has no \"weight_map\" object from tensor names to files")
    }
    guard parsed.problems.isEmpty else { throw Problems(parsed.problems) }
    self.init(entries: parsed.entries, totalSize: parsed.totalSize)
  }

  /// Goes over the text once; names stay apart byte by byte, which a `String` key could not do.
  private struct Parsed {
    let path: String
    var entries: [Entry] = []
    var totalSize: Int?
    var hasMap = false
    /// The rest of the text was not looked at.
    private(set) var hasTooMany = false
    var problems: [Diagnostic] = []
    private var refused: Set<String> = []
    private var files: Set<String> = []
    /// More than any checkpoint has, and each would be looked for.
    private static let mostFiles = 10_000

    init(path: String) { self.path = path }

    mutating func add(_ code: String, _ tensor: String?, _ message: String) {
      guard problems.count < 100 else { return }
      let subject = tensor.map { "\(path): tensor \(shown($0))" } ?? path
      problems.append(
        Diagnostic(
          code: code, subject: subject, message: message,
          help: code == "shards.path"
            ? "shards must lie beside the index"
            : "give the index that was saved with the shards, or their directory"))
    }

    mutating func root(_ scanner: inout JSONScanner) throws(JSONError) {
      guard scanner.accept(UInt8(ascii: "{")) else {
        _ = try JSONParser.value(&scanner, mode: .python)
        return
      }
      if scanner.accept(UInt8(ascii: "}")) { return }
      var keys: Set<String> = []
      repeat {
        let start = scanner.position
        let key = try scanner.string()
        guard keys.insert(key).inserted else {
          throw JSONError(.duplicateKey, at: start, "key \(shown(key)) stands twice")
        }
        try scanner.expect(UInt8(ascii: ":"))
        if key == "weight_map", scanner.accept(UInt8(ascii: "{")) {
          hasMap = true
          try map(&scanner)
          if hasTooMany { return }
        } else {
          let value = try JSONParser.value(&scanner, mode: .python)
          guard key == "metadata" else { continue }
          // Some writers put the total as a float.
          switch value["total_size"] {
          case .int(let size): totalSize = size
          case .double(let size): totalSize = Int(exactly: size)
          default: break
          }
        }
      } while try scanner.more(until: UInt8(ascii: "}"))
    }

    private mutating func map(_ scanner: inout JSONScanner) throws(JSONError) {
      if scanner.accept(UInt8(ascii: "}")) { return }
      var names: Set<TensorName> = []
      repeat {
        let start = scanner.position
        let name = TensorName(try scanner.string())
        guard names.insert(name).inserted else {
          throw JSONError(.duplicateKey, at: start, "tensor \(shown(name.string)) stands twice")
        }
        try scanner.expect(UInt8(ascii: ":"))
        guard scanner.peek == UInt8(ascii: "\"") else {
          _ = try JSONParser.value(&scanner, mode: .python)
          add("shards.index", name.string, "its file in the weight map is no text")
          continue
        }
        let file = try scanner.string()
        if let fault = ShardIndex.fault(ofPath: file) {
          guard refused.insert(file).inserted else { continue }
          add("shards.path", name.string, "lies in \(shown(file)), which \(fault)")
        } else {
          entries.append(Entry(name: name, file: file))
          guard files.insert(file).inserted, files.count > Self.mostFiles else { continue }
          hasTooMany = true
          add("shards.index", nil, "names more than \(Self.mostFiles) files")
          return
        }
      } while try scanner.more(until: UInt8(ascii: "}"))
    }
  }

  /// Why a path may not name a shard, or `nil`.
  static func fault(ofPath path: String) -> String? {
    if path.isEmpty { return "is empty" }
    if path.utf8.contains(0) { return "holds a NUL character" }
    if path.utf8.first == UInt8(ascii: "/") { return "is an absolute path" }
    if path.utf8.contains(UInt8(ascii: "\\")) { return "holds a backslash" }
    for part in path.split(separator: "/", omittingEmptySubsequences: false) {
      if part == ".." { return "leads to a parent directory" }
      if part.isEmpty || part == "." { return "is no plain path" }
    }
    return nil
  }

  /// The index as transformers writes it: two spaces, names in order, a line break at the end.
  public var text: String {
    var lines = ["{", "  \"metadata\": {"]
    if let totalSize { lines.append("    \"total_size\": \(totalSize)") }
    lines += ["  },", "  \"weight_map\": {"]
    let sorted = entries.sorted { $0.name < $1.name }
    for (i, entry) in sorted.enumerated() {
      let name = JSONValue.string(entry.name.string).text(indent: nil)
      let file = JSONValue.string(entry.file).text(indent: nil)
      lines.append("    \(name): \(file)" + (i + 1 < sorted.count ? "," : ""))
    }
    return (lines + ["  }", "}", ""]).joined(separator: "\n")
  }
}
