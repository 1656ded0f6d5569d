import Tensors

/// Which tensor a message is about; put in words only when there is one.
struct TensorSubject {
  var file: String
  var name: String

  var text: String { "\(file): tensor \(shown(name))" }
}

/// Turns the calls that would rebuild a tensor into a view of the file.
struct TensorDecoder {
  let graph: PickleGraph
  let storages: StorageTable

  /// What a value is, as far as weights go.
  enum Kind {
    /// A call that rebuilds a tensor.
    case tensor
    /// A call of something that is not known; it may hold weights.
    case opaque
    /// A plain value.
    case plain
  }

  private enum Rebuild {
    case v1, v2, v3
    case parameter
    case fromType
    /// A kind of tensor that is known and has no dense form here.
    case unsupported
  }

  private static let rankLimit = 64

  private static func rebuild(_ global: PickleGlobal) -> Rebuild? {
    switch (global.module, global.name) {
    case ("torch._utils", "_rebuild_tensor"): .v1
    case ("torch._utils", "_rebuild_tensor_v2"): .v2
    case ("torch._utils", "_rebuild_tensor_v3"): .v3
    case ("torch._utils", "_rebuild_parameter"), ("torch._utils", "_rebuild_parameter_with_state"):
      .parameter
    case ("torch._tensor", "_rebuild_from_type_v2"), ("torch._tensor", "_rebuild_from_type"):
      .fromType
    case ("torch._utils", let name) where name.hasPrefix("_rebuild_"): .unsupported
    default: nil
    }
  }

  /// Whether `ref` is a tensor, something unknown, or a plain value.
  func kind(_ ref: PickleRef) -> Kind {
    guard let object = graph.object(ref) else { return .plain }
    guard let callee = graph.global(object.callee), Self.rebuild(callee) != nil else {
      return .opaque
    }
    return .tensor
  }

  /// What `ref` is one rank's part of, when it is a tensor of several ranks and less than the whole.
  func part(_ ref: PickleRef) -> Sharding? {
    var ref = ref
    for _ in 0..<4 {
      guard let object = graph.object(ref), let callee = graph.global(object.callee),
        let items = graph.tuple(object.arguments).map({ Array($0.prefix(16)) })
      else { return nil }
      switch Self.rebuild(callee) {
      case .parameter:
        guard let inner = items.first else { return nil }
        ref = inner
      case .fromType:
        guard items.count >= 4, let type = graph.global(items[1]),
          let sharding = Sharding(type, items, graph)
        else { return nil }
        return sharding.whole(ofSize: ints) == nil ? sharding : nil
      default: return nil
      }
    }
    return nil
  }

  /// Whether a tensor looks like weights: neither one number nor bytes, which random generators and
  /// modules' extra states keep.
  func isWeights(_ ref: PickleRef) -> Bool {
    guard let items = rebuilt(ref) else { return true }
    guard items.count > 2, let dims = ints(items[2]) else { return true }
    guard !dims.isEmpty else { return false }
    guard case .persistent(let id) = graph[items[0]], let parts = graph.tuple(id)?.prefix(2),
      let type = parts.last.flatMap({ graph.global($0) })
    else { return true }
    return type.name != "ByteStorage"
  }

  /// The extents of the tensor that `ref` rebuilds; `nil` where they are not plain.
  func extents(_ ref: PickleRef) -> [Int]? {
    rebuilt(ref).flatMap { $0.count > 2 ? ints($0[2]) : nil }
  }

  /// The arguments of the plain rebuild behind parameters; `nil` for other kinds of tensors.
  private func rebuilt(_ ref: PickleRef) -> [PickleRef]? {
    var ref = ref
    for _ in 0..<16 {
      guard let call = graph.object(ref), let callee = graph.global(call.callee),
        let items = graph.tuple(call.arguments).map({ Array($0.prefix(16)) })
      else { return nil }
      switch Self.rebuild(callee) {
      case .v1, .v2, .v3: return items
      case .parameter:
        guard let inner = items.first else { return nil }
        ref = inner
      default: return nil
      }
    }
    return nil
  }

