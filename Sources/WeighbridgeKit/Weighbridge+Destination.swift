import Checkpoints
import Conversion
import Hub
import Output
import Remote
import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// What a conversion needs to know of the place that it writes to.
extension Weighbridge {
  /// Opens the source and decides the conversion; a source that is not there while the destination
  /// holds a checkpoint is probably the other way round.
  func planAsking(
    _ request: ConversionRequest
  ) throws -> (LoadedCheckpoint, ConversionPlan) {
    do { return try plan(request) } catch {
      let found = (error as? Problems)?.diagnostics ?? [error as? Diagnostic].compactMap { $0 }
      guard found.count == 1, var problem = found.first,
        ["checkpoint.not-found", "checkpoint.none"].contains(problem.code),
        (try? CheckpointLocation(finding: request.destination)) != nil
      else { throw error }
      problem.message +=
        ", and the destination \(request.destination) holds a checkpoint: were they swapped?"
      problem.help = "the source comes first: weighbridge convert SRC DST"
      throw Problems([problem])
    }
  }

  /// Refuses a destination whose name is that of a file.
  ///
  /// - Throws: `output.file-name`.
  func checkName(_ destination: String) throws(Diagnostic) {
    guard !Remote.isURL(destination) else {
      throw Diagnostic(
        code: "output.url", subject: Self.shown(destination),
        message: "is a URL, and a conversion writes a directory of this machine",
        help: "give a directory, and upload it afterwards (hf upload)")
    }
    let endings = CheckpointLocation.endings + [".distcp", ".json"]
    var name = destination
    while name.count > 1, name.hasSuffix("/") { name.removeLast() }
    guard let ending = endings.first(where: { name.lowercased().hasSuffix($0) }) else { return }
    var info = stat()
    // What is a directory already, or a file that is told of elsewhere, has its name from somebody.
    guard stat(name, &info) != 0 else { return }
    let stem = String(name.dropLast(ending.utf8.count))
    throw Diagnostic(
      code: "output.file-name", subject: destination,
      message: "is the name of a file, and the destination is a directory of weights and config",
      help: stem.isEmpty || stem.hasSuffix("/")
        ? "give a name without \(ending)" : "give a directory: \(stem)")
  }

  /// The answer to a destination that exists, which must not be a recipe to destroy the source of
  /// somebody who swapped the two.
  func explain(
    _ problem: Diagnostic, _ request: ConversionRequest, _ plan: ConversionPlan
  ) -> Diagnostic {
    // `.` is told of whatever it holds.
    guard problem.code == "output.exists", !request.force,
      ![".", ".."].contains(FileName.last(of: request.destination))
    else { return problem }
    var problem = problem
    var info = stat()
    guard stat(request.destination, &info) == 0 else { return problem }
    guard info.st_mode & S_IFMT == S_IFDIR else {
      guard (try? ContainerSniffer.sniff(path: request.destination)) != nil else { return problem }
      problem.message = "is a file of weights, and a conversion writes a directory"
      problem.notes.append("the source comes first: were source and destination swapped?")
      return problem
    }
    guard let location = try? CheckpointLocation(finding: request.destination) else {
      problem.message = "exists already, and holds something else than one checkpoint"
      problem.help = "give another destination, or an empty directory"
      return problem
    }
    if writtenManifest(in: request.destination) != nil { return problem }
    let standing = try? load(CheckpointInput(path: request.destination))
    if let layout = standing?.bound?.layout, layout.name == plan.to.name { return problem }
    let kind =
      standing?.bound.map { "a checkpoint of \($0.layout.title)" }
      ?? "other weights, \(FileName.last(of: location.weights.path))"
    problem.message = "exists already, and holds \(kind), where \(plan.to.title) would be written"
    problem.notes.append("were source and destination swapped? the source comes first")
    problem.help = "give another destination, or an empty directory"
    return problem
  }

  /// The names that a conversion will write.
  func names(
    _ request: ConversionRequest, _ loaded: LoadedCheckpoint, _ plan: ConversionPlan,
    _ manifest: OutputManifest, _ weights: String, _ container: Container
  ) -> [String] {
    var names: [String]
    if container == .dcp {
      names = DCPWriter.names(ranks: request.ranks)
    } else {
      let parts = ShardedWriter.parts(
        manifest, fileName: weights,
        maxShardBytes: container == .hdf5 ? nil : request.maxShardBytes)
      names = parts.map(\.name)
      if parts.count > 1 { names.append(weights + ".index.json") }
    }
    names.append(plan.to.files.config)
    names += loaded.location.companions.map { FileName.last(of: $0) }
    if request.writesDigests { names.append(WrittenManifest.fileName) }
    return names
  }

  /// The files of `directory` that its manifest lists and that are still as they were written: an
  /// earlier conversion's. Those that are written anyway need no look.
  func written(in directory: String, besides names: [String]) -> [String] {
    guard let manifest = writtenManifest(in: directory) else { return [] }
    let names = Set(names)
    var owned = [WrittenManifest.fileName]
    for file in manifest.files where !names.contains(file.name) {
      let path = "\(directory)/\(file.name)"
      guard let standing = try? RandomAccessFile(path: path),
        standing.byteCount == file.byteCount, (try? Digest.of(standing)) == file.sha256
      else { continue }
      owned.append(file.name)
    }
    return owned
  }

  func writtenManifest(in directory: String) -> WrittenManifest? {
    let path = "\(directory)/\(WrittenManifest.fileName)"
    guard let file = try? RandomAccessFile(path: path),
      file.byteCount <= WrittenManifest.mostBytes,
      let bytes = try? file.bytes(at: 0, count: file.byteCount)
    else { return nil }
    return try? WrittenManifest(parsing: bytes, path: path)
  }
}
