import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A file open for reading at any offset, by several threads at once (`pread`), or one behind a URL,
/// of which ranges are asked for (`ByteSource`).
///
/// A process may have few files open, and a checkpoint has hundreds: descriptors that nobody uses are
/// closed when there are too many, and opened again, after a look whether the file is still the same.
public final class RandomAccessFile: Sendable {
  /// The path as given.
  public let path: String
  /// Bytes in the file when it was opened.
  public let byteCount: Int
  /// `nil` for a file behind a URL.
  private let slot: DescriptorSlot?
  private let remote: (any ByteSource)?
  private let mapping = Mutex<Mapping?>(nil)
  /// What tells this file, as it was when it was opened, from any other and from a later state.
  public let identity: Identity

  /// Bytes of a file behind a URL that are read into one array.
  private static let mostRemoteBytes = 1 << 30

  /// A file and its state.
  public struct Identity: Sendable, Hashable {
    /// The file system.
    public var device: UInt64
    /// The file in it.
    public var inode: UInt64
    /// Bytes in it.
    public var byteCount: Int
    /// Nanoseconds since 1970 of the last change.
    public var modified: Int

    /// The state of a file that is no local one, from whatever tells it.
    package init(device: UInt64, inode: UInt64, byteCount: Int, modified: Int) {
      self.device = device
      self.inode = inode
      self.byteCount = byteCount
      self.modified = modified
    }

    fileprivate init(_ info: stat) {
      device = UInt64(truncatingIfNeeded: info.st_dev)
      inode = UInt64(info.st_ino)
      byteCount = Int(info.st_size)
      #if canImport(Darwin)
        let time = info.st_mtimespec
      #else
        let time = info.st_mtim
      #endif
      modified = Int(time.tv_sec) &* 1_000_000_000 &+ Int(time.tv_nsec)
    }
  }

  /// Opens a regular file.
  ///
  /// - Throws: `io.open` with the system's reason; `io.not-a-file` for a directory or device;
  ///   `source.*` for a path in a place behind a URL that was opened before.
  public init(path given: String) throws(Diagnostic) {
    var path = given
    switch try RemotePlaces.open(given) {
    case .source(let source):
      self.path = given
      byteCount = source.byteCount
      identity = source.identity
      remote = source
      slot = nil
      return
    case .local(let copy): path = copy
    case nil: break
    }
    remote = nil
    let fd = try Self.open(path)
    var info = stat()
    guard fstat(fd, &info) == 0 else {
      let error = Diagnostic.system("io.open", path, "cannot be examined")
      close(fd)
      throw error
    }
    guard info.st_mode & S_IFMT == S_IFREG else {
      close(fd)
      throw Diagnostic(
        code: "io.not-a-file", subject: path, message: "is not a regular file",
        help: "give a checkpoint file, or the directory that holds one")
    }
    self.path = path
    self.byteCount = Int(info.st_size)
    self.identity = Identity(info)
    let slot = DescriptorSlot(fd)
    self.slot = slot
    OpenFiles.add(slot)
  }

  /// A file behind a URL, called `path`.
  package init(_ source: any ByteSource, path: String) {
    self.path = path
    byteCount = source.byteCount
    identity = source.identity
    remote = source
    slot = nil
  }

  deinit {
    mapping.withLock { if let mapping = $0 { munmap(mapping.address, mapping.count) } }
    guard let slot else { return }
    OpenFiles.remove(slot)
    slot.close()
  }

  /// Whether it lies behind a URL: it has no descriptor and cannot be mapped.
  package var isRemote: Bool { remote != nil }

  /// Asks for a few bytes at each of `offsets` at once, where that spares waiting.
  package func prefetch(_ offsets: [Int]) { remote?.prefetch(offsets) }

  /// Hands the bytes of a file behind a URL to `take` as they come, in order.
  ///
  /// - Throws: `source.*`; what `take` throws.
  package func stream(
    _ range: Range<Int>, _ take: (UnsafeRawBufferPointer) throws(Diagnostic) -> Void
  ) throws(Diagnostic) {
    guard let remote else { preconditionFailure("a local file is read") }
    try remote.stream(range, take)
  }

  private static func open(_ path: String) throws(Diagnostic) -> Int32 {
    OpenFiles.makeRoom()
    // Not to wait for a pipe's writer before it is known to be a pipe.
    let flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY
    var fd = openFile(path, flags)
    // Another thread may take what this one frees.
    for _ in 0..<50 where isTooMany(fd) {
      if fd >= 0 { close(fd) }
      if !OpenFiles.closeIdle(atLeast: 8) { usleep(500) }
      fd = openFile(path, flags)
    }
    if fd >= 0, isTooMany(fd) {
      close(fd)
      fd = -1
      errno = EMFILE
    }
    guard fd >= 0 else { throw Diagnostic.system("io.open", path, "cannot be opened") }
    return fd
  }

