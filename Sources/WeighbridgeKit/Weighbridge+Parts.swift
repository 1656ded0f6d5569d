import Checkpoints
import Conversion
import Dispatch
import Hub
import OrderedCollections
import Output
import Synchronization
import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// One conversion done by several runs: each writes some of the files, and one puts them together.
extension Weighbridge {
  /// Parts that a conversion may have.
  public static let mostParts = 100_000

  /// Writes one part, unless it is there already.
  func convertPart(
    _ number: Int, of count: Int, _ request: ConversionRequest, _ loaded: LoadedCheckpoint,
    _ plan: ConversionPlan, _ manifest: OutputManifest, _ container: Container, fileName: String,
    _ problems: [Diagnostic], progress: (@Sendable (Executor.Progress) -> Void)?
  ) throws -> ConversionResult {
    var problems = problems
    let files = try ConversionFiles(request, container, manifest, fileName: fileName)
    let own = files.share(of: number, among: count)
    let directory = try PartsDirectory(destination: request.destination)
    let head = try ShareHead(request, container, loaded, plan, files, count: count)
    let standing = try directory.establish(head.text, sync: request.sync)
    _ = try head.check(standing, path: directory.path)
    let part = PartRecord(number: number, count: count, head: Digest.of(head.text))
    let names = own.map { files.files[$0].name }
    func result() -> ConversionResult {
      ConversionResult(
        plan: plan, outputs: names.map { "\(directory.path(of: part.name))/\($0)" },
        problems: problems)
    }
    if own.isEmpty {
      problems.append(
        Diagnostic(
          .note, code: "part.empty", subject: "part \(number) of \(count)",
          message: "has nothing to write: there are \(files.files.count) files"))
    }
    switch PartRecord.examine(part, in: directory, names: names) {
    case .whole:
      problems.append(
        Diagnostic(
          .note, code: "part.kept", subject: "part \(number) of \(count)",
          message: "is there already, and has the digests that were noted"))
      return result()
    case .damaged(let faults):
      problems.append(
        Diagnostic(
          .warning, code: "part.damaged", subject: directory.path(of: part.name),
          message: "is not as it was written, and is written again", notes: faults))
    case .missing: break
    }
    let place = try directory.begin(part.name)
    var record = part
    record.counts =
      container == .dcp
      ? try writeRanks(own, plan, loaded, manifest, in: place.path, request, progress)
      : try writeShards(
        own.map { files.parts[$0] }, plan, loaded, container, in: place.path, request, progress)
    let casts = CastReport(plan, record.counts)
    if casts.overflows > 0, !request.allowsLossy {
      throw Refusal(
        layout: plan.to,
        problems: casts.diagnostics(overflow: .error).filter { $0.severity == .error })
    }
    for file in loaded.source.files { try file.checkUnchanged() }
    record.files = try Self.digests(names.map { "\(place.path)/\($0)" })
    try TextFile.write(record.text, to: "\(place.path)/\(PartsDirectory.recordName)")
    let isTaken = try place.commit(sync: request.sync) {
      if case .whole = PartRecord.examine(part, in: directory, names: names) { return true }
      return false
    }
    if !isTaken {
      problems.append(
        Diagnostic(
          .note, code: "part.kept", subject: "part \(number) of \(count)",
          message: "was finished by another run meanwhile, whose files are kept"))
    }
    return result()
  }

  private func writeShards(
    _ parts: [ShardedWriter.Part], _ plan: ConversionPlan, _ loaded: LoadedCheckpoint,
    _ container: Container, in directory: String, _ request: ConversionRequest,
    _ progress: (@Sendable (Executor.Progress) -> Void)?
  ) throws -> [Int: CastCounts] {
    var counts: [Int: CastCounts] = [:]
    let total = parts.reduce(0) { $0 + plan.part($1).byteCount }
    var done = 0
    for part in parts {
      let sub = plan.part(part)
      let sink = try makeSink(
        container: container, manifest: part.manifest, directory: directory, fileName: part.name)
      let before = done
      let own = try Executor().run(sub, from: loaded.source, to: sink) { step in
        progress?(
          Executor.Progress(done: before + step.done, total: total, tensor: step.tensor))
      }
      for (number, count) in own { counts[part.members[number]] = count }
      try sink.finish(sync: request.sync)
      done += sub.byteCount
    }
    return counts
  }

