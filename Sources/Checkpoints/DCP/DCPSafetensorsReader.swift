public import Tensors

/// The safetensors files of every rank, as `HuggingFaceStorageWriter(save_distributed=True)` writes
/// them: each holds its own rows under the whole tensor's name, and only a text beside them says where
/// they belong. Read as ordinary shards they look like a smaller model.
public final class DCPSafetensorsReader: TiledSource {
  /// `.safetensors`.
  public let container = Container.safetensors
  /// The files of all ranks, in the order of their names.
  public let files: [RandomAccessFile]
  /// Every tensor, whole.
  public let tensors: [TensorInfo]
  /// The files' texts, but for those that say where the parts belong.
  public let metadata: [String: String]
  /// Nothing: safetensors keeps no other values.
  public var attachments: JSONValue { .null }
  /// What the checkpoint is.
  public let warnings: [Diagnostic]

  private let tiled: [TiledTensor]

  /// The text that says where parts belong.
  static let sharding = "DCP_SHARDING_INFO"
  private static let version = "DCP_VERSION"

  /// Whether the file at `path` is one rank's part, going by its first bytes: texts stand before
  /// tensors in every header.
  static func isPart(_ path: String) -> Bool {
    guard path.hasSuffix(".safetensors"), let file = try? RandomAccessFile(path: path),
      let head = try? file.bytes(at: 0, count: min(4096, file.byteCount))
    else { return false }
    return head.firstRange(of: Array(sharding.utf8)) != nil
  }

  /// Refuses a part that would be read as a whole tensor.
  ///
  /// - Throws: `dcp.one-rank`.
  static func checkWhole(_ source: any TensorSource, path: String) throws(Problems) {
    guard source.metadata[sharding] != nil else { return }
    throw Problems([
      .dcp(
        "one-rank", path, "holds the rows of one rank only, though it looks like a whole model",
        help: "give the directory with the files of all ranks")
    ])
  }

  /// The number in `shard-00002-model-00001-of-00001.safetensors`.
  private static func number(of name: String) -> Int? {
    guard name.hasPrefix("shard-"), name.hasSuffix(".safetensors"), name.contains("-model-") else {
      return nil
    }
    return Int(name.dropFirst("shard-".count).prefix { $0 != "-" })
  }

  /// Whether a name is one that such a part has.
  static func isPartName(_ name: String) -> Bool { number(of: name) != nil }

  /// Opens all parts in `directory`.
  ///
  /// - Throws: every problem found: `dcp.spoiled` for a file that begins with a pickled item,
  ///   `dcp.sharding-info`, `dcp.missing-file`, `dcp.hole`, `dcp.overlap`, `dcp.stored-dtype`,
  ///   `dcp.foreign-file`, `safetensors.*`, `io.*`.
  public init(
    directory given: String, rules: SafetensorsHeader.Rules = .strict
  ) throws(Problems) {
    let directory = FilePath.trimmed(given)
    var problems = ProblemList()
    var files: [RandomAccessFile] = []
    var headers: [SafetensorsHeader] = []
    var numbers: [Int] = []
    let names: [String]
    do throws(Diagnostic) {
      names = try FilePath.names(in: directory).filter { $0.hasSuffix(".safetensors") }
    } catch { throw Problems([error]) }
    for name in names {
      let path = directory + "/" + name
      do throws(Problems) {
        let file: RandomAccessFile
        do throws(Diagnostic) {
          file = try RandomAccessFile(path: path)
          try Self.checkBeginning(of: file)
        } catch { throw Problems([error]) }
        let header = try SafetensorsHeader(of: file, rules: rules)
        guard header.metadata[Self.sharding] != nil else {
          // Something else may lie there too, unless it is named as a part.
          guard Self.isPartName(name) else { continue }
          throw Problems([
            .dcp(
              "sharding-info", path,
              "is named as one rank's part, but does not say which rows it holds",
              help: Diagnostic.fetchAgain)
          ])
        }
        files.append(file)
        headers.append(header)
        if let number = Self.number(of: name) { numbers.append(number) }
      } catch { for problem in error.diagnostics { problems.add(problem) } }
    }
    try problems.check()
    let gaps = Set(1...max(1, min(numbers.max() ?? 1, 100_000))).subtracting(numbers).sorted()
    if let first = gaps.first, !numbers.isEmpty {
      throw Problems([
        .dcp(
          "missing-file", directory,
          "holds parts up to number \(numbers.max() ?? 0), but not number \(first)",
          help: "the checkpoint is incomplete; fetch the files of all ranks")
      ])
    }
    let assembled = try Self.assemble(files, headers, directory)
    self.files = files
    tensors = assembled.tensors
    tiled = assembled.tiled
    var metadata: [String: String] = [:]
    for header in headers { metadata.merge(header.metadata) { old, _ in old } }
    metadata[Self.sharding] = nil
    metadata[Self.version] = nil
    self.metadata = metadata
    warnings = [
      Diagnostic(
        .note, code: "dcp.checkpoint", subject: directory,
        message: "is a sharded checkpoint in safetensors: \(files.count) rank"
          + (files.count == 1 ? "" : "s"))
    ]
  }

