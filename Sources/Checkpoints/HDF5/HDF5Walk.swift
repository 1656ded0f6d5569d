import Tensors

/// Goes through a file's groups once, and gathers its datasets and everything wrong with them.
struct HDF5Walk {
  /// The attribute of a group that gives its only tensor a name which paths cannot spell.
  static let nameAttribute = "weighbridge.tensor-name"
  /// The attribute that tells the shape of a packed tensor.
  static let shapeAttribute = "shape"

  let session: HDF5Session
  let file: RandomAccessFile
  private(set) var names: [TensorName] = []
  private(set) var datasets: [HDF5Dataset] = []
  private(set) var problems: [Diagnostic] = []
  private(set) var warnings: [Diagnostic] = []
  private var pathsByKey: [HDF5ObjectKey: String] = [:]
  private var ancestors: [HDF5ObjectKey] = []
  private var datasetsByKey: [HDF5ObjectKey: Int?] = [:]
  private var pathsByName: [TensorName: String] = [:]
  /// Bytes that the paths of all links may still take. A file spells out a group's name once, and
  /// the paths of a thousand links in it repeat it a thousand times.
  private var pathBytesLeft: Int

  init(_ session: HDF5Session, _ file: RandomAccessFile) {
    self.session = session
    self.file = file
    pathBytesLeft = HDF5Guard.pathFloor + file.byteCount
  }

  /// Walks the group `group` and all below it.
  mutating func walk(root group: HDF5Session.Handle) {
    do throws(HDF5Failure) {
      let object = try session.describe(group)
      pathsByKey[object.key] = "/"
      ancestors.append(object.key)
      walk(group, path: "", name: nil, depth: 0)
      ancestors.removeLast()
    } catch {
      note(error.diagnostic(file.name))
    }
    for problem in HDF5Guard.check(datasets, fileBytes: file.byteCount, file.name) { note(problem) }
  }

  /// A hostile file can break rules a million times; the first hundred tell enough.
  private mutating func note(_ problem: Diagnostic) {
    if problems.count < 100 { problems.append(problem) }
  }

  /// `name` is the name that the group gives its only tensor.
  private mutating func walk(
    _ group: HDF5Session.Handle, path: String, name: TensorName?, depth: Int
  ) {
    let links: [HDF5Link]
    do throws(HDF5Failure) { links = try session.links(of: group) } catch {
      note(error.diagnostic(file.name, path: path.isEmpty ? "/" : path))
      return
    }
    if name != nil, links.count != 1 {
      note(
        .hdf5(
          "name", file.name, path: path,
          "names one tensor by its attribute \(Self.nameAttribute), but holds \(links.count)",
          help: "remove the attribute"))
      return
    }
    for link in links {
      guard let linkName = link.name else {
        note(
          .hdf5(
            "name", file.name, path: path.isEmpty ? "/" : path,
            "holds a link whose name is not UTF-8 or has more than 30 combining marks in a row",
            help: "rename it"))
        continue
      }
      pathBytesLeft -= path.utf8.count + linkName.utf8.count + 1
      guard pathBytesLeft >= 0 else {
        note(
          .hdf5(
            "name", file.name, path: path.isEmpty ? "/" : path,
            "the paths down to here take more bytes together than the file has",
            help: "use shorter names or fewer levels"))
        return
      }
      let linkPath = "\(path)/\(linkName)"
      do throws(Diagnostic) {
        try HDF5Guard.check(link: link.kind, file.name, path: linkPath)
        try visit(group, linkName, path: linkPath, name: name, depth: depth)
      } catch { note(error) }
    }
  }

  private mutating func visit(
    _ group: HDF5Session.Handle, _ link: String, path: String, name: TensorName?, depth: Int
  ) throws(Diagnostic) {
    let handle: HDF5Session.Handle
    let object: HDF5Object
    do throws(HDF5Failure) {
      handle = try session.openObject(group, link)
      do throws(HDF5Failure) { object = try session.describe(handle) } catch {
        session.close(handle)
        throw error
      }
    } catch { throw error.diagnostic(file.name, path: path) }
    defer { session.close(handle) }
    switch object.kind {
    case .group: try enter(handle, object, path: path, depth: depth)
    case .dataset: try add(handle, object, path: path, name: name)
    case .other:
      warnings.append(
        Diagnostic(
          .note, code: "hdf5.named-type", subject: "\(file.name): \(HDF5Text.quoted(path))",
          message: "is a named datatype, no tensor; passed over"))
    }
  }

