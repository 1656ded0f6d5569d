import Synchronization
import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// libzstd, loaded when the first compressed chunk is met and not when the program starts.
///
/// Only the part of its interface is used that has been the same since version 1.0.
struct ZstdLibrary: Sendable {
  typealias Create = @convention(c) () -> OpaquePointer?
  typealias Free = @convention(c) (OpaquePointer?) -> Int
  typealias Decompress =
    @convention(c) (
      OpaquePointer?, UnsafeMutableRawPointer, UnsafeMutableRawPointer
    ) -> Int
  typealias IsError = @convention(c) (Int) -> UInt32
  typealias ErrorName = @convention(c) (Int) -> UnsafePointer<CChar>?

  let create: Create
  let free: Free
  let decompress: Decompress
  let isError: IsError
  let errorName: ErrorName

  private static let names = [
    "libzstd.so.1", "libzstd.so", "libzstd.1.dylib", "/opt/homebrew/lib/libzstd.1.dylib",
    "/usr/local/lib/libzstd.1.dylib",
  ]

  private static let found: ZstdLibrary? = {
    for name in names {
      guard let library = dlopen(name, RTLD_NOW | RTLD_LOCAL) else { continue }
      guard let create = dlsym(library, "ZSTD_createDStream"),
        let free = dlsym(library, "ZSTD_freeDStream"),
        let decompress = dlsym(library, "ZSTD_decompressStream"),
        let isError = dlsym(library, "ZSTD_isError"),
        let errorName = dlsym(library, "ZSTD_getErrorName")
      else {
        dlclose(library)
        continue
      }
      return ZstdLibrary(
        create: unsafeBitCast(create, to: Create.self), free: unsafeBitCast(free, to: Free.self),
        decompress: unsafeBitCast(decompress, to: Decompress.self),
        isError: unsafeBitCast(isError, to: IsError.self),
        errorName: unsafeBitCast(errorName, to: ErrorName.self))
    }
    return nil
  }()

  /// The library.
  ///
  /// - Throws: `dcp.no-library` where the system has none; `subject` is what needs it.
  static func load(for subject: String) throws(Diagnostic) -> ZstdLibrary {
    guard let found else {
      throw .dcp(
        "no-library", subject,
        "is compressed with zstd, and libzstd is not installed (\(names[0]))",
        help:
          "apt-get install libzstd1 (Debian, Ubuntu), or load the checkpoint in Python and save it"
          + " again without extensions")
    }
    return found
  }
}

/// A zstd frame being decompressed, from its beginning to its end.
final class ZstdStream {
  private let library: ZstdLibrary
  private let stream: OpaquePointer
  private let bytes: any StoredBytes
  private let range: Range<Int>
  private let input: UnsafeMutableRawBufferPointer
  /// What of the input is read, and what of that is used.
  private var filled = 0
  private var used = 0
  /// The next byte of the file.
  private var next: Int
  private var isAtFrameEnd = false
  /// Decompressed bytes so far.
  private(set) var position = 0

  private static let inputBytes = 128 << 10

  /// The frames in the bytes `range`.
  init(_ library: ZstdLibrary, _ bytes: any StoredBytes, _ range: Range<Int>) throws(Diagnostic) {
    guard let stream = library.create() else {
      throw .dcp("memory", bytes.path, "cannot be decompressed: there is no memory for it")
    }
    self.library = library
    self.stream = stream
    self.bytes = bytes
    self.range = range
    next = range.lowerBound
    input = .allocate(byteCount: min(Self.inputBytes, max(1, range.count)), alignment: 64)
  }

  deinit {
    _ = library.free(stream)
    input.deallocate()
  }

  /// Fills as much of `buffer` as there is.
  ///
  /// - Returns: the bytes that were filled; fewer than there is room for at the end only.
  /// - Throws: `dcp.transform-damaged`, `io.*`.
  func read(into buffer: UnsafeMutableRawBufferPointer) throws(Diagnostic) -> Int {
    var done = 0
    while done < buffer.count {
      if used == filled {
        let count = min(input.count, range.upperBound - next)
        if count == 0, isAtFrameEnd { break }
        try bytes.read(at: next, into: UnsafeMutableRawBufferPointer(rebasing: input[..<count]))
        next += count
        filled = count
        used = 0
      }
      // With nothing left to read, what the library still holds comes out.
      // ZSTD_outBuffer and ZSTD_inBuffer: a pointer, a size, a position.
      var output = (buffer.baseAddress!, buffer.count, done)
      var source = (UnsafeRawPointer(input.baseAddress!), filled, used)
      let result = withUnsafeMutableBytes(of: &output) { output in
        withUnsafeMutableBytes(of: &source) { source in
          library.decompress(stream, output.baseAddress!, source.baseAddress!)
        }
      }
      guard library.isError(result) == 0 else {
        throw damaged(library.errorName(result).map { String(cString: $0) } ?? "unknown error")
      }
      let isStuck = output.2 == done && source.2 == used
      guard !isStuck || result == 0 else {
        throw damaged(used < filled ? "it does not go on" : "it ends in the middle of a frame")
      }
      done = output.2
      used = source.2
      isAtFrameEnd = result == 0
    }
    position += done
    return done
  }

  private func damaged(_ reason: String) -> Diagnostic {
    .dcp(
      "transform-damaged", bytes.path,
      "cannot be decompressed from byte \(range.lowerBound) on: \(reason)",
      help: Diagnostic.fetchDirectoryAgain)
  }
}
