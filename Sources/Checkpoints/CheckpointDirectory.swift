public import Tensors

/// Where a checkpoint's parts are: weights, configs, and the files that go along with them.
public struct CheckpointLocation: Sendable, Hashable {
  /// The weights: one file, or the index of several.
  public enum Weights: Sendable, Hashable {
    /// One file.
    case file(String)
    /// The `*.index.json` of several.
    case index(String)
    /// The directory of every rank's files.
    case sharded(String)

    /// The path of the file, index or directory.
    public var path: String {
      switch self {
      case .file(let path), .index(let path), .sharded(let path): path
      }
    }
  }

  /// The path as it was given.
  public var path: String
  /// The directory that holds the weights.
  public var directory: String
  /// The weights.
  public var weights: Weights
  /// The config files beside the weights, the likeliest first: `config.json`, `lit_config.json`,
  /// `params.json`, `model_config.yaml`.
  public var configs: [String]
  /// Tokenizer and generation files beside the weights, to be copied along.
  public var companions: [String]
  /// What was decided and may surprise.
  public var notes: [Diagnostic]

  /// The likeliest config file, if there is any.
  public var config: String? { configs.first }

  /// Finds the parts of the checkpoint at `path`: weights, an index, or a directory.
  ///
  /// In a directory `model.safetensors` or its index come first, then `pytorch_model.bin` or its
  /// index, then a single other weights file. Traces, optimizer states and shards of an index are no
  /// candidates.
  ///
  /// - Throws: `checkpoint.not-found`, `checkpoint.none`, `checkpoint.ambiguous`, `io.open`.
  public init(finding path: String) throws(Diagnostic) {
    self.path = path
    notes = []
    switch FilePath.kind(path) {
    case .nothing:
      throw Diagnostic(
        code: "checkpoint.not-found", subject: path,
        message: FilePath.exists(path) ? "is a link to nothing" : "does not exist")
    case .other:
      throw Diagnostic(
        code: "io.not-a-file", subject: path, message: "is neither a file nor a directory")
    case .file:
      if let sharded = try DCPLocation.directory(of: path) {
        directory = sharded.directory
        weights = .sharded(sharded.directory)
        notes = sharded.notes
        break
      }
      directory = FilePath.directory(of: path)
      weights = path.hasSuffix(".index.json") ? .index(path) : .file(path)
    case .directory:
      directory = FilePath.trimmed(path)
      let names = try FilePath.names(in: directory)
      if let sharded = DCPLocation.find(names, in: directory) {
        directory = sharded.directory
        weights = .sharded(sharded.directory)
        notes = sharded.notes
        break
      }
      let choice = try Self.choose(names, in: directory)
      let chosen = Self.join(directory, choice.name)
      weights = choice.name.hasSuffix(".index.json") ? .index(chosen) : .file(chosen)
      notes = choice.notes
    }
    let names = try FilePath.names(in: directory)
    if case .file = weights, let index = Self.index(ofShard: FilePath.name(of: path), names) {
      notes.append(
        Diagnostic(
          .warning, code: "checkpoint.one-shard", subject: path,
          message: "is one of several shards; only its own tensors are read",
          help: "give \(Self.join(directory, index)) or the directory to read all"))
    }
    let lit = FilePath.name(of: weights.path).hasPrefix("lit_")
    let order = lit ? ["lit_config.json", "config.json"] : ["config.json", "lit_config.json"]
    let here = directory
    let configNames = order + ["params.json", "model_config.yaml"]
    if case .sharded = weights {
      let found = DCPLocation.configs(for: here, names: configNames)
      configs = found.configs
      notes += found.notes
    } else {
      configs = configNames.filter(names.contains).map { Self.join(here, $0) }
    }
    // A sharded checkpoint's tokenizer lies where its config does.
    var home = here
    if case .sharded = weights, let config = configs.first {
      let place = FilePath.directory(of: config)
      if FilePath.name(of: place) != "configs" { home = place }
    }
    let beside = home == here ? names : try FilePath.names(in: home)
    companions = beside.filter(Self.isCompanion).map { Self.join(home, $0) }
    // A checkpoint from a stranger must not carry the reader's own files into what is written from it.
    companions.removeAll { [home] path in
      guard let real = FilePath.outside(path, of: home) else { return false }
      notes.append(
        Diagnostic(
          .warning, code: "checkpoint.linked-file", subject: path,
          message:
            "is a link to \(shown(real)), outside the checkpoint's directory; it is not copied",
          help: "copy the file yourself if you trust the link"))
      return true
    }
  }