  /// Whether `ref` is a numpy array with its bytes.
  func isArray(_ ref: PickleRef) -> Bool {
    guard let object = graph.object(ref), object.state != nil,
      let callee = graph.global(object.callee)
    else { return false }
    return callee.module.hasPrefix("numpy") && callee.name == "_reconstruct"
      || callee.qualified == "numpy.ndarray"
  }

  /// The class of an object, also where a helper makes it.
  func madeBy(_ ref: PickleRef) -> PickleGlobal? {
    guard let object = graph.object(ref), let callee = graph.global(object.callee) else {
      return nil
    }
    // copyreg._reconstructor(class, object, None) is how protocols 0 and 1 make objects.
    guard callee.module == "copyreg" || callee.module == "copy_reg",
      let type = graph.tuple(object.arguments)?.first.flatMap({ graph.global($0) })
    else { return callee }
    return type
  }

  /// The tensor that `ref` rebuilds; `subject` names it in messages.
  ///
  /// - Throws: `pytorch.unknown-global`, `pytorch.unsupported-tensor`, `pytorch.tensor-arguments`,
  ///   `pytorch.tensor-bounds`, `pytorch.dtype`, `pytorch.sharded-tensor`, and what `StorageTable` throws.
  func tensor(
    _ ref: PickleRef, subject: TensorSubject
  ) throws(Diagnostic) -> (dtype: DType, view: StridedView, storageBytes: Int) {
    var object = graph.object(ref)
    // A parameter wraps a tensor, a subclass wraps a call: few layers, but a file may nest many.
    for _ in 0..<16 {
      guard let call = object, let callee = graph.global(call.callee),
        let items = graph.tuple(call.arguments).map({ Array($0.prefix(16)) })
      else { throw arguments(subject, "it is wrapped around no tensor") }
      guard let rebuild = Self.rebuild(callee) else { throw unknown(subject, callee) }
      switch rebuild {
      case .v1, .v2, .v3: return try plain(rebuild, items, subject)
      case .parameter:
        guard let inner = items.first else { throw arguments(subject, "a parameter without data") }
        object = graph.object(inner)
      case .fromType:
        // (function, class, arguments, state)
        guard items.count >= 3, let type = graph.global(items[1]) else {
          throw arguments(subject, "a tensor subclass without its class")
        }
        if let sharding = Sharding(type, items, graph) {
          guard let whole = sharding.whole(ofSize: ints) else {
            throw sharding.diagnostic(subject.file, [subject.name])
          }
          object = graph.object(whole)
          continue
        }
        // A foreign subclass decides itself what its bytes mean.
        guard type.module == "torch" || type.module.hasPrefix("torch.nn") else {
          throw unknown(subject, type)
        }
        object = PickleObject(callee: items[0], arguments: items[2])
      case .unsupported:
        throw .pytorch(
          "unsupported-tensor", subject.text,
          "is a kind of tensor that has no dense bytes in the file (\(callee.qualified))",
          help: "make it a plain dense tensor in Python and save again")
      }
    }
    throw arguments(subject, "it is wrapped more than 16 times")
  }

  private func plain(
    _ rebuild: Rebuild, _ items: [PickleRef], _ subject: TensorSubject
  ) throws(Diagnostic) -> (dtype: DType, view: StridedView, storageBytes: Int) {
    let needed = rebuild == .v1 ? 4 : rebuild == .v2 ? 6 : 7
    guard items.count == needed || items.count == needed + 1 && rebuild != .v1 else {
      throw arguments(subject, "it is rebuilt from \(items.count) values instead of \(needed)")
    }
    guard let offset = graph.int(items[1]), let dims = ints(items[2]), let strides = ints(items[3])
    else { throw arguments(subject, "offset, size and stride are not all whole numbers") }
    if items.count == needed + 1, graph.items(items[needed])?.isEmpty == false {
      // {"conj": True} and {"neg": True}: values are to be conjugated or negated on every use.
      throw .pytorch(
        "unsupported-tensor", subject.text, "is a lazily conjugated or negated view",
        help: "save `tensor.resolve_conj().resolve_neg()` instead")
    }
    let storage = try storages.storage(items[0], in: graph, subject: subject)
    let dtype = try dtype(rebuild == .v3 ? items[6] : nil, storage, subject)
    return try bounded(offset, dims, strides, dtype, storage, subject)
  }

