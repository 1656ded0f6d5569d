import Synchronization
public import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Writes an HDF5 checkpoint: a tree of groups by the dots of the names, contiguous datasets.
///
/// libhdf5 lays the file out and is done before the first byte of data; from then on every tensor
/// has its place in the file, and bytes are written there directly.
public final class HDF5Writer: TensorSink {
  /// Tensors start at a multiple of this, so that a mapped file has them in whole cache lines.
  static let alignment = 64

  /// Where each tensor's bytes go; `nil` for a tensor without bytes. Tied tensors have one extent.
  public let extents: [TensorInfo.Extent?]
  /// The one file.
  public let outputs: [String]

  private let byteCounts: [Int]
  /// -1 once finished.
  private let descriptor: Mutex<Int32>

  /// Creates `directory`/`fileName` with all groups, datasets and attributes, and no data.
  ///
  /// The metadata become string attributes of the root, and the config its attribute `config` (JSON
  /// text).
  ///
  /// - Throws: `hdf5.name`, `hdf5.duplicate`, `hdf5.metadata`, `hdf5.shape` and `hdf5.tie` for what
  ///   HDF5 cannot hold; `hdf5.write` and `io.write` when the file cannot be made.
  public init(
    manifest: OutputManifest, directory: String, fileName: String
  ) throws(Diagnostic) {
    try HDF5Plan.check(manifest, fileName)
    try HDF5Library.load()
    let path = directory + "/" + fileName
    extents = try HDF5Library.run { session throws(Diagnostic) in
      do throws(HDF5Failure) {
        var plan = HDF5Plan(session, manifest)
        return try plan.write(to: path)
      } catch { throw error.diagnostic(fileName, code: "write") }
    }
    outputs = [path]
    byteCounts = manifest.tensors.map(\.byteCount)
    let file = open(path, O_WRONLY | O_CLOEXEC)
    guard file >= 0 else { throw .system("io.write", path, "cannot be opened") }
    descriptor = Mutex(file)
  }

  deinit { descriptor.withLock { if $0 >= 0 { close($0) } } }

  /// Writes `bytes` at byte `offset` of tensor number `index`.
  ///
  /// - Throws: `io.write` with the system's reason, and after `finish`.
  public func write(
    _ index: Int, at offset: Int, _ bytes: UnsafeRawBufferPointer
  ) throws(Diagnostic) {
    precondition(offset >= 0 && bytes.count <= byteCounts[index] - offset)
    guard let extent = extents[index] else { return }
    try FileCopy.write(
      bytes, to: try openDescriptor(), path: outputs[0], at: extent.offset + offset)
  }

  /// Moves bytes of another file to where a dataset lies.
  ///
  /// - Throws: `io.read`, `io.truncated`, `io.write`.
  public func move(
    _ count: Int, of source: RandomAccessFile, at offset: Int, toOutput output: Int, at target: Int
  ) throws(Diagnostic) {
    precondition(output == 0)
    try FileCopy.move(
      count, of: source, at: offset, to: try openDescriptor(), path: outputs[0], at: target)
  }

  private func openDescriptor() throws(Diagnostic) -> Int32 {
    let file = descriptor.withLock { $0 }
    guard file >= 0 else {
      throw Diagnostic(
        code: "io.write", subject: outputs[0], message: "was finished before its last byte came")
    }
    return file
  }

  /// Closes the file.
  ///
  /// - Parameter sync: whether the bytes must be on the disk when it returns (`fsync`).
  /// - Throws: `io.write`.
  public func finish(sync: Bool) throws(Diagnostic) {
    let file = descriptor.withLock { descriptor in
      defer { descriptor = -1 }
      return descriptor
    }
    guard file >= 0 else { return }
    if sync, fsync(file) != 0 {
      let error = Diagnostic.system("io.write", outputs[0], "cannot be brought to the disk")
      close(file)
      throw error
    }
    guard close(file) == 0 else {
      throw .system("io.write", outputs[0], "cannot be closed")
    }
  }
}