  private mutating func enter(
    _ handle: HDF5Session.Handle, _ object: HDF5Object, path: String, depth: Int
  ) throws(Diagnostic) {
    let help = "link each group from one place only"
    if ancestors.contains(object.key) {
      throw .hdf5(
        "cycle", file.name, path: path,
        "leads back to \(HDF5Text.quoted(pathsByKey[object.key] ?? "/")), which it is in",
        help: help)
    }
    if let first = pathsByKey[object.key] {
      throw .hdf5(
        "group-alias", file.name, path: path,
        "is the group \(HDF5Text.quoted(first)) again, so that its tensors have two names each",
        help: help)
    }
    guard depth < HDF5Guard.maxDepth else {
      throw .hdf5(
        "depth", file.name, path: path,
        "is a group more than \(HDF5Guard.maxDepth) levels deep", help: "use flatter names")
    }
    pathsByKey[object.key] = path
    var name: TensorName?
    if object.attributeCount > 0, session.hasAttribute(handle, Self.nameAttribute) {
      do throws(HDF5Failure) {
        let text = try session.stringAttribute(handle, Self.nameAttribute, limit: file.byteCount)
        name = text.flatMap { HDF5Text.text($0) }.map { TensorName($0) }
      } catch { throw error.diagnostic(file.name, path: path) }
      guard name != nil else {
        throw .hdf5(
          "name", file.name, path: path,
          "has an attribute \(Self.nameAttribute) that is no text in UTF-8",
          help: "remove the attribute")
      }
    }
    ancestors.append(object.key)
    walk(handle, path: path, name: name, depth: depth + 1)
    ancestors.removeLast()
  }

  private mutating func add(
    _ handle: HDF5Session.Handle, _ object: HDF5Object, path: String, name: TensorName?
  ) throws(Diagnostic) {
    // By bytes: to Swift's characters, a slash with a combining mark is no slash.
    let (slash, dot) = (UInt8(ascii: "/"), UInt8(ascii: "."))
    let dotted = path.utf8.dropFirst().map { $0 == slash ? dot : $0 }
    let name = name ?? TensorName(String(decoding: dotted, as: UTF8.self))
    if let first = pathsByName[name] {
      throw .hdf5(
        "duplicate", file.name, path: path,
        "has the tensor name \(HDF5Text.quoted(name.string)), and so has "
          + HDF5Text.quoted(first), help: "rename one of the two")
    }
    pathsByName[name] = path
    if let known = datasetsByKey[object.key] {
      // A second name for one dataset: tied weights. What was wrong with it was said already.
      if let known {
        names.append(name)
        datasets.append(datasets[known])
      }
      return
    }
    datasetsByKey[object.key] = .some(nil)
    let dataset: HDF5Dataset
    do throws(HDF5Failure) {
      switch try examine(handle, object, path: path) {
      case .success(let value): dataset = value
      case .failure(let diagnostic):
        note(diagnostic)
        return
      }
    } catch { throw error.diagnostic(file.name, path: path) }
    datasetsByKey[object.key] = datasets.count
    names.append(name)
    datasets.append(dataset)
  }

  private func examine(
    _ handle: HDF5Session.Handle, _ object: HDF5Object, path: String
  ) throws(HDF5Failure) -> Result<HDF5Dataset, Diagnostic> {
    // The layout first: asking a virtual dataset for its shape can open other files.
    let layout = try session.layout(of: handle)
    do throws(Diagnostic) {
      try HDF5Guard.check(layout: layout, file.name, path: path)
    } catch { return .failure(error) }
    guard let dims = try session.dims(of: handle) else {
      return .failure(
        .hdf5(
          "null-dataspace", file.name, path: path, "has no shape (a null dataspace), so no tensor",
          help: "remove it, or store an attribute instead"))
    }
    var type = try session.type(of: handle)
    if case .opaque(2, _) = type, object.attributeCount > 0, session.hasAttribute(handle, "dtype"),
      try session.stringAttribute(handle, "dtype", limit: 64) == Array("bfloat16".utf8)
    {
      // How Keras stores bfloat16 (keras/src/saving/saving_lib.py, H5Entry): little-endian on
      // every machine that it runs on.
      type = HDF5Type(writing: .bf16)
    }
    var packedShape: [Int]?
    if object.attributeCount > 0, session.hasAttribute(handle, Self.shapeAttribute) {
      packedShape = try session.integersAttribute(handle, Self.shapeAttribute)
    }
    let stored = session.storedBytes(of: handle)
    let offset = layout.kind == .contiguous ? session.offset(of: handle) : nil
    do throws(Diagnostic) {
      let element = try HDF5Guard.element(type, file.name, path: path)
      guard let bytes = Shape(dims).elementCount?.checkedTimes(element.byteCount) else {
        throw .hdf5(
          "shape", file.name, path: path, "has shape \(Shape(dims)), more bytes than 64 bits count",
          help: "the file is damaged or made to deceive; write it again")
      }
      var dataset = HDF5Dataset(
        path: path, element: element,
        shape: try shape(element, dims, packed: packedShape, byteCount: bytes, path: path),
        byteCount: bytes, storage: .unwritten, fill: nil, key: object.key)
      dataset.storage = try storage(
        layout, dims: dims, dataset, stored: stored, offset: offset)
      return .success(try withFill(dataset, handle))
    } catch { return .failure(error) }
  }

