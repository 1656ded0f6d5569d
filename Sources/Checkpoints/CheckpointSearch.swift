import Tensors

/// The search of a directory for the checkpoint that it means.
enum CheckpointSearch {
  /// The result of the search.
  struct Found {
    var directory: String
    var weights: CheckpointLocation.Weights
    var notes: [Diagnostic]
  }

  /// Directories that are looked into, at most.
  private static let mostDirectories = 500

  /// The one checkpoint of `directory`, or of a directory in it.
  ///
  /// - Throws: as `CheckpointLocation.init(finding:)`.
  static func find(in directory: String) throws(Diagnostic) -> Found {
    if let snapshot = try snapshot(of: directory) {
      var found = try find(in: snapshot.path)
      found.notes.insert(snapshot.note, at: 0)
      return found
    }
    let names = try FilePath.names(in: directory)
    let choices = try choices(names, in: directory)
    if let sharded = try sharded(names, choices, in: directory) { return sharded }
    if choices.count == 1 { return try found(choices[0], in: directory) }
    if choices.count > 1 {
      // Two sorts of one model, as transformers writes them.
      if let first = choices.first, first.rank < 2,
        choices.filter({ $0.rank == first.rank }).count == 1
      {
        var found = try found(first, in: directory)
        if let other = choices.first(where: { $0.rank == 1 }), first.rank == 0 {
          found.notes.append(
            Diagnostic(
              .note, code: "checkpoint.chosen", subject: directory,
              message: "holds \(first.title) and \(other.title); \(first.title) is read",
              help: "name the file itself to read the other"))
        }
        return found
      }
      if let known = foreign(names, in: directory) { throw known }
      let rank = choices[0].rank
      throw ambiguous(choices.filter { rank > 1 || $0.rank == rank }, directory)
    }
    if let known = foreign(names, in: directory) { throw known }
    return try inside(directory, names)
  }

  // MARK: The files of a directory

  /// A file, an index, or shards that lost their index.
  private struct Choice {
    enum Kind { case file, index, shards(ShardSet) }
    var name: String
    var kind: Kind
    /// 0 for `model.safetensors`, 1 for `pytorch_model.bin`, 2 for others.
    var rank: Int

    init(_ name: String, _ kind: Kind) {
      self.name = name
      self.kind = kind
      var whole = name
      switch kind {
      case .file: break
      case .index:
        if name.hasSuffix(".index.json") { whole = String(name.dropLast(".index.json".count)) }
      case .shards(let set): whole = set.whole
      }
      rank =
        CheckpointLocation.preferred.firstIndex(of: whole) ?? CheckpointLocation.preferred.count
    }

    /// How it is called in messages.
    var title: String {
      if case .shards(let set) = kind { return "\(set.standing.count) shards of \(set.whole)" }
      return name
    }
  }

  /// The candidates, those that transformers looks for first.
  private static func choices(
    _ names: [String], in directory: String
  ) throws(Diagnostic) -> [Choice] {
    let all = Set(names)
    var choices: [Choice] = []
    var loose: [String] = []
    for name in names {
      if CheckpointLocation.isIndex(name) {
        let stem = name.dropLast(".index.json".count)
        let isVariant = !name.hasSuffix(".index.json")
        if isVariant || CheckpointLocation.weightsEnding(of: String(stem)) != nil {
          choices.append(Choice(name, .index))
        }
        continue
      }
      guard CheckpointLocation.weightsEnding(of: name) != nil, !isTrainingState(name),
        !name.hasPrefix("adapter_model."), !name.hasSuffix("_model_states.pt"),
        // A directory in the place of the file that everybody reads is told of, not passed over.
        Choice(name, .file).rank < 2
          || FilePath.kind(CheckpointLocation.join(directory, name)) != .directory
      else { continue }
      if let shard = ShardName(name), shard.count > 1 {
        if shard.indexes.first(where: all.contains) == nil { loose.append(name) }
        continue
      }
      choices.append(Choice(name, .file))
    }
    for set in ShardSet.sets(of: loose) where !all.contains(set.whole) {
      choices.append(Choice(set.standing[0], .shards(set)))
    }
    let ofOne = Set(
      choices.filter { if case .index = $0.kind { true } else { false } }
        .compactMap { onlyFile(ofIndex: $0.name, in: directory) })
    choices.removeAll { if case .file = $0.kind { ofOne.contains($0.name) } else { false } }
    let named = choices.filter { $0.rank < 2 }.sorted { $0.rank < $1.rank }
    if !named.isEmpty { return named }
    return choices.filter { choice in
      !choice.name.hasSuffix(".safetensors")
        || !isTrace(CheckpointLocation.join(directory, choice.name))
    }
  }

