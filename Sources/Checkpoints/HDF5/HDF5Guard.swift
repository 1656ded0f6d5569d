import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// What an HDF5 file must not hold or claim, whoever wrote it.
enum HDF5Guard {
  /// Groups inside each other that are followed.
  static let maxDepth = 64
  /// Chunked data may be this many times larger than what is stored: zlib's limit is 1032.
  static let maxExpansion = 1100
  /// Below this a dataset may claim more than it stores (one that was never written has nothing).
  static let datasetFloor = 16 << 20
  /// Below this all tensors together may claim more than the file's size explains.
  static let totalFloor = 64 << 20

  /// Below this the paths of all links may take more bytes than the file has.
  static let pathFloor = 1 << 20

  /// What libhdf5 may take in the rehearsal, beside twice the file's size.
  static let libraryMemory = 256 << 20

  /// The error for a file that libhdf5 does not survive, or not within its time and memory.
  static func crash(_ signal: Int32, _ file: String) -> Diagnostic {
    let message =
      switch signal {
      case ..<0: "libhdf5 wants more memory for it than its size explains"
      case SIGXCPU, SIGALRM:
        "libhdf5 does not come to an end with it; a child process that tried was stopped"
      default:
        "libhdf5 crashes on it (signal \(signal)); only a child process that tried was hurt"
      }
    return .hdf5(
      "crash", file, message,
      help: "the file is damaged or made to deceive; fetch or write it again")
  }

  /// Refuses every link but hard ones: others make a file's reader open what the file's writer
  /// chose, on the reader's machine.
  static func check(link: HDF5Link.Kind, _ file: String, path: String) throws(Diagnostic) {
    let help =
      "copy the data itself into the file (in h5py: `f.copy` with expand_soft and "
      + "expand_external)"
    switch link {
    case .hard: return
    case .soft:
      throw .hdf5("soft-link", file, path: path, "is a soft link; only data is read", help: help)
    case .external:
      throw .hdf5(
        "external-link", file, path: path, "is a link into another file, which is never followed",
        help: help)
    case .other:
      throw .hdf5(
        "user-link", file, path: path, "is a user-defined link, which is never followed",
        help: help)
    }
  }

  /// Refuses storage outside of the file.
  static func check(
    layout: HDF5Session.Layout, _ file: String, path: String
  ) throws(Diagnostic) {
    guard layout.externalFiles == 0 else {
      throw .hdf5(
        "external-storage", file, path: path,
        "keeps its bytes in \(layout.externalFiles) other file(s), which are never opened",
        help: "store the data in the file itself")
    }
    switch layout.kind {
    case .virtual:
      throw .hdf5(
        "virtual", file, path: path,
        "is a virtual dataset, put together from others; only stored data is read",
        help: "write its values into a plain dataset")
    case .unknown:
      throw .hdf5(
        "layout", file, path: path, "has a storage layout that is not known",
        help: "write the dataset contiguous or chunked")
    case .compact, .contiguous, .chunked: return
    }
  }

  /// The element that a type of numbers stands for.
  ///
  /// - Throws: `hdf5.compound` for complex numbers of other widths than complex64, `hdf5.dtype`.
  static func element(
    _ type: HDF5Type, _ file: String, path: String
  ) throws(Diagnostic) -> HDF5Element {
    if let element = type.element { return element }
    var code = "dtype"
    if case .compound = type { code = "compound" }
    var help = "store it as floats, integers or bools of a standard size, or remove it"
    if case .opaque(2, _) = type {
      help = "if it is bfloat16, say so as Keras does: an attribute `dtype` with the text bfloat16"
    }
    if case .compound = type {
      help =
        "of complex numbers only those of two 32-bit floats are read; store it as complex64, or "
        + "remove it"
    }
    throw .hdf5(
      code, file, path: path, "has elements of type \(type), which no tensor type matches",
      help: help)
  }

  /// The filters that reading undoes.
  ///
  /// - Throws: `hdf5.filter`.
  static func filters(
    _ filters: [(id: Int, name: String)], _ file: String, path: String
  ) throws(Diagnostic) -> [HDF5ChunkGrid.Filter] {
    var known: [HDF5ChunkGrid.Filter] = []
    for (id, name) in filters {
      guard let filter = HDF5ChunkGrid.Filter(rawValue: id), !known.contains(filter) else {
        let label = name.isEmpty ? Self.names[id] ?? "unknown" : name
        throw .hdf5(
          "filter", file, path: path,
          "is packed with filter \(id) (\(HDF5Text.quoted(label))); only gzip (1), lzf (32000), "
            + "shuffle (2) and fletcher32 (3) are undone, each once",
          help: "write it with compression=\"gzip\" or without compression")
      }
      known.append(filter)
    }
    return known
  }

  private static let names = [
    4: "szip", 5: "nbit", 6: "scaleoffset", 32001: "blosc", 32004: "lz4",
    32008: "bitshuffle", 32013: "zfp", 32015: "zstd", 32026: "blosc2",
  ]

  /// Refuses a dataset that claims far more bytes than are stored for it.
  static func check(
    denseBytes: Int, storedBytes: UInt64, _ file: String, path: String
  ) throws(Diagnostic) {
    guard denseBytes > datasetFloor else { return }
    let (allowed, overflow) = storedBytes.multipliedReportingOverflow(by: UInt64(maxExpansion))
    if !overflow, UInt64(denseBytes) > allowed {
      throw .hdf5(
        "shape-bomb", file, path: path,
        "claims \(denseBytes) bytes, but only \(storedBytes) are stored for it",
        notes: ["gzip cannot pack data more than 1032 times"],
        help: "the file asks for more memory than its data explains; do not trust it")
    }
  }

  /// Refuses a file whose tensors together claim far more bytes than it has, and contiguous
  /// datasets that share bytes without being one object.
  static func check(
    _ datasets: [HDF5Dataset], fileBytes: Int, _ file: String
  ) -> [Diagnostic] {
    var problems: [Diagnostic] = []
    var total = 0
    for dataset in datasets { total = total.checkedPlus(dataset.byteCount) ?? Int.max }
    if total > totalFloor, total / maxExpansion > fileBytes {
      problems.append(
        .hdf5(
          "shape-bomb", file,
          "its \(datasets.count) datasets claim \(total) bytes together, but the file has only "
            + "\(fileBytes)",
          help: "the file asks for more memory than its data explains; do not trust it"))
    }
    var extents: [(offset: Int, end: Int, dataset: HDF5Dataset)] = []
    for dataset in datasets {
      guard case .contiguous(let offset) = dataset.storage else { continue }
      extents.append((offset, offset + dataset.byteCount, dataset))
    }
    extents.sort { ($0.offset, $0.end) < ($1.offset, $1.end) }
    for (a, b) in zip(extents, extents.dropFirst())
    where b.offset < a.end && a.dataset.key != b.dataset.key {
      problems.append(
        .hdf5(
          "overlap", file, path: b.dataset.path,
          "starts at byte \(b.offset), inside of \(HDF5Text.quoted(a.dataset.path)) "
            + "(\(a.offset) to \(a.end))",
          help: "the file is damaged or made to deceive; write it again"))
    }
    return problems
  }
}
