import Tensors

/// What `hf://org/model@revision/file` names.
struct HubAddress: Sendable, Hashable {
  /// `org/model`, or the name alone of the oldest models.
  var model: String
  /// A branch, tag or commit; `nil` for `main`.
  var revision: String?
  /// The path in the repository, if any.
  var file: String?

  /// The beginning of its paths.
  var prefix: String { "hf://\(model)" + (revision.map { "@\($0)" } ?? "") }
  var path: String { prefix + (file.map { "/\($0)" } ?? "") }

  private init(model: String, revision: String?, file: String?) {
    self.model = model
    self.revision = revision
    self.file = file
  }

  /// Takes `hf://…` apart.
  ///
  /// - Throws: `source.url`, `source.kind` for data sets and spaces.
  init(_ text: String) throws(Diagnostic) {
    let rest = text.dropFirst("hf://".utf8.count).prefix { $0 != "?" && $0 != "#" }
    var parts = rest.split(separator: "/", omittingEmptySubsequences: true).map(String.init)
    if let first = parts.first, ["datasets", "spaces", "buckets"].contains(first) {
      throw Diagnostic(
        code: "source.kind", subject: text,
        message: "is in the hub's \(first), not among its models",
        help: "give hf://org/model, or the https:// URL of a file")
    }
    func fault(_ message: String) -> Diagnostic {
      Diagnostic(
        code: "source.url", subject: text, message: message,
        help: "models are named hf://org/model, hf://org/model@revision or "
          + "hf://org/model/model.safetensors")
    }
    guard !parts.isEmpty else { throw fault("names no model") }
    // The revision belongs to the name before it.
    let count = parts[0].contains("@") ? 1 : min(2, parts.count)
    var name = parts[..<count].joined(separator: "/")
    parts.removeFirst(count)
    if let mark = name.firstIndex(of: "@") {
      var written = String(name[name.index(after: mark)...])
      name = String(name[..<mark])
      // The hub's own branches: refs/pr/1, refs/convert/parquet.
      if written == "refs", parts.count >= 2, ["pr", "convert"].contains(parts[0]) {
        written += "/" + parts[0] + "/" + parts[1]
        parts.removeFirst(2)
      }
      guard let decoded = RemoteURL.decoded(written), Self.isRevision(decoded) else {
        throw fault("names no revision")
      }
      revision = decoded
    }
    guard Self.isModel(name) else { throw fault("names no model") }
    model = name
    guard !parts.contains(where: { $0 == "." || $0 == ".." || $0.utf8.contains(0x5C) }),
      !text.utf8.contains(where: { $0 < 0x20 || $0 == 0x7F })
    else { throw fault("names no file of a repository") }
    file = parts.isEmpty ? nil : parts.joined(separator: "/")
  }

  /// A URL of the hub's pages or files that means a model's: `https://huggingface.co/org/model`,
  /// `…/tree/main`, `…/resolve/main/model.safetensors`, `…/blob/…`, `…/raw/…`.
  init?(_ url: RemoteURL, endpoint: RemoteURL) {
    let base = FilePath.trimmed(endpoint.path)
    guard url.origin == endpoint.origin, base == "/" || url.path.hasPrefix(base + "/") else {
      return nil
    }
    let own = base == "/" ? url.path : String(url.path.dropFirst(base.count))
    var parts: [String] = []
    for part in own.split(separator: "/") {
      guard let decoded = RemoteURL.decoded(String(part)) else { return nil }
      parts.append(decoded)
    }
    guard parts.count >= 2, !["datasets", "spaces", "api", "docs", "papers"].contains(parts[0])
    else { return nil }
    let model = parts[0] + "/" + parts[1]
    guard Self.isModel(model) else { return nil }
    if parts.count == 2 {
      self.init(model: model, revision: nil, file: nil)
      return
    }
    guard parts.count >= 4, ["resolve", "blob", "raw", "tree"].contains(parts[2]) else {
      return nil
    }
    var revision = parts[3]
    var rest = parts[4...]
    if revision == "refs", rest.count >= 2 {
      revision += "/" + rest.prefix(2).joined(separator: "/")
      rest = rest.dropFirst(2)
    }
    guard Self.isRevision(revision), !rest.contains("..") else { return nil }
    self.init(
      model: model, revision: revision, file: rest.isEmpty ? nil : rest.joined(separator: "/"))
  }

  private static func isModel(_ name: String) -> Bool {
    name.split(separator: "/", omittingEmptySubsequences: false).allSatisfy { part in
      !part.isEmpty && part != "." && part != ".." && part.utf8.count <= 96
        && part.utf8.allSatisfy {
          switch $0 {
          case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, UInt8(ascii: "-"), UInt8(ascii: "_"),
            UInt8(ascii: "."):
            true
          default: false
          }
        }
    }
  }

  private static func isRevision(_ text: String) -> Bool {
    !text.isEmpty && text.utf8.count <= 255 && text != "." && !text.contains("..")
      && text.utf8.allSatisfy { $0 > 0x20 && $0 != 0x7F && $0 != 0x5C } && !text.hasPrefix("/")
  }

  /// Whether `text` is a whole commit's hash.
  static func isCommit(_ text: String) -> Bool {
    text.utf8.count == 40
      && text.utf8.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
  }
}
