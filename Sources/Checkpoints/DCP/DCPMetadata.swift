package import Tensors

/// What the pickled index of a sharded checkpoint says: every item with its path in the saved dict,
/// and where the parts of each lie.
///
/// The pickle is read as symbols. Each class that counts is known by name; instances of others stay
/// opaque, and a call of anything but a size, a layout, an enum or a path is refused.
package struct DCPMetadata {
  /// A name of the index, and what stands behind it.
  package struct Item: Sendable {
    /// What an item is.
    package enum Kind: Sendable {
      /// A tensor in chunks.
      case tensor
      /// A pickled value, which is never opened.
      case bytes
      /// An instance of a class that is not known.
      case unknown(String)
    }

    /// The flat name: the path joined by dots.
    package var name: String
    /// The keys that lead to it in the saved dict, positions in lists as digits.
    package var path: [String]
    /// What it is.
    package var kind: Kind
    fileprivate var ref: PickleRef
  }

  /// A part of a tensor: where it begins in it, and how far it reaches.
  package struct Box: Sendable, Hashable {
    /// The first element, for each dimension.
    package var offsets: [Int]
    /// The extents.
    package var sizes: [Int]

    /// Whether it holds nothing.
    package var isEmpty: Bool { sizes.contains(0) }
  }

  /// Where the bytes of a chunk or item lie.
  package struct Place: Sendable, Hashable {
    /// The file, beside the index.
    package var file: String
    /// The first byte.
    package var offset: Int
    /// The number of bytes.
    package var length: Int
    /// What was done to the bytes, last first: `stream.zstd/1`.
    package var transforms: [String]
  }

  /// A tensor as the index describes it.
  package struct Tensor: Sendable {
    /// The element type.
    package var dtype: DType
    /// The extents.
    package var dims: [Int]
    /// The chunks that hold something, each with its place.
    package var chunks: [(box: Box, place: Place)]
  }

  /// The items in the order of the index.
  package let items: [Item]
  /// The index's own version, if it tells one.
  package let version: String?
  private let graph: PickleGraph
  private let subject: String
  /// Storage entries by name: refs of key and value.
  private let storage: [TensorName: [(key: PickleRef, value: PickleRef)]]

  private static let module = "torch.distributed.checkpoint.metadata"
  private static let properties: Set<String> = [
    module + ".TensorProperties",
    "torch.distributed._shard.sharded_tensor.metadata.TensorProperties",
  ]
  private static let rankLimit = 32

  /// Reads the pickle `bytes` of the index; `subject` is its name in messages.
  ///
  /// - Throws: every `dcp.pickle-*`, `dcp.dangerous-global`, `dcp.call`, `dcp.metadata`, `dcp.path`
  ///   and `dcp.duplicate` problem.
  package init(parsing bytes: [UInt8], subject: String) throws(Problems) {
    let graph: PickleGraph
    do throws(Problems) {
      graph = try PickleMachine.run(bytes, subject: subject, valueLimit: 1 << 25)
    } catch { throw error.inDCP(subject) }
    self.graph = graph
    self.subject = subject
    var problems = ProblemList()
    Self.checkCalls(graph, subject, &problems)
    try problems.check()
    do throws(Diagnostic) {
      let fields = try Self.fields(
        graph.root, [Self.module + ".Metadata"], graph, subject, "its index")
      version = fields["version"].flatMap { graph.string($0) }
      guard let described = fields["state_dict_metadata"], let table = graph.items(described)
      else { throw Self.bad(subject, "it has no dict `state_dict_metadata`") }
      items = try Self.items(table, fields["planner_data"], graph, subject)
      storage = try Self.storage(fields["storage_data"], graph, subject)
    } catch { throw Problems([error]) }
  }

  private static func bad(_ subject: String, _ reason: String) -> Diagnostic {
    .dcp(
      "metadata", subject, "is no index of a sharded checkpoint: \(reason)",
      help: "it should be the file that `torch.distributed.checkpoint.save` wrote last; "
        + Diagnostic.fetchAgain)
  }

  // MARK: Calls

  /// Refuses every call but the few that an index consists of.
  private static func checkCalls(
    _ graph: PickleGraph, _ subject: String, _ problems: inout ProblemList
  ) {
    var told: Set<PickleGlobal> = []
    for object in graph.objects where !object.isInstance {
      guard let callee = graph.global(object.callee), !isKnownCall(callee),
        told.insert(callee).inserted
      else { continue }
      problems.add(
        .dcp(
          "call", subject,
          "calls \(shown(callee.qualified)), which no index needs and which is not called here",
          help: "do not load this checkpoint in Python unless you trust its source"))
    }
  }

  private static func isKnownCall(_ global: PickleGlobal) -> Bool {
    switch global.qualified {
    case "torch.Size", "torch.serialization._get_layout", module + "._MEM_FORMAT_ENCODING",
      "torch.distributed._shard.sharded_tensor.metadata.MEM_FORMAT_ENCODING":
      true
    // A member of an enum by its name, as Python 3.11.0 to 3.11.3 have it; what it names was judged.
    case "builtins.getattr": true
    default: ["pathlib", "pathlib._local"].contains(global.module) && global.name.hasSuffix("Path")
    }
  }

  // MARK: Objects

  /// The fields of an instance of one of `classes`, by name.
  private static func fields(
    _ ref: PickleRef, _ classes: Set<String>, _ graph: PickleGraph, _ subject: String,
    _ what: @autoclosure () -> String
  ) throws(Diagnostic) -> [String: PickleRef] {
    guard let object = graph.object(ref), object.isInstance,
      let type = graph.global(object.callee), classes.contains(type.qualified)
    else {
      let expected = classes.sorted().first ?? ""
      throw bad(subject, "\(what()) is \(graph.kind(ref)), not a \(expected)")
    }
    var fields: [String: PickleRef] = [:]
    guard let state = object.state else { return fields }
    // (dict, dict of slots) is how classes with __slots__ say it.
    let parts = graph.tuple(state).map { Array($0.prefix(2)) } ?? [state]
    for part in parts {
      let items = graph.items(part) ?? []
      guard items.count <= 64 else { throw bad(subject, "\(what()) has \(items.count / 2) fields") }
      for at in stride(from: 0, to: items.count, by: 2) {
        if let key = graph.string(items[at]) { fields[key] = items[at + 1] }
      }
    }
    return fields
  }

  /// The numbers of a `torch.Size` or tuple.
  private func numbers(_ ref: PickleRef?) -> [Int]? { Self.numbers(ref, graph) }

  private static func numbers(_ ref: PickleRef?, _ graph: PickleGraph) -> [Int]? {
    guard var source = ref else { return nil }
    if let object = graph.object(source), graph.global(object.callee)?.qualified == "torch.Size",
      let arguments = graph.tuple(object.arguments)
    {
      // torch.Size() of a scalar.
      guard let first = arguments.first else { return [] }
      source = first
    }
    guard let items = graph.tuple(source), items.count <= rankLimit else { return nil }
    var result: [Int] = []
    result.reserveCapacity(items.count)
    for item in items {
      guard let value = graph.int(item) else { return nil }
      result.append(value)
    }
    return result
  }

  // MARK: Items

  private static func items(
    _ table: [PickleRef], _ planner: PickleRef?, _ graph: PickleGraph, _ subject: String
  ) throws(Diagnostic) -> [Item] {
    var paths: [TensorName: PickleRef] = [:]
    let planned = planner.flatMap { graph.items($0) } ?? []
    for at in stride(from: 0, to: planned.count, by: 2) {
      guard let name = graph.string(planned[at]) else { continue }
      paths[TensorName(name)] = planned[at + 1]
    }
    var seen: Set<TensorName> = []
    var items: [Item] = []
    items.reserveCapacity(table.count / 2)
    for at in stride(from: 0, to: table.count, by: 2) {
      guard let name = graph.string(table[at]) else {
        throw bad(subject, "a name in it is \(graph.kind(table[at]))")
      }
      guard !name.isEmpty, !name.utf8.contains(0), name.isStreamSafe else {
        throw .dcp(
          "name", "\(subject): \(shown(name))",
          "is a name that is empty, holds a NUL, or has more than 30 combining marks in a row",
          help: "no trainer writes such names; do not trust the checkpoint")
      }
      guard seen.insert(TensorName(name)).inserted else {
        throw .dcp(
          "duplicate", "\(subject): \(shown(name))", "stands twice in the index",
          help: "nothing says which one counts; " + Diagnostic.fetchAgain)
      }
      let ref = table[at + 1]
      var kind = Item.Kind.unknown(graph.kind(ref))
      if let object = graph.object(ref), let type = graph.global(object.callee) {
        switch type.qualified {
        case module + ".TensorStorageMetadata": kind = .tensor
        case module + ".BytesStorageMetadata": kind = .bytes
        default: break
        }
      }
      items.append(
        Item(
          name: name, path: try path(of: name, paths[TensorName(name)], graph, subject), kind: kind,
          ref: ref))
    }
    return items
  }

  /// The path that planner data gives `name`; the name alone where nothing is planned.
  private static func path(
    of name: String, _ ref: PickleRef?, _ graph: PickleGraph, _ subject: String
  ) throws(Diagnostic) -> [String] {
    // flatten_state_dict=False leaves no paths: the keys of the dict are the names.
    guard let ref else { return [name] }
    guard let items = graph.tuple(ref), items.count <= 64 else {
      throw .dcp(
        "path", "\(subject): \(shown(name))",
        "has \(graph.kind(ref)) where the path in the saved dict belongs",
        help: "the index was written by a planner that is not known here; save with the default one"
      )
    }
    var parts: [String] = []
    for item in items {
      if let text = graph.string(item) {
        parts.append(text)
      } else if let number = graph.int(item) {
        parts.append(String(number))
      } else {
        throw .dcp(
          "path", "\(subject): \(shown(name))",
          "has a path with \(graph.kind(item)) in it; keys are texts and positions numbers",
          help: "save with the default planner")
      }
    }
    guard TensorName(parts.joined(separator: ".")) == TensorName(name) else {
      throw .dcp(
        "path", "\(subject): \(shown(name))",
        "has the path \(shown(parts.joined(separator: "."))), which is another name",
        help: "nothing says which of the two counts; " + Diagnostic.fetchAgain)
    }
    return parts
  }

  // MARK: Places

  private static func storage(
    _ ref: PickleRef?, _ graph: PickleGraph, _ subject: String
  ) throws(Diagnostic) -> [TensorName: [(key: PickleRef, value: PickleRef)]] {
    guard let ref, let items = graph.items(ref) else {
      throw bad(subject, "it has no dict `storage_data`")
    }
    var storage: [TensorName: [(key: PickleRef, value: PickleRef)]] = [:]
    for at in stride(from: 0, to: items.count, by: 2) {
      let key = try fields(
        items[at], [module + ".MetadataIndex"], graph, subject, "a key of `storage_data`")
      guard let name = key["fqn"].flatMap({ graph.string($0) }) else {
        throw bad(subject, "a key of `storage_data` has no name")
      }
      storage[TensorName(name), default: []].append((items[at], items[at + 1]))
    }
    return storage
  }

  /// The place that a value of `storage_data` tells.
  private func place(_ ref: PickleRef, _ name: String) throws(Diagnostic) -> Place {
    let subject = "\(subject): \(shown(name))"
    let fields = try Self.fields(
      ref, ["torch.distributed.checkpoint.filesystem._StorageInfo"], graph, subject,
      "its storage entry")
    guard let file = fields["relative_path"].flatMap({ graph.string($0) }),
      let offset = fields["offset"].flatMap({ graph.int($0) }),
      let length = fields["length"].flatMap({ graph.int($0) })
    else { throw Self.bad(subject, "its storage entry lacks a file, an offset or a length") }
    guard offset >= 0, length >= 0, offset.checkedPlus(length) != nil else {
      throw .dcp(
        "range", subject,
        "is said to lie at byte \(offset) of \(shown(file)) with \(length) bytes, where no file"
          + " has any",
        help: Diagnostic.fetchDirectoryAgain)
    }
    var transforms: [String] = []
    if let ref = fields["transform_descriptors"] {
      switch graph[ref] {
      case .none: break
      case .list(let index):
        transforms = graph.lists[Int(index)].prefix(16).map {
          graph.string($0) ?? graph.kind($0)
        }
      default: transforms = [graph.kind(ref)]
      }
    }
    return Place(file: file, offset: offset, length: length, transforms: transforms)
  }

  /// Every place that the index tells, for the comparison of their ranges.
  ///
  /// - Throws: `dcp.range`, `dcp.metadata`.
  package func places() throws(Problems) -> [(name: String, offsets: [Int]?, place: Place)] {
    var problems = ProblemList()
    var all: [(name: String, offsets: [Int]?, place: Place)] = []
    for (name, entries) in storage {
      for entry in entries {
        do throws(Diagnostic) {
          all.append(
            (name.string, try offsets(entry.key, name.string), try place(entry.value, name.string)))
        } catch { problems.add(error) }
      }
    }
    try problems.check()
    return all
  }

  /// The offsets of a key of `storage_data`; `nil` for an item that is no tensor.
  private func offsets(_ key: PickleRef, _ name: String) throws(Diagnostic) -> [Int]? {
    let fields = try Self.fields(
      key, [Self.module + ".MetadataIndex"], graph, subject, "a key of `storage_data`")
    guard let ref = fields["offset"] else { return nil }
    if case .none = graph[ref] { return nil }
    guard let offsets = numbers(ref) else {
      throw Self.bad("\(subject): \(shown(name))", "its storage entry's offset is no size")
    }
    return offsets
  }

  /// What the index says of the tensor `item`: its chunks tile it exactly, each with a place.
  ///
  /// - Throws: `dcp.metadata`, `dcp.dtype`, `dcp.size`, `dcp.chunk-rank`, `dcp.chunk-range`,
  ///   `dcp.hole`, `dcp.overlap`, `dcp.no-entry`, `dcp.duplicate`.
  package func tensor(_ item: Item) throws(Diagnostic) -> Tensor {
    let subject = "\(subject): tensor \(shown(item.name))"
    let fields = try Self.fields(
      item.ref, [Self.module + ".TensorStorageMetadata"], graph, subject, "it")
    let dtype = try dtype(fields["properties"], subject)
    guard let dims = numbers(fields["size"]) else {
      throw .dcp(
        "size", subject,
        "has \(fields["size"].map { graph.kind($0) } ?? "nothing") as its size,"
          + " where a torch.Size of whole numbers belongs", help: Diagnostic.fetchAgain)
    }
    guard Shape(dims).byteCount(of: dtype) != nil else {
      throw .dcp(
        "size", subject, "has size \(Shape(dims)), which no tensor can have",
        help: Diagnostic.fetchAgain)
    }
    guard let list = fields["chunks"], case .list(let index) = graph[list] else {
      throw Self.bad(subject, "it has no list of chunks")
    }
    var places: [[Int]: Place] = [:]
    for entry in storage[TensorName(item.name)] ?? [] {
      guard let offsets = try offsets(entry.key, item.name) else { continue }
      let place = try place(entry.value, item.name)
      if let other = places.updateValue(place, forKey: offsets), other != place {
        throw .dcp(
          "duplicate", subject,
          "has two storage entries for the chunk at \(Shape(offsets))",
          help: "nothing says which one counts; " + Diagnostic.fetchAgain)
      }
    }
    var boxes: [Box] = []
    for ref in graph.lists[Int(index)] {
      let fields = try Self.fields(
        ref, [Self.module + ".ChunkStorageMetadata"], graph, subject, "a chunk")
      guard let offsets = numbers(fields["offsets"]), let sizes = numbers(fields["sizes"]) else {
        throw .dcp(
          "size", subject, "has a chunk whose offsets or sizes are no torch.Size of whole numbers",
          help: Diagnostic.fetchAgain)
      }
      let box = Box(offsets: offsets, sizes: sizes)
      try Tiling.checkPlace(of: box, in: dims, subject)
      if !box.isEmpty { boxes.append(box) }
    }
    try Tiling.check(boxes, in: dims, subject)
    var chunks: [(box: Box, place: Place)] = []
    chunks.reserveCapacity(boxes.count)
    for box in boxes {
      guard let place = places[box.offsets] else {
        throw .dcp(
          "no-entry", subject,
          "has a chunk at \(Shape(box.offsets)) of which the index does not say where it lies",
          help: Diagnostic.fetchAgain)
      }
      chunks.append((box, place))
    }
    return Tensor(dtype: dtype, dims: dims, chunks: chunks)
  }

  /// Type and extents as the index says them, unchecked, for telling what is passed over.
  package func claimedBytes(_ item: Item) -> Int? {
    guard
      let fields = try? Self.fields(
        item.ref, [Self.module + ".TensorStorageMetadata"], graph, subject, "it"),
      let dtype = try? dtype(fields["properties"], subject), let dims = numbers(fields["size"])
    else { return nil }
    return Shape(dims).byteCount(of: dtype)
  }

  /// Whether a tensor could be a model's: a float of at least one dimension.
  package func isWeight(_ item: Item) -> Bool {
    guard case .tensor = item.kind,
      let fields = try? Self.fields(
        item.ref, [Self.module + ".TensorStorageMetadata"], graph, subject, "it"),
      let dims = numbers(fields["size"])
    else { return false }
    // A type that is not known is reported where the tensor is read.
    guard let dtype = try? dtype(fields["properties"], subject) else { return true }
    return dims.count >= 1 && !dtype.isWhole
  }

  private func dtype(_ ref: PickleRef?, _ subject: String) throws(Diagnostic) -> DType {
    guard let ref, let object = graph.object(ref), object.isInstance,
      let type = graph.global(object.callee), Self.properties.contains(type.qualified)
    else { throw Self.bad(subject, "its properties are no TensorProperties") }
    // (dtype, layout, requires_grad, memory format, pin_memory[, strides])
    var first = object.state.flatMap { graph.tuple($0) }?.first
    if first == nil, let items = object.state.flatMap({ graph.items($0) }) {
      for at in stride(from: 0, to: items.count, by: 2)
      where graph.string(items[at]) == "dtype" {
        first = items[at + 1]
      }
    }
    guard let first, let global = graph.global(first), let meaning = TorchDType.dtype(global),
      case .dtype(let dtype) = meaning
    else {
      throw .dcp(
        "dtype", subject,
        "is of \(first.map { graph.kind($0) } ?? "no type"), which is no type that is read here",
        help: "convert the tensor to a plain type in Python and save again")
    }
    return dtype
  }
}