  private func dtype(
    _ ref: PickleRef?, _ storage: StorageTable.Storage, _ subject: TensorSubject
  ) throws(Diagnostic) -> DType {
    guard let ref else {
      guard let dtype = storage.dtype else {
        throw arguments(subject, "its storage is untyped, and nothing says its type")
      }
      return dtype
    }
    guard let global = graph.global(ref), let meaning = TorchDType.dtype(global) else {
      throw arguments(subject, "its type is given by \(graph.kind(ref))")
    }
    guard case .dtype(let dtype) = meaning else {
      throw .pytorch(
        "dtype", subject.text,
        "is of \(global.qualified), a type that has no place in a checkpoint here",
        help: "convert the tensor to another type in Python and save again")
    }
    return dtype
  }

  private func bounded(
    _ offset: Int, _ dims: [Int], _ strides: [Int], _ dtype: DType,
    _ storage: StorageTable.Storage, _ subject: TensorSubject
  ) throws(Diagnostic) -> (dtype: DType, view: StridedView, storageBytes: Int) {
    guard dims.count == strides.count, dims.count <= Self.rankLimit else {
      throw arguments(subject, "it has \(dims.count) extents and \(strides.count) strides")
    }
    guard offset >= 0, dims.allSatisfy({ $0 >= 0 }), strides.allSatisfy({ $0 >= 0 }) else {
      throw bounds(subject, dims, strides, offset, "a negative number is among them")
    }
    let itemSize = dtype.bitWidth / 8
    guard Shape(dims).byteCount(of: dtype) != nil,
      let span = StridedView.span(dims: dims, strides: strides),
      let end = offset.checkedPlus(span)
    else { throw bounds(subject, dims, strides, offset, "the numbers overflow") }
    let count = storage.byteCount / itemSize
    guard span == 0 || end <= count else {
      throw bounds(
        subject, dims, strides, offset, "element \(end - 1) is needed, but the storage has \(count)"
      )
    }
    let view = StridedView(
      base: storage.offset + (span == 0 ? 0 : offset * itemSize), itemSize: itemSize, dims: dims,
      strides: strides)
    return (dtype, view, storage.byteCount)
  }

  private func ints(_ ref: PickleRef) -> [Int]? {
    var source = ref
    // torch.Size((2, 3)).
    if let object = graph.object(ref), graph.global(object.callee)?.qualified == "torch.Size",
      let first = graph.tuple(object.arguments)?.first
    {
      source = first
    }
    guard let items = graph.tuple(source), items.count <= Self.rankLimit else { return nil }
    var result: [Int] = []
    for item in items {
      guard let value = graph.int(item) else { return nil }
      result.append(value)
    }
    return result
  }

  private func unknown(_ subject: TensorSubject, _ global: PickleGlobal) -> Diagnostic {
    .pytorch(
      "unknown-global", subject.text,
      "is made by \(shown(global.qualified)), which is not known here and is never called",
      help: "make it a plain tensor in Python and save again")
  }

  private func arguments(_ subject: TensorSubject, _ reason: String) -> Diagnostic {
    .pytorch(
      "tensor-arguments", subject.text, "is rebuilt in no way that PyTorch knows: \(reason)",
      help: Diagnostic.saveAgain)
  }

  private func bounds(
    _ subject: TensorSubject, _ dims: [Int], _ strides: [Int], _ offset: Int, _ reason: String
  ) -> Diagnostic {
    .pytorch(
      "tensor-bounds", subject.text,
      "has size \(Shape(dims)), stride \(Shape(strides)) and offset \(offset), which do not fit its"
        + " storage: \(reason)",
      help: Diagnostic.fetchAgain)
  }
}
