public import Tensors

/// A checkpoint in several files with an index; it must be complete and without contradiction.
public final class ShardedReader: TensorSource {
  /// The shards' container.
  public let container: Container
  /// The files of all shards, in the order of their names.
  public let files: [RandomAccessFile]
  /// The tensors, shard after shard, each in its own order.
  public let tensors: [TensorInfo]
  /// The shards' texts; the first shard that has a key decides.
  public let metadata: [String: String]
  /// The first shard's that has any.
  public let attachments: JSONValue
  /// A wrong total, and what the shards' readers noticed.
  public let warnings: [Diagnostic]
  private let shards: [any TensorSource]
  private let places: [(shard: Int, tensor: Int)]

  /// Opens every shard that the index names.
  ///
  /// - Parameters:
  ///   - indexPath: the `*.index.json`.
  ///   - open: opens one shard at a path.
  /// - Throws: every independent problem at once: those of the index and the shards;
  ///   `shards.missing-file`, `shards.symlink` for a file out of the directory; `shards.missing`,
  ///   `shards.misplaced`, `shards.duplicate`, `shards.unlisted` for tensors. Shards that were renamed
  ///   and hold exactly the index's tensors are read, with the warning `shards.renamed`.
  public convenience init(
    indexPath: String, open: (String) throws(Problems) -> any TensorSource
  ) throws(Problems) {
    let index = try Self.index(at: indexPath)
    let directory = FilePath.directory(of: indexPath)
    var names = index.files
    RemotePlaces.expect(names.map { directory + "/" + $0 })
    let opened: Opened
    var notes: [Diagnostic] = []
    let missing = names.filter { FilePath.real(directory + "/" + $0) == nil }
    let others = missing.isEmpty ? [] : Self.others(missing, names, in: directory)
    if !others.isEmpty {
      names = names.filter { !missing.contains($0) } + others
      opened = try Self.open(
        names, in: directory, indexPath: indexPath, missing: missing, others: others, open)
      notes.append(
        Diagnostic(
          .warning, code: "shards.renamed", subject: indexPath,
          message: "names \(CheckpointLocation.list(missing, most: 3)), not there; "
            + "\(CheckpointLocation.list(others, most: 3)) beside it hold exactly its tensors, and "
            + "are read"))
    } else {
      opened = try Self.open(names, in: directory, indexPath: indexPath, open)
      let problems = Self.contradictions(
        index, shards: opened.shards.map { $0.tensors.map(\.name) }, names: opened.names,
        indexPath: indexPath)
      guard problems.isEmpty else { throw Problems(Array(problems.prefix(100))) }
    }
    if !others.isEmpty {
      let problems = Self.misfits(index, opened, missing, others, indexPath)
      guard problems.isEmpty else { throw Problems(problems) }
    }
    self.init(opened.shards) { tensors in
      notes + Self.totalWarning(index, tensors: tensors, indexPath: indexPath)
    }
  }

  /// Opens shards that lost their index.
  ///
  /// - Throws: those of the shards; `shards.duplicate` for a tensor that two of them hold,
  ///   `shards.symlink`.
  public convenience init(
    shards paths: [String], open: (String) throws(Problems) -> any TensorSource
  ) throws(Problems) {
    let directory = FilePath.directory(of: paths.first ?? "")
    let names = paths.map { FilePath.name(of: $0) }
    RemotePlaces.expect(paths)
    let opened = try Self.open(names, in: directory, indexPath: directory, open)
    var found: [TensorName: Int] = [:]
    var problems: [Diagnostic] = []
    for (number, shard) in opened.shards.enumerated() {
      for tensor in shard.tensors {
        guard let other = found.updateValue(number, forKey: tensor.name), problems.count < 100
        else { continue }
        problems.append(
          Diagnostic(
            code: "shards.duplicate",
            subject: "\(directory): tensor \(shown(tensor.name.string))",
            message: "lies in \(names[other]) and \(names[number])",
            help: "the shards are not of one checkpoint, or their index says which one counts"))
      }
    }
    guard problems.isEmpty else { throw Problems(problems) }
    self.init(opened.shards) { _ in [] }
  }

