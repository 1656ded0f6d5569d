public import Tensors

/// Tells a file's container by its first bytes, and refuses other known formats by name.
public enum ContainerSniffer {
  /// The container of the file at `path`.
  ///
  /// A name that ends in `.safetensors` counts when the bytes say nothing else, so that a damaged
  /// header is reported as such.
  ///
  /// - Throws: `io.*`; `container.*` for an empty, foreign or unknown file.
  public static func sniff(path: String) throws(Diagnostic) -> Container {
    let file = try RandomAccessFile(path: path)
    let head = try file.bytes(at: 0, count: min(file.byteCount, 1024))
    if let container = try container(of: head, file: file) { return container }
    throw Diagnostic(
      code: "container.unknown", subject: path,
      message: "is no safetensors, PyTorch, HDF5, GGUF or npz file; it begins with "
        + head.prefix(8).map { hex($0) }.joined(separator: " "),
      help: "give a .safetensors, .bin, .pt, .pth, .h5, .hdf5, .gguf or .npz file, or its directory"
    )
  }

  private static func container(
    of head: [UInt8], file: RandomAccessFile
  ) throws(Diagnostic) -> Container? {
    let named = file.name.hasSuffix(".safetensors")
    guard !head.isEmpty else {
      if named { return .safetensors }
      if file.name.hasSuffix(".gguf") { return .gguf }
      throw refusal(file, "empty", "is empty", "the download or copy failed; fetch it again")
    }
    // A plausible length and an opening brace: nothing else begins so.
    if head.count > 8, head[4..<8].allSatisfy({ $0 == 0 }), head[8] == UInt8(ascii: "{") {
      return .safetensors
    }
    if begins(head, "GGUF") { return .gguf }
    if try HDF5Superblock.find(in: file) != nil { return .hdf5 }
    if begins(head, "PK\u{3}\u{4}") || begins(head, "PK\u{5}\u{6}") {
      return zipsArrays(head) || file.name.hasSuffix(".npz") ? .npz : .pytorch
    }
    if let refusal = foreign(head, file: file) { throw refusal }
    return named ? .safetensors : nil
  }

  /// Whether a zip's first entry is a numpy array.
  private static func zipsArrays(_ head: [UInt8]) -> Bool {
    guard head.count > 30 else { return false }
    let length = Int(head[26]) | Int(head[27]) << 8
    guard head.count >= 30 + length else { return false }
    return String(decoding: head[30..<30 + length], as: UTF8.self).hasSuffix(".npy")
  }

  private static func foreign(_ head: [UInt8], file: RandomAccessFile) -> Diagnostic? {
    if TorchArchive.isLegacy(head) {
      return refusal(
        file, "legacy-torch",
        "is a PyTorch file of the old format (before 1.6, or _use_new_zipfile_serialization=False)",
        "load it with torch.load(weights_only=True) and save it again with torch.save")
    }
    if head.count > 2, head[0] == 0x80, (2...5).contains(head[1]) {
      return refusal(
        file, "pickle", "is a bare pickle, not a PyTorch zip file",
        "only files of torch.save are read; a bare pickle can run code when Python loads it")
    }
    let magics: [(String, String, String, String)] = [
      (
        "lmgg", "ggml", "is a GGML file of llama.cpp",
        "give the checkpoint from which the file was made"
      ),
      (
        "version https://git-lfs", "git-lfs", "is a git-lfs pointer, not the file itself",
        "run git lfs pull, or fetch the file from its hub"
      ),
      ("7z\u{BC}", "compressed", "is a 7z archive", "unpack it first"),
      ("BZh", "compressed", "is compressed with bzip2", "unpack it first"),
    ]
    for (magic, code, message, help) in magics where begins(head, magic) {
      return refusal(file, code, message, help)
    }
    if head.starts(with: [0x1F, 0x8B]) {
      return refusal(file, "gzip", "is compressed with gzip", "unpack it with gunzip or tar -xzf")
    }
    if head.starts(with: [0x28, 0xB5, 0x2F, 0xFD]) || head.starts(with: [0xFD, 0x37, 0x7A, 0x58]) {
      return refusal(file, "compressed", "is compressed with zstd or xz", "unpack it first")
    }
    if head.starts(with: [0x93, 0x4E, 0x55, 0x4D, 0x50, 0x59]) {
      return refusal(
        file, "npy", "is a single numpy array (.npy)",
        "save the arrays with safetensors.numpy.save_file")
    }
    if head.count > 262, begins(Array(head[257...]), "ustar") {
      return refusal(file, "tar", "is a tar archive", "unpack it with tar -xf")
    }
    return text(head, file: file)
  }

  private static func text(_ head: [UInt8], file: RandomAccessFile) -> Diagnostic? {
    let space: Set<UInt8> = [9, 10, 13, 32]
    guard head.allSatisfy({ $0 >= 0x20 && $0 != 0x7F || space.contains($0) }),
      head.count >= 8 || !file.name.hasSuffix(".safetensors")
    else { return nil }
    let start = head.drop { space.contains($0) }.prefix(200)
    let text = String(decoding: start, as: UTF8.self)
    let lower = text.lowercased()
    if lower.hasPrefix("<!doctype") || lower.hasPrefix("<html") {
      return refusal(
        file, "html", "is a web page, not a checkpoint",
        "the download was answered with a page (a login or an error); fetch the file again")
    }
    // Bytes over 0x7F without any control byte are text only if they are UTF-8.
    guard head.allSatisfy({ $0 < 0x80 }) else { return nil }
    return refusal(
      file, "text", "is a text, not a checkpoint",
      "give the weights, or the directory that holds them")
  }

  private static func begins(_ bytes: [UInt8], _ magic: String) -> Bool {
    bytes.starts(with: magic.unicodeScalars.map { UInt8(truncatingIfNeeded: $0.value) })
  }

  private static func refusal(
    _ file: RandomAccessFile, _ code: String, _ message: String, _ help: String
  ) -> Diagnostic {
    Diagnostic(code: "container.\(code)", subject: file.path, message: message, help: help)
  }
}
