import CHDF5
import CHDF5Loader
import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A call of libhdf5 that failed, with the library's own error stack.
struct HDF5Failure: Error, Sendable {
  /// What was attempted, for people: `open the file`.
  var attempt: String
  /// `function: text`, outermost first.
  var stack: [String]
}

/// libhdf5: the only file that calls it.
///
/// Builds of the library without thread safety exist, so one lock is held around every call; what
/// needs it is a method of `HDF5Session`, which only `run` hands out.
///
/// It is loaded when the first file is opened or made, not when the program starts.
enum HDF5Library {
  /// Loads the library; `run` may be called afterwards.
  ///
  /// - Throws: `hdf5.no-library` when the system has none of the version that this program was built
  ///   with.
  static func load() throws(Diagnostic) {
    lock.acquire()
    defer { lock.release() }
    var found: (UInt32, UInt32, UInt32) = (0, 0, 0)
    let state = withUnsafeMutablePointer(to: &found) {
      $0.withMemoryRebound(to: UInt32.self, capacity: 3) { chdf5_load($0) }
    }
    guard state != 0 else { return }
    var built: (UInt32, UInt32, UInt32) = (0, 0, 0)
    withUnsafeMutablePointer(to: &built) {
      $0.withMemoryRebound(to: UInt32.self, capacity: 3) { chdf5_built_with($0) }
    }
    throw Diagnostic(
      code: "hdf5.no-library", subject: "libhdf5",
      message: state == 1
        ? "is not installed; HDF5 files need it"
        : "is of version \(found.0).\(found.1).\(found.2); this program was built with "
          + "\(built.0).\(built.1)",
      help: "apt-get install libhdf5-103-1 (Debian 12), libhdf5-103-1t64 (Ubuntu 24.04), or build "
        + "weighbridge on this machine")
  }

  /// The version of the library that is loaded, `1.10.8`.
  static var version: String {
    var found: (UInt32, UInt32, UInt32) = (0, 0, 0)
    _ = withUnsafeMutablePointer(to: &found) {
      $0.withMemoryRebound(to: UInt32.self, capacity: 3) { chdf5_load($0) }
    }
    return "\(found.0).\(found.1).\(found.2)"
  }

  /// Runs `body` alone, with the library started and its printing off.
  static func run<R, E: Error>(_ body: (HDF5Session) throws(E) -> R) throws(E) -> R {
    lock.acquire()
    defer { lock.release() }
    if !lock.started {
      chdf5_start()
      lock.started = true
    }
    chdf5_silence()
    return try body(HDF5Session())
  }

  /// A lock whose sections may throw typed errors and capture freely.
  private final class Lock: @unchecked Sendable {
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    var started = false
    init() { pthread_mutex_init(mutex, nil) }
    func acquire() { pthread_mutex_lock(mutex) }
    func release() { pthread_mutex_unlock(mutex) }
  }

  private static let lock = Lock()
}

/// Identifies an object in a file: equal for two links exactly when they lead to the same object.
struct HDF5ObjectKey: Hashable, Sendable {
  var high: UInt64
  var low: UInt64
}

/// What a link leads to.
struct HDF5Object {
  /// Kinds of objects.
  enum Kind {
    case group
    case dataset
    case other
  }

  var kind: Kind
  var key: HDF5ObjectKey
  var attributeCount: Int
}

/// A link of a group; `name` is `nil` when it is no UTF-8.
struct HDF5Link {
  /// Kinds of links.
  enum Kind: Int {
    case hard
    case soft
    case external
    case other
  }

  var name: String?
  var kind: Kind
}

/// The calls of libhdf5, each with its failure as an error. Handles are closed by who opened them.
struct HDF5Session {
  /// An open object of the library.
  typealias Handle = Int64

  fileprivate init() {}

  // MARK: Handles

  /// Closes any handle.
  func close(_ handle: Handle) { H5Idec_ref(handle) }

