import Checkpoints
import Conversion
import Hub
import Layouts
import OrderedCollections
public import Tensors

extension Weighbridge {
  /// Opens a checkpoint and finds its layout; headers only are read, and tensors of which a few
  /// values decide something.
  ///
  /// Mismatches are listed in the result's problems.
  ///
  /// - Throws: when the files themselves cannot be read.
  public func load(_ given: CheckpointInput) throws(Problems) -> LoadedCheckpoint {
    guard !given.path.isEmpty else {
      throw Problems([
        Diagnostic(
          code: "checkpoint.not-found", subject: "''", message: "is no path",
          help: "give a checkpoint file, or the directory that holds one")
      ])
    }
    var input = given
    let location: CheckpointLocation
    do throws(Diagnostic) { location = try CheckpointLocation(finding: input.path) } catch {
      var problem = error
      if problem.code == "checkpoint.not-found", problem.help == nil {
        problem.help = Suggestion.path(input.path).map { "did you mean \($0)?" }
      }
      throw Problems([problem])
    }
    // A URL's own path, without what may be a signature.
    input.path = location.path
    let source = try openCheckpoint(
      location, rules: input.compat ? .compat : .strict, key: input.key)
    do throws(Diagnostic) {
      let config = try ConfigFinder(library: library).find(input, location, source)
      let loaded = try match(input, location, source, config)
      // Values that decide something and could not be read are not taken for others.
      for file in source.files where file.isRemote { try file.checkUnchanged() }
      return loaded
    } catch { throw Problems([error]) }
  }

  /// Opens the second of two checkpoints: what is advised names its own options, `--key-b` and
  /// `--config-b`.
  ///
  /// - Throws: as `load`.
  func loadSecond(_ input: CheckpointInput) throws(Problems) -> LoadedCheckpoint {
    do throws(Problems) {
      var loaded = try load(input)
      loaded.problems = loaded.problems.map { Self.advisedForSecond($0) }
      return loaded
    } catch { throw Problems(error.diagnostics.map { Self.advisedForSecond($0) }) }
  }

  /// Opens two checkpoints for which the same keys were given with `--inert`: it is enough if one of
  /// the configs has a key.
  ///
  /// - Throws: as `load`.
  func loadPair(
    _ a: CheckpointInput, _ b: CheckpointInput
  ) throws(Problems) -> (LoadedCheckpoint, LoadedCheckpoint) {
    var (first, second) = (try load(a), try loadSecond(b))
    func unused(_ loaded: LoadedCheckpoint) -> Set<String> {
      Set(loaded.problems.filter { $0.code == "config.inert-unused" }.map(\.subject))
    }
    let both = unused(first).intersection(unused(second))
    first.problems.removeAll { $0.code == "config.inert-unused" && !both.contains($0.subject) }
    second.problems.removeAll { $0.code == "config.inert-unused" }
    return (first, second)
  }

  private static func advisedForSecond(_ problem: Diagnostic) -> Diagnostic {
    func own(_ text: String) -> String {
      // No preset is given for B.
      var text = text
      if let start = text.firstRange(of: ", or name one of microsoft/Samba's with --preset") {
        text.removeSubrange(start.lowerBound...)
      }
      for option in ["--key", "--config"] {
        text = text.split(separator: option, omittingEmptySubsequences: false)
          .enumerated().map { number, part in
            number == 0 || part.hasPrefix("-") ? String(part) : "-b" + part
          }.joined(separator: option)
      }
      return text
    }
    var problem = problem
    problem.message = own(problem.message)
    problem.notes = problem.notes.map { own($0) }
    problem.help = problem.help.map { own($0) }
    return problem
  }

