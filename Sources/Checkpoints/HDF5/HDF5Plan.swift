import Tensors

/// Lays out a new file: groups, datasets without bytes, attributes.
struct HDF5Plan {
  /// The attribute for a text of the metadata that is called `config`, as the config itself is.
  static let configMetadata = "weighbridge.metadata.config"

  private let session: HDF5Session
  private let manifest: OutputManifest
  private let places: [HDF5Place]
  private var groups: [[TensorName]: HDF5Session.Handle] = [:]

  init(_ session: HDF5Session, _ manifest: OutputManifest) {
    self.session = session
    self.manifest = manifest
    places = HDF5Place.plan(manifest.tensors.map(\.name))
  }

  /// Refuses what HDF5 cannot hold, before a file is made.
  ///
  /// - Throws: `hdf5.name`, `hdf5.duplicate`, `hdf5.metadata`, `hdf5.shape`, `hdf5.tie`.
  static func check(_ manifest: OutputManifest, _ file: String) throws(Diagnostic) {
    var seen = Set<TensorName>()
    for tensor in manifest.tensors {
      let name = tensor.name.string
      guard !name.utf8.contains(0) else {
        throw .hdf5(
          "name", file, path: name, "is a tensor name with a NUL byte, which ends a name in HDF5",
          help: "rename the tensor, or write safetensors")
      }
      guard seen.insert(tensor.name).inserted else {
        throw .hdf5("duplicate", file, path: name, "is the name of two tensors")
      }
      guard tensor.shape.rank <= 32,
        tensor.shape.byteCount(of: tensor.dtype) == tensor.byteCount
      else {
        throw .hdf5(
          "shape", file, path: name,
          "has shape \(tensor.shape) and \(tensor.byteCount) bytes of \(tensor.dtype.rawValue); "
            + "HDF5 holds at most 32 dimensions of whole bytes")
      }
      guard let shared = tensor.sharesStorageWith else { continue }
      guard manifest.tensors.indices.contains(shared), seen.contains(manifest.tensors[shared].name),
        manifest.tensors[shared].name != tensor.name,
        manifest.tensors[shared].dtype == tensor.dtype,
        manifest.tensors[shared].shape == tensor.shape
      else {
        throw .hdf5(
          "tie", file, path: name,
          "shares storage with a tensor of another type or shape, which HDF5 cannot say",
          help: "store the two apart")
      }
    }
    for (key, text) in manifest.metadata.sorted(by: { $0.key < $1.key }) {
      guard !key.isEmpty, !key.utf8.contains(0), !text.utf8.contains(0) else {
        throw .hdf5(
          "metadata", file,
          "the metadata text \(HDF5Text.quoted(key)) has no name or a NUL byte, which HDF5 cannot "
            + "hold", help: "remove it from the source's metadata")
      }
    }
  }

  /// Makes the file, and says where each tensor's bytes go.
  mutating func write(to path: String) throws(HDF5Failure) -> [TensorInfo.Extent?] {
    let file = try session.createFile(path, alignment: HDF5Writer.alignment)
    var extents: [TensorInfo.Extent?] = []
    var failure: HDF5Failure?
    do throws(HDF5Failure) {
      try writeAttributes(file)
      for index in manifest.tensors.indices { extents.append(try add(index, file, extents)) }
    } catch { failure = error }
    // In an order of their own: libhdf5 places what it writes at a close, and equal models are to
    // give equal files.
    for (_, group) in groups.sorted(by: { $0.key.lexicographicallyPrecedes($1.key) }) {
      session.close(group)
    }
    groups = [:]
    // Also after a failure: the file must not stay open in the library.
    do throws(HDF5Failure) { try session.closeFile(file) } catch { failure = failure ?? error }
    if let failure { throw failure }
    return extents
  }

  private func writeAttributes(_ file: HDF5Session.Handle) throws(HDF5Failure) {
    if manifest.config != .null {
      try session.writeAttribute(file, "config", manifest.config.text(indent: nil))
    }
    for (key, text) in manifest.metadata.sorted(by: { TensorName($0.key) < TensorName($1.key) }) {
      try session.writeAttribute(file, key == "config" ? Self.configMetadata : key, text)
    }
  }

  private mutating func add(
    _ index: Int, _ file: HDF5Session.Handle, _ extents: [TensorInfo.Extent?]
  ) throws(HDF5Failure) -> TensorInfo.Extent? {
    let tensor = manifest.tensors[index]
    let place = places[index]
    let parent = try group(place.groups[...], file)
    if place.isNamed {
      try session.writeAttribute(parent, HDF5Walk.nameAttribute, tensor.name.string)
    }
    if let shared = tensor.sharesStorageWith {
      let source = try group(places[shared].groups[...], file)
      try session.createHardLink(
        from: source, places[shared].link.string, to: parent, place.link.string)
      return extents[shared]
    }
    let isPacked = tensor.dtype.bitWidth < 8
    let dataset = try session.createDataset(
      parent, place.link.string, type: HDF5Type(writing: tensor.dtype),
      dims: isPacked ? [tensor.byteCount] : tensor.shape.dims)
    defer { session.close(dataset) }
    if isPacked {
      try session.writeAttribute(dataset, HDF5Walk.shapeAttribute, tensor.shape.dims)
    }
    guard tensor.byteCount > 0 else { return nil }
    guard let offset = session.offset(of: dataset).flatMap({ Int(exactly: $0) }) else {
      throw HDF5Failure(attempt: "place the tensor \(tensor.name)", stack: [])
    }
    return TensorInfo.Extent(file: 0, offset: offset)
  }

  /// The open group at `path`, made with its parents if need be.
  private mutating func group(
    _ path: ArraySlice<TensorName>, _ file: HDF5Session.Handle
  ) throws(HDF5Failure) -> HDF5Session.Handle {
    guard let name = path.last else { return file }
    if let group = groups[Array(path)] { return group }
    let parent = try group(path.dropLast(), file)
    let group = try session.createGroup(parent, name.string)
    groups[Array(path)] = group
    return group
  }
}
