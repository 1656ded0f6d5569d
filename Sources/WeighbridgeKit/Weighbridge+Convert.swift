import Checkpoints
public import Conversion
import Hub
import Layouts
import OrderedCollections
import Output
public import Tensors

/// A request for a conversion.
public struct ConversionRequest: Sendable {
  /// The source.
  public var input: CheckpointInput
  /// The directory to be written.
  public var destination: String
  /// The target framework, or one of its layouts.
  public var to: String
  /// The container; `nil` for the framework's own.
  public var container: Container?
  /// The float type; `nil` keeps each tensor's.
  public var dtype: DType?
  /// The blocks that a GGUF file's matrices are rounded to; `nil` for plain numbers.
  public var blocks: OutputTensor.BlockType?
  /// Whether `A_log`, `D` and dt biases are cast down like the rest.
  public var castsAll = false
  /// The number of embedding rows wanted.
  public var vocabularyRows: Int?
  /// Bytes at which a shard is closed; `nil` for one file.
  public var maxShardBytes: Int?
  /// For DCP: the ranks that rows are dealt out to.
  public var ranks = 1
  /// For DCP: the key under which the names stand; `nil` for the top level.
  public var nesting: String?
  /// Whether a conversion may lose something of the source: rows of the vocabulary, values that are too
  /// large for the type.
  public var allowsLossy = false
  /// Whether what was written is read back and compared with the plan and with the source before it
  /// appears.
  public var verifies = false
  /// Whether files in an existing destination are replaced: those of the names that are written, and
  /// those that an earlier conversion's manifest lists. Others stay.
  public var force = false
  /// Whether the bytes are brought to the disk before the destination appears.
  public var sync = true
  /// Whether `weighbridge.json` is written, with the digests that `check` compares with.
  public var writesDigests = false
  /// Whether finished shards outlive an interruption, and those of an earlier run are used.
  public var resumes = false
  /// The share of the conversion that this run does; `nil` for all of it.
  public var share: ConversionShare?

  /// A conversion.
  public init(input: CheckpointInput, destination: String, to: String) {
    self.input = input
    self.destination = destination
    self.to = to
  }
}

/// The result of a conversion or of a dry run.
public struct ConversionResult: Sendable {
  /// The plan.
  public var plan: ConversionPlan
  /// The paths of the files written, or to be written.
  public var outputs: [String]
  /// Everything noticed.
  public var problems: [Diagnostic]
  /// Whether it was done already, by an earlier run, and nothing was written.
  public var wasDone = false
}

extension Weighbridge {
  /// Opens the source and decides the conversion.
  ///
  /// - Throws: `Problems` for a source that cannot be used, `Refusal` for what the target cannot
  ///   express, `Diagnostic` for failures while reading.
  public func plan(_ request: ConversionRequest) throws -> (LoadedCheckpoint, ConversionPlan) {
    let targets = library.layouts(named: request.to)
    guard !targets.isEmpty else {
      throw Diagnostic(
        code: "layout.unknown-name", subject: request.to, message: "is no layout",
        help: Suggestion.nearest(request.to, library.frameworks + library.layoutNames).map {
          "did you mean \($0)?"
        } ?? "layouts: \(library.frameworks.joined(separator: ", "))")
    }
    let container = request.container ?? Container(rawValue: targets[0].files.container)!
    try check(request, container, targets)
    var loaded = try load(request.input)
    try loaded.location.findCompanions()
    let bound = try usable(loaded, targets)
    var options = ConversionOptions(
      dtype: request.dtype, castsAll: request.castsAll, vocabularyRows: request.vocabularyRows,
      container: container)
    options.blocks = request.blocks
    let plan = try Planner(vocabulary: vocabulary).plan(
      bound, to: targets, options: options, reader: PieceReader(source: loaded.source))
    if plan.exactness == .lossy, !request.allowsLossy {
      throw Refusal(layout: plan.to, problems: [Self.lossy(plan, request)])
    }
    return (loaded, plan)
  }

  private static func lossy(_ plan: ConversionPlan, _ request: ConversionRequest) -> Diagnostic {
    let lost = plan.reasons.filter { $0.exactness == .lossy }.map(\.text)
    return Diagnostic(
      code: "convert.lossy", subject: Self.shown(request.input.path),
      message: lost.first ?? "something of the source would be lost",
      notes: Array(lost.dropFirst()),
      help: "--allow-lossy does it all the same, and the report says lossy")
  }

