import Checkpoints
import Conversion
import Hub
import OrderedCollections
import Output
import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Writes a plan's tensors into a directory: all shards at once, or shard after shard with a journal
/// when an interrupted run shall be continued.
struct WeightsWriter {
  let plan: ConversionPlan
  let source: any TensorSource
  let container: Container
  let manifest: OutputManifest
  let directory: String
  let fileName: String
  let maxShardBytes: Int?
  let sync: Bool
  let wantsDigests: Bool
  let progress: (@Sendable (Executor.Progress) -> Void)?

  /// What was written.
  struct Result {
    var problems: [Diagnostic] = []
    /// The effect of casts on values, by tensor of the plan.
    var counts: [Int: CastCounts] = [:]
    /// By tensor of the plan, when digests were asked for.
    var digests: [String] = []
    /// The file or index to open.
    var weights: String
  }

  /// Writes everything anew.
  func run() throws -> Result {
    let sink = try makeSink(
      container: container, manifest: manifest, directory: directory, fileName: fileName,
      maxShardBytes: maxShardBytes)
    // The first of GGUF's parts stands for all; elsewhere the index comes last.
    let opened = container == .gguf ? sink.outputs.first : sink.outputs.last
    var result = Result(weights: FileName.last(of: opened ?? fileName))
    let recorder = wantsDigests ? DigestingSink(sink, tensors: manifest.tensors) : nil
    result.counts = try Executor().run(
      plan, from: source, to: recorder ?? sink, progress: progress)
    try sink.finish(sync: sync)
    if let recorder {
      result.digests = try complete(recorder.digests(), by: result.weights)
    }
    return result
  }

  /// Puts the files of parts that were written before into the directory.
  func assemble(_ parts: GatheredParts) throws -> Result {
    var result = Result(weights: try parts.place(in: directory, sync: sync))
    result.counts = parts.counts
    if wantsDigests {
      result.digests = try read(
        manifest.tensors.map { _ in nil }, manifest.tensors, from: result.weights)
    }
    return result
  }

  /// The digests with those that are missing read back.
  private func complete(_ digests: [String?], by weights: String) throws -> [String] {
    guard digests.contains(nil) else { return digests.compactMap { $0 } }
    return try read(digests, manifest.tensors, from: weights)
  }

  private func read(
    _ digests: [String?], _ tensors: [OutputTensor], from file: String
  ) throws -> [String] {
    let written = try openCheckpoint(at: directory + "/" + file)
    var numbers: [TensorName: Int] = [:]
    for (number, tensor) in written.tensors.enumerated() { numbers[tensor.name] = number }
    return try zip(digests, tensors).map { digest, tensor in
      if let digest { return digest }
      guard let number = numbers[tensor.name] else {
        throw Diagnostic(
          code: "check.tensor", subject: tensor.name.string, message: "is not where it was written")
      }
      return try Digest.of(number, in: written)
    }
  }

  // MARK: Resuming

  /// Goes on from what `journal` tells of, after looking at every byte of it.
  func resume(_ journal: Journal) throws -> Result {
    // HDF5 is never split.
    var parts = ShardedWriter.parts(
      manifest, fileName: fileName,
      maxShardBytes: container == .hdf5 || container == .dcp ? nil : maxShardBytes)
    if container == .gguf, parts.count > 1 {
      for number in parts.indices {
        parts[number].manifest.fields = try GGUFWriter.fields(
          ofPart: number, of: parts.count, manifest, path: directory + "/" + fileName)
      }
    }
    var journal = journal
    var result = Result(weights: fileName)
    var digests = [String?](repeating: nil, count: plan.tensors.count)
    let finished = try journal.open(in: directory, sync: sync)
    try clear(finished, parts.map(\.name), &result)
    var done = 0
    for part in parts {
      let sub = plan.part(part)
      let own: [String]
      if let entry = finished[part.name], try isWhole(part.name, entry, &result) {
        // The interrupted run did not record what its casts did to values.
        for (number, counts) in try Executor().counts(sub, from: source) {
          result.counts[part.members[number]] = counts
        }
        own =
          wantsDigests
          ? try read(
            Array(repeating: nil, count: part.members.count), part.manifest.tensors,
            from: part.name) : []
      } else {
        own = try write(part, sub, before: done, &result, &journal)
      }
      if wantsDigests { for (member, hex) in zip(part.members, own) { digests[member] = hex } }
      done += sub.byteCount
      progress?(
        Executor.Progress(
          done: done, total: plan.byteCount,
          tensor: part.manifest.tensors.last?.name ?? TensorName(part.name)))
    }
    if container == .gguf {
      result.weights = parts[0].name
    } else if parts.count > 1 {
      result.weights = fileName + ".index.json"
      let index = ShardIndex(
        entries: parts.flatMap { part in
          part.manifest.tensors.map { ShardIndex.Entry(name: $0.name, file: part.name) }
        }, totalSize: plan.byteCount)
      try TextFile.write(index.text, to: directory + "/" + result.weights)
    }
    try journal.remove()
    result.digests = digests.compactMap { $0 }
    return result
  }