  /// Whether no descriptor was left, or `descriptor` is one that must stay free.
  private static func isTooMany(_ descriptor: Int32) -> Bool {
    guard descriptor >= 0 else { return errno == EMFILE || errno == ENFILE }
    // The system gives the lowest that is free.
    return Descriptors.limit.map { Int(descriptor) >= $0 - Descriptors.reserve } ?? false
  }

  /// Calls `body` with an open descriptor, which stays open until it returns: for calls that move
  /// bytes inside the kernel.
  ///
  /// - Throws: what `body` throws; `io.open`, `io.changed` where the file had to be opened again.
  public func withDescriptor<Value>(
    _ body: (Int32) throws(Diagnostic) -> Value
  ) throws(Diagnostic) -> Value {
    guard let slot else {
      throw Diagnostic(
        code: "source.local-only", subject: path,
        message: "is read from a URL, and has to be a file",
        help: "download it, and give its path")
    }
    if let descriptor = slot.use() {
      defer { slot.release() }
      return try body(descriptor)
    }
    let fresh = try Self.open(path)
    var info = stat()
    guard fstat(fresh, &info) == 0, Identity(info) == identity else {
      close(fresh)
      throw changed("was written to or replaced by another file")
    }
    let descriptor = slot.use(fresh)
    OpenFiles.add(slot)
    defer { slot.release() }
    return try body(descriptor)
  }

  /// The last component of the path.
  public var name: String { String(path.split(separator: "/").last ?? "") }

  /// Makes sure that the file is the one that was opened, and as it was then.
  ///
  /// - Throws: `io.changed` for a file that was written to, cut, replaced or removed meanwhile.
  public func checkUnchanged() throws(Diagnostic) {
    guard let slot else {
      try remote?.checkUnchanged()
      return
    }
    var info = stat()
    let fault: String
    let descriptor = slot.use()
    defer { if descriptor != nil { slot.release() } }
    if let descriptor, fstat(descriptor, &info) != 0 || Identity(info) != identity {
      let now = Int(info.st_size)
      fault = now == byteCount ? "was written to" : "went from \(byteCount) to \(now) bytes"
    } else if stat(path, &info) != 0 {
      fault = "was removed"
    } else if Identity(info) != identity {
      fault = "was replaced by another file"
    } else {
      return
    }
    throw changed(fault)
  }

  private func changed(_ fault: String) -> Diagnostic {
    Diagnostic(
      code: "io.changed", subject: path, message: "\(fault) while it was read",
      help: "run it again when nothing else writes there")
  }

  private struct Mapping: @unchecked Sendable {
    var address: UnsafeMutableRawPointer
    var count: Int
  }

  /// The whole file in memory, read-only and brought in as it is touched, as long as this object
  /// lives; `nil` when the system cannot map it.
  ///
  /// A file that is cut while its bytes are used ends the process: callers look at
  /// `checkUnchanged()` before each stretch of work.
  public func mapped() -> UnsafeRawBufferPointer? {
    mapping.withLock { mapping in
      if mapping == nil, byteCount > 0 {
        mapping = try? withDescriptor { (descriptor) throws(Diagnostic) -> Mapping? in
          let address = mmap(nil, byteCount, PROT_READ, MAP_SHARED, descriptor, 0)
          guard let address, address != MAP_FAILED else { return nil }
          return Mapping(address: address, count: byteCount)
        }
      }
      return mapping.map { UnsafeRawBufferPointer(start: $0.address, count: $0.count) }
    }
  }

  /// Takes the mapped bytes `range` out of this process's memory; they come back when touched.
  public func unload(_ range: Range<Int>) {
    mapping.withLock { mapping in
      guard let mapping else { return }
      let page = Int(sysconf(Int32(_SC_PAGESIZE)))
      let first = range.lowerBound / page * page
      let end = min(range.upperBound, mapping.count)
      if first < end { madvise(mapping.address + first, end - first, MADV_DONTNEED) }
    }
  }

  /// Fills `buffer` with the bytes from `offset` on.
  ///
  /// - Throws: `io.read`; `io.truncated` when the file ends first.
  public func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(Diagnostic) {
    if let remote {
      guard let end = offset.checkedPlus(buffer.count), offset >= 0, end <= byteCount else {
        throw Diagnostic(
          code: "io.truncated", subject: path,
          message:
            "has \(byteCount) bytes, but \(buffer.count) from byte \(offset) on were expected",
          help: "the file is incomplete; fetch it again")
      }
      return try remote.read(at: offset, into: buffer)
    }
    try withDescriptor { (descriptor) throws(Diagnostic) in
      try read(descriptor, at: offset, into: buffer)
    }
  }

  private func read(
    _ descriptor: Int32, at offset: Int, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Diagnostic) {
    var done = 0
    while done < buffer.count {
      let count = pread(
        descriptor, buffer.baseAddress! + done, buffer.count - done, off_t(offset + done))
      if count < 0 {
        if errno == EINTR { continue }
        throw Diagnostic.system("io.read", path, "cannot be read at byte \(offset + done)")
      }
      guard count > 0 else {
        throw Diagnostic(
          code: "io.truncated", subject: path,
          message: "ends at byte \(offset + done), but \(buffer.count - done) more were expected",
          notes: ["the file had \(byteCount) bytes when it was opened"],
          help: "the file is incomplete or changed while it was read; fetch it again")
      }
      done += count
    }
  }

