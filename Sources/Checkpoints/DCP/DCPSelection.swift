import OrderedCollections
import Tensors

/// Which items of a sharded checkpoint are the model, by the paths in the saved dict.
///
/// Only the paths tell the wrapper `("model", "layers.0.weight")` from the name
/// `("model.layers.0.weight",)`; the flat names are the same.
struct DCPSelection {
  /// A tensor of the model.
  struct Member {
    /// Its name in the model.
    var name: String
    /// Its number among the index's items.
    var item: Int
  }

  /// The tensors of the model, in the order of the index.
  private(set) var members: [Member] = []
  /// The keys that were taken off the names.
  private(set) var wrapper: [String] = []
  /// The key that was asked for, where nothing stands under it but names begin with it.
  private(set) var keyRest: String?
  /// The keys of the saved dict that hold more than what trainers save beside a model.
  private(set) var keys: [String] = []
  /// Items that are not read, by the key that they stand under (`""`: the top level).
  private(set) var passedOver: OrderedDictionary<String, [Int]> = [:]

  /// Keys that hold a model.
  private static let wrappers: Set<String> = [
    "model", "state_dict", "module", "model_state_dict",
  ]
  /// Keys of what trainers save beside a model.
  private static let trainingState: Set<String> = [
    "optimizer", "optimizers", "optim", "lr_scheduler", "lr_schedulers", "dataloader",
    "train_state",
  ]

  /// Whether a key is one under which trainers save something else than a model.
  static func isTrainingState(_ key: String) -> Bool {
    if trainingState.contains(key) { return true }
    // Lightning numbers them.
    guard key.hasPrefix("optimizer_") else { return false }
    return key.dropFirst("optimizer_".count).utf8.allSatisfy { (0x30...0x39).contains($0) }
  }

  private struct Candidate {
    var item: Int
    /// What of the path is left.
    var rest: ArraySlice<String>
  }

  /// Chooses among the items of `metadata`.
  ///
  /// - Parameter key: the dotted path of the model in the saved dict, where there are several; `""`
  ///   for the top level.
  /// - Throws: `dcp.no-model`, `dcp.several-models`, `dcp.no-such-key`, `dcp.unknown-item`.
  init(_ metadata: DCPMetadata, key: String?, subject: String) throws(Problems) {
    var all: [Candidate] = []
    for (number, item) in metadata.items.enumerated() {
      all.append(Candidate(item: number, rest: item.path[...]))
    }
    let outer = OrderedSet(all.compactMap { $0.rest.count > 1 ? $0.rest.first : nil })
    keys = outer.filter { !Self.isTrainingState($0) }
    do throws(Diagnostic) {
      let chosen: [Candidate]
      if let key {
        chosen = try under(key, all, metadata, subject)
      } else {
        chosen = try Self.choose(all, metadata, subject, &wrapper)
      }
      var isChosen = [Bool](repeating: false, count: metadata.items.count)
      var problems: [Diagnostic] = []
      for candidate in chosen {
        let item = metadata.items[candidate.item]
        switch item.kind {
        case .tensor:
          isChosen[candidate.item] = true
          members.append(
            Member(name: candidate.rest.joined(separator: "."), item: candidate.item))
        case .bytes: break
        case .unknown(let kind):
          problems.append(
            .dcp(
              "unknown-item", "\(subject): \(shown(item.name))", "is described by \(kind)",
              help: "the index was written by something else than PyTorch; save with its planner"))
        }
      }
      if let problem = problems.first { throw problem }
      for (number, item) in metadata.items.enumerated() where !isChosen[number] {
        passedOver[item.path.count > 1 ? item.path[0] : "", default: []].append(number)
      }
      guard !members.isEmpty else { throw Self.none(metadata, subject) }
      var names: Set<TensorName> = []
      for member in members where !names.insert(TensorName(member.name)).inserted {
        throw Diagnostic.dcp(
          "duplicate", "\(subject): tensor \(shown(member.name))",
          "is the name of two tensors, whose paths differ",
          help: "nothing says which one counts; save again with other keys")
      }
    } catch { throw Problems([error]) }
  }

  /// The model among `all`, whose paths begin at one depth.
  private static func choose(
    _ all: [Candidate], _ metadata: DCPMetadata, _ subject: String, _ wrapper: inout [String]
  ) throws(Diagnostic) -> [Candidate] {
    var top: [Candidate] = []
    var groups: OrderedDictionary<String, [Candidate]> = [:]
    for candidate in all {
      if candidate.rest.count < 2 {
        top.append(candidate)
      } else if let first = candidate.rest.first {
        groups[first, default: []].append(candidate)
      }
    }
    func isModel(_ candidates: [Candidate]) -> Bool {
      candidates.contains { metadata.isWeight(metadata.items[$0.item]) }
    }
    let models = groups.filter { !isTrainingState($0.key) && isModel($0.value) }
    let topIsModel = isModel(top)
    let known = models.keys.filter { wrappers.contains($0) || $0.hasPrefix("ema") }
    let isOuter = wrapper.isEmpty
    if models.count + (topIsModel ? 1 : 0) > 1, isOuter && !topIsModel || !known.isEmpty {
      throw several(models.keys.map { $0 }, topIsModel, wrapper, subject)
    }
    if models.count == 1, !topIsModel, let (key, inside) = models.elements.first,
      wrappers.contains(key) || key.hasPrefix("ema") || isOuter && isWrapped(inside)
        || holdsTrainingState(inside)
    {
      wrapper.append(key)
      return try choose(
        inside.map { Candidate(item: $0.item, rest: $0.rest.dropFirst()) }, metadata, subject,
        &wrapper)
    }
    // Nested dicts of one model: their keys are parts of the names.
    let inside = groups.filter { isOuter ? models[$0.key] != nil : !isTrainingState($0.key) }
    return (top + inside.values.flatMap { $0 }).sorted { $0.item < $1.item }
  }