  private func writeRanks(
    _ ranks: [Int], _ plan: ConversionPlan, _ loaded: LoadedCheckpoint, _ manifest: OutputManifest,
    in directory: String, _ request: ConversionRequest,
    _ progress: (@Sendable (Executor.Progress) -> Void)?
  ) throws -> [Int: CastCounts] {
    let own = Set(ranks)
    let sink = try DCPWriter(
      manifest: manifest, directory: directory, only: own, writesIndex: false)
    let (sub, places) = plan.rows { DCPWriter.ranges(of: $0, in: manifest, only: own) }
    let found = try Executor().run(
      sub, from: loaded.source, to: RowsSink(sink, places), progress: progress)
    try sink.finish(sync: request.sync)
    var counts: [Int: CastCounts] = [:]
    for (number, count) in found {
      counts[places[number].tensor, default: CastCounts()] += count
    }
    return counts
  }

  /// The digests of files, by several threads.
  static func digests(_ paths: [String]) throws(Diagnostic) -> [WrittenManifest.File] {
    let found = Mutex([Int: Result<WrittenManifest.File, Diagnostic>]())
    DispatchQueue.concurrentPerform(iterations: paths.count) { number in
      let result: Result<WrittenManifest.File, Diagnostic>
      do throws(Diagnostic) {
        let file = try RandomAccessFile(path: paths[number])
        result = .success(
          WrittenManifest.File(
            name: file.name, byteCount: file.byteCount, sha256: try Digest.of(file)))
      } catch { result = .failure(error) }
      found.withLock { $0[number] = result }
    }
    let results = found.withLock { $0 }
    var files: [WrittenManifest.File] = []
    for number in paths.indices { files.append(try results[number]!.get()) }
    return files
  }

  /// Examines the parts of a conversion.
  ///
  /// - Throws: `Problems` with `part.none`, `part.missing`, `part.damaged`; what differs between the
  ///   parts and this request.
  func gather(
    _ request: ConversionRequest, _ loaded: LoadedCheckpoint, _ plan: ConversionPlan,
    _ manifest: OutputManifest, _ container: Container, fileName: String
  ) throws -> GatheredParts {
    let files = try ConversionFiles(request, container, manifest, fileName: fileName)
    let directory = try PartsDirectory(destination: request.destination)
    guard directory.exists, let standing = try directory.head() else {
      throw Diagnostic(
        code: "part.none", subject: request.destination,
        message: "has no parts: \(directory.path) "
          + (directory.exists ? "holds none" : "is not there"),
        help: "write them with --part 1/N to --part N/N, and give --finish the same destination")
    }
    var head = try ShareHead(request, container, loaded, plan, files, count: nil)
    let count = try head.check(standing, path: directory.path)
    head.count = count
    let digest = Digest.of(head.text)
    typealias State = (part: PartRecord, names: [String], state: PartRecord.State)
    var states: [State] = []
    for number in 1...count {
      let part = PartRecord(number: number, count: count, head: digest)
      let names = files.share(of: number, among: count).map { files.files[$0].name }
      states.append((part, names, .missing))
    }
    let found = Mutex(states)
    DispatchQueue.concurrentPerform(iterations: count) { number in
      let (part, names, _) = found.withLock { $0[number] }
      let state = PartRecord.examine(part, in: directory, names: names)
      found.withLock { $0[number].state = state }
    }
    states = found.withLock { $0 }
    var problems: [Diagnostic] = []
    let missing = states.filter { if case .missing = $0.state { true } else { false } }
    if !missing.isEmpty { problems.append(Self.missing(missing.map(\.part), count, directory)) }
    var records: [PartRecord] = []
    for state in states {
      switch state.state {
      case .missing: break
      case .whole(let record): records.append(record)
      case .damaged(let faults):
        problems.append(
          Diagnostic(
            code: "part.damaged", subject: directory.path(of: state.part.name),
            message: "is not as it was written", notes: faults,
            help: "write it again with --part \(state.part.number)/\(count); it is replaced"))
      }
    }
    guard problems.isEmpty else { throw Problems(problems) }
    return GatheredParts(
      directory: directory, records: records, files: files, manifest: manifest,
      container: container, fileName: fileName, byteCount: plan.byteCount)
  }