  private func check<T: SignedInteger>(
    _ result: T, _ attempt: @autoclosure () -> String
  ) throws(HDF5Failure) -> T {
    if result >= 0 { return result }
    throw failure(attempt())
  }

  private func failure(_ attempt: String) -> HDF5Failure {
    var stack: [String] = []
    withUnsafeMutablePointer(to: &stack) { pointer in
      chdf5_each_error(
        { function, text, context in
          let stack = context!.assumingMemoryBound(to: [String].self)
          // Texts may quote the file's bytes.
          stack.pointee.append("\(String(cString: function!)): \(String(cString: text!))")
        }, pointer)
    }
    return HDF5Failure(attempt: attempt, stack: stack)
  }

  // MARK: Files

  /// Seconds of the processor's time that a file's metadata may take.
  static let rehearsalSeconds: UInt32 = 4

  /// Opens the file in a child process first, where a crash of the library hurts nobody.
  ///
  /// - Parameter memory: bytes that the library may take for it.
  /// - Returns: the signal that ended the child, -1 when it wanted more memory, or `nil`.
  func rehearse(_ path: String, memory: Int) -> Int32? {
    let signal = chdf5_rehearse(path, UInt64(memory), Self.rehearsalSeconds)
    return signal == 0 ? nil : signal
  }

  /// Opens a file for reading.
  func openFile(_ path: String) throws(HDF5Failure) -> Handle {
    let access = try check(H5Pcreate(chdf5_p_file_access()), "open the file")
    defer { close(access) }
    chdf5_lenient_locking(access)
    return try check(H5Fopen(path, chdf5_read_only(), access), "open the file")
  }

  /// Creates a file; everything in it starts at a multiple of `alignment`.
  func createFile(_ path: String, alignment: Int) throws(HDF5Failure) -> Handle {
    let attempt = "create the file"
    let access = try check(H5Pcreate(chdf5_p_file_access()), attempt)
    defer { close(access) }
    chdf5_lenient_locking(access)
    _ = try check(chdf5_modern(access), attempt)
    _ = try check(H5Pset_alignment(access, 1, hsize_t(alignment)), attempt)
    let creation = try check(H5Pcreate(chdf5_p_file_create()), attempt)
    defer { close(creation) }
    try forgetTimes(creation, attempt)
    _ = try check(H5Pset_link_creation_order(creation, chdf5_creation_order()), attempt)
    return try check(H5Fcreate(path, chdf5_create_new(), creation, access), attempt)
  }

  /// Keeps times of access and change out of an object's header (of a file: its root group's), where
  /// they would make two equal conversions differ.
  private func forgetTimes(_ creation: Handle, _ attempt: String) throws(HDF5Failure) {
    _ = try check(H5Pset_obj_track_times(creation, false), attempt)
  }

  /// Writes everything that is in memory, and closes the file.
  func closeFile(_ file: Handle) throws(HDF5Failure) {
    let flushed = H5Fflush(file, H5F_SCOPE_LOCAL)
    let error = flushed < 0 ? failure("write the file's headers") : nil
    let closed = H5Fclose(file)
    if let error { throw error }
    _ = try check(closed, "close the file")
  }

  // MARK: Groups and links

  /// The links of a group, in the order of their creation where the file recorded it.
  func links(of group: Handle) throws(HDF5Failure) -> [HDF5Link] {
    var links: [HDF5Link] = []
    let result = withUnsafeMutablePointer(to: &links) { pointer in
      chdf5_each_link(
        group,
        { name, kind, context in
          let links = context!.assumingMemoryBound(to: [HDF5Link].self)
          links.pointee.append(
            HDF5Link(
              name: HDF5Text.text(name!),
              kind: HDF5Link.Kind(rawValue: Int(kind)) ?? .other))
          return 0
        }, pointer)
    }
    _ = try check(result, "list the group")
    return links
  }

  /// Opens what the hard link `name` of `parent` leads to.
  func openObject(_ parent: Handle, _ name: String) throws(HDF5Failure) -> Handle {
    try check(H5Oopen(parent, name, chdf5_default()), "open the object")
  }