  /// Removes what no journal line vouches for.
  private func clear(
    _ finished: [String: Journal.Entry], _ names: [String], _ result: inout Result
  ) throws {
    for name in try TextFile.names(in: directory)
    where name != Journal.fileName && (finished[name] == nil || !names.contains(name)) {
      // Only files are written here. A folder is somebody's, and would become part of the checkpoint.
      guard unlink(directory + "/" + name) == 0 else {
        throw Diagnostic(
          code: "resume.foreign", subject: directory + "/" + name,
          message: "lies in the interrupted run's temporary and cannot be removed; no run wrote it",
          help: "look at it, and move it away")
      }
    }
  }

  /// Whether a finished shard still has the bytes that were written.
  private func isWhole(
    _ name: String, _ entry: Journal.Entry, _ result: inout Result
  ) throws -> Bool {
    let path = directory + "/" + name
    if let file = try? RandomAccessFile(path: path), file.byteCount == entry.byteCount,
      try Digest.of(file) == entry.sha256
    {
      result.problems.append(
        Diagnostic(
          .note, code: "resume.kept", subject: name,
          message: "was finished by the interrupted run, and has the digest that it noted"))
      return true
    }
    result.problems.append(
      Diagnostic(
        .warning, code: "resume.damaged", subject: name,
        message: "is not as the interrupted run left it, and is written again"))
    unlink(path)
    return false
  }

  private func write(
    _ part: ShardedWriter.Part, _ sub: ConversionPlan, before done: Int, _ result: inout Result,
    _ journal: inout Journal
  ) throws -> [String] {
    let sink = try makeSink(
      container: container, manifest: part.manifest, directory: directory, fileName: part.name)
    let recorder = wantsDigests ? DigestingSink(sink, tensors: part.manifest.tensors) : nil
    let total = plan.byteCount
    let told = progress
    let counts = try Executor().run(sub, from: source, to: recorder ?? sink) { step in
      told?(Executor.Progress(done: done + step.done, total: total, tensor: step.tensor))
    }
    for (number, own) in counts { result.counts[part.members[number]] = own }
    try sink.finish(sync: sync)
    let file = try RandomAccessFile(path: directory + "/" + part.name)
    try journal.add(
      Journal.Entry(name: part.name, byteCount: file.byteCount, sha256: try Digest.of(file)))
    guard let recorder else { return [] }
    let own = recorder.digests()
    return own.contains(nil)
      ? try read(own, part.manifest.tensors, from: part.name) : own.compactMap { $0 }
  }
}

extension ConversionPlan {
  /// The plan of one shard.
  func part(_ part: ShardedWriter.Part) -> ConversionPlan {
    var plan = self
    plan.tensors = zip(part.members, part.manifest.tensors).map { member, output in
      var tensor = tensors[member]
      tensor.output = output
      return tensor
    }
    return plan
  }
}

/// The last component of a path.
enum FileName {
  static func last(of path: String) -> String { String(path.split(separator: "/").last ?? "") }
}
