import Checkpoints
import Conversion
import Hub
import Output
import Tensors

/// Which share of a conversion one run does, where several runs, perhaps on several machines, do one
/// conversion together.
public enum ConversionShare: Sendable, Hashable {
  /// Part `number`, from 1 on, of so many: some of the files, always the same ones.
  case part(Int, of: Int)
  /// Examines every part and puts the directory together.
  case finish
}

/// The files of weights that a conversion writes, and which part writes which.
struct ConversionFiles {
  /// Files in their order, each with its bytes of tensors; a rank's file for DCP.
  let files: [(name: String, byteCount: Int)]
  /// For all but DCP: what each file holds.
  let parts: [ShardedWriter.Part]

  /// - Throws: `part.container` for containers that are one file; `part.one-file` where nothing splits
  ///   the weights among `count` parts.
  init(
    _ request: ConversionRequest, _ container: Container, _ manifest: OutputManifest,
    fileName: String
  ) throws(Diagnostic) {
    switch container {
    case .dcp:
      files = DCPWriter.byteCounts(of: manifest).enumerated().map { rank, count in
        (DCPWriter.name(ofRank: rank), count)
      }
      parts = []
      try Self.check(request, files.count, fileName, "--ranks N deals the rows out to N files")
    case .safetensors, .pytorch:
      parts = ShardedWriter.parts(
        manifest, fileName: fileName, maxShardBytes: request.maxShardBytes)
      files = parts.map { part in
        (
          part.name,
          part.manifest.tensors.reduce(0) { sum, tensor in
            sum + (tensor.sharesStorageWith == nil ? tensor.byteCount : 0)
          }
        )
      }
      if request.maxShardBytes == nil {
        try Self.check(request, files.count, fileName, "--max-shard-size 5GB splits it")
      }
    case .hdf5, .npz, .gguf:
      throw Diagnostic(
        code: "part.container", subject: container.rawValue,
        message:
          "is written as one file, or as files that are written together; there are no parts",
        help: "leave --part out, or write safetensors, PyTorch or DCP")
    }
  }

  private static func check(
    _ request: ConversionRequest, _ count: Int, _ name: String, _ help: String
  ) throws(Diagnostic) {
    guard case .part(_, let parts)? = request.share, parts > 1, count == 1 else { return }
    throw Diagnostic(
      code: "part.one-file", subject: name,
      message: "would hold all of the weights, and \(parts) parts cannot write one file", help: help
    )
  }

  /// The numbers of the files that part `number` of `count` writes: the largest file that is left always
  /// goes to the part that has least.
  func share(of number: Int, among count: Int) -> [Int] {
    var loads = [Int](repeating: 0, count: count)
    var owner = [Int](repeating: 0, count: files.count)
    let order = files.indices.sorted {
      files[$0].byteCount != files[$1].byteCount
        ? files[$0].byteCount > files[$1].byteCount : $0 < $1
    }
    for file in order {
      let least = loads.indices.min { (loads[$0], $0) < (loads[$1], $1) } ?? 0
      owner[file] = least
      // A file costs something even if it is empty.
      loads[least] += max(1, files[file].byteCount)
    }
    return files.indices.filter { owner[$0] == number - 1 }
  }
}

/// What the parts of a conversion must agree on: source, options and tool.
struct ShareHead {
  /// The document without the number of parts, which `--finish` does not know.
  let document: JSONObject
  /// How many parts there are; `nil` when that is not known.
  var count: Int?

  /// - Throws: `io.*`.
  init(
    _ request: ConversionRequest, _ container: Container, _ loaded: LoadedCheckpoint,
    _ plan: ConversionPlan, _ files: ConversionFiles, count: Int?
  ) throws(Diagnostic) {
    var sources: [JSONValue] = []
    for file in loaded.source.files {
      sources.append([
        "file": .string(file.name), "bytes": .int(file.byteCount),
        "modified": .int(file.identity.modified), "sample": .string(try Self.sample(of: file)),
      ])
    }
    document = [
      "weighbridge_parts": 1, "tool": .string(Weighbridge.version),
      "options": .object(request.options(container)),
      "sources": .array(sources),
      "plan": .string(Digest.of(JSONValue.object(plan.document).text())),
      "files": .array(files.files.map { .string($0.name) }),
    ]
    self.count = count
  }