  /// The bytes `offset ..< offset + count`.
  ///
  /// - Throws: as `read(at:into:)`; `io.truncated` for a range past the end, before allocating.
  public func bytes(at offset: Int, count: Int) throws(Diagnostic) -> [UInt8] {
    guard offset >= 0, count >= 0, let end = offset.checkedPlus(count), end <= byteCount else {
      throw Diagnostic(
        code: "io.truncated", subject: path,
        message: "has \(byteCount) bytes, but \(count) from byte \(offset) on were expected",
        help: "the file is incomplete; fetch it again")
    }
    // A server may call its file as large as it likes.
    guard remote == nil || count <= Self.mostRemoteBytes else {
      throw Diagnostic(
        code: "source.size", subject: path,
        message:
          "has a part of \(count) bytes that would be read at once, over \(Self.mostRemoteBytes)",
        help: "download the file, and give its path")
    }
    var failure: Diagnostic?
    let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
      do throws(Diagnostic) {
        try read(at: offset, into: UnsafeMutableRawBufferPointer(buffer))
        initialized = count
      } catch { failure = error }
    }
    if let failure { throw failure }
    return bytes
  }
}

/// The C library's `open`, which a method of that name hides.
private func openFile(_ path: String, _ flags: Int32) -> Int32 { open(path, flags) }

/// The C library's `close`.
private func closeFile(_ descriptor: Int32) { close(descriptor) }

/// A descriptor that may be closed while nobody uses it.
private final class DescriptorSlot: Sendable {
  private struct State {
    var descriptor: Int32
    var users = 0
  }
  private let state: Mutex<State>

  init(_ descriptor: Int32) { state = Mutex(State(descriptor: descriptor)) }

  /// The descriptor, which stays open until `release()`; `nil` when it is closed.
  func use() -> Int32? {
    state.withLock { state in
      guard state.descriptor >= 0 else { return nil }
      state.users += 1
      return state.descriptor
    }
  }

  /// The descriptor, `fresh` unless another thread was faster.
  func use(_ fresh: Int32) -> Int32 {
    state.withLock { state in
      if state.descriptor >= 0 { closeFile(fresh) } else { state.descriptor = fresh }
      state.users += 1
      return state.descriptor
    }
  }

  func release() { state.withLock { $0.users -= 1 } }

  /// Closes it.
  func close() { _ = closeIfIdle() }

  /// Closes it unless it is used; whether it is closed.
  func closeIfIdle() -> Bool {
    state.withLock { state in
      guard state.users == 0 else { return false }
      if state.descriptor >= 0 { closeFile(state.descriptor) }
      state.descriptor = -1
      return true
    }
  }
}

/// The process's open `RandomAccessFile`s: half of the descriptors that it may have, at most.
enum OpenFiles {
  private struct Table {
    var slots: [ObjectIdentifier: (slot: DescriptorSlot, turn: Int)] = [:]
    var turn = 0
  }
  private static let table = Mutex(Table())

  fileprivate static func add(_ slot: DescriptorSlot) {
    table.withLock { table in
      table.turn += 1
      table.slots[ObjectIdentifier(slot)] = (slot, table.turn)
    }
  }

  fileprivate static func remove(_ slot: DescriptorSlot) {
    table.withLock { _ = $0.slots.removeValue(forKey: ObjectIdentifier(slot)) }
  }

  /// Closes idle descriptors when half of what the process may open is taken.
  static func makeRoom() {
    let count = table.withLock { $0.slots.count }
    // Fewer are no matter anywhere; the limit need not be asked for.
    guard count >= 16, let limit = Descriptors.limit else { return }
    let most = limit / 2
    if count >= most { _ = closeIdle(atLeast: max(4, most / 4)) }
  }

  /// Closes the idle descriptors that were opened first; whether there was any.
  static func closeIdle(atLeast wanted: Int) -> Bool {
    table.withLock { table in
      var closed = 0
      for (key, entry) in table.slots.sorted(by: { $0.value.turn < $1.value.turn })
      where closed < wanted && entry.slot.closeIfIdle() {
        table.slots[key] = nil
        closed += 1
      }
      return closed > 0
    }
  }
}

extension Diagnostic {
  /// An error with the system's own reason (`errno`) behind `message`. Too many open files are
  /// `io.descriptors`, whatever `code` is.
  public static func system(
    _ code: String, _ subject: String, _ message: String, help: String? = nil
  ) -> Diagnostic {
    let isFull = errno == EMFILE
    let reason = String(cString: strerror(errno))
    return Diagnostic(
      code: isFull ? "io.descriptors" : code, subject: subject, message: "\(message): \(reason)",
      help: isFull ? "let the process open more files: ulimit -n 4096" : help)
  }
}
