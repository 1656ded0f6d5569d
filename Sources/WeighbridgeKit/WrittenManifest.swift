import Conversion
import Hub
import OrderedCollections
import Output
public import Tensors

/// `weighbridge.json`: what a conversion wrote, file by file and tensor by tensor, with digests.
public struct WrittenManifest: Sendable, Hashable {
  /// Its name beside the weights.
  public static let fileName = "weighbridge.json"
  /// More than a manifest of a million tensors.
  static let mostBytes = 512 << 20

  /// A file with its SHA-256.
  public struct File: Sendable, Hashable {
    /// The name, without directories.
    public var name: String
    /// Its size.
    public var byteCount: Int
    /// The digest in hexadecimal.
    public var sha256: String
  }

  /// A tensor with the SHA-256 of its dense little-endian bytes.
  public struct Tensor: Sendable, Hashable {
    /// The name in the file.
    public var name: TensorName
    /// The element type's name.
    public var dtype: String
    /// The extents.
    public var shape: [Int]
    /// The digest in hexadecimal.
    public var sha256: String
  }

  /// The version of the tool.
  public var tool: String
  /// The names of the layouts.
  public var from: String
  /// The name of the layout that was written.
  public var to: String
  /// The family of the model.
  public var family: String
  /// What is preserved: `bitwise`, `exact` or `rounding`.
  public var exactness: String
  /// Why it is no better.
  public var reasons: [JSONValue]
  /// The SHA-256 of the plan.
  public var plan: String
  /// What was asked for; `nil` in manifests of earlier versions.
  public var options: JSONValue?
  /// The files that were read.
  public var sources: [File]
  /// The file or index to open.
  public var weights: String
  /// The files that were written, but for this one.
  public var files: [File]
  /// The tensors.
  public var tensors: [Tensor]

  private func document() -> JSONObject {
    func list(_ files: [File]) -> JSONValue {
      .array(
        files.map {
          [
            "file": .string($0.name), "bytes": .int($0.byteCount), "sha256": .string($0.sha256),
          ]
        })
    }
    var document: JSONObject = [
      "weighbridge": 1, "tool": .string(tool), "from": .string(from), "to": .string(to),
      "family": .string(family), "exactness": .string(exactness), "reasons": .array(reasons),
      "plan": .string(plan), "sources": list(sources), "weights": .string(weights),
      "files": list(files),
      "tensors": .array(
        tensors.map {
          [
            "name": .string($0.name.string), "dtype": .string($0.dtype),
            "shape": .array($0.shape.map { .int($0) }), "sha256": .string($0.sha256),
          ]
        }),
    ]
    if let options { document["options"] = options }
    return document
  }

  /// The text of the file. Its last member is the digest of the document without that member.
  public var text: String {
    var document = document()
    document["manifest"] = .string(Digest.of(JSONValue.object(document).text()))
    return JSONValue.object(document).text(indent: 1) + "\n"
  }

  /// Reads the text of a manifest.
  ///
  /// - Throws: `check.manifest` for one that is damaged or of another version of the tool's.
  public init(parsing bytes: [UInt8], path: String) throws(Diagnostic) {
    func damaged(_ what: String) -> Diagnostic {
      Diagnostic(
        code: "check.manifest", subject: path, message: what,
        help: "nothing can be said about the files; convert again with --sha256")
    }
    let document: JSONValue
    do {
      document = try JSONParser.parse(bytes, file: path)
    } catch { throw damaged("is damaged: \(error)") }
    guard document["weighbridge"] == 1 else {
      throw damaged("is no manifest that this version knows")
    }
    func text(_ key: String) throws(Diagnostic) -> String {
      guard let text = document[key]?.string else { throw damaged("has no text \"\(key)\"") }
      return text
    }
    func list<Element>(
      _ key: String, _ element: (JSONValue) -> Element?
    ) throws(Diagnostic) -> [Element] {
      guard let values = document[key]?.array else { throw damaged("has no list \"\(key)\"") }
      let elements = values.compactMap(element)
      guard elements.count == values.count else { throw damaged("has odd members in \"\(key)\"") }
      return elements
    }
    func file(_ value: JSONValue) -> File? {
      guard let name = value["file"]?.string, let count = value["bytes"]?.int, count >= 0,
        let sha256 = value["sha256"]?.string
      else { return nil }
      return File(name: name, byteCount: count, sha256: sha256)
    }
    self.init(
      tool: try text("tool"), from: try text("from"), to: try text("to"),
      family: try text("family"), exactness: try text("exactness"),
      reasons: try list("reasons") { $0 }, plan: try text("plan"),
      sources: try list("sources", file), weights: try text("weights"),
      files: try list("files", file),
      tensors: try list("tensors") { value in
        guard let name = value["name"]?.string, let dtype = value["dtype"]?.string,
          let shape = value["shape"]?.array, let sha256 = value["sha256"]?.string
        else { return nil }
        let dims = shape.compactMap(\.int)
        guard dims.count == shape.count else { return nil }
        return Tensor(name: TensorName(name), dtype: dtype, shape: dims, sha256: sha256)
      })
    options = document["options"]
    // The tool writes one text for one manifest, so that any changed byte shows.
    guard Array(self.text.utf8) == bytes else { throw damaged("was changed after it was written") }
    guard (files.map(\.name) + [weights]).allSatisfy(Self.isPlain) else {
      throw damaged("names a file that is not beside it")
    }
    guard Set(files.map { TensorName($0.name) }).count == files.count,
      Set(tensors.map(\.name)).count == tensors.count
    else { throw damaged("names a file or a tensor twice") }
    guard Self.total(files)?.checkedTimes(2) != nil, Self.total(sources) != nil else {
      throw damaged("tells of more bytes than any disk has")
    }
  }

  private static func total(_ files: [File]) -> Int? {
    files.reduce(0) { sum, file in sum?.checkedPlus(file.byteCount) }
  }

  /// Whether a name leads to nothing but a file beside the manifest.
  private static func isPlain(_ name: String) -> Bool {
    !name.isEmpty && name != "." && name != ".."
      && !name.utf8.contains { $0 == 0 || $0 == UInt8(ascii: "/") }
  }

  init(
    tool: String, from: String, to: String, family: String, exactness: String,
    reasons: [JSONValue], plan: String, sources: [File], weights: String, files: [File],
    tensors: [Tensor]
  ) {
    self.tool = tool
    self.from = from
    self.to = to
    self.family = family
    self.exactness = exactness
    self.reasons = reasons
    self.plan = plan
    self.sources = sources
    self.weights = weights
    self.files = files
    self.tensors = tensors
  }
}