  private static func missing(
    _ parts: [PartRecord], _ count: Int, _ directory: PartsDirectory
  ) -> Diagnostic {
    let numbers = parts.map { String($0.number) }
    let list =
      numbers.prefix(12).joined(separator: ", ")
      + (numbers.count > 12 ? " and \(numbers.count - 12) more" : "")
    let begun = parts.filter { !directory.temporaries(of: $0.name).isEmpty }.map {
      "part \($0.number) was begun: it is still being written, or was killed"
    }
    return Diagnostic(
      code: "part.missing", subject: directory.path,
      message: parts.count == 1
        ? "part \(list) of \(count) is not there"
        : "of \(count) parts these are not there: \(list)",
      notes: Array(begun.prefix(12)),
      help: "write \(parts.count == 1 ? "it" : "them") with --part "
        + numbers.prefix(3).map { "\($0)/\(count)" }.joined(separator: ", --part ")
        + (numbers.count > 3 ? ", …" : "") + ", then --finish again")
  }
}

/// The parts of a conversion, every one whole.
struct GatheredParts {
  let directory: PartsDirectory
  let records: [PartRecord]
  let files: ConversionFiles
  let manifest: OutputManifest
  let container: Container
  let fileName: String
  let byteCount: Int

  /// What casts did to values, by tensor of the plan.
  var counts: [Int: CastCounts] {
    var counts: [Int: CastCounts] = [:]
    for record in records {
      for (tensor, count) in record.counts { counts[tensor, default: CastCounts()] += count }
    }
    return counts
  }

  /// Puts the files of all parts into `target`, and writes what only all of them together have: the
  /// index.
  ///
  /// - Returns: the file or index to open.
  func place(in target: String, sync: Bool) throws -> String {
    for record in records {
      for file in record.files { try directory.place(file.name, of: record.name, in: target) }
    }
    if container == .dcp {
      let index = try DCPWriter(manifest: manifest, directory: target, only: [], writesIndex: true)
      try index.finish(sync: sync)
      return DCPWriter.indexName
    }
    guard files.parts.count > 1 else { return fileName }
    let index = ShardIndex(
      entries: files.parts.flatMap { part in
        part.manifest.tensors.map { ShardIndex.Entry(name: $0.name, file: part.name) }
      }, totalSize: byteCount)
    try TextFile.write(index.text, to: "\(target)/\(fileName).index.json")
    return fileName + ".index.json"
  }

  /// Whether `target` holds all of their files already: an earlier run was ended after it had put them
  /// in place.
  func areIn(_ target: String) -> Bool {
    records.allSatisfy { record in
      record.files.allSatisfy { file in
        guard let standing = try? RandomAccessFile(path: "\(target)/\(file.name)") else {
          return false
        }
        return standing.byteCount == file.byteCount && (try? Digest.of(standing)) == file.sha256
      }
    }
  }

  /// Removes the parts, as the destination stands.
  ///
  /// - Returns: what stays.
  func remove() -> [Diagnostic] {
    directory.remove(
      Dictionary(
        uniqueKeysWithValues: records.map { ($0.name, Set($0.files.map(\.name))) }))
  }
}

/// What a part says of itself in `part.json`.
struct PartRecord: Sendable {
  let number: Int
  let count: Int
  /// The digest of what the parts agree on.
  let head: String
  /// The files that it wrote.
  var files: [WrittenManifest.File] = []
  /// What casts did to values, by tensor of the plan.
  var counts: [Int: CastCounts] = [:]

  /// The name of its directory.
  var name: String { PartsDirectory.name(number, of: count) }

  /// How a part stands.
  enum State: Sendable {
    case missing
    case whole(PartRecord)
    case damaged([String])
  }

  init(number: Int, count: Int, head: String) {
    self.number = number
    self.count = count
    self.head = head
  }