  /// The longest path of a soft link that is looked at, with the zero behind it.
  static let softPathLimit = 4096

  /// The kind of the link `name` of a group, `nil` when the group has none of that name.
  func linkKind(_ group: Handle, _ name: String) -> HDF5Link.Kind? {
    var length = 0
    let kind = chdf5_link_kind(group, name, &length)
    return kind < 0 ? nil : HDF5Link.Kind(rawValue: Int(kind)) ?? .other
  }

  /// The path that the soft link `name` of a group holds, as bytes; `nil` when it is too long.
  func softPath(_ group: Handle, _ name: String) throws(HDF5Failure) -> [UInt8]? {
    var length = 0
    guard chdf5_link_kind(group, name, &length) == HDF5Link.Kind.soft.rawValue,
      length <= Self.softPathLimit
    else { return nil }
    var bytes = [UInt8](repeating: 0, count: Self.softPathLimit)
    _ = try check(
      H5Lget_val(group, name, &bytes, bytes.count, chdf5_default()), "read the soft link")
    return Array(bytes.prefix { $0 != 0 })
  }

  /// Kind and identity of an open object.
  func describe(_ object: Handle) throws(HDF5Failure) -> HDF5Object {
    var info = chdf5_object()
    _ = try check(chdf5_describe(object, &info), "read the object's header")
    let key = withUnsafeBytes(of: &info.key) { bytes in
      HDF5ObjectKey(
        high: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self),
        low: bytes.loadUnaligned(as: UInt64.self))
    }
    return HDF5Object(
      kind: info.kind == 0 ? .group : info.kind == 1 ? .dataset : .other, key: key,
      attributeCount: Int(info.attributes))
  }

  /// Creates a group that remembers the order of its links.
  func createGroup(_ parent: Handle, _ name: String) throws(HDF5Failure) -> Handle {
    let attempt = "create the group"
    let link = try linkProperties()
    defer { close(link) }
    let creation = try check(H5Pcreate(chdf5_p_group_create()), attempt)
    defer { close(creation) }
    try forgetTimes(creation, attempt)
    _ = try check(H5Pset_link_creation_order(creation, chdf5_creation_order()), attempt)
    return try check(H5Gcreate2(parent, name, link, creation, chdf5_default()), attempt)
  }

  /// A second name for an object.
  func createHardLink(
    from source: Handle, _ sourceName: String, to parent: Handle, _ name: String
  ) throws(HDF5Failure) {
    let link = try linkProperties()
    defer { close(link) }
    _ = try check(
      H5Lcreate_hard(source, sourceName, parent, name, link, chdf5_default()), "create the link")
  }

  private func linkProperties() throws(HDF5Failure) -> Handle {
    let link = try check(H5Pcreate(chdf5_p_link_create()), "create the link")
    H5Pset_char_encoding(link, H5T_CSET_UTF8)
    return link
  }

  // MARK: Datasets

  /// How a dataset's bytes are stored.
  struct Layout {
    /// Kinds of storage.
    enum Kind {
      case compact
      case contiguous
      case chunked
      case virtual
      case unknown
    }

    var kind: Kind
    /// Files outside of this one that hold the bytes.
    var externalFiles: Int
    /// Extents of a chunk.
    var chunk: [Int]
    /// Whether chunks that reach over the dataset's edge are stored without filters.
    var plainEdges = false
    /// Number and name of each filter, in the order in which writing applied them.
    var filters: [(id: Int, name: String)]
  }

  /// How the dataset is stored; touches no other file.
  func layout(of dataset: Handle) throws(HDF5Failure) -> Layout {
    let attempt = "read the dataset's layout"
    let list = try check(H5Dget_create_plist(dataset), attempt)
    defer { close(list) }
    let kind: Layout.Kind =
      switch H5Pget_layout(list) {
      case H5D_COMPACT: .compact
      case H5D_CONTIGUOUS: .contiguous
      case H5D_CHUNKED: .chunked
      case H5D_VIRTUAL: .virtual
      default: .unknown
      }
    var layout = Layout(
      kind: kind, externalFiles: Int(try check(H5Pget_external_count(list), attempt)), chunk: [],
      filters: [])
    guard kind == .chunked else { return layout }
    var dims = [hsize_t](repeating: 0, count: 33)
    let rank = try check(H5Pget_chunk(list, 33, &dims), attempt)
    layout.chunk = dims.prefix(Int(rank)).map { Int(clamping: $0) }
    var options: UInt32 = 0
    _ = try check(H5Pget_chunk_opts(list, &options), attempt)
    layout.plainEdges = options & UInt32(H5D_CHUNK_DONT_FILTER_PARTIAL_CHUNKS) != 0
    let count = try check(H5Pget_nfilters(list), attempt)
    for index in 0..<count {
      var flags: UInt32 = 0
      var values = 0
      var name = [CChar](repeating: 0, count: 64)
      var config: UInt32 = 0
      let id = try check(
        H5Pget_filter2(list, UInt32(index), &flags, &values, nil, 63, &name, &config), attempt)
      let bytes = name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
      layout.filters.append((Int(id), String(decoding: bytes, as: UTF8.self)))
    }
    return layout
  }

  /// The extents: `[]` for a scalar, `nil` for a null dataspace.
  func dims(of dataset: Handle) throws(HDF5Failure) -> [Int]? {
    let attempt = "read the dataset's shape"
    let space = try check(H5Dget_space(dataset), attempt)
    defer { close(space) }
    return try dims(ofSpace: space, attempt)
  }

  private func dims(ofSpace space: Handle, _ attempt: String) throws(HDF5Failure) -> [Int]? {
    switch H5Sget_simple_extent_type(space) {
    case H5S_NULL: return nil
    case H5S_SCALAR: return []
    default:
      let rank = try check(H5Sget_simple_extent_ndims(space), attempt)
      guard rank > 0 else { return [] }
      var dims = [hsize_t](repeating: 0, count: Int(rank))
      _ = try check(H5Sget_simple_extent_dims(space, &dims, nil), attempt)
      return dims.map { Int(clamping: $0) }
    }
  }

  /// The element type, as a value.
  func type(of dataset: Handle) throws(HDF5Failure) -> HDF5Type {
    let type = try check(H5Dget_type(dataset), "read the dataset's type")
    defer { close(type) }
    return try describe(type: type, depth: 4)
  }

  /// Where a contiguous dataset's bytes start, counted from the start of the file and its user
  /// block; `nil` when nothing was stored.
  func offset(of dataset: Handle) -> UInt64? {
    let offset = H5Dget_offset(dataset)
    if UInt64(offset) == chdf5_undefined_address() {
      H5Eclear2(0)
      return nil
    }
    return UInt64(offset)
  }

  /// Bytes that a dataset takes in the file; walks all of a chunk index.
  func storedBytes(of dataset: Handle) -> UInt64 { UInt64(H5Dget_storage_size(dataset)) }

  /// One element of the fill value in the file's own type, or `nil` for zeros.
  func fillValue(of dataset: Handle, byteCount: Int) throws(HDF5Failure) -> [UInt8]? {
    let attempt = "read the dataset's fill value"
    let list = try check(H5Dget_create_plist(dataset), attempt)
    defer { close(list) }
    var status = H5D_FILL_VALUE_UNDEFINED
    _ = try check(H5Pfill_value_defined(list, &status), attempt)
    guard status == H5D_FILL_VALUE_USER_DEFINED else { return nil }
    let type = try check(H5Dget_type(dataset), attempt)
    defer { close(type) }
    guard H5Tget_size(type) == byteCount else { throw failure(attempt) }
    var value = [UInt8](repeating: 0, count: byteCount)
    _ = try check(H5Pget_fill_value(list, type, &value), attempt)
    return value
  }

  /// All bytes of a small (compact) dataset in the file's own type, `byteCount` in all.
  func readAll(_ dataset: Handle, byteCount: Int) throws(HDF5Failure) -> [UInt8] {
    let attempt = "read the dataset"
    let type = try check(H5Dget_type(dataset), attempt)
    defer { close(type) }
    let space = try check(H5Dget_space(dataset), attempt)
    defer { close(space) }
    let count = try check(H5Sget_simple_extent_npoints(space), attempt)
    let (size, overflow) = Int(count).multipliedReportingOverflow(by: H5Tget_size(type))
    guard !overflow, size == byteCount else { throw failure(attempt) }
    var bytes = [UInt8](repeating: 0, count: byteCount)
    _ = try check(
      H5Dread(dataset, type, chdf5_default(), chdf5_default(), chdf5_default(), &bytes), attempt)
    return bytes
  }

  /// Stored bytes of the chunk that starts at element `origin`; `nil` when it was never written.
  func chunkByteCount(_ dataset: Handle, at origin: [Int]) throws(HDF5Failure) -> UInt64? {
    var mask: UInt32 = 0
    var address: haddr_t = 0
    var size: hsize_t = 0
    let offset = origin.map { hsize_t($0) }
    _ = try check(
      H5Dget_chunk_info_by_coord(dataset, offset, &mask, &address, &size), "find the chunk")
    return UInt64(address) == chdf5_undefined_address() ? nil : UInt64(size)
  }

  /// The chunk's bytes as they are stored, and the filters (by bit) that were skipped for it.
  func readChunk(
    _ dataset: Handle, at origin: [Int], byteCount: Int
  ) throws(HDF5Failure) -> (bytes: [UInt8], skipped: UInt32) {
    let offset = origin.map { hsize_t($0) }
    var mask: UInt32 = 0
    var bytes = [UInt8](repeating: 0, count: byteCount)
    _ = try check(
      H5Dread_chunk(dataset, chdf5_default(), offset, &mask, &bytes), "read the chunk")
    return (bytes, mask)
  }

  /// Creates a dataset whose bytes have their place in the file from now on and are written by
  /// others; `dims` `nil` for a scalar.
  func createDataset(
    _ parent: Handle, _ name: String, type: HDF5Type, dims: [Int]
  ) throws(HDF5Failure) -> Handle {
    let attempt = "create the dataset"
    let typeHandle = try make(type: type)
    defer { close(typeHandle) }
    let space = try makeSpace(dims, attempt)
    defer { close(space) }
    let link = try linkProperties()
    defer { close(link) }
    let creation = try check(H5Pcreate(chdf5_p_dataset_create()), attempt)
    defer { close(creation) }
    _ = try check(H5Pset_layout(creation, H5D_CONTIGUOUS), attempt)
    _ = try check(H5Pset_alloc_time(creation, H5D_ALLOC_TIME_EARLY), attempt)
    _ = try check(H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER), attempt)
    try forgetTimes(creation, attempt)
    return try check(
      H5Dcreate2(parent, name, typeHandle, space, link, creation, chdf5_default()), attempt)
  }

  private func makeSpace(_ dims: [Int], _ attempt: String) throws(HDF5Failure) -> Handle {
    if dims.isEmpty { return try check(H5Screate(H5S_SCALAR), attempt) }
    return try check(
      H5Screate_simple(Int32(clamping: dims.count), dims.map { hsize_t($0) }, nil), attempt)
  }

  // MARK: Attributes

  /// The names of an object's attributes, sorted; `nil` for one that is no UTF-8.
  func attributeNames(of object: Handle) throws(HDF5Failure) -> [String?] {
    var names: [String?] = []
    let result = withUnsafeMutablePointer(to: &names) { pointer in
      chdf5_each_attribute(
        object,
        { name, context in
          let names = context!.assumingMemoryBound(to: [String?].self)
          names.pointee.append(HDF5Text.text(name!))
          return 0
        }, pointer)
    }
    _ = try check(result, "list the attributes")
    return names
  }

  /// Whether the object has the attribute.
  func hasAttribute(_ object: Handle, _ name: String) -> Bool { H5Aexists(object, name) > 0 }

  /// The bytes of a scalar string attribute of at most `limit` bytes, of fixed or variable length,
  /// without its padding; `nil` when it is something else.
  func stringAttribute(
    _ object: Handle, _ name: String, limit: Int
  ) throws(HDF5Failure) -> [UInt8]? {
    let attempt = "read the attribute \(HDF5Text.quoted(name))"
    let attribute = try check(H5Aopen(object, name, chdf5_default()), attempt)
    defer { close(attribute) }
    let type = try check(H5Aget_type(attribute), attempt)
    defer { close(type) }
    guard H5Tget_class(type) == H5T_STRING else { return nil }
    let space = try check(H5Aget_space(attribute), attempt)
    defer { close(space) }
    // PyTables stores an empty text without a value.
    guard let dims = try dims(ofSpace: space, attempt) else { return [] }
    guard dims.isEmpty || dims == [1] else { return nil }
    if H5Tis_variable_str(type) > 0 {
      var text: UnsafeMutablePointer<CChar>?
      _ = try check(H5Aread(attribute, type, &text), attempt)
      guard let text else { return [] }
      defer { H5free_memory(text) }
      return Array(UnsafeRawBufferPointer(start: text, count: strlen(text)))
    }
    let size = H5Tget_size(type)
    guard size <= limit else { return nil }
    var bytes = [UInt8](repeating: 0, count: size)
    _ = try check(H5Aread(attribute, type, &bytes), attempt)
    if H5Tget_strpad(type) == H5T_STR_SPACEPAD {
      while bytes.last == UInt8(ascii: " ") { bytes.removeLast() }
      return bytes
    }
    return Array(bytes.prefix { $0 != 0 })
  }

  /// A list of at most 64 whole numbers, or `nil` when the attribute is something else.
  func integersAttribute(_ object: Handle, _ name: String) throws(HDF5Failure) -> [Int]? {
    let attempt = "read the attribute \(HDF5Text.quoted(name))"
    let attribute = try check(H5Aopen(object, name, chdf5_default()), attempt)
    defer { close(attribute) }
    let type = try check(H5Aget_type(attribute), attempt)
    defer { close(type) }
    let space = try check(H5Aget_space(attribute), attempt)
    defer { close(space) }
    guard H5Tget_class(type) == H5T_INTEGER, H5Tget_size(type) <= 8,
      let dims = try dims(ofSpace: space, attempt), dims.count == 1, dims[0] <= 64
    else { return nil }
    var values = [Int64](repeating: 0, count: dims[0])
    // One spare element: a list of none must still have an address.
    values.append(0)
    _ = try check(H5Aread(attribute, chdf5_i64(), &values), attempt)
    return values.dropLast().map { Int($0) }
  }

  /// Writes a scalar string attribute of variable length in UTF-8, as h5py does.
  func writeAttribute(_ object: Handle, _ name: String, _ text: String) throws(HDF5Failure) {
    let attempt = "write the attribute \(HDF5Text.quoted(name))"
    let type = try check(H5Tcopy(chdf5_c_string()), attempt)
    defer { close(type) }
    _ = try check(H5Tset_size(type, chdf5_variable()), attempt)
    _ = try check(H5Tset_cset(type, H5T_CSET_UTF8), attempt)
    let attribute = try createAttribute(object, name, type, [], attempt)
    defer { close(attribute) }
    let written = text.withCString { pointer in
      var pointer: UnsafePointer<CChar>? = pointer
      return H5Awrite(attribute, type, &pointer)
    }
    _ = try check(written, attempt)
  }

  /// Writes a list of whole numbers.
  func writeAttribute(_ object: Handle, _ name: String, _ values: [Int]) throws(HDF5Failure) {
    let attempt = "write the attribute \(HDF5Text.quoted(name))"
    let attribute = try createAttribute(object, name, chdf5_i64(), [values.count], attempt)
    defer { close(attribute) }
    _ = try check(H5Awrite(attribute, chdf5_i64(), values.map { Int64($0) }), attempt)
  }

  private func createAttribute(
    _ object: Handle, _ name: String, _ type: Handle, _ dims: [Int], _ attempt: String
  ) throws(HDF5Failure) -> Handle {
    let space = try makeSpace(dims, attempt)
    defer { close(space) }
    let creation = try check(H5Pcreate(chdf5_p_attribute_create()), attempt)
    defer { close(creation) }
    H5Pset_char_encoding(creation, H5T_CSET_UTF8)
    return try check(
      H5Acreate2(object, name, type, space, creation, chdf5_default()), attempt)
  }

  // MARK: Types

  private func describe(type: Handle, depth: Int) throws(HDF5Failure) -> HDF5Type {
    let attempt = "read the dataset's type"
    let size = H5Tget_size(type)
    guard size > 0 else { throw failure(attempt) }
    if chdf5_is_complex(type) != 0 {
      guard depth > 0 else { return .unsupported("complex") }
      let base = try check(H5Tget_super(type), attempt)
      defer { close(base) }
      return .complex(try describe(type: base, depth: depth - 1))
    }
    let order: HDF5Type.Order =
      switch H5Tget_order(type) {
      case H5T_ORDER_LE: .little
      case H5T_ORDER_BE: .big
      default: .other
      }
    let dense = H5Tget_precision(type) == size * 8 && H5Tget_offset(type) == 0
    switch H5Tget_class(type) {
    case H5T_INTEGER:
      guard dense else { return .unsupported("\(size * 8)-bit integer with padding bits") }
      return .integer(bytes: size, signed: H5Tget_sign(type) == H5T_SGN_2, order: order)
    case H5T_FLOAT:
      guard dense else { return .unsupported("\(size * 8)-bit float with padding bits") }
      var fields = (sign: 0, exponent: 0, exponentBits: 0, mantissa: 0, mantissaBits: 0)
      _ = try check(
        H5Tget_fields(
          type, &fields.sign, &fields.exponent, &fields.exponentBits, &fields.mantissa,
          &fields.mantissaBits), attempt)
      guard fields.mantissa == 0, fields.exponent == fields.mantissaBits,
        fields.sign == size * 8 - 1
      else { return .unsupported("float with fields in an unusual order") }
      return .float(
        bytes: size, exponentBits: fields.exponentBits, mantissaBits: fields.mantissaBits,
        bias: H5Tget_ebias(type), order: order)
    case H5T_STRING: return .unsupported("string")
    case H5T_BITFIELD: return .unsupported("bit field")
    case H5T_TIME: return .unsupported("time")
    case H5T_REFERENCE: return .unsupported("reference")
    case H5T_VLEN: return .unsupported("variable-length")
    case H5T_ARRAY:
      let base = try check(H5Tget_super(type), attempt)
      defer { close(base) }
      let rank = Int(try check(H5Tget_array_ndims(type), attempt))
      // What the rehearsal has seen.
      guard depth > 0, rank <= 32, size <= 65536 else { return .unsupported("large array") }
      var extents = [hsize_t](repeating: 0, count: rank + 1)
      _ = try check(H5Tget_array_dims2(type, &extents), attempt)
      return .array(
        try describe(type: base, depth: depth - 1), extents.prefix(rank).map { Int(clamping: $0) })
    case H5T_OPAQUE:
      guard let tag = H5Tget_tag(type) else { throw failure(attempt) }
      defer { H5free_memory(tag) }
      return .opaque(bytes: size, tag: HDF5Text.text(tag) ?? "?")
    case H5T_ENUM:
      let base = try check(H5Tget_super(type), attempt)
      defer { close(base) }
      let count = try check(H5Tget_nmembers(type), attempt)
      guard depth > 0, count <= 2, size == 1 else { return .unsupported("enumeration") }
      var members: [HDF5Type.EnumMember] = []
      for index in 0..<UInt32(count) {
        guard let name = H5Tget_member_name(type, index) else { throw failure(attempt) }
        defer { H5free_memory(name) }
        var value: UInt8 = 0
        _ = try check(H5Tget_member_value(type, index, &value), attempt)
        members.append(.init(name: HDF5Text.text(name) ?? "?", value: value))
      }
      return .enumeration(base: try describe(type: base, depth: depth - 1), members)
    case H5T_COMPOUND:
      let count = try check(H5Tget_nmembers(type), attempt)
      guard depth > 0, count == 2, size <= 16 else { return .unsupported("compound") }
      var members: [HDF5Type.Member] = []
      for index in 0..<UInt32(count) {
        guard let name = H5Tget_member_name(type, index) else { throw failure(attempt) }
        defer { H5free_memory(name) }
        let member = try check(H5Tget_member_type(type, index), attempt)
        defer { close(member) }
        members.append(
          .init(
            name: HDF5Text.text(name) ?? "?", offset: H5Tget_member_offset(type, index),
            type: try describe(type: member, depth: depth - 1)))
      }
      return .compound(bytes: size, members)
    default: return .unsupported("unknown")
    }
  }

  private func make(type: HDF5Type) throws(HDF5Failure) -> Handle {
    let attempt = "make the type \(type)"
    switch type {
    case .integer(let bytes, let signed, .little):
      let base: Handle =
        switch bytes {
        case 1: signed ? chdf5_i8() : chdf5_u8()
        case 2: signed ? chdf5_i16() : chdf5_u16()
        case 4: signed ? chdf5_i32() : chdf5_u32()
        default: signed ? chdf5_i64() : chdf5_u64()
        }
      return try check(H5Tcopy(base), attempt)
    case .float(let bytes, let exponentBits, let mantissaBits, let bias, .little):
      if bytes == 8 { return try check(H5Tcopy(chdf5_f64()), attempt) }
      let type = try check(H5Tcopy(chdf5_f32()), attempt)
      if bytes == 4 { return type }
      // Fields first: they must fit the narrower size.
      do throws(HDF5Failure) {
        _ = try check(
          H5Tset_fields(type, bytes * 8 - 1, mantissaBits, exponentBits, 0, mantissaBits), attempt)
        _ = try check(H5Tset_size(type, bytes), attempt)
        _ = try check(H5Tset_ebias(type, bias), attempt)
      } catch {
        close(type)
        throw error
      }
      return type
    case .opaque(let bytes, let tag):
      let type = try check(H5Tcreate(H5T_OPAQUE, bytes), attempt)
      if H5Tset_tag(type, tag) < 0 {
        close(type)
        throw failure(attempt)
      }
      return type
    case .enumeration(let base, let members):
      let base = try make(type: base)
      defer { close(base) }
      let type = try check(H5Tenum_create(base), attempt)
      for member in members {
        var value = member.value
        if H5Tenum_insert(type, member.name, &value) < 0 {
          close(type)
          throw failure(attempt)
        }
      }
      return type
    case .compound(let bytes, let members):
      let type = try check(H5Tcreate(H5T_COMPOUND, bytes), attempt)
      for member in members {
        let field = try make(type: member.type)
        defer { close(field) }
        if H5Tinsert(type, member.name, member.offset, field) < 0 {
          close(type)
          throw failure(attempt)
        }
      }
      return type
    default: throw HDF5Failure(attempt: attempt, stack: [])
    }
  }

  // MARK: zlib

  /// What `inflate` found.
  enum Inflation: Int32 {
    case exact
    case corrupt
    case short
    case long
  }

  /// Inflates a zlib stream that must fill `output` exactly. Needs no lock.
  static func inflate(_ input: [UInt8], into output: UnsafeMutableRawBufferPointer) -> Inflation {
    Inflation(
      rawValue: chdf5_inflate(input, input.count, output.baseAddress, output.count)) ?? .corrupt
  }
}