  /// The digest of a file's bytes here and there: all of a small one.
  private static func sample(of file: RandomAccessFile) throws(Diagnostic) -> String {
    let (blocks, size) = (256, 4096)
    guard file.byteCount > blocks * size else { return try Digest.of(file) }
    var digest = Digest()
    for block in 0..<blocks {
      let place = (file.byteCount - size) / (blocks - 1) * block
      let bytes = try file.bytes(
        at: block == blocks - 1 ? file.byteCount - size : place, count: size)
      bytes.withUnsafeBytes { digest.update($0) }
    }
    return digest.hex
  }

  /// The text of the file.
  var text: String {
    var document = document
    document["parts"] = .int(count ?? 0)
    return JSONValue.object(document).text(indent: 1) + "\n"
  }

  /// Compares what the parts at `path` are of with this.
  ///
  /// - Returns: how many parts there are.
  /// - Throws: `part.source-changed`, `part.other`, `part.head`, each with what differs.
  func check(_ bytes: [UInt8], path: String) throws(Diagnostic) -> Int {
    let restart = "remove \(path) to begin anew"
    guard let standing = try? JSONParser.parse(bytes, file: path),
      standing["weighbridge_parts"] == 1,
      let parts = standing["parts"]?.int, parts > 0, parts <= Weighbridge.mostParts
    else {
      throw Diagnostic(
        code: "part.head", subject: path,
        message: "does not tell what its parts are of: \(PartsDirectory.headName) is damaged, or of"
          + " another version", help: restart)
    }
    func other(_ code: String, _ message: String, _ notes: [String] = []) -> Diagnostic {
      Diagnostic(
        code: code, subject: path, message: message, notes: notes,
        help: "give all parts and --finish the same source and options, or \(restart)")
    }
    let tool = standing["tool"]?.string ?? "?"
    guard tool == Weighbridge.version else {
      throw other("part.other", "holds parts that version \(tool) has written")
    }
    let now = JSONValue.object(document)
    let options = Self.differences(
      standing["options"]?.object ?? [:], now["options"]?.object ?? [:])
    guard options.isEmpty else {
      throw other("part.other", "holds parts of a conversion with other options", options)
    }
    guard count == nil || count == parts else {
      throw other(
        "part.other", "holds parts of a conversion in \(parts) parts, not in \(count ?? 0)")
    }
    guard standing["sources"] == now["sources"] else {
      throw other(
        "part.source-changed", "holds parts of a source that has changed since",
        Self.changes(standing["sources"]?.array ?? [], now["sources"]?.array ?? []))
    }
    guard standing["plan"] == now["plan"], standing["files"] == now["files"] else {
      throw other(
        "part.source-changed",
        "holds parts of another plan: the source's config or the layouts have changed since")
    }
    return parts
  }

  private static func differences(_ old: JSONObject, _ new: JSONObject) -> [String] {
    var names = Array(old.keys)
    names += new.keys.filter { old[$0] == nil }
    return names.compactMap { name in
      let (was, now) = (old[name] ?? .null, new[name] ?? .null)
      return was == now ? nil : "\(name): \(was.text()) there, \(now.text()) here"
    }
  }

  private static func changes(_ old: [JSONValue], _ new: [JSONValue]) -> [String] {
    guard old.count == new.count else { return ["\(old.count) files there, \(new.count) here"] }
    return zip(old, new).compactMap { was, now in
      guard was != now else { return nil }
      let name = now["file"]?.string ?? "?"
      if was["file"] != now["file"] { return "\(was["file"]?.string ?? "?") there, \(name) here" }
      if was["bytes"] != now["bytes"] {
        return "\(name): \(was["bytes"]?.int ?? 0) bytes there, \(now["bytes"]?.int ?? 0) here"
      }
      return was["sample"] != now["sample"]
        ? "\(name) has other bytes" : "\(name) was written to: its time has changed"
    }
  }
}

extension ConversionRequest {
  /// Everything that decides the bytes of the result besides the source and the layouts.
  func options(_ container: Container) -> JSONObject {
    func text(_ value: String?) -> JSONValue { value.map { .string($0) } ?? .null }
    func number(_ value: Int?) -> JSONValue { value.map { .int($0) } ?? .null }
    return [
      "to": .string(to), "from": text(input.framework), "container": .string(container.rawValue),
      "dtype": text(blocks?.rawValue ?? dtype?.rawValue), "cast_all": .bool(castsAll),
      "vocab_size": number(vocabularyRows), "max_shard_size": number(maxShardBytes),
      "ranks": container == .dcp ? .int(ranks) : .null, "dcp_prefix": text(nesting),
      "key": text(input.key), "preset": text(input.preset), "compat": .bool(input.compat),
      "inert": .array(input.inertKeys.map { .string($0) }),
    ]
  }
}
