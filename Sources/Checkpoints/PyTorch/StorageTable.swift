import Tensors

/// The storages of an archive: what a persistent id says, and where its bytes lie.
struct StorageTable {
  /// A storage that exists in the file with the size that the pickle gives it.
  struct Storage {
    /// Where its bytes begin in the file.
    var offset: Int
    /// Its bytes.
    var byteCount: Int
    /// The element type of its class; `nil` for untyped bytes.
    var dtype: DType?
  }

  let file: any StoredBytes
  let directory: ZipDirectory
  /// The folder of the archive, with its `/`.
  let prefix: String

  /// The storage behind a tensor's first argument; `subject` names the tensor.
  ///
  /// - Throws: `pytorch.persistent-id`, `pytorch.dtype`, `pytorch.storage-key`,
  ///   `pytorch.storage-missing`, `pytorch.storage-size`.
  func storage(
    _ ref: PickleRef, in graph: PickleGraph, subject: TensorSubject
  ) throws(Diagnostic) -> Storage {
    guard case .persistent(let id) = graph[ref] else {
      throw bad(subject, "its first argument is \(graph.kind(ref)), not a storage")
    }
    // ("storage", class, key, device, element count)
    guard let parts = graph.tuple(id).map({ Array($0.prefix(16)) }), parts.count >= 5,
      graph.string(parts[0]) == "storage", let key = graph.string(parts[2]),
      let count = graph.int(parts[4])
    else {
      throw bad(
        subject, "its persistent id is no tuple of \"storage\", class, key, device and size")
    }
    guard let type = graph.global(parts[1]), let meaning = TorchDType.storage(type) else {
      throw bad(subject, "its storage is of \(graph.kind(parts[1])), which is no storage class")
    }
    let dtype: DType?
    switch meaning {
    case .dtype(let known): dtype = known
    case .untyped: dtype = nil
    case .unsupported:
      throw .pytorch(
        "dtype", subject.text,
        "is of \(type.qualified), a type that has no place in a checkpoint here",
        help: "convert the tensor to a plain type in Python and save again")
    }
    guard !key.isEmpty, key.utf8.count <= 255,
      key.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f && $0 != 0x2f && $0 != 0x5c }),
      key != ".", key != ".."
    else {
      throw .pytorch(
        "storage-key", subject.text, "names its storage \(shown(key)), which is no plain name",
        help: "PyTorch writes no such names; do not trust the file")
    }
    guard let entry = directory[name: prefix + "data/" + key] else {
      throw .pytorch(
        "storage-missing", subject.text,
        "needs storage \(shown(key)), but the file has no entry \(shown(prefix + "data/" + key))",
        help: Diagnostic.fetchAgain)
    }
    let itemSize = (dtype?.bitWidth ?? 8) / 8
    guard count >= 0, let expected = count.checkedTimes(itemSize), expected == entry.byteCount
    else {
      throw .pytorch(
        "storage-size", subject.text,
        "says that its storage \(shown(key)) has \(count) elements of \(itemSize) bytes, but the"
          + " entry has \(entry.byteCount) bytes",
        help: Diagnostic.fetchAgain)
    }
    return Storage(offset: entry.dataOffset, byteCount: entry.byteCount, dtype: dtype)
  }

  private func bad(_ subject: TensorSubject, _ message: String) -> Diagnostic {
    .pytorch("persistent-id", subject.text, message, help: Diagnostic.saveAgain)
  }
}