  private var document: JSONObject {
    [
      "part": .int(number), "parts": .int(count), "conversion": .string(head),
      "files": .array(
        files.map {
          [
            "file": .string($0.name), "bytes": .int($0.byteCount), "sha256": .string($0.sha256),
          ]
        }),
      "casts": .array(
        counts.sorted { $0.key < $1.key }.map {
          [
            .int($0.key), .int($0.value.overflows), .int($0.value.underflows),
            .int($0.value.notFinite),
          ]
        }),
    ]
  }

  /// The text of the file. Its last member is the digest of the document without that member.
  var text: String {
    var document = document
    document["record"] = .string(Digest.of(JSONValue.object(document).text()))
    return JSONValue.object(document).text(indent: 1) + "\n"
  }

  private init?(_ bytes: [UInt8], path: String) {
    guard let value = try? JSONParser.parse(bytes, file: path), let number = value["part"]?.int,
      let count = value["parts"]?.int, let head = value["conversion"]?.string,
      let files = value["files"]?.array, let casts = value["casts"]?.array
    else { return nil }
    self.init(number: number, count: count, head: head)
    for file in files {
      guard let name = file["file"]?.string, let bytes = file["bytes"]?.int,
        let sha256 = file["sha256"]?.string
      else { return nil }
      self.files.append(WrittenManifest.File(name: name, byteCount: bytes, sha256: sha256))
    }
    for cast in casts {
      let numbers = cast.array?.compactMap(\.int) ?? []
      guard numbers.count == 4 else { return nil }
      counts[numbers[0]] = CastCounts(
        overflows: numbers[1], underflows: numbers[2], notFinite: numbers[3])
    }
    guard Array(text.utf8) == bytes else { return nil }
  }

  /// Reads every byte of a part and compares it with its record.
  ///
  /// - Parameter names: the files that it should have.
  static func examine(_ part: PartRecord, in directory: PartsDirectory, names: [String]) -> State {
    let path = directory.path(of: part.name)
    var info = stat()
    guard lstat(path, &info) == 0 else { return .missing }
    guard info.st_mode & S_IFMT == S_IFDIR else { return .damaged(["it is no directory"]) }
    let place = "\(path)/\(PartsDirectory.recordName)"
    guard let file = try? RandomAccessFile(path: place), file.byteCount <= 1 << 28,
      let bytes = try? file.bytes(at: 0, count: file.byteCount),
      let record = PartRecord(bytes, path: place)
    else { return .damaged(["\(PartsDirectory.recordName) is not there, or damaged"]) }
    guard record.number == part.number, record.count == part.count, record.head == part.head else {
      return .damaged(["it belongs to another conversion"])
    }
    guard record.files.map(\.name) == names else {
      return .damaged(["it has other files than \(names.joined(separator: ", "))"])
    }
    let faults = record.files.compactMap { expected -> String? in
      guard let file = try? RandomAccessFile(path: "\(path)/\(expected.name)") else {
        return "\(expected.name) is gone"
      }
      if file.byteCount != expected.byteCount {
        return "\(expected.name) has \(file.byteCount) bytes; \(expected.byteCount) were written"
      }
      guard let digest = try? Digest.of(file) else { return "\(expected.name) cannot be read" }
      return digest == expected.sha256
        ? nil : "\(expected.name) does not have the bytes that were written"
    }
    return faults.isEmpty ? .whole(record) : .damaged(faults)
  }
}

/// Passes the rows of a plan of some rows on to where they belong.
private final class RowsSink: TensorSink {
  let extents: [TensorInfo.Extent?]
  var outputs: [String] { inner.outputs }
  private let inner: any TensorSink
  private let places: [ConversionPlan.RowPlace]

  init(_ inner: any TensorSink, _ places: [ConversionPlan.RowPlace]) {
    self.inner = inner
    self.places = places
    extents = places.map { _ in nil }
  }

  func write(_ index: Int, at offset: Int, _ bytes: UnsafeRawBufferPointer) throws(Diagnostic) {
    try inner.write(places[index].tensor, at: places[index].offset + offset, bytes)
  }

  func finish(sync: Bool) throws(Diagnostic) { try inner.finish(sync: sync) }
}