  private static func checkBeginning(of file: RandomAccessFile) throws(Diagnostic) {
    let head = try file.bytes(at: 0, count: min(4, file.byteCount))
    guard head == [0x50, 0x4b, 3, 4] else { return }
    throw .dcp(
      "spoiled", file.path,
      "begins with a pickled item (a number or list among the tensors), which PyTorch's writer puts"
        + " in front of the safetensors header",
      help: "save tensors only, or with the plain FileSystemWriter")
  }

  /// A tensor as its parts say it.
  private struct Pieces {
    var dtype: DType
    var rank: Int
    var tiles: [TiledTensor.Tile] = []
    var dims: [Int]
    var file: String
  }

  private static func assemble(
    _ files: [RandomAccessFile], _ headers: [SafetensorsHeader], _ directory: String
  ) throws(Problems) -> (tensors: [TensorInfo], tiled: [TiledTensor]) {
    var problems = ProblemList()
    var order: [TensorName] = []
    var found: [TensorName: Pieces] = [:]
    for (number, header) in headers.enumerated() {
      let file = files[number]
      let offsets: [TensorName: [Int]]
      do throws(Diagnostic) {
        offsets = try Self.offsets(header.metadata[sharding] ?? "", file)
      } catch {
        problems.add(error)
        continue
      }
      for info in header.tensors {
        let subject = "\(file.path): tensor \(shown(info.name.string))"
        do throws(Diagnostic) {
          guard let own = offsets[info.name], own.count == info.shape.rank,
            info.dtype.bitWidth % 8 == 0
          else {
            throw .dcp(
              "sharding-info", subject,
              "has size \(info.shape), but no offsets of \(info.shape.rank) dimensions that say"
                + " where it belongs", help: Diagnostic.fetchAgain)
          }
          let box = DCPMetadata.Box(offsets: own, sizes: info.shape.dims)
          if found[info.name] == nil {
            order.append(info.name)
            found[info.name] = Pieces(
              dtype: info.dtype, rank: own.count, dims: own.map { _ in 0 }, file: file.name)
          }
          try add(info, box, number, &found[info.name]!, subject)
        } catch { problems.add(error) }
      }
    }
    try problems.check()
    var tensors: [TensorInfo] = []
    var tiled: [TiledTensor] = []
    for name in order {
      guard let pieces = found[name] else { continue }
      let subject = "\(directory): tensor \(shown(name.string))"
      let shape = Shape(pieces.dims)
      do throws(Diagnostic) {
        guard let bytes = shape.byteCount(of: pieces.dtype) else {
          throw .dcp(
            "size", subject, "has size \(shape), which no tensor can have",
            help: Diagnostic.fetchAgain)
        }
        try Tiling.check(pieces.tiles.map(\.box), in: pieces.dims, subject)
        let extent =
          pieces.tiles.count == 1
          ? TensorInfo.Extent(file: pieces.tiles[0].file, offset: pieces.tiles[0].view.base) : nil
        tensors.append(
          TensorInfo(
            name: name, dtype: pieces.dtype, shape: shape, byteCount: bytes, file: pieces.file,
            extent: extent))
        tiled.append(
          TiledTensor(
            dims: pieces.dims, itemSize: pieces.dtype.bitWidth / 8, tiles: pieces.tiles))
      } catch { problems.add(error) }
    }
    try problems.check()
    return (tensors, tiled)
  }

