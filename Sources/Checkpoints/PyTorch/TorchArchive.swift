import Tensors

/// The parts of a zip checkpoint: its directory, its folder, and its pickle.
struct TorchArchive {
  let directory: ZipDirectory
  /// The folder that everything lies in, with its `/`.
  let prefix: String
  /// The bytes of `data.pkl`.
  let pickle: [UInt8]

  /// Bytes that a `data.pkl` may have; that of a model with 10,000 tensors has about one million.
  private static let pickleLimit = 1 << 28

  /// Whether a file begins as PyTorch wrote it before 1.6: with the pickled number
  /// 0x1950a86a20f9469cfc6c, behind protocols that have no frames.
  static func isLegacy(_ head: [UInt8]) -> Bool {
    let magic: [UInt8] = [0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19]
    return head.count >= 14 && head[0] == 0x80 && head[2..<14].elementsEqual(magic)
  }

  /// Refuses by name what is no zip file.
  ///
  /// - Throws: `pytorch.legacy`, `pytorch.not-zip`, `pytorch.zip-prefixed`, `io.*`.
  static func checkKind(of file: any StoredBytes) throws(Diagnostic) {
    let head = try file.bytes(at: 0, count: min(file.byteCount, 512))
    if head.starts(with: [0x50, 0x4b, 3, 4]) || head.starts(with: [0x50, 0x4b, 5, 6]) { return }
    let resave =
      "load it with `torch.load` in PyTorch 1.6 or newer and save it again with `torch.save`"
    if isLegacy(head) {
      throw .pytorch(
        "legacy", file.name, "is a PyTorch checkpoint of the form before 1.6, which is no zip file",
        help: resave)
    }
    if head.count > 262, head[257..<262].elementsEqual("ustar".utf8) {
      throw .pytorch(
        "legacy", file.name,
        "is a tar file, perhaps a PyTorch checkpoint of the form before 0.1.10",
        help: resave)
    }
    if head.count > 2, head[0] == 0x80, head[1] <= 5 {
      throw .pytorch(
        "legacy", file.name, "is a bare pickle and no zip file of PyTorch's",
        help: "if it is a checkpoint, " + resave)
    }
    if file.byteCount >= 22,
      try file.bytes(at: file.byteCount - 22, count: 4).u32(0) == ZipEnd.endSignature
    {
      throw ZipEnd.prefixed(file, bytes: nil)
    }
    throw .pytorch(
      "not-zip", file.name,
      "is no zip file, which PyTorch checkpoints are (it has \(file.byteCount) bytes)",
      help: "check that this is the file meant, and that it was fetched completely")
  }

  /// Reads the directory and the pickle.
  ///
  /// - Throws: `pytorch.zip-*`, `pytorch.torchscript`, `pytorch.no-pickle`,
  ///   `pytorch.several-pickles`, `pytorch.pickle-size`, `pytorch.byte-order`, `io.*`.
  init(file: any StoredBytes) throws(Problems) {
    do throws(Problems) { directory = try ZipDirectory(file: file) } catch {
      // A program's code is compressed, which is not what is wrong with it.
      guard error.diagnostics.contains(where: { $0.code == "pytorch.zip-compressed" }),
        let whole = try? ZipDirectory(file: file, allowsDeflate: true)
      else { throw error }
      do throws(Diagnostic) { _ = try Self.findPrefix(whole, file) } catch let cause {
        throw cause.code == "pytorch.torchscript" ? Problems([cause]) : error
      }
      throw error
    }
    do throws(Diagnostic) {
      prefix = try Self.findPrefix(directory, file)
      let entry = directory[name: prefix + "data.pkl"]!
      guard entry.byteCount <= Self.pickleLimit else {
        throw .pytorch(
          "pickle-size", "\(file.name): entry \(shown(entry.name))",
          "has \(entry.byteCount) bytes; at most \(Self.pickleLimit) are read",
          help: "save the weights without what else the checkpoint holds")
      }
      pickle = try directory.bytes(of: entry, in: file)
      try Self.checkByteOrder(directory, prefix, file)
    } catch { throw Problems([error]) }
  }

  private static func findPrefix(
    _ directory: ZipDirectory, _ file: any StoredBytes
  ) throws(Diagnostic) -> String {
    var prefixes: [String] = []
    for entry in directory.entries {
      let parts = entry.name.utf8.split(separator: UInt8(ascii: "/"))
      guard parts.count == 2, let folder = parts.first, parts[1].elementsEqual("data.pkl".utf8)
      else { continue }
      prefixes.append(String(Substring(folder)) + "/")
    }
    if let prefix = prefixes.first {
      guard prefixes.count == 1 else {
        throw .pytorch(
          "several-pickles", file.name,
          "holds \(prefixes.count) checkpoints: \(prefixes.map { shown($0) }.joined(separator: ", "))",
          help: "save each of them as a file of its own")
      }
      let isScript =
        directory[name: prefix + "constants.pkl"] != nil
        || directory.entries.contains { $0.name.hasPrefix(prefix + "code/") }
      guard !isScript else {
        throw .pytorch(
          "torchscript", file.name, "is a TorchScript archive: a program with its weights",
          help: "load it with `torch.jit.load` and save its `state_dict()` with `torch.save`")
      }
      return prefix
    }
    throw .pytorch(
      "no-pickle", file.name, "is a zip file without a data.pkl in a folder of its own",
      notes: directory.entries.isEmpty
        ? ["it is empty"]
        : [
          "it holds \(directory.entries.prefix(5).map { shown($0.name) }.joined(separator: ", "))"
        ],
      help: "PyTorch's checkpoints hold one; check that this is the file meant")
  }

  private static func checkByteOrder(
    _ directory: ZipDirectory, _ prefix: String, _ file: any StoredBytes
  ) throws(Diagnostic) {
    // PyTorch before 2.1 wrote no such entry, and only little-endian machines wrote files in practice.
    guard let entry = directory[name: prefix + "byteorder"] else { return }
    let text = try directory.bytes(of: entry, in: file, atMost: 64)
    guard !text.elementsEqual("little".utf8) else { return }
    throw .pytorch(
      "byte-order", "\(file.name): entry \(shown(entry.name))",
      text.elementsEqual("big".utf8)
        ? "says that the weights are big-endian" : "says neither little nor big",
      help: "load it with `torch.load` and save it again on a little-endian machine")
  }
}