  private func match(
    _ input: CheckpointInput, _ location: CheckpointLocation, _ source: any TensorSource,
    _ config: JSONObject?
  ) throws(Diagnostic) -> LoadedCheckpoint {
    let reader = PieceReader(source: source)
    let inventory = try Inventory(
      infos: source.tensors,
      values: { SourceFacts.values($0, reader) }, sameBytes: { SourceFacts.isSame($0, $1, source) },
      format: source.metadata["format"])
    var loaded = LoadedCheckpoint(
      location: location, source: source, config: config, bound: nil, closest: [],
      problems: location.notes + RemotePlaces.notes(of: location.path) + source.warnings,
      inertKeys: input.inertKeys, stepFloor: input.stepFloor)
    // An architecture that nobody here knows may still have another's names, as Bamba has Llama's.
    let architecture = config.flatMap { library.foreignArchitecture(of: $0) }
    var fitting = library.fitting(inventory, config: config, framework: input.framework)
    if let architecture {
      fitting = fitting.filter(\.isGiven)
      guard !fitting.isEmpty else {
        var problem = unknownArchitecture(architecture, input)
        // Whoever gives a layout wants to know why it is not this one.
        problem.notes += library.closest(
          to: inventory, config: config, framework: input.framework
        ).prefix(while: \.isGiven).map { explain($0, inventory) }
        loaded.problems.append(problem)
        return loaded
      }
    }
    // What a shard alone lacks is not the model's fault.
    let shard = loaded.problems.firstIndex { $0.code == "checkpoint.one-shard" }
    guard let first = fitting.first else {
      if let shard {
        loaded.problems[shard].severity = .error
        return loaded
      }
      loaded.closest = Array(
        library.candidates(for: inventory, config: config, framework: input.framework).prefix(3))
      loaded.problems.append(
        ForeignForms.diagnosis(of: inventory, config: config, path: input.path)
          ?? otherConfig(input, inventory, config)
          ?? unknown(input, inventory, config))
      return loaded
    }
    guard let config else {
      loaded.closest = fitting
      loaded.problems.append(
        ForeignForms.diagnosis(of: inventory, config: nil, path: input.path)
          ?? withoutConfig(input, fitting, first))
      return loaded
    }
    let bounds = fitting.prefix(while: { $0.matches == first.matches }).map {
      $0.layout.bind(
        $0.inventory, config: config, vocabulary: vocabulary, inertKeys: Set(input.inertKeys))
    }
    // Where names fit several layouts, the one whose every tensor fits.
    let bound = bounds.first(where: \.isSound) ?? bounds[0]
    if !bound.isSound, let shard {
      loaded.closest = fitting
      loaded.problems[shard].severity = .error
      return loaded
    }
    // What does not fit may be another tool's form, or another framework's config: told as that, and
    // not by its hundred consequences.
    if !bound.isSound,
      let cause = ForeignForms.diagnosis(of: inventory, config: config, path: input.path)
        ?? otherConfig(config, bounds.map(\.layout))
    {
      loaded.closest = fitting
      loaded.problems.append(cause)
      return loaded
    }
    loaded.bound = bound
    loaded.problems += unusedInert(input.inertKeys, config, bound.layout)
    loaded.problems += renamed(bound) + bound.problems.map { explained($0, source.others) }
    if bound.layout.framework == "archscale", let run = ConfigFinder.archScaleRun(source) {
      loaded.problems += run.evaluationNotes(config)
      loaded.problems += run.contradictions(
        config,
        from: input.configPath ?? input.preset.map { "--preset \($0)" } ?? location.config
          ?? "the config")
    }
    return loaded
  }

  /// A warning for each key of `--inert` that the config does not have.
  private func unusedInert(
    _ keys: [String], _ config: JSONObject, _ layout: Layout
  ) -> [Diagnostic] {
    func members(_ key: String) -> [JSONObject] {
      (config[key]?.array ?? [config[key] ?? .null]).compactMap(\.object)
    }
    return Set(keys).sorted().filter { key in
      guard config[key] == nil else { return false }
      guard let dot = key.firstIndex(of: ".") else { return true }
      return !members(String(key[..<dot])).contains {
        $0[String(key[key.index(after: dot)...])] != nil
      }
    }.map { key in
      let names =
        Array(config.keys)
        + config.keys.flatMap { outer in
          members(outer).flatMap { $0.keys.map { "\(outer).\($0)" } }
        }
      return Diagnostic(
        .warning, code: "config.inert-unused", subject: key,
        message: "was given with --inert, and the config has no such key",
        help: Suggestion.nearest(key, names).map { "did you mean \($0)?" })
    }
  }

  /// A missing tensor in whose place something else stands.
  private func explained(_ problem: Diagnostic, _ others: [String: String]) -> Diagnostic {
    guard problem.code == "layout.missing-tensor", !others.isEmpty,
      let (name, kind) = others.first(where: {
        $0.key == problem.subject || $0.key.hasSuffix("." + problem.subject)
          || $0.key.contains(".") && problem.subject.hasSuffix("." + $0.key)
      })
    else { return problem }
    var problem = problem
    problem.message = "is no tensor in the checkpoint, but \(kind)"
    problem.notes.append("the entry is \(name)")
    problem.help =
      kind == "a numpy array"
      ? "turn it into a tensor with `torch.from_numpy` and save the checkpoint again"
      : "turn it into a tensor with `torch.tensor(…)` and save the checkpoint again"
    return problem
  }

  /// Prefixes that were removed from names or added to them.
  private func renamed(_ bound: MatchedLayout) -> [Diagnostic] {
    var notes = bound.inventory.renamings.map { renaming in
      Diagnostic(
        .note, code: "layout.prefix-stripped", subject: renaming.dropped,
        message: "is taken off \(renaming.count) of \(bound.inventory.names.count) names: "
          + "\(renaming.from) is \(bound.layout.name)'s \(renaming.to)")
    }
    if let base = bound.inventory.base {
      notes.append(
        Diagnostic(
          .note, code: "layout.base-prefix", subject: base,
          message: "is put in front of the names, which are those of \(bound.layout.name)'s base "
            + "model: it was saved without its head's class"))
    }
    return notes
  }

