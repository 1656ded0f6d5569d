import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A file open for reading at any offset, by several threads at once (`pread`).
public final class RandomAccessFile: Sendable {
  /// The path as given.
  public let path: String
  /// Bytes in the file when it was opened.
  public let byteCount: Int
  /// The descriptor, for calls that move bytes inside the kernel; owned by this object.
  public let descriptor: Int32
  private let mapping = Mutex<Mapping?>(nil)
  /// What tells this file, as it was when it was opened, from any other and from a later state.
  public let identity: Identity

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
  /// - Throws: `io.open` with the system's reason; `io.not-a-file` for a directory or device.
  public init(path: String) throws(Diagnostic) {
    // Not to wait for a pipe's writer before it is known to be a pipe.
    let fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
    guard fd >= 0 else { throw Diagnostic.system("io.open", path, "cannot be opened") }
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
    self.descriptor = fd
    self.byteCount = Int(info.st_size)
    self.identity = Identity(info)
  }

  deinit {
    mapping.withLock { if let mapping = $0 { munmap(mapping.address, mapping.count) } }
    close(descriptor)
  }

  /// The last component of the path.
  public var name: String { String(path.split(separator: "/").last ?? "") }

  /// Makes sure that the file is the one that was opened, and as it was then.
  ///
  /// - Throws: `io.changed` for a file that was written to, cut, replaced or removed meanwhile.
  public func checkUnchanged() throws(Diagnostic) {
    var info = stat()
    let fault: String
    if fstat(descriptor, &info) != 0 || Identity(info) != identity {
      let now = Int(info.st_size)
      fault = now == byteCount ? "was written to" : "went from \(byteCount) to \(now) bytes"
    } else if stat(path, &info) != 0 {
      fault = "was removed"
    } else if Identity(info) != identity {
      fault = "was replaced by another file"
    } else {
      return
    }
    throw Diagnostic(
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
        let address = mmap(nil, byteCount, PROT_READ, MAP_SHARED, descriptor, 0)
        if let address, address != MAP_FAILED {
          mapping = Mapping(address: address, count: byteCount)
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

extension Diagnostic {
  /// An error with the system's own reason (`errno`) behind `message`.
  public static func system(
    _ code: String, _ subject: String, _ message: String, help: String? = nil
  ) -> Diagnostic {
    let reason = String(cString: strerror(errno))
    return Diagnostic(code: code, subject: subject, message: "\(message): \(reason)", help: help)
  }
}
