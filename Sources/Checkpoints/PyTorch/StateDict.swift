import Tensors

/// The dict of names and tensors in a pickled checkpoint, and the way to it.
struct StateDict {
  /// The dict.
  var ref: PickleRef
  /// Names and values, later ones of a name winning as in Python, at the place of the first.
  var entries: [(name: String, value: PickleRef)]

  /// What was read under which key, and what was left.
  var notes: [Diagnostic]
  /// What is left of the key that was asked for, for the names inside the dict.
  var keyRest: String?
  /// The keys of all dicts of tensors, for messages.
  var models: [String]

  /// Finds the state dict: the one dict of tensors in the file, or the one that `key` names.
  ///
  /// - Throws: `pytorch.no-state-dict`, `pytorch.ambiguous-state-dict`, `pytorch.whole-module`,
  ///   `pytorch.numpy-weights`, `pytorch.zero-shard`, `pytorch.duplicate-name`.
  static func find(
    in graph: PickleGraph, _ decoder: TensorDecoder, subject: String, key: String? = nil
  ) throws(Problems) -> StateDict {
    let search = StateDictSearch(graph: graph, decoder: decoder, subject: subject)
    let resolved = key.flatMap { search.resolve($0) }
    let choice: StateDictSearch.Choice
    do throws(Diagnostic) {
      guard let found = try search.choose(under: resolved?.ref ?? graph.root) else {
        throw none(in: graph, decoder, subject)
      }
      if resolved == nil, !found.candidate.isUsual,
        let whole = wholeObject(in: graph, decoder, where: ModelRole.usual.contains)
      {
        throw whole.error(subject)
      }
      choice = found
    } catch {
      // What is unknown is a better answer than what is ambiguous.
      if let key, resolved == nil, error.code == "pytorch.ambiguous-state-dict" {
        let keys = search.candidates(under: graph.root).map(\.key).filter { !$0.isEmpty }
        throw Problems([.unknownKey(key, subject, models: keys)])
      }
      throw Problems([error])
    }
    var state = try StateDict(ref: choice.candidate.ref, graph, subject)
    // Who names a key needs no word on where the weights lie.
    state.notes = choice.notes.filter { resolved == nil || $0.code != "pytorch.state-dict-key" }
    if resolved == nil, let whole = wholeObject(in: graph, decoder, where: ModelRole.isAverage) {
      state.notes.append(whole.leftOut(beside: choice.candidate, subject))
    }
    if resolved == nil {
      state.notes += copies(in: graph, decoder, search, beside: choice.candidate, state, subject)
    }
    // What was left out says what was read.
    if state.notes.contains(where: { $0.code == "checkpoint.other-model" }) {
      state.notes.removeAll { $0.code == "pytorch.state-dict-key" }
    }
    if let key { state.keyRest = resolved == nil ? key : resolved?.rest }
    state.models = search.candidates(under: graph.root).map(\.key).filter { !$0.isEmpty }
    return state
  }

  private init(ref: PickleRef, _ graph: PickleGraph, _ subject: String) throws(Problems) {
    self.ref = ref
    notes = []
    models = []
    let items = graph.items(ref) ?? []
    var entries: [(name: String, value: PickleRef)] = []
    entries.reserveCapacity(items.count / 2)
    var seen: Set<TensorName> = []
    var problems = ProblemList()
    for at in stride(from: 0, to: items.count, by: 2) {
      guard let name = graph.string(items[at]) else { continue }
      guard seen.insert(TensorName(name)).inserted else {
        problems.add(
          .pytorch(
            "duplicate-name", "\(subject): tensor \(shown(name))",
            "stands twice in the state dict",
            help: "Python would keep the last one; " + Diagnostic.saveAgain))
        continue
      }
      entries.append((name, items[at + 1]))
    }
    try problems.check()
    self.entries = entries
  }

  /// What else holds tensors of the model's shapes, and is no dict among those that were looked at: a
  /// list of an average's tensors, a dict behind many keys or in a list.
  private static func copies(
    in graph: PickleGraph, _ decoder: TensorDecoder, _ search: StateDictSearch,
    beside read: StateDictSearch.Candidate, _ state: StateDict, _ subject: String
  ) -> [Diagnostic] {
    let tensors = state.entries.map(\.value).filter { decoder.kind($0) == .tensor }
    let known = search.candidates(under: graph.root).filter { $0.ref != graph.root }.map(\.ref)
    let collections = TensorCollections(graph: graph, decoder: decoder).copies(
      of: tensors, passing: Set(known + [read.ref])
    ).filter { $0.ref != graph.root }
    return collections.prefix(4).map { collection in
      let isReached = collection.isNamed && search.resolve(collection.path)?.ref == collection.ref
      let count = collection.tensors.count
      let shown = String(shown(collection.path).dropFirst().dropLast())
      return Diagnostic(
        .warning, code: "checkpoint.other-model", subject: subject,
        message:
          "\(read.shown) is read; \(count) further \(count == 1 ? "tensor" : "tensors") of the "
          + "same shapes \(count == 1 ? "lies" : "lie") under `\(shown)` and "
          + "\(count == 1 ? "is" : "are") left",
        help: isReached
          ? "--key \(collection.path) reads them"
          : "if they are the weights that you want, such as an average, save them alone, as a dict "
            + "of names and tensors")
    }
  }

  // MARK: Why there is none