  private func unknownArchitecture(_ architecture: String, _ input: CheckpointInput) -> Diagnostic {
    Diagnostic(
      code: "config.architecture", subject: input.path,
      message: "\(architecture) is no architecture that is known here "
        + "(known: \(library.modelTypes.joined(separator: ", ")))",
      help: "a layout of your own can be given with --layout-file; see formats/README.md")
  }

  /// How far a layout that does not fit goes.
  private func explain(_ near: LayoutLibrary.NearMiss, _ inventory: Inventory) -> String {
    let obstacles = near.obstacles + near.unknown.map { "it does not know \($0)" }
    return
      "closest: \(near.layout.name) knows \(near.known) of \(inventory.names.count) names; \(obstacles.prefix(3).joined(separator: "; "))"
  }

  /// A config that is another framework's than the tensors, when no layout fits both.
  private func otherConfig(
    _ input: CheckpointInput, _ inventory: Inventory, _ config: JSONObject?
  ) -> Diagnostic? {
    guard let config else { return nil }
    let named = library.fitting(inventory, config: nil, framework: input.framework)
    return otherConfig(config, named.map(\.layout))
  }

  private func otherConfig(_ config: JSONObject, _ named: [Layout]) -> Diagnostic? {
    guard !named.isEmpty, let owner = library.owner(of: config, insteadOf: named) else {
      return nil
    }
    let names = named.map(\.name).joined(separator: " or ")
    return Diagnostic(
      code: "config.mismatch", subject: "config",
      message: "is one of \(owner.framework) (\(owner.name)); the tensors are named as those of "
        + names,
      help: "give the config that belongs to this checkpoint with --config")
  }

  private func unknown(
    _ input: CheckpointInput, _ inventory: Inventory, _ config: JSONObject?
  ) -> Diagnostic {
    if let framework = input.framework, !library.knows(framework) {
      return Diagnostic(
        code: "layout.unknown-name", subject: framework, message: "is no layout",
        help: Suggestion.nearest(framework, library.frameworks).map { "did you mean \($0)?" }
          ?? "layouts: \(library.frameworks.joined(separator: ", "))")
    }
    let near = library.closest(to: inventory, config: config, framework: input.framework).prefix(3)
      .filter { $0.known > 0 || $0.isGiven }
    let notes = near.map { explain($0, inventory) }
    let first = inventory.names.first.map { ", such as \($0)" } ?? ""
    return Diagnostic(
      code: "layout.unknown", subject: input.path, message: "fits no layout that is known",
      notes: notes.isEmpty
        ? ["no layout knows any of its names\(first)"] : notes,
      help: "a layout of your own can be given with --layout-file; see formats/README.md")
  }
}

/// Facts about tensors that layouts ask for.
enum SourceFacts {
  /// The values of a small float tensor.
  static func values(_ number: Int, _ reader: PieceReader) -> [Double]? {
    let info = reader.source.tensors[number]
    guard info.dtype.isFloat, info.byteCount <= 1 << 20,
      let bytes = try? reader.source.bytes(of: number)
    else { return nil }
    let count = info.byteCount * 8 / info.dtype.bitWidth
    return [Double](unsafeUninitializedCapacity: count) { buffer, initialized in
      bytes.withUnsafeBytes {
        if info.dtype == .f64 {
          UnsafeMutableRawBufferPointer(buffer).copyMemory(from: $0)
        } else {
          _ = DType.convert(
            from: info.dtype, to: .f64, source: $0,
            destination: UnsafeMutableRawBufferPointer(buffer))
        }
      }
      initialized = count
    }
  }

  /// Whether two tensors hold the same bytes; the first difference ends it.
  static func isSame(_ a: Int, _ b: Int, _ source: any TensorSource) -> Bool {
    let total = source.tensors[a].byteCount
    guard total == source.tensors[b].byteCount else { return false }
    var block = 4096
    var start = 0
    while start < total {
      let range = start..<min(start + block, total)
      guard let x = bytes(a, range, source), let y = bytes(b, range, source), x == y else {
        return false
      }
      start = range.upperBound
      block = 4 << 20
    }
    return true
  }

  private static func bytes(_ number: Int, _ range: Range<Int>, _ source: any TensorSource)
    -> [UInt8]?
  {
    var failed = false
    let bytes = [UInt8](unsafeUninitializedCapacity: range.count) { buffer, count in
      do throws(Diagnostic) {
        try source.read(number, bytes: range, into: UnsafeMutableRawBufferPointer(buffer))
        count = range.count
      } catch { failed = true }
    }
    return failed ? nil : bytes
  }
}