  /// Whether everything under a key of no known name is a flat state dict, as by
  /// `fabric.save(path, {"net": net})`.
  private static func isWrapped(_ inside: [Candidate]) -> Bool {
    inside.allSatisfy { $0.rest.count == 2 }
      && inside.contains { $0.rest.last?.utf8.contains(UInt8(ascii: ".")) ?? false }
  }

  /// Whether a model stands there beside its optimizer, as in the `AppState` of PyTorch's tutorial.
  private static func holdsTrainingState(_ inside: [Candidate]) -> Bool {
    inside.contains { candidate in
      candidate.rest.count > 2
        && candidate.rest.dropFirst().first.map { wrappers.contains($0) || isTrainingState($0) }
          ?? false
    }
  }

  /// What stands under the dotted path `key`; the model itself where only its names begin with it.
  private mutating func under(
    _ key: String, _ all: [Candidate], _ metadata: DCPMetadata, _ subject: String
  ) throws(Diagnostic) -> [Candidate] {
    if key.isEmpty { return all.filter { $0.rest.count == 1 } }
    var chosen: [Candidate] = []
    for candidate in all {
      var prefix = ""
      for count in 1..<max(1, candidate.rest.count) {
        prefix += (count > 1 ? "." : "") + candidate.rest[candidate.rest.startIndex + count - 1]
        guard prefix.utf8.elementsEqual(key.utf8) else { continue }
        chosen.append(
          Candidate(item: candidate.item, rest: candidate.rest.dropFirst(count)))
        break
      }
    }
    guard !chosen.isEmpty else {
      let prefix = key.hasSuffix(".") ? key : key + "."
      var place: [String] = []
      if let model = try? Self.choose(all, metadata, subject, &place),
        model.contains(where: { $0.rest.joined(separator: ".").hasPrefix(prefix) })
      {
        keyRest = key
        wrapper = place
        return model
      }
      var keys: OrderedSet<String> = []
      for candidate in all where candidate.rest.count > 1 { keys.append(candidate.rest.first!) }
      throw .dcp(
        "no-such-key", subject, "holds nothing under the key \(shown(key))",
        notes: [
          keys.isEmpty
            ? "nothing in it stands under a key; its names are at the top level"
            : "its keys are \(keys.prefix(16).map { shown($0) }.joined(separator: ", "))"
        ])
    }
    wrapper = [key]
    return chosen
  }

  private static func several(
    _ keys: [String], _ topIsModel: Bool, _ wrapper: [String], _ subject: String
  ) -> Diagnostic {
    let full = keys.map { (wrapper + [$0]).joined(separator: ".") }
    var names = full.prefix(16).map { shown($0) }
    if topIsModel { names.insert("its top level", at: 0) }
    return .dcp(
      "several-models", subject,
      "holds several models: \(names.joined(separator: ", "))",
      help: "say which one is meant with --key \(full.first ?? "")"
        + (topIsModel ? "; --key '' is the top level" : ""))
  }

  private static func none(_ metadata: DCPMetadata, _ subject: String) -> Diagnostic {
    var keys: OrderedSet<String> = []
    for item in metadata.items { keys.append(item.path.count > 1 ? item.path[0] : item.name) }
    return .dcp(
      "no-model", subject, "holds no model",
      notes: [
        keys.isEmpty
          ? "it holds nothing"
          : "it holds \(keys.prefix(16).map { shown($0) }.joined(separator: ", "))"
            + (keys.count > 16 ? " and \(keys.count - 16) more" : "")
      ],
      help: "optimizers and schedulers are passed over; give the directory of the model")
  }

  /// What is passed over, in words: `optimizer (138 tensors, 1.2 MB; 508 other items)`.
  func passedOverText(_ metadata: DCPMetadata) -> [String] {
    passedOver.map { key, numbers in
      var tensors = 0
      var bytes = 0
      for number in numbers {
        guard case .tensor = metadata.items[number].kind else { continue }
        tensors += 1
        bytes = bytes.checkedPlus(metadata.claimedBytes(metadata.items[number]) ?? 0) ?? .max
      }
      var parts: [String] = []
      if tensors > 0 {
        parts.append("\(tensors) tensor\(tensors == 1 ? "" : "s") of \(Self.bytesText(bytes))")
      }
      let others = numbers.count - tensors
      if others > 0 { parts.append("\(others) other item\(others == 1 ? "" : "s")") }
      return (key.isEmpty ? "at the top level" : shown(key, quoted: false)) + ": "
        + parts.joined(separator: ", ")
    }
  }

  /// `2.1 GB`.
  static func bytesText(_ bytes: Int) -> String {
    var value = Double(bytes)
    for unit in ["bytes", "kB", "MB", "GB", "TB"] {
      if value < 1000 || unit == "TB" {
        guard unit != "bytes" else { return "\(bytes) bytes" }
        let tenths = Int((value * 10).rounded())
        return "\(tenths / 10).\(tenths % 10) \(unit)"
      }
      value /= 1000
    }
    return "\(bytes) bytes"
  }
}
