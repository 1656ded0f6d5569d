import Tensors

/// Writes the `data.pkl` of a state dict: protocol 2, and only what `torch.load(weights_only=True)`
/// allows.
struct TorchPickle {
  private var bytes: [UInt8] = [0x80, 2]
  /// Names and texts that are written once and then recalled.
  private var memo: [String: UInt8] = [:]

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
    var pickle = TorchPickle()
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
    var pickle = TorchPickle()
    pickle.tensor(entry)
    pickle.op(.stop)
    return pickle.bytes
  }

  private mutating func tensor(_ entry: Entry) {
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

  private mutating func storage(_ module: String, _ name: String, _ entry: Entry, count: Int) {
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
  private mutating func layout(_ dims: [Int], _ strides: [Int]) {
    int(0)
    tuple(dims)
    tuple(strides)
    op(.newFalse)
    emptyOrderedDict()
  }

  private mutating func emptyOrderedDict() {
    global("collections", "OrderedDict")
    op(.emptyTuple)
    op(.reduce)
  }

  private mutating func op(_ opcode: PickleOpcode) { bytes.append(opcode.rawValue) }

  private mutating func tuple(_ values: [Int]) {
    switch values.count {
    case 0: op(.emptyTuple)
    case 1...3:
      for value in values { int(value) }
      op([.tuple1, .tuple2, .tuple3][values.count - 1])
    default:
      op(.mark)
      for value in values { int(value) }
      op(.tuple)
    }
  }

  private mutating func int(_ value: Int) {
    switch value {
    case 0..<0x100:
      op(.binInt1)
      bytes.append(UInt8(value))
    case 0..<0x1_0000:
      op(.binInt2)
      bytes.append16(value)
    case 0..<0x8000_0000:
      op(.binInt)
      bytes.append32(UInt32(value))
    default:
      op(.long1)
      bytes.append(8)
      bytes.append64(value)
    }
  }

  private mutating func text(_ text: String) {
    op(.binUnicode)
    bytes.append32(UInt32(text.utf8.count))
    bytes.append(contentsOf: text.utf8)
  }

  private mutating func remembered(_ value: String) {
    recall(value) { $0.text(value) }
  }

  private mutating func global(_ module: String, _ name: String) {
    recall(module + "." + name) { pickle in
      pickle.op(.global)
      pickle.bytes.append(contentsOf: "\(module)\n\(name)\n".utf8)
    }
  }

  /// There are two dozen types and functions: places in the memo fit a byte.
  private mutating func recall(_ key: String, else write: (inout TorchPickle) -> Void) {
    if let place = memo[key] {
      op(.binGet)
      bytes.append(place)
      return
    }
    write(&self)
    let place = UInt8(memo.count)
    memo[key] = place
    op(.binPut)
    bytes.append(place)
  }
}
