import Tensors

/// The tensors of a state dict, checked together.
struct TensorCatalog {
  private(set) var tensors: [TensorInfo] = []
  private(set) var views: [StridedView] = []
  private(set) var warnings: [Diagnostic] = []
  /// What stands among the tensors and is none, each with what it is.
  private(set) var others: [String: String] = [:]

  /// Decodes each entry of `state`.
  ///
  /// - Throws: what `TensorDecoder` throws, for every tensor (once for all sharded ones);
  ///   `pytorch.name`, `pytorch.expanded`.
  init(
    _ state: StateDict, _ graph: PickleGraph, _ decoder: TensorDecoder, _ file: RandomAccessFile
  ) throws(Problems) {
    var problems = ProblemList()
    var passedOver: [String] = []
    var sharded: [String] = []
    var sharding: Sharding?
    var reach = StorageReach(graph)
    // What holds no storage holds no weights; numpy's arrays must at least be whole to be told so.
    func isHarmless(_ value: PickleRef) -> Bool {
      guard !reach.holdsStorage(value) else { return false }
      // A class inside another has no name of its own here.
      guard let made = decoder.madeBy(value) else { return true }
      return made.name != "_reconstruct" || decoder.isArray(value)
    }
    // Views may share and repeat bytes; a small file that claims terabytes of them is refused. Layers
    // used 48 times over are still far within.
    let limit = (file.byteCount.checkedTimes(64) ?? Int.max / 2) + (64 << 20)
    var claimed = 0
    let fileName = file.name
    for (name, value) in state.entries {
      let subject = TensorSubject(file: fileName, name: name)
      let kind = decoder.kind(value)
      if let part = decoder.part(value) {
        sharded.append(name)
        sharding = sharding ?? part
        continue
      }
      // What get_extra_state() returns is a module's own business, never a parameter.
      let isExtraState = name == "_extra_state" || name.hasSuffix("._extra_state")
      if kind == .plain || isExtraState || kind == .opaque && isHarmless(value) {
        if name != "_metadata" {
          passedOver.append(name)
          others[name] = decoder.isArray(value) ? "a numpy array" : graph.kind(value)
        }
        continue
      }
      do throws(Diagnostic) {
        let (dtype, view, storageBytes) = try decoder.tensor(value, subject: subject)
        guard !name.isEmpty, !name.utf8.contains(0) else {
          throw .pytorch(
            "name", subject.text, "has a name that is empty or holds a NUL",
            help: Diagnostic.saveAgain)
        }
        let shape = Shape(view.dims)
        let byteCount = shape.byteCount(of: dtype)!
        guard let total = claimed.checkedPlus(byteCount), total <= limit else {
          throw .pytorch(
            "expanded", subject.text,
            "claims \(byteCount) bytes from a storage of \(storageBytes) (size \(shape), stride"
              + " \(Shape(view.strides))); together the views claim far more than the file holds",
            help: "save the tensor as it is stored, before `expand`")
        }
        claimed = total
        tensors.append(
          TensorInfo(
            name: TensorName(name), dtype: dtype, shape: shape, byteCount: byteCount,
            file: fileName,
            // Empty tensors have no bytes that they could share with another.
            extent: view.isDense && byteCount > 0
              ? TensorInfo.Extent(file: 0, offset: view.base) : nil))
        views.append(view)
      } catch { problems.add(error) }
    }
    if let sharding { problems.add(sharding.diagnostic(fileName, sharded)) }
    try problems.check()
    if !passedOver.isEmpty {
      let names = passedOver.prefix(8).map { shown($0) }.joined(separator: ", ")
      warnings.append(
        Diagnostic(
          .warning, code: "pytorch.passed-over", subject: fileName,
          message: passedOver.count == 1
            ? "holds an entry in its state dict that is no weight: \(names)"
            : "holds \(passedOver.count) entries in its state dict that are no weights:"
              + " \(names)\(passedOver.count > 8 ? ", …" : "")",
          notes: ["they are not converted"]))
    }
  }
}