  private func withFill(
    _ dataset: HDF5Dataset, _ handle: HDF5Session.Handle
  ) throws(Diagnostic) -> HDF5Dataset {
    var dataset = dataset
    switch dataset.storage {
    case .contiguous, .compact: return dataset
    case .unwritten, .chunked:
      do throws(HDF5Failure) {
        dataset.fill = try session.fillValue(of: handle, byteCount: dataset.element.byteCount)
      } catch { throw error.diagnostic(file.name, path: dataset.path) }
      return dataset
    }
  }

  /// The tensor's shape: the dataset's, or for packed types what the attribute says.
  private func shape(
    _ element: HDF5Element, _ dims: [Int], packed: [Int]?, byteCount: Int, path: String
  ) throws(Diagnostic) -> Shape {
    guard element.dtype.bitWidth < 8 else { return Shape(dims) }
    guard let packed, Shape(packed).byteCount(of: element.dtype) == byteCount else {
      throw .hdf5(
        "packed-shape", file.name, path: path,
        "holds \(byteCount) bytes of packed \(element.dtype.rawValue), and its attribute "
          + "\(Self.shapeAttribute) "
          + (packed.map { "says \(Shape($0))" } ?? "is missing or no list of whole numbers"),
        help: "write the tensor again")
    }
    return Shape(packed)
  }

  private func storage(
    _ layout: HDF5Session.Layout, dims: [Int], _ dataset: HDF5Dataset, stored: UInt64,
    offset: UInt64?
  ) throws(Diagnostic) -> HDF5Dataset.Storage {
    let (name, path, bytes) = (file.name, dataset.path, dataset.byteCount)
    guard bytes > 0 else { return .unwritten }
    switch layout.kind {
    case .compact:
      guard bytes <= 65536 else {
        throw .hdf5(
          "extent", name, path: path,
          "is stored in its header (compact) but claims \(bytes) bytes; at most 65536 fit",
          help: "the file is damaged; write it again")
      }
      return .compact
    case .contiguous:
      guard let offset else {
        try HDF5Guard.check(denseBytes: bytes, storedBytes: 0, name, path: path)
        return .unwritten
      }
      guard let start = Int(exactly: offset), let end = start.checkedPlus(bytes),
        end <= file.byteCount, stored >= UInt64(bytes)
      else {
        throw .hdf5(
          "extent", name, path: path,
          "claims \(bytes) bytes from byte \(offset) on, but \(stored) are stored and the file has "
            + "\(file.byteCount)", help: "the file is damaged or incomplete; fetch it again")
      }
      return .contiguous(offset: start)
    case .chunked, .virtual, .unknown:
      let size = dataset.element.byteCount
      guard layout.chunk.count == dims.count, !layout.chunk.contains(where: { $0 <= 0 }),
        let chunkBytes = Shape(layout.chunk).elementCount?.checkedTimes(size),
        chunkBytes <= Int(UInt32.max)
      else {
        throw .hdf5(
          "chunk", name, path: path,
          "has shape \(Shape(dims)) but chunks of \(Shape(layout.chunk)); same rank and less than "
            + "4 GiB are expected", help: "the file is damaged; write it again")
      }
      let filters = try HDF5Guard.filters(layout.filters, name, path: path)
      try HDF5Guard.check(denseBytes: bytes, storedBytes: stored, name, path: path)
      return .chunked(
        HDF5ChunkGrid(
          dims: dims, chunk: layout.chunk, elementBytes: size, chunkBytes: chunkBytes,
          filters: filters, plainEdges: layout.plainEdges))
    }
  }
}