  /// Adds a part; the whole reaches as far as the parts do.
  private static func add(
    _ info: TensorInfo, _ box: DCPMetadata.Box, _ file: Int, _ pieces: inout Pieces,
    _ subject: String
  ) throws(Diagnostic) {
    guard info.dtype == pieces.dtype, info.shape.rank == pieces.rank else {
      throw .dcp(
        "stored-dtype", subject,
        "is \(info.dtype.rawValue) of \(info.shape.rank) dimensions, but"
          + " \(pieces.dtype.rawValue) of \(pieces.rank) in \(pieces.file)",
        help: Diagnostic.fetchDirectoryAgain)
    }
    for (axis, size) in box.sizes.enumerated() {
      guard box.offsets[axis] >= 0, let end = box.offsets[axis].checkedPlus(size) else {
        throw .dcp(
          "chunk-range", subject,
          "is said to belong at \(Shape(box.offsets)), where no tensor has any element",
          help: Diagnostic.fetchAgain)
      }
      // A rank without rows says where they would be, which is no part of the size.
      if !box.isEmpty || pieces.tiles.isEmpty {
        pieces.dims[axis] = max(pieces.dims[axis], box.isEmpty ? size : end)
      }
    }
    guard !box.isEmpty else { return }
    var strides = box.sizes
    var step = 1
    for axis in box.sizes.indices.reversed() {
      strides[axis] = step
      step *= box.sizes[axis]
    }
    pieces.tiles.append(
      TiledTensor.Tile(
        box: box, file: file,
        view: StridedView(
          base: info.extent?.offset ?? 0, itemSize: info.dtype.bitWidth / 8, dims: box.sizes,
          strides: strides)))
  }

  /// `{"w": {"saved_offsets": [3, 0]}}`.
  private static func offsets(
    _ text: String, _ file: RandomAccessFile
  ) throws(Diagnostic) -> [TensorName: [Int]] {
    func bad(_ reason: String) -> Diagnostic {
      .dcp(
        "sharding-info", file.path, "has a text \(sharding) that \(reason)",
        help: Diagnostic.fetchAgain)
    }
    let value: JSONValue
    do throws(Diagnostic) {
      value = try JSONParser.parse(Array(text.utf8), file: file.path, mode: .python)
    } catch { throw bad("is no JSON: \(error.message)") }
    guard let object = value.object else { throw bad("is no JSON object") }
    var result: [TensorName: [Int]] = [:]
    for (name, entry) in object {
      guard let list = entry["saved_offsets"]?.array else {
        throw bad("gives \(shown(name)) no list of offsets")
      }
      let numbers = list.compactMap(\.int)
      guard numbers.count == list.count, numbers.count <= 64 else {
        throw bad("gives \(shown(name)) offsets that are no whole numbers")
      }
      result[TensorName(name)] = numbers
    }
    return result
  }

  /// How tensor number `index` is cut.
  public func grid(of index: Int) -> String? { tiled[index].grid }

  /// Reads the bytes `range` of tensor number `index`, row-major, from the parts that hold them.
  ///
  /// - Throws: `io.*`.
  public func read(
    _ index: Int, bytes range: Range<Int>, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Diagnostic) {
    checkRange(index, range, buffer)
    try tiled[index].read(range, from: files, into: buffer)
  }
}
