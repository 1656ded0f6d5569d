import OrderedCollections
public import Tensors

/// A PyTorch zip checkpoint (`torch.save` since 1.6), read without running anything of it.
///
///     let reader = try TorchReader(path: "pytorch_model.bin")
///     reader.tensors[0].name       // "backbone.embedding.weight"
///     try reader.bytes(of: 0)      // dense and little-endian, whatever its strides
///
/// The state dict may stand bare or under any key; where there are several, the usual ones are
/// `model`, `state_dict`, `model_state_dict` and `module`, and `key` chooses another. Its names are
/// kept as they are. Opening reads the zip directory and `data.pkl`.
public final class TorchReader: TensorSource {
  /// `.pytorch`.
  public let container = Container.pytorch
  /// The one file.
  public let files: [RandomAccessFile]
  /// Every tensor, in the order of the state dict. `extent` is set where the bytes lie densely.
  public let tensors: [TensorInfo]
  /// Always empty: pickled checkpoints have no texts of their own beside the tensors.
  public let metadata: [String: String] = [:]
  /// What stands around the state dict: numbers, texts, lists, dicts, and objects
  /// (`argparse.Namespace`) by their state; tensors and unknown things are `null`.
  public let attachments: JSONValue
  /// Other models in the file, entries of the state dict that are no tensors, and attachments that
  /// were cut.
  public let warnings: [Diagnostic]
  /// Entries of the state dict that are no tensors, each with what it is.
  public let others: [String: String]
  /// What is left of `key` for the tensors' names, when it names no dict of the file.
  package let keyRest: String?
  /// The keys of the file's dicts of tensors.
  package let models: [String]

  private let directory: ZipDirectory
  private let views: [StridedView]
  private let window = StridedWindow()

  /// Opens a checkpoint.
  ///
  /// - Parameters:
  ///   - path: the file.
  ///   - key: the key of the state dict to read (`model_ema`), or keys joined with dots.
  /// - Throws: every problem found, all with codes `pytorch.*` or `io.*`: `pytorch.legacy` for files
  ///   older than the zip form, `pytorch.torchscript`, `pytorch.zip-*` and `pytorch.pickle-*` for
  ///   broken files, `pytorch.dangerous-global` for those that would run code in Python,
  ///   `pytorch.no-state-dict`, and one for each tensor that cannot be read.
  public convenience init(path: String, key: String? = nil) throws(Problems) {
    try self.init(path: path, choosing: key)
    if let keyRest { throw Problems([.unknownKey(keyRest, files[0].name, models: models)]) }
  }

  /// Opens a checkpoint; what is left of `key` is in `keyRest`.
  package init(path: String, choosing key: String?) throws(Problems) {
    let file: RandomAccessFile
    do throws(Diagnostic) {
      file = try RandomAccessFile(path: path)
      try TorchArchive.checkKind(of: file)
    } catch { throw Problems([error]) }
    let archive = try TorchArchive(file: file)
    let graph = try PickleMachine.run(
      archive.pickle, subject: "\(file.name): \(archive.prefix)data.pkl")

    let storages = StorageTable(file: file, directory: archive.directory, prefix: archive.prefix)
    let decoder = TensorDecoder(graph: graph, storages: storages)
    let state = try StateDict.find(in: graph, decoder, subject: file.name, key: key)
    let catalog = try TensorCatalog(state, graph, decoder, file)
    var attachments = Attachments(graph: graph, decoder: decoder, omitting: state.ref)

    files = [file]
    directory = archive.directory
    tensors = catalog.tensors
    views = catalog.views
    others = catalog.others
    self.attachments = attachments.json()
    keyRest = state.keyRest
    models = state.models
    var warnings = state.notes + catalog.warnings
    if attachments.isCut {
      warnings.append(
        Diagnostic(
          .warning, code: "pytorch.attachments", subject: file.name,
          message: "holds more beside its weights than is kept; the rest is read as null"))
    }
    self.warnings = warnings
  }

  /// Reads the bytes `range` of tensor number `index`, dense and row-major, into `buffer`.
  ///
  /// Strided views are gathered in blocks of a mebibyte, and read ahead by at most 32 mebibytes.
  ///
  /// - Throws: `io.*`.
  public func read(
    _ index: Int, bytes range: Range<Int>, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Diagnostic) {
    checkRange(index, range, buffer)
    try window.read(
      index, views[index], range, of: tensors[index].byteCount, from: files[0], into: buffer)
  }

  /// Reads the whole file and compares each entry with its CRC-32, where there is one.
  ///
  /// - Throws: `pytorch.zip-checksum` for each damaged entry, or `io.*`.
  public func verifyChecksums() throws(Problems) {
    var problems = ProblemList()
    for entry in directory.entries {
      do throws(Diagnostic) {
        try directory.verify(entry, in: files[0])
      } catch { problems.add(error) }
    }
    try problems.check()
  }
}
