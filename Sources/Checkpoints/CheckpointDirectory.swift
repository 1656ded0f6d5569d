public import Tensors

/// Where a checkpoint's parts are: weights, configs, and the files that go along with them.
public struct CheckpointLocation: Sendable, Hashable {
  /// The weights: one file, the index of several, several that lost their index, or a directory of
  /// sharded training.
  public enum Weights: Sendable, Hashable {
    /// One file.
    case file(String)
    /// The `*.index.json` of several.
    case index(String)
    /// Shards without an index that are complete by their names, `model-00001-of-00003.safetensors`.
    case shards([String])
    /// The directory of every rank's files.
    case sharded(String)

    /// The path of the file, index or directory; of the first shard.
    public var path: String {
      switch self {
      case .file(let path), .index(let path), .sharded(let path): path
      case .shards(let paths): paths.first ?? ""
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
  /// `archscale_config.json`, `params.json`, `model_config.yaml`.
  public var configs: [String]
  /// Tokenizer and generation files beside the weights, to be copied along.
  public var companions: [String]
  /// What was decided and may surprise.
  public var notes: [Diagnostic]

  /// The likeliest config file, if there is any.
  public var config: String? { configs.first }

  /// Finds the parts of the checkpoint at `path`: weights, an index, or a directory.
  ///
  /// In a directory `model.safetensors`, its index or its shards come first, then `pytorch_model.bin`
  /// or its index or shards, then a single other weights file. Traces, optimizer states and shards of
  /// an index are no candidates. A directory without weights is looked into: a run with one
  /// `checkpoint-500`, or an entry of the Hugging Face cache, means the checkpoint in it.
  ///
  /// - Throws: `checkpoint.not-found`, `checkpoint.none`, `checkpoint.ambiguous`,
  ///   `shards.missing-file`, `io.open`; `checkpoint.adapter` and others for what is known to be no
  ///   checkpoint that is read.
  public init(finding path: String) throws(Diagnostic) {
    self.path = path
    notes = []
    var outer: String?
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
      weights = Self.isIndex(FilePath.name(of: path)) ? .index(path) : .file(path)
    case .directory:
      let found = try CheckpointSearch.find(in: FilePath.trimmed(path))
      directory = found.directory
      weights = found.weights
      notes = found.notes
      if directory != FilePath.trimmed(path) { outer = FilePath.trimmed(path) }
    }
    let names = try FilePath.names(in: directory)
    if case .file(path) = weights, let note = Self.oneShard(path, directory, names) {
      notes.append(note)
    }
    let lit = FilePath.name(of: weights.path).hasPrefix("lit_")
    let order =
      lit
      ? ["lit_config.json", "config.json"]
      : ["archscale_config.json", "config.json", "lit_config.json"]
    let here = directory
    let configNames = order + ["params.json", "model_config.yaml"]
    if case .sharded = weights {
      let found = DCPLocation.configs(for: here, names: configNames)
      configs = found.configs
      notes += found.notes
    } else {
      configs = configNames.filter(names.contains).map { Self.join(here, $0) }
    }
    if configs.isEmpty, let outer {
      // Trainers keep one config beside the checkpoints of a run.
      let names = try FilePath.names(in: outer)
      configs = configNames.filter(names.contains).map { Self.join(outer, $0) }
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

  /// A warning that a file is one of several.
  private static func oneShard(
    _ path: String, _ directory: String, _ names: [String]
  ) -> Diagnostic? {
    // A GGUF file leads to its other parts by itself.
    guard let shard = ShardName(FilePath.name(of: path)), shard.ending != ".gguf" else {
      return nil
    }
    var note = Diagnostic(
      .warning, code: "checkpoint.one-shard", subject: path,
      message: "is one of several shards; only its own tensors are read")
    if let index = shard.indexes.first(where: names.contains) {
      note.help = "give \(join(directory, index)) or the directory to read all"
      return note
    }
    guard shard.count > 1 else { return nil }
    note.message = "is one of \(shard.count) shards; only its own tensors are read"
    let set = ShardSet.sets(of: names).first { $0.standing.contains(FilePath.name(of: path)) }
    if let set, set.isComplete {
      note.help = "give the directory \(directory) to read all"
    } else if let set, !set.missing.isEmpty {
      note.notes = ["of the others these are not beside it: \(list(set.missing, most: 4))"]
      note.help = "fetch them, then give the directory"
    }
    return note
  }

  static func list(_ names: [String], most: Int = 8) -> String {
    names.prefix(most).map { shown($0) }.joined(separator: ", ")
      + (names.count > most ? " and \(names.count - most) more" : "")
  }

  static func join(_ directory: String, _ name: String) -> String {
    directory == "/" ? "/" + name : directory + "/" + name
  }

  /// The endings of weights, the longer first where one ends in another.
  /// The names under which transformers looks for weights, the first before the others.
  package static let preferred = ["model.safetensors", "pytorch_model.bin"]

  private static let endings = [
    ".safetensors", ".pth.tar", ".pth", ".pt", ".ckpt", ".bin", ".h5", ".hdf5", ".gguf",
    ".npz",
  ]

  /// The ending of a weights file's name.
  static func weightsEnding(of name: String) -> String? {
    endings.first { name.hasSuffix($0) && name.utf8.count > $0.utf8.count }
  }

  /// Whether a file of this name may hold weights.
  package static func hasWeightsEnding(_ name: String) -> Bool {
    weightsEnding(of: name) != nil || isIndex(name) || name.hasSuffix(".distcp")
  }

  /// Whether a name is that of an index: `model.safetensors.index.json`, or
  /// `model.safetensors.index.fp16.json` of a variant.
  static func isIndex(_ name: String) -> Bool {
    guard name.hasSuffix(".json") else { return false }
    var stem = name.dropLast(".json".count)
    if !stem.hasSuffix(".index") {
      guard let dot = stem.lastIndex(of: ".") else { return false }
      stem = stem[..<dot]
    }
    guard stem.hasSuffix(".index") else { return false }
    return name.hasSuffix(".index.json") || weightsEnding(of: String(stem.dropLast(6))) != nil
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