  /// Open shards with their names.
  private struct Opened {
    var shards: [any TensorSource] = []
    var names: [String] = []
  }

  private static func open(
    _ files: [String], in directory: String, indexPath: String, missing: [String] = [],
    others: [String] = [], _ open: (String) throws(Problems) -> any TensorSource
  ) throws(Problems) -> Opened {
    var opened = Opened()
    var problems: [Diagnostic] = []
    for file in files {
      let path = directory + "/" + file
      if let problem = fault(ofShard: path, in: directory, indexPath: indexPath) {
        problems.append(problem)
        continue
      }
      do throws(Problems) {
        opened.shards.append(try open(path))
        opened.names.append(file)
      } catch {
        if others.contains(file) { throw Problems(absent(missing, others, indexPath)) }
        problems += error.diagnostics
        // Every other file would fail in the same way.
        if let full = error.diagnostics.first(where: { $0.code == "io.descriptors" }) {
          throw Problems([full])
        }
      }
      if problems.count >= 100 { break }
    }
    guard problems.isEmpty else { throw Problems(Array(problems.prefix(100))) }
    return opened
  }

  /// Weights beside an index that it does not name, as many as it names in vain and of their endings.
  private static func others(
    _ missing: [String], _ names: [String], in directory: String
  ) -> [String] {
    let endings = Set(missing.map { CheckpointLocation.weightsEnding(of: $0) })
    let known = Set(names)
    let found = ((try? FilePath.names(in: directory)) ?? []).filter { name in
      !known.contains(name) && CheckpointLocation.weightsEnding(of: name) != nil
        && endings.contains(CheckpointLocation.weightsEnding(of: name))
        && FilePath.kind(directory + "/" + name) == .file
        && FilePath.outside(directory + "/" + name, of: directory) == nil
    }
    return found.count == missing.count ? found : []
  }

  /// Shards under other names hold exactly the tensors of the index, or the index's own are missing.
  private static func misfits(
    _ index: ShardIndex, _ opened: Opened, _ missing: [String], _ others: [String],
    _ indexPath: String
  ) -> [Diagnostic] {
    let listed = index.entries.map(\.name).sorted()
    let held = opened.shards.flatMap { $0.tensors.map(\.name) }.sorted()
    return listed == held ? [] : absent(missing, others, indexPath)
  }

  private static func absent(
    _ missing: [String], _ others: [String], _ indexPath: String
  ) -> [Diagnostic] {
    missing.prefix(100).map { name in
      Diagnostic(
        code: "shards.missing-file", subject: indexPath,
        message: "names the shard \(shown(name)), which is not there",
        notes: [
          "beside it lie \(CheckpointLocation.list(others, most: 4)), which do not hold its tensors"
        ],
        help: "the checkpoint is incomplete; fetch the missing shards")
    }
  }

  private init(_ shards: [any TensorSource], warnings: ([TensorInfo]) -> [Diagnostic]) {
    var files: [RandomAccessFile] = []
    var tensors: [TensorInfo] = []
    var places: [(shard: Int, tensor: Int)] = []
    var metadata: [String: String] = [:]
    for (number, shard) in shards.enumerated() {
      for (place, tensor) in shard.tensors.enumerated() {
        var tensor = tensor
        tensor.extent?.file += files.count
        tensors.append(tensor)
        places.append((number, place))
      }
      files += shard.files
      metadata.merge(shard.metadata) { old, _ in old }
    }
    self.container = shards.first?.container ?? .safetensors
    self.files = files
    self.tensors = tensors
    self.places = places
    self.metadata = metadata
    self.shards = shards
    attachments = shards.map(\.attachments).first { $0 != .null } ?? .null
    self.warnings = warnings(tensors) + shards.flatMap(\.warnings)
  }

