import Tensors

/// Writes the `data.pkl` of a state dict: protocol 2, and only what `torch.load(weights_only=True)`
/// allows.
enum TorchPickle {
  /// A tensor of the dict, and the storage that holds it from its first element on.
  struct Entry {
    var name: String
    var dtype: DType
    var shape: Shape
    /// The storage's name under `data/`.
    var storage: String
    /// Bytes of the storage, which another tensor may need to be larger than this one does.
    var storageBytes: Int
  }

  /// The pickle of an OrderedDict of `entries`, alone or as the one value of a dict.
  static func encode(_ entries: [Entry], nesting: String?) -> [UInt8] {
    var pickle = PickleWriter()
    if let nesting {
      pickle.op(.emptyDict)
      pickle.text(nesting)
    }
    pickle.emptyOrderedDict()
    if !entries.isEmpty {
      pickle.op(.mark)
      for entry in entries {
        pickle.text(entry.name)
        pickle.tensor(entry)
      }
      pickle.op(.setItems)
    }
    if nesting != nil { pickle.op(.setItem) }
    pickle.op(.stop)
    return pickle.bytes
  }

  /// The pickle of one tensor alone; the entry's name is not written.
  static func encode(_ entry: Entry) -> [UInt8] {
    var pickle = PickleWriter()
    pickle.tensor(entry)
    pickle.op(.stop)
    return pickle.bytes
  }
}

extension PickleWriter {
  fileprivate mutating func tensor(_ entry: TorchPickle.Entry) {
    let strides = Self.strides(entry.shape)
    switch TorchDType.saved(entry.dtype)! {
    case .typed(let storage):
      global("torch._utils", "_rebuild_tensor_v2")
      op(.mark)
      self.storage("torch", storage, entry, count: entry.storageBytes * 8 / entry.dtype.bitWidth)
      layout(entry.shape.dims, strides)
    case .untyped(let dtype):
      global("torch._utils", "_rebuild_tensor_v3")
      op(.mark)
      self.storage("torch.storage", "UntypedStorage", entry, count: entry.storageBytes)
      layout(entry.shape.dims, strides)
      global("torch", dtype)
    }
    op(.tuple)
    op(.reduce)
  }

  /// Row-major strides in elements, as PyTorch has them for contiguous tensors.
  private static func strides(_ shape: Shape) -> [Int] {
    var strides = shape.dims
    var step = 1
    for k in shape.dims.indices.reversed() {
      strides[k] = step
      step *= max(1, shape.dims[k])
    }
    return strides
  }

  fileprivate mutating func storage(_ module: String, _ name: String, _ entry: TorchPickle.Entry, count: Int) {
    op(.mark)
    remembered("storage")
    global(module, name)
    text(entry.storage)
    remembered("cpu")
    int(count)
    op(.tuple)
    op(.binPersistent)
  }

  /// Offset, size, stride, requires_grad, and the hooks that no saved tensor has.
  fileprivate mutating func layout(_ dims: [Int], _ strides: [Int]) {
    int(0)
    tuple(dims)
    tuple(strides)
    op(.newFalse)
    emptyOrderedDict()
  }

  fileprivate mutating func emptyOrderedDict() {
    global("collections", "OrderedDict")
    op(.emptyTuple)
    op(.reduce)
  }
}