  /// The one file that an index lists, where that is the file it is named after: mlx-lm writes an index
  /// beside every `model.safetensors`.
  private static func onlyFile(ofIndex name: String, in directory: String) -> String? {
    let path = CheckpointLocation.join(directory, name)
    guard name.hasSuffix(".index.json"),
      let file = try? RandomAccessFile(path: path), file.byteCount <= mostIndexBytes,
      let bytes = try? file.bytes(at: 0, count: file.byteCount),
      let index = try? ShardIndex(parsing: bytes, path: path)
    else { return nil }
    let whole = String(name.dropLast(".index.json".count))
    return !index.entries.isEmpty && index.entries.allSatisfy { $0.file == whole } ? whole : nil
  }

  private static let mostIndexBytes = 64 << 20

  private static func found(_ choice: Choice, in directory: String) throws(Diagnostic) -> Found {
    func join(_ name: String) -> String { CheckpointLocation.join(directory, name) }
    switch choice.kind {
    case .file:
      return Found(directory: directory, weights: .file(join(choice.name)), notes: [])
    case .index:
      return Found(directory: directory, weights: .index(join(choice.name)), notes: [])
    case .shards(let set):
      guard set.isComplete else {
        let missing = set.missing
        throw Diagnostic(
          code: missing.isEmpty ? "checkpoint.ambiguous" : "shards.missing-file",
          subject: directory,
          message: missing.isEmpty
            ? "holds a shard under two names: \(CheckpointLocation.list(set.standing))"
            : "holds \(set.standing.count) of \(set.count) shards; not there: "
              + CheckpointLocation.list(missing),
          help: missing.isEmpty
            ? "remove one of them"
            : "the checkpoint is incomplete; fetch the missing shards")
      }
      // The first of GGUF's parts, which holds the keys, stands for all.
      if set.whole.hasSuffix(".gguf") {
        return Found(directory: directory, weights: .file(join(set.standing[0])), notes: [])
      }
      return Found(
        directory: directory, weights: .shards(set.standing.map(join)),
        notes: [
          Diagnostic(
            .note, code: "shards.no-index", subject: directory,
            message: "holds no \(set.indexes[0]); its \(set.count) shards are complete by their "
              + "names, and are read together")
        ])
    }
  }

  private static func ambiguous(_ choices: [Choice], _ directory: String) -> Diagnostic {
    let first = choices[0]
    return Diagnostic(
      code: "checkpoint.ambiguous", subject: directory,
      message: "holds several weights: "
        + choices.map { choice in
          if case .shards = choice.kind { return choice.title }
          return shown(choice.name)
        }.joined(separator: ", "),
      help: "name the one that you mean, such as \(CheckpointLocation.join(directory, first.name))")
  }

  /// The sharded checkpoint of `directory`, where that is what it means.
  ///
  /// Weights under the usual names come first, as they are complete by themselves. Weights under other
  /// names come second, unless there is nothing but an index's name to tell of a sharded checkpoint.
  private static func sharded(
    _ names: [String], _ choices: [Choice], in directory: String
  ) throws(Diagnostic) -> Found? {
    guard let found = DCPLocation.find(names, in: directory) else { return nil }
    // Lightning's file of other values, and the ranks' own parts, are of it.
    let others = choices.filter { choice in
      choice.name != "meta.pt" && !(choice.name.hasSuffix(".safetensors") && found.isSafetensors)
    }
    let usual = choices.first { $0.rank < 2 }
    if let first = usual ?? (found.isCertain ? nil : others.first) {
      guard found.isCertain, choices.filter({ $0.rank == first.rank }).count == 1 else {
        return nil
      }
      var chosen = try self.found(first, in: directory)
      chosen.notes.append(
        Diagnostic(
          .note, code: "checkpoint.chosen", subject: directory,
          message: "holds \(first.title) and a sharded checkpoint; \(first.title) is read",
          help: "name \(found.title) itself to read the other"))
      return chosen
    }
    var notes = found.notes
    if let other = others.first {
      notes.append(
        Diagnostic(
          .note, code: "checkpoint.chosen", subject: directory,
          message: "holds a sharded checkpoint and \(other.title); the sharded one is read",
          help: "name the file itself to read the other"))
    }
    return Found(directory: found.directory, weights: .sharded(found.directory), notes: notes)
  }

  /// Files that trainers save beside the weights.
  static func isTrainingState(_ name: String) -> Bool {
    [
      "optim", "scheduler", "rng_state", "training_args", "scaler", "random_states",
      "trainer_state",
    ]
    .contains { name.hasPrefix($0) } || name.hasSuffix("_optim_states.pt")
  }

