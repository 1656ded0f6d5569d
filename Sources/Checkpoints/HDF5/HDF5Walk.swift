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
  /// What is wrong, each kind of fault once.
  private(set) var faults = HDF5Faults()
  /// What stands beside the weights and is none.
  private var company = HDF5Company()
  /// Soft links whose paths were looked up; each can take a walk of its own.
  private var softLinks = 0
  private var pathsByKey: [HDF5ObjectKey: String] = [:]
  private var ancestors: [HDF5ObjectKey] = []
  private var datasetsByKey: [HDF5ObjectKey: Int?] = [:]
  private var pathsByName: [TensorName: String] = [:]
  /// Bytes that the paths of all links may still take. A file spells out a group's name once, and
  /// the paths of a thousand links in it repeat it a thousand times.
  private var pathBytesLeft: Int
  /// Whether MATLAB wrote the file: it says so in the user block, and at its variables.
  private var isMATLAB: Bool

  init(_ session: HDF5Session, _ file: RandomAccessFile) {
    self.session = session
    self.file = file
    pathBytesLeft = HDF5Guard.pathFloor + file.byteCount
    let start = try? file.bytes(at: 0, count: min(10, file.byteCount))
    isMATLAB = start == Array("MATLAB 7.3".utf8)
  }

  /// Problems of the file, each kind once.
  var problems: [Diagnostic] { faults.diagnostics(file.name) }

  /// What was passed over, and what the file's writer does differently.
  func warnings() -> [Diagnostic] {
    var warnings = company.diagnostic(file.name).map { [$0] } ?? []
    if isMATLAB {
      warnings.append(
        Diagnostic(
          .warning, code: "hdf5.matlab", subject: file.name,
          message: "was written by MATLAB, which stores the axes of arrays in reverse order",
          notes: ["shapes and values are taken as they are stored; nothing is transposed"],
          help: "compare the shapes that `inspect` shows with the model's; if they are reversed, "
            + "write the arrays in Python with h5py, transposed"))
    }
    return warnings
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
    if names.isEmpty, faults.isEmpty, !company.isEmpty {
      note(
        .hdf5(
          "no-tensors", file.name, "holds no tensor, only \(company.list)",
          help: "give the file that holds the weights"))
    }
  }

  private mutating func note(_ problem: Diagnostic, path: String? = nil) {
    faults.add(problem, path: path)
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
    let isFrame = Self.isFrame(links)
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
        if isFrame, Self.isPartOfFrame(linkName) {
          company.add(linkPath, "part of a pandas table")
          continue
        }
        if link.kind == .soft, try leadsNowhere(group, linkName, path: linkPath) {
          company.add(linkPath, "soft link that leads nowhere")
          continue
        }
        try HDF5Guard.check(link: link.kind, file.name, path: linkPath)
        try visit(group, linkName, path: linkPath, name: name, depth: depth)
      } catch { note(error, path: linkPath) }
    }
  }

  /// Whether a group holds a frame as pandas takes it apart, whoever copied it without its mark.
  private static func isFrame(_ links: [HDF5Link]) -> Bool {
    links.contains { $0.name == "block0_items" } && links.contains { $0.name == "block0_values" }
  }

  /// `axis0`, `block12_items`, `block12_values`.
  private static func isPartOfFrame(_ name: String) -> Bool {
    for (start, ends) in [("axis", [""]), ("block", ["_items", "_values"])]
    where name.hasPrefix(start) {
      let rest = name.dropFirst(start.count)
      let digits = rest.prefix { $0.isASCII && $0.isNumber }
      return !digits.isEmpty && ends.contains(String(rest.dropFirst(digits.count)))
    }
    return false
  }

  /// Whether the path of a soft link ends at a name that is not there, or goes on behind a dataset.
  /// No link but hard ones is followed to find out.
  private mutating func leadsNowhere(
    _ group: HDF5Session.Handle, _ link: String, path: String
  ) throws(Diagnostic) -> Bool {
    softLinks += 1
    guard softLinks <= 1000 else { return false }
    do throws(HDF5Failure) {
      guard let bytes = try session.softPath(group, link), let target = HDF5Text.text(bytes) else {
        return false
      }
      let parts = target.utf8.split(separator: UInt8(ascii: "/")).map {
        String(decoding: Array($0), as: UTF8.self)
      }
      guard parts.count <= HDF5Guard.maxDepth else { return false }
      var current = try session.openObject(
        group, target.utf8.first == UInt8(ascii: "/") ? "/" : ".")
      defer { session.close(current) }
      for part in parts where part != "." {
        guard try session.describe(current).kind == .group else { return true }
        switch session.linkKind(current, part) {
        case nil: return true
        case .hard: break
        case .soft, .external, .other: return false
        }
        let next = try session.openObject(current, part)
        session.close(current)
        current = next
      }
      return false
    } catch { throw error.diagnostic(file.name, path: path) }
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
    case .other: company.add(path, "named datatype")
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
    if let kind = try company(handle, object, path: path) {
      company.add(path, kind)
      return
    }
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

  /// What a group is that holds no weights by its own mark: all below it is passed over.
  private func company(
    _ handle: HDF5Session.Handle, _ object: HDF5Object, path: String
  ) throws(Diagnostic) -> String? {
    if isMATLAB, path == "/#refs#" || path == "/#subsystem#" { return "group of MATLAB's" }
    // PyTables keeps such names for itself: `_i_` and a table's name is that table's index.
    let name = path.split(separator: "/").last ?? ""
    if name.hasPrefix("_i_") { return "index of a PyTables table" }
    if name.hasPrefix("_p_") { return "group of PyTables's own" }
    guard object.attributeCount > 0 else { return nil }
    do throws(HDF5Failure) {
      return try text(handle, "pandas_type") == nil ? nil : "pandas table"
    } catch { throw error.diagnostic(file.name, path: path) }
  }

  /// A short text attribute, `nil` when there is none or it is something else.
  private func text(
    _ handle: HDF5Session.Handle, _ name: String
  ) throws(HDF5Failure) -> String? {
    guard session.hasAttribute(handle, name) else { return nil }
    return try session.stringAttribute(handle, name, limit: 64).flatMap { HDF5Text.text($0) }
  }

  private mutating func add(
    _ handle: HDF5Session.Handle, _ object: HDF5Object, path: String, name: TensorName?
  ) throws(Diagnostic) {
    // By bytes: to Swift's characters, a slash with a combining mark is no slash.
    let (slash, dot) = (UInt8(ascii: "/"), UInt8(ascii: "."))
    let dotted = path.utf8.dropFirst().map { $0 == slash ? dot : $0 }
    let name = name ?? TensorName(String(decoding: dotted, as: UTF8.self))
    if let first = pathsByName[name] {
      // A text takes no tensor's name.
      if datasetsByKey[object.key] == nil {
        do throws(HDF5Failure) {
          if case .company(let kind) = try examine(handle, object, path: path) {
            company.add(path, kind)
            datasetsByKey[object.key] = .some(nil)
            return
          }
        } catch { throw error.diagnostic(file.name, path: path) }
      }
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
      } else {
        pathsByName[name] = nil
      }
      return
    }
    datasetsByKey[object.key] = .some(nil)
    let dataset: HDF5Dataset
    do throws(HDF5Failure) {
      switch try examine(handle, object, path: path) {
      case .tensor(let value): dataset = value
      case .company(let kind):
        company.add(path, kind)
        pathsByName[name] = nil
        return
      case .fault(let diagnostic):
        note(diagnostic, path: path)
        return
      }
    } catch { throw error.diagnostic(file.name, path: path) }
    datasetsByKey[object.key] = datasets.count
    names.append(name)
    datasets.append(dataset)
  }

  /// What a dataset turns out to be.
  private enum Finding {
    case tensor(HDF5Dataset)
    /// Nothing that could be weights, and what it is instead.
    case company(String)
    case fault(Diagnostic)
  }

  private mutating func examine(
    _ handle: HDF5Session.Handle, _ object: HDF5Object, path: String
  ) throws(HDF5Failure) -> Finding {
    // The layout first: asking a virtual dataset for its shape can open other files.
    let layout = try session.layout(of: handle)
    do throws(Diagnostic) {
      try HDF5Guard.check(layout: layout, file.name, path: path)
    } catch { return .fault(error) }
    guard let outer = try session.dims(of: handle) else {
      return .company("dataset without a value")
    }
    var type = try session.type(of: handle)
    if let kind = type.company { return .company(kind) }
    if object.attributeCount > 0 {
      if try text(handle, "CLASS") == "DIMENSION_SCALE" { return .company("scale of an axis") }
      if let kind = try text(handle, "MATLAB_class") {
        isMATLAB = true
        if kind == "char" { return .company("text of MATLAB's") }
        // What is stored are its extents.
        if session.hasAttribute(handle, "MATLAB_empty") {
          return .company("empty array of MATLAB's")
        }
      }
      if let name = try text(handle, "dtype") { type = type.named(name) }
    }
    var inner: [Int] = []
    if case .array(let base, let extents) = type { (type, inner) = (base, extents) }
    let dims = outer + inner
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
        layout, dims: outer, inner: inner, dataset, stored: stored, offset: offset)
      return .tensor(try withFill(dataset, handle, inner: inner))
    } catch { return .fault(error) }
  }

  private func withFill(
    _ dataset: HDF5Dataset, _ handle: HDF5Session.Handle, inner: [Int]
  ) throws(Diagnostic) -> HDF5Dataset {
    var dataset = dataset
    switch dataset.storage {
    case .contiguous, .compact: return dataset
    case .unwritten, .chunked:
      let size = dataset.element.byteCount
      // An array type has at most 64 KiB.
      let count = Shape(inner).elementCount ?? 1
      let fill: [UInt8]?
      do throws(HDF5Failure) {
        fill = try session.fillValue(of: handle, byteCount: size * count)
      } catch { throw error.diagnostic(file.name, path: dataset.path) }
      dataset.fill = fill.map { Array($0.prefix(size)) }
      for start in stride(from: 0, to: fill?.count ?? 0, by: size)
      where fill?[start..<start + size].elementsEqual(dataset.fill ?? []) == false {
        throw .hdf5(
          "dtype", file.name, path: dataset.path,
          "has arrays as elements, and where nothing was written these have values that differ",
          help: "write all of it, as a plain dataset")
      }
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
    _ layout: HDF5Session.Layout, dims: [Int], inner: [Int], _ dataset: HDF5Dataset,
    stored: UInt64, offset: UInt64?
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
        let storedSize = Shape(inner).elementCount?.checkedTimes(size),
        let chunkBytes = Shape(layout.chunk).elementCount?.checkedTimes(storedSize),
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
          dims: dims + inner, chunk: layout.chunk + inner, elementBytes: size,
          storedRank: dims.count, storedElementBytes: storedSize, chunkBytes: chunkBytes,
          filters: filters, plainEdges: layout.plainEdges))
    }
  }
}