  /// GGUF's names, types and keys belong together: there is no other layout in it, and its layouts
  /// are in nothing else.
  private func check(
    _ request: ConversionRequest, _ container: Container, _ targets: [Layout]
  ) throws(Diagnostic) {
    let own = Container(rawValue: targets[0].files.container)
    guard (container == .gguf) == (own == .gguf) else {
      throw Diagnostic(
        code: "convert.container", subject: request.to,
        message: container == .gguf
          ? "has names that llama.cpp does not know; a GGUF file has its own"
          : "is written as GGUF only, not as \(container.rawValue)",
        help: container == .gguf ? "give --to gguf" : "leave --container out")
    }
    guard request.blocks == nil || container == .gguf else {
      throw Diagnostic(
        code: "convert.blocks", subject: request.blocks?.rawValue ?? "",
        message: "is a type of GGUF files only", help: "give --to gguf, or another --dtype")
    }
  }

  /// The source's model. A config key that changes the mathematics and is not understood matters
  /// only when the layout changes: otherwise the config goes along as it is.
  private func usable(_ loaded: LoadedCheckpoint, _ targets: [Layout]) throws -> MatchedLayout {
    let errors = loaded.problems.filter { $0.severity == .error }
    // The missing tensor may be one that the reader passed over.
    let passed = loaded.problems.filter {
      $0.severity == .warning && $0.code.hasSuffix(".passed-over")
    }
    guard var bound = loaded.bound.map(loaded.asAsked) else { throw Problems(errors + passed) }
    if errors.isEmpty { return bound }
    // Its tensors are not those of a layout: they cannot even be copied with confidence.
    if bound.isOfOtherModel {
      if errors.allSatisfy({ $0.code == "config.unsupported" || $0.code == "config.unknown-key" }) {
        throw Refusal(layout: targets[0], problems: errors)
      }
      throw Problems(errors + passed)
    }
    let harmless = ["config.unknown-key", "config.unsupported"]
    guard targets.contains(where: { $0.name == bound.layout.name }),
      errors.allSatisfy({ harmless.contains($0.code) })
    else {
      // What only the mathematics of a target could miss is a refusal; the rest is bad input. A model
      // that is not supported may have other tensors, which say no more than its config.
      let isOther = errors.contains { $0.code == "config.unsupported" }
      if errors.allSatisfy({
        harmless.contains($0.code)
          || isOther && $0.code.hasPrefix("layout.") && $0.code.hasSuffix("-tensor")
      }) {
        throw Refusal(layout: targets[0], problems: errors)
      }
      throw Problems(errors + passed)
    }
    bound.problems = bound.problems.map {
      var problem = $0
      if problem.severity == .error { problem.severity = .warning }
      return problem
    }
    return bound
  }