  private static func index(at path: String) throws(Problems) -> ShardIndex {
    let bytes: [UInt8]
    do throws(Diagnostic) {
      let file = try RandomAccessFile(path: path)
      bytes = try file.bytes(at: 0, count: file.byteCount)
    } catch { throw Problems([error]) }
    return try ShardIndex(parsing: bytes, path: path)
  }

  /// A shard that is not there, or that a link puts elsewhere.
  private static func fault(
    ofShard path: String, in directory: String, indexPath: String
  ) -> Diagnostic? {
    guard FilePath.real(path) != nil else {
      return Diagnostic(
        code: "shards.missing-file", subject: indexPath,
        message: "names the shard \(shown(path)), which is not there",
        help: "the checkpoint is incomplete; fetch the missing shards")
    }
    guard let real = FilePath.outside(path, of: directory) else { return nil }
    return Diagnostic(
      code: "shards.symlink", subject: path,
      message: "is a link to \(shown(real)), outside the checkpoint's directory",
      help: "copy the file into the directory if you trust it")
  }

  /// What the index and the shards' own lists disagree on.
  private static func contradictions(
    _ index: ShardIndex, shards: [[TensorName]], names: [String], indexPath: String
  ) -> [Diagnostic] {
    var found: [TensorName: [Int]] = [:]
    for (number, shard) in shards.enumerated() {
      for name in shard { found[name, default: []].append(number) }
    }
    var problems: [Diagnostic] = []
    func add(_ code: String, _ name: TensorName, _ message: String, _ help: String) {
      guard problems.count < 100 else { return }
      problems.append(
        Diagnostic(
          code: code, subject: "\(indexPath): tensor \(shown(name.string))", message: message,
          help: help))
    }
    var listed: Set<TensorName> = []
    for entry in index.entries {
      listed.insert(entry.name)
      let places = (found[entry.name] ?? []).map { names[$0] }
      if places.isEmpty {
        add(
          "shards.missing", entry.name,
          "should lie in \(entry.file), but no shard holds it",
          "the shards and the index are not of one checkpoint; fetch both again")
      } else if places.count > 1 {
        add(
          "shards.duplicate", entry.name, "lies in \(places.joined(separator: " and "))",
          "nothing says which of them counts; remove one")
      } else if places[0] != entry.file {
        add(
          "shards.misplaced", entry.name,
          "should lie in \(entry.file), but lies in \(places[0])",
          "the shards and the index are not of one checkpoint; fetch both again")
      }
    }
    for (number, shard) in shards.enumerated() {
      for name in shard where !listed.contains(name) {
        add(
          "shards.unlisted", name, "lies in \(names[number]), but the index does not list it",
          "the shards and the index are not of one checkpoint; fetch both again")
      }
    }
    return problems
  }

  private static func totalWarning(
    _ index: ShardIndex, tensors: [TensorInfo], indexPath: String
  ) -> [Diagnostic] {
    guard let said = index.totalSize else { return [] }
    var total = 0
    var stored = 0
    var seen: Set<TensorInfo.Extent> = []
    for tensor in tensors {
      total = total.checkedPlus(tensor.byteCount) ?? .max
      // Writers that share storage count it once.
      if tensor.extent.map({ seen.insert($0).inserted }) ?? true {
        stored = stored.checkedPlus(tensor.byteCount) ?? .max
      }
    }
    guard said != total, said != stored else { return [] }
    return [
      Diagnostic(
        .warning, code: "shards.total-size", subject: indexPath,
        message: "says that the tensors take \(said) bytes, but they take \(total)")
    ]
  }

  /// Reads the bytes `range` of tensor number `index` from its shard.
  ///
  /// - Throws: as the shard's reader.
  public func read(
    _ index: Int, bytes range: Range<Int>, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Diagnostic) {
    let place = places[index]
    try shards[place.shard].read(place.tensor, bytes: range, into: buffer)
  }
}