  private static func none(
    in graph: PickleGraph, _ decoder: TensorDecoder, _ subject: String
  ) -> Diagnostic {
    var notes: [String] = []
    var suspect: PickleGlobal?
    var arrays = 0
    var reach = StorageReach(graph)
    if let items = graph.items(graph.root) {
      if let shard = zeroShard(items, graph, subject) { return shard }
      var keys: [String] = []
      var others: PickleGlobal?
      for at in stride(from: 0, to: items.count, by: 2) {
        let key = graph.string(items[at])
        let value = items[at + 1]
        if keys.count < 40 {
          keys.append("\(key.map { shown($0) } ?? graph.kind(items[at])): \(graph.kind(value))")
        }
        for inner in [value] + (graph.items(value) ?? []) where decoder.isArray(inner) {
          arrays += 1
        }
        guard let key, decoder.kind(value) == .opaque, graph.items(value) == nil else { continue }
        if ModelRole.usual.contains(key) {
          suspect = suspect ?? decoder.madeBy(value)
        } else if others == nil, !ModelRole.isTrainersOwn(key), !ModelRole.isAside(key),
          !decoder.isArray(value), reach.holdsStorage(value)
        {
          others = decoder.madeBy(value)
        }
      }
      suspect = suspect ?? others
      let more = items.count > 80 ? ", …" : ""
      notes = [
        keys.isEmpty
          ? "the dict is empty" : "its top level holds \(keys.joined(separator: ", "))\(more)"
      ]
    } else if decoder.kind(graph.root) == .opaque {
      suspect = decoder.madeBy(graph.root)
    }
    if let suspect {
      return WholeObject(key: nil, type: suspect).error(subject, notes: notes)
    }
    if arrays > 0 {
      return .pytorch(
        "numpy-weights", subject, "holds \(arrays) numpy arrays and no tensor", notes: notes,
        help: "turn each into a tensor with `torch.from_numpy` and save them again, or write them"
          + " with `safetensors.numpy.save_file`")
    }
    let collections = TensorCollections(graph: graph, decoder: decoder).find()
      .filter { $0.path.contains("[") }
    for collection in collections.prefix(4) {
      let place =
        collection.path.isEmpty
        ? "it" : "`\(String(shown(collection.path).dropFirst().dropLast()))`"
      notes.append(
        "\(place) holds \(collection.tensors.count) tensors\(collection.isNamed ? "" : " without names")"
      )
    }
    let resave = "save `model.state_dict()`, bare or under `model`, with `torch.save`"
    guard let way = collections.first(where: \.isNamed)?.python else {
      return .pytorch(
        "no-state-dict", subject,
        "holds \(graph.kind(graph.root)) in which no model's tensors are found",
        notes: notes, help: resave)
    }
    return .pytorch(
      "no-state-dict", subject,
      "holds \(graph.kind(graph.root)) whose tensors lie in lists or behind numbers, where no key "
        + "reaches",
      notes: notes,
      help: "save the dict alone: `torch.save(torch.load(\(shown(subject)))\(way), \"model.pt\")`")
  }

  /// An object of a class that holds weights, where a state dict belongs.
  private struct WholeObject {
    var key: String?
    var type: PickleGlobal

    private var shown: String { String(Tensors.shown(type.qualified).dropFirst().dropLast()) }

    func error(_ subject: String, notes: [String] = []) -> Diagnostic {
      .pytorch(
        "whole-module", subject,
        "holds a whole \(shown) instead of a state dict; objects of classes are never made here, and"
          + " nothing of the file was run",
        notes: notes,
        help: "load it where its class is known, and save `model.state_dict()`, bare or under"
          + " `model`, with `torch.save`")
    }

    func leftOut(beside read: StateDictSearch.Candidate, _ subject: String) -> Diagnostic {
      Diagnostic(
        .warning, code: "checkpoint.other-model", subject: subject,
        message: "\(read.shown) is read; `\(key ?? "")` holds a whole \(shown) and is left",
        help: "load it where its class is known and save its `state_dict()` to convert that")
    }
  }

  /// An object with storages under a key of the top level that `matches`.
  private static func wholeObject(
    in graph: PickleGraph, _ decoder: TensorDecoder, where matches: (String) -> Bool
  ) -> WholeObject? {
    var reach = StorageReach(graph)
    let items = graph.items(graph.root) ?? []
    for at in stride(from: 0, to: items.count, by: 2) {
      guard let key = graph.string(items[at]), matches(key), !ModelRole.isTrainersOwn(key),
        decoder.kind(items[at + 1]) == .opaque, graph.items(items[at + 1]) == nil,
        reach.holdsStorage(items[at + 1]), let type = decoder.madeBy(items[at + 1])
      else { continue }
      return WholeObject(key: key, type: type)
    }
    return nil
  }

  /// A file of DeepSpeed's that holds one rank's share of the optimizer.
  private static func zeroShard(
    _ items: [PickleRef], _ graph: PickleGraph, _ subject: String
  ) -> Diagnostic? {
    let marks: Set<String> = [
      "fp32_flat_groups", "single_partition_of_fp32_groups", "partition_count", "zero_stage",
      "fp32_groups_flat", "base_optimizer_state",
    ]
    for at in stride(from: 0, to: items.count, by: 2)
    where graph.string(items[at]) == "optimizer_state_dict" {
      let inner = graph.items(items[at + 1]) ?? []
      guard
        stride(from: 0, to: inner.count, by: 2).contains(where: {
          graph.string(inner[$0]).map(marks.contains) == true
        })
      else { continue }
      return .pytorch(
        "zero-shard", subject,
        "is one rank's share of a DeepSpeed ZeRO optimizer and holds no model",
        help: "the model is in mp_rank_00_model_states.pt beside it (ZeRO-1 and 2), or is gathered"
          + " with the zero_to_fp32.py that DeepSpeed writes next to the checkpoint (ZeRO-3)")
    }
    return nil
  }
}