  /// Converts a checkpoint. The destination appears whole or not at all.
  ///
  /// - Parameters:
  ///   - request: what to convert, to what, and where to.
  ///   - dryRun: decides everything and writes nothing.
  ///   - check: looks at what was written before the destination appears; throwing leaves nothing.
  ///   - progress: called now and then, from any thread.
  /// - Throws: as `plan(_:)`; `output.*`, `io.*`.
  public func convert(
    _ request: ConversionRequest, dryRun: Bool = false,
    check: ((_ directory: String, _ source: LoadedCheckpoint) throws -> Void)? = nil,
    progress: (@Sendable (Executor.Progress) -> Void)? = nil
  ) throws -> ConversionResult {
    try checkName(request.destination)
    let (loaded, decided) = try planAsking(request)
    try checkReadable(decided)
    var plan = decided
    let container = request.container ?? Container(rawValue: plan.to.files.container)!
    let name =
      container == .dcp ? DCPWriter.indexName : plan.to.files.weightsName(in: container)
    guard container != .dcp || !request.resumes else {
      throw Diagnostic(
        code: "resume.container", subject: request.destination,
        message: "a sharded checkpoint's files are written together and cannot be resumed",
        help: "convert without --resume")
    }
    var problems = loaded.problems.filter { $0.severity != .error } + plan.warnings
    var unique: [Diagnostic] = []
    for problem in problems where !unique.contains(problem) { unique.append(problem) }
    problems = unique
    if case .part(let number, let count)? = request.share {
      guard count >= 1, count <= Self.mostParts, number >= 1, number <= count else {
        throw Diagnostic(
          code: "part.number", subject: "\(number)/\(count)",
          message: "is no part: they are counted from 1/\(count) to \(count)/\(count)")
      }
    }
    guard request.share == nil || !request.resumes else {
      throw Diagnostic(
        code: "part.resume", subject: request.destination,
        message: "is written in parts, which are not resumed but written again",
        help: "leave --resume out")
    }
    if dryRun {
      let manifest = try manifest(request, loaded, plan, container, &problems)
      let all = self.names(request, loaded, plan, manifest, name, container)
      do throws(Diagnostic) {
        try OutputDirectory.foresee(
          destination: request.destination, sources: sources(request, loaded),
          force: request.force, names: all
        ) { written(in: $0, besides: all) }
      } catch { throw explain(error, request, plan) }
      var weights = container == .dcp ? DCPWriter.names(ranks: request.ranks) : [name]
      switch request.share {
      case .part(let number, let count):
        let files = try ConversionFiles(request, container, manifest, fileName: name)
        return ConversionResult(
          plan: plan,
          outputs: files.share(of: number, among: count).map {
            "\(request.destination)/\(files.files[$0].name)"
          }, problems: problems)
      case .finish:
        let parts = try gather(request, loaded, plan, manifest, container, fileName: name)
        weights = parts.files.files.map(\.name)
        if parts.files.parts.count > 1 { weights.append(name + ".index.json") }
        if container == .dcp { weights.append(name) }
      case nil: break
      }
      let names = weights + (plan.to.files.config == name ? [] : [plan.to.files.config])
      return ConversionResult(
        plan: plan, outputs: names.map { "\(request.destination)/\($0)" }, problems: problems)
    }
    let manifest = try manifest(request, loaded, plan, container, &problems)
    let names = names(request, loaded, plan, manifest, name, container)
    if case .part(let number, let count)? = request.share {
      do throws(Diagnostic) {
        try OutputDirectory.foresee(
          destination: request.destination, sources: sources(request, loaded),
          force: request.force, names: names
        ) { written(in: $0, besides: names) }
      } catch { throw explain(error, request, plan) }
      return try convertPart(
        number, of: count, request, loaded, plan, manifest, container, fileName: name, problems,
        progress: progress)
    }
    var parts: GatheredParts?
    if request.share == .finish {
      let found = try gather(request, loaded, plan, manifest, container, fileName: name)
      if !request.force, let standing = published(found, request, plan) {
        problems += found.remove()
        return ConversionResult(plan: plan, outputs: standing, problems: problems, wasDone: true)
      }
      parts = found
    }
    let directory: OutputDirectory
    do throws(Diagnostic) {
      directory = try OutputDirectory(
        destination: request.destination, sources: sources(request, loaded), force: request.force,
        resumable: request.resumes, names: names
      ) { written(in: $0, besides: names) }
    } catch { throw explain(error, request, plan) }
    problems += directory.notes
    do {
      let sources = request.writesDigests ? sourceDigests(loaded) : nil
      let writer = WeightsWriter(
        plan: plan, source: loaded.source, container: container,
        manifest: manifest, directory: directory.path, fileName: name,
        maxShardBytes: request.maxShardBytes, sync: request.sync,
        wantsDigests: request.writesDigests, progress: progress)
      let written: WeightsWriter.Result
      if request.resumes {
        let journal = Journal(
          plan: Digest.of(JSONValue.object(plan.document).text()), sources: loaded.source.files,
          shards: "\(container.rawValue) \(request.maxShardBytes ?? 0)"
            + (request.input.key.map { " key \($0)" } ?? ""), version: Self.version)
        if directory.isContinued, journal.isForeign(in: directory.path) {
          problems.append(
            Diagnostic(
              .warning, code: "resume.other", subject: request.destination,
              message: "the interrupted run was another conversion, or its source has changed",
              help: "everything is written anew"))
        }
        written = try writer.resume(journal)
      } else if let parts {
        written = try writer.assemble(parts)
      } else {
        written = try writer.run()
      }
      problems += written.problems
      let casts = CastReport(plan, written.counts)
      if casts.overflows > 0, !request.allowsLossy {
        throw Refusal(
          layout: plan.to,
          problems: casts.diagnostics(overflow: .error).filter { $0.severity == .error })
      }
      problems += casts.diagnostics(overflow: .warning)
      if casts.overflows > 0 {
        plan.reasons.append(
          Reason(
            .lossy, "\(casts.overflows) finite values became infinite: the type cannot hold them"))
        plan.exactness = .lossy
      }
      // A GGUF file holds its own.
      if plan.to.files.config != name {
        try TextFile.write(
          JSONValue.object(plan.config).text(indent: 2) + "\n",
          to: "\(directory.path)/\(plan.to.files.config)")
      }
      try copyCompanions(loaded.location, to: directory.path, configName: plan.to.files.config)
      if let gguf = loaded.source as? GGUFReader, container != .gguf {
        let present = try TextFile.names(in: directory.path)
        for file in try GGUFTokenizer.files(of: gguf, &problems) where !present.contains(file.name)
        {
          try TextFile.write(bytes: file.bytes, to: "\(directory.path)/\(file.name)")
        }
      }
      let digests = try sources?.value()
      for file in loaded.source.files { try file.checkUnchanged() }
      if let digests {
        try writeManifest(
          plan, digests, written, options: request.options(container), in: directory.path)
      }
      if request.verifies {
        let found = try verify(
          written: directory.path, plan: plan, against: loaded, castsAll: request.castsAll)
        if !problems.contains(where: { $0.code == "convert.not-finite" }) { problems += found }
      }
      try check?(directory.path, loaded)
      let outputs = try TextFile.names(in: directory.path).map { "\(request.destination)/\($0)" }
      problems += try directory.commit(sync: request.sync)
      if let parts { problems += parts.remove() }
      return ConversionResult(plan: plan, outputs: outputs, problems: problems)
    } catch {
      // A source that changed explains what else went wrong, and spoils what was written.
      for file in loaded.source.files {
        do { try file.checkUnchanged() } catch {
          directory.discardForGood()
          throw error
        }
      }
      // Only what an I/O error cut short is worth keeping.
      if let code = (error as? Diagnostic)?.code,
        code.hasPrefix("io.") || code == "convert.interrupted" || code == "resume.foreign"
      {
        directory.discard()
      } else {
        directory.discardForGood()
      }
      throw error
    }
  }