  private static func join(_ directory: String, _ name: String) -> String {
    directory == "/" ? "/" + name : directory + "/" + name
  }

  private static let extensions = [".safetensors", ".pth", ".pt", ".bin", ".h5", ".hdf5"]

  /// The weights among a directory's names.
  private static func choose(
    _ names: [String], in directory: String
  ) throws(Diagnostic) -> (name: String, notes: [Diagnostic]) {
    let all = Set(names)
    func present(_ stem: String) -> [String] {
      [stem, stem + ".index.json"].filter(all.contains)
    }
    let safetensors = present("model.safetensors")
    let torch = present("pytorch_model.bin")
    let first = safetensors.isEmpty ? torch : safetensors
    if first.count > 1 { throw ambiguous(first, directory) }
    if let name = first.first {
      let sharded = all.contains(DCPFiles.indexName) ? DCPFiles.indexName : nil
      guard let other = safetensors.isEmpty ? sharded : torch.first ?? sharded else {
        return (name, [])
      }
      let note = Diagnostic(
        .note, code: "checkpoint.chosen", subject: directory,
        message: "holds \(name) and \(other); \(name) is read",
        help: "name the file itself to read the other")
      return (name, [note])
    }
    var candidates = names.filter { name in
      if name.hasSuffix(".index.json") {
        let stem = name.dropLast(".index.json".count)
        return extensions.contains { stem.hasSuffix($0) }
      }
      return extensions.contains { name.hasSuffix($0) } && !isTrainingState(name)
        && index(ofShard: name, names) == nil
        && FilePath.kind(join(directory, name)) != .directory
    }
    candidates.removeAll { $0.hasSuffix(".safetensors") && isTrace(join(directory, $0)) }
    if candidates.count == 1 { return (candidates[0], []) }
    if candidates.isEmpty {
      throw Diagnostic(
        code: "checkpoint.none", subject: directory,
        message: "holds no weights",
        notes: names.isEmpty
          ? ["the directory is empty"]
          : [
            "it holds \(names.prefix(8).map { shown($0) }.joined(separator: ", "))"
              + (names.count > 8 ? " and \(names.count - 8) more" : "")
          ],
        help: "weights end in .safetensors, .bin, .pt, .pth, .h5 or .hdf5")
    }
    throw ambiguous(candidates, directory)
  }

  private static func ambiguous(_ names: [String], _ directory: String) -> Diagnostic {
    Diagnostic(
      code: "checkpoint.ambiguous", subject: directory,
      message: "holds several weights: " + names.map { shown($0) }.joined(separator: ", "),
      help: "name the one that you mean")
  }

  /// The index that a shard such as `model-00001-of-00002.safetensors` belongs to, if it is there.
  private static func index(ofShard name: String, _ names: [String]) -> String? {
    guard let dot = name.lastIndex(of: ".") else { return nil }
    let parts = name[..<dot].split(separator: "-", omittingEmptySubsequences: false)
    guard parts.count >= 4, parts[parts.count - 2] == "of", Int(parts[parts.count - 1]) != nil,
      Int(parts[parts.count - 3]) != nil
    else { return nil }
    let index = parts.dropLast(3).joined(separator: "-") + name[dot...] + ".index.json"
    return names.contains(index) ? index : nil
  }

  /// Files that trainers save beside the weights.
  private static func isTrainingState(_ name: String) -> Bool {
    ["optimizer", "scheduler", "rng_state", "training_args", "scaler", "random_states"].contains {
      name.hasPrefix($0)
    }
  }

  /// Whether a safetensors file is a forward pass rather than weights.
  private static func isTrace(_ path: String) -> Bool {
    guard let file = try? RandomAccessFile(path: path),
      let header = try? SafetensorsHeader(of: file)
    else { return false }
    let names = Set(header.tensors.map(\.name))
    return names.contains("input_ids") && names.contains("logits")
  }

  private static func isCompanion(_ name: String) -> Bool {
    let prefixes = ["tokenizer", "vocab.", "chat_template"]
    let whole: Set = [
      "generation_config.json", "special_tokens_map.json", "merges.txt", "added_tokens.json",
    ]
    return prefixes.contains { name.hasPrefix($0) } || whole.contains(name)
      || name.hasSuffix(".model")
  }
}