  /// Whether a safetensors file is a forward pass rather than weights.
  private static func isTrace(_ path: String) -> Bool {
    guard let file = try? RandomAccessFile(path: path),
      let header = try? SafetensorsHeader(of: file)
    else { return false }
    let names = Set(header.tensors.map(\.name))
    return names.contains("input_ids") && names.contains("logits")
  }

  // MARK: What is known, and not read

  /// What trainers and other frameworks leave, by its marks.
  private static func foreign(_ names: [String], in directory: String) -> Diagnostic? {
    let all = Set(names)
    func refusal(_ code: String, _ message: String, _ help: String) -> Diagnostic {
      Diagnostic(
        code: "checkpoint.\(code)", subject: directory, message: message, help: help)
    }
    func first(_ ending: String) -> String? { names.first { $0.hasSuffix(ending) } }
    if all.contains("zero_to_fp32.py")
      || all.contains("latest") && names.contains(where: { $0.hasPrefix("global_step") })
    {
      let script = CheckpointLocation.join(directory, "zero_to_fp32.py")
      return refusal(
        "deepspeed", "is a checkpoint of DeepSpeed, whose weights are divided among its ranks",
        "join them: python \(script) \(directory) OUT, then give OUT")
    }
    if let state = names.first(where: {
      $0.hasSuffix("_model_states.pt") || $0.hasSuffix("_optim_states.pt")
    }) {
      return refusal(
        "deepspeed",
        "is one step of a DeepSpeed checkpoint: it holds \(shown(state))",
        "join its ranks with the zero_to_fp32.py of the directory above, or name the file where it "
          + "holds the whole model")
    }
    if let adapter = names.first(where: {
      $0 == "adapter_config.json" || $0.hasPrefix("adapter_model.")
    }) {
      return refusal(
        "adapter", "holds an adapter (LoRA, PEFT), not a model: \(shown(adapter))",
        "merge it into its base model: PeftModel.from_pretrained(base, \"\(directory)\")"
          + ".merge_and_unload().save_pretrained(OUT), then give OUT")
    }
    let parts = names.filter { $0.hasPrefix("consolidated.") && $0.hasSuffix(".pth") }
    if parts.count > 1 {
      return refusal(
        "model-parallel",
        "holds \(parts.count) parts of a model whose tensors are divided among them: "
          + CheckpointLocation.list(parts, most: 3),
        "join them with transformers' convert_llama_weights_to_hf.py, then give what it wrote")
    }
    if all.contains("latest_checkpointed_iteration.txt")
      || names.contains(where: { $0.hasPrefix("mp_rank_") })
    {
      return refusal(
        "megatron", "is a checkpoint of Megatron-LM, whose tensors are divided among its ranks",
        "join them with its tools/checkpoint/convert.py, then give what it wrote")
    }
    guard !names.contains(where: { CheckpointLocation.weightsEnding(of: $0) != nil }) else {
      return nil
    }
    let others: [(ending: String, what: String)] = [
      (".onnx", "an ONNX graph"), (".nemo", "an archive of NVIDIA NeMo"),
      (".msgpack", "a checkpoint of Flax"), ("saved_model.pb", "a SavedModel of TensorFlow"),
      (".ckpt.index", "a checkpoint of TensorFlow"), ("rust_model.ot", "a checkpoint of tch-rs"),
      ("_CHECKPOINT_METADATA", "a checkpoint of Orbax (JAX)"), (".mlpackage", "a Core ML package"),
      (".tflite", "a model of TensorFlow Lite"), (".gguf", "a GGUF file of llama.cpp"),
      (".npz", "an archive of arrays (numpy or MLX)"), (".pkl", "a bare pickle"),
      (".engine", "an engine of TensorRT"),
    ]
    for other in others {
      if let name = first(other.ending) {
        return Diagnostic(
          code: "checkpoint.none", subject: directory,
          message: "holds no weights that are read here; \(shown(name)) is \(other.what)",
          help: "give the checkpoint from which it was made")
      }
    }
    return nil
  }

  // MARK: Directories in a directory