  /// The files of the destination, when an earlier run was ended between putting the parts in place and
  /// removing them.
  private func published(
    _ parts: GatheredParts, _ request: ConversionRequest, _ plan: ConversionPlan
  ) -> [String]? {
    guard let names = try? TextFile.names(in: request.destination),
      names.contains(plan.to.files.config), parts.areIn(request.destination)
    else { return nil }
    return names.map { "\(request.destination)/\($0)" }
  }

  /// Everything that is read, each of which may lie, or lead by a link, where the destination is.
  private func sources(_ request: ConversionRequest, _ loaded: LoadedCheckpoint) -> [String] {
    let location = loaded.location
    return [location.path, location.weights.path] + loaded.source.files.map(\.path)
      + location.configs + location.companions + [request.input.configPath].compactMap { $0 }
      + layoutFiles
  }

  private func manifest(
    _ request: ConversionRequest, _ loaded: LoadedCheckpoint, _ plan: ConversionPlan,
    _ container: Container, _ problems: inout [Diagnostic]
  ) throws(Diagnostic) -> OutputManifest {
    var metadata = loaded.source.metadata
    metadata["config"] = nil
    // safetensors' save_model notes which name it dropped for which; here every name has its tensor.
    let names = Set(loaded.source.tensors.map(\.name.string))
    metadata = metadata.filter { !names.contains($0.value) }
    metadata["format"] = container == .safetensors ? plan.to.detect.format ?? "pt" : nil
    var manifest = OutputManifest(
      tensors: plan.tensors.map(\.output), metadata: metadata, config: .object(plan.config),
      nesting: container == .dcp ? request.nesting : plan.to.files.nesting, ranks: request.ranks)
    if container == .gguf {
      manifest.fields = try GGUFKeys.fields(loaded, plan, &problems)
    }
    return manifest
  }

  /// Tokenizer and generation files go along.
  private func copyCompanions(
    _ location: CheckpointLocation, to directory: String, configName: String
  ) throws(Diagnostic) {
    for path in location.companions {
      let file = try RandomAccessFile(path: path)
      guard file.name != configName else { continue }
      try TextFile.write(
        bytes: try file.bytes(at: 0, count: file.byteCount), to: "\(directory)/\(file.name)")
    }
  }
}