  /// The revision that an entry of the Hugging Face cache means.
  private static func snapshot(
    of directory: String
  ) throws(Diagnostic) -> (path: String, note: Diagnostic)? {
    func join(_ path: String, _ name: String) -> String { CheckpointLocation.join(path, name) }
    var root = directory
    if FilePath.name(of: directory) == "snapshots" { root = FilePath.directory(of: directory) }
    let snapshots = join(root, "snapshots")
    guard FilePath.kind(snapshots) == .directory,
      FilePath.kind(join(root, "refs")) == .directory
        || FilePath.kind(join(root, "blobs")) == .directory
    else { return nil }
    let revisions = try FilePath.names(in: snapshots).filter {
      FilePath.kind(join(snapshots, $0)) == .directory
    }
    func result(_ revision: String, _ reason: String) -> (path: String, note: Diagnostic) {
      let path = join(snapshots, revision)
      return (
        path,
        Diagnostic(
          .note, code: "checkpoint.inside", subject: directory,
          message: "is an entry of the Hugging Face cache; \(shown(path)) is read, \(reason)")
      )
    }
    if let file = try? RandomAccessFile(path: join(root, "refs/main")), file.byteCount < 256,
      let bytes = try? file.bytes(at: 0, count: file.byteCount)
    {
      let text = String(decoding: bytes, as: UTF8.self)
      let revision = text.split { $0.isWhitespace }.first.map(String.init) ?? ""
      if revisions.contains(revision) { return result(revision, "the revision of its refs/main") }
    }
    if revisions.count == 1 { return result(revisions[0], "its only revision") }
    guard revisions.count > 1 else { return nil }
    throw Diagnostic(
      code: "checkpoint.ambiguous", subject: directory,
      message: "is an entry of the Hugging Face cache with several revisions: "
        + CheckpointLocation.list(revisions),
      help: "name the one that you mean, such as \(join(snapshots, revisions[0]))")
  }

  /// The one checkpoint in the directories of `directory`.
  private static func inside(
    _ directory: String, _ names: [String]
  ) throws(Diagnostic) -> Found {
    var budget = mostDirectories
    var paths: [String] = []
    look(in: directory, names, depth: 3, root: directory, &budget, &paths)
    if paths.count == 1 {
      var found = try find(in: paths[0])
      // An entry of a cache may hold several revisions, and says itself which one is read.
      if let entry = found.notes.firstIndex(where: { $0.code == "checkpoint.inside" }) {
        found.notes[entry].message =
          "holds no weights itself; \(shown(paths[0])), the only model in it, "
          + found.notes[entry].message
      } else {
        found.notes.insert(
          Diagnostic(
            .note, code: "checkpoint.inside", subject: directory,
            message: "holds no weights itself; \(shown(found.directory)), the only checkpoint in "
              + "it, is read"), at: 0)
      }
      if let entry = found.notes.firstIndex(where: { $0.code == "checkpoint.inside" }) {
        found.notes[entry].subject = directory
      }
      return found
    }
    guard paths.isEmpty else {
      func step(_ path: String) -> Int? {
        let digits = FilePath.name(of: path).reversed().prefix { $0.isASCII && $0.isNumber }
        return Int(String(digits.reversed()))
      }
      let steps = paths.filter { step($0) != nil }
      let last = steps.max { (step($0) ?? 0) < (step($1) ?? 0) } ?? paths[paths.count - 1]
      let isRun = steps.count == paths.count
      throw Diagnostic(
        code: "checkpoint.ambiguous", subject: directory,
        message: "holds several checkpoints: \(CheckpointLocation.list(paths))",
        help: "name the one that you mean\(isRun ? "; the last is \(last)" : ", such as \(last)")")
    }
    throw Diagnostic(
      code: "checkpoint.none", subject: directory, message: "holds no weights",
      notes: names.isEmpty
        ? ["the directory is empty"] : ["it holds \(CheckpointLocation.list(names))"],
      help: "weights end in .safetensors, .bin, .pt, .pth, .ckpt, .h5 or .hdf5")
  }

  /// Collects the directories below `directory` that are, or seem to be, checkpoints.
  private static func look(
    in directory: String, _ names: [String], depth: Int, root: String, _ budget: inout Int,
    _ paths: inout [String]
  ) {
    for name in names where !name.hasPrefix(".") && budget > 0 {
      let path = CheckpointLocation.join(directory, name)
      guard FilePath.kind(path) == .directory, FilePath.outside(path, of: root) == nil,
        let inner = try? FilePath.names(in: path)
      else { continue }
      budget -= 1
      // Its own fault, such as several weights, is told when it is the one.
      let isEntry =
        inner.contains("snapshots") && (inner.contains("refs") || inner.contains("blobs"))
      let choices = (try? self.choices(inner, in: path)) ?? []
      let isSharded = DCPLocation.find(inner, in: path) != nil
      let known = foreign(inner, in: path)?.code ?? "checkpoint.none"
      if isEntry || isSharded || !choices.isEmpty || known != "checkpoint.none" {
        paths.append(path)
      } else if depth > 1 {
        look(in: path, inner, depth: depth - 1, root: root, &budget, &paths)
      }
    }
  }
}
