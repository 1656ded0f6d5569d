import Synchronization
public import Tensors

/// A numpy archive (`.npz`): a zip of arrays, stored or deflated.
///
/// A tensor's name is its entry's without `.npy`. Arrays may be column-major or big-endian; what is
/// read is row-major and little-endian. Of deflated arrays the last one that was read is kept.
public final class NpzReader: TensorSource {
  /// Always `.npz`.
  public var container: Container { .npz }
  /// The one file.
  public let files: [RandomAccessFile]
  /// The arrays in the order of the zip directory.
  public let tensors: [TensorInfo]
  /// Nothing: the format has no place for texts.
  public var metadata: [String: String] { [:] }
  /// Nothing.
  public var attachments: JSONValue { .null }
  /// Types that are known by convention only.
  public let warnings: [Diagnostic]

  private let arrays: [(entry: ZipEntry, header: NpyHeader)]
  private let unpacked = Mutex<(number: Int, bytes: [UInt8])?>(nil)
  /// Deflate packs at most 1032 times.
  private static let mostRatio = 1032

  /// Opens the file and reads each array's head.
  ///
  /// - Throws: `npz.*`; `pytorch.zip-*` for the zip file itself; `io.*`.
  public init(path: String) throws(Problems) {
    let file: RandomAccessFile
    do throws(Diagnostic) { file = try RandomAccessFile(path: path) } catch {
      throw Problems([error])
    }
    let directory = try ZipDirectory(file: file, allowsDeflate: true)
    do throws(Diagnostic) {
      var arrays: [(ZipEntry, NpyHeader)] = []
      var infos: [TensorInfo] = []
      var opaque: [String] = []
      for entry in directory.entries {
        let subject = "\(file.name): entry \(shown(entry.name))"
        guard entry.name.hasSuffix(".npy"), entry.name.utf8.count > 4 else {
          throw Diagnostic(
            code: "npz.entry", subject: subject,
            message: "is no array: its name does not end in .npy",
            help: "numpy writes no such entries")
        }
        try Self.checkRatio(entry, subject)
        let header = try NpyHeader(try Self.head(of: entry, in: file, subject), subject: subject)
        guard let bytes = header.shape.byteCount(of: header.dtype),
          header.byteCount.checkedPlus(bytes) == entry.byteCount
        else {
          throw Diagnostic(
            code: "npz.size", subject: subject,
            message:
              "has \(entry.byteCount) bytes, but \(header.dtype.rawValue) \(header.shape) behind"
              + " a header of \(header.byteCount) bytes takes another number",
            help: "the file is incomplete or damaged; fetch it again")
        }
        let name = String(entry.name.dropLast(4))
        if header.isOpaque { opaque.append(name) }
        let isDense = !header.isFortran || header.shape.dims.count { $0 != 1 } < 2
        infos.append(
          TensorInfo(
            name: TensorName(name), dtype: header.dtype, shape: header.shape, byteCount: bytes,
            file: file.name,
            extent: isDense && !header.isSwapped && !entry.isDeflated
              ? .init(file: 0, offset: entry.dataOffset + header.byteCount) : nil))
        arrays.append((entry, header))
      }
      files = [file]
      self.arrays = arrays
      tensors = infos
      warnings =
        opaque.isEmpty
        ? []
        : [
          Diagnostic(
            .warning, code: "npz.bfloat16", subject: file.name,
            message: "holds \(opaque.count) arrays of two opaque bytes (V2), such as "
              + "\(shown(opaque[0])); they are taken as bfloat16, which ml_dtypes and MLX write so")
        ]
    } catch { throw Problems([error]) }
  }

  private static func checkRatio(_ entry: ZipEntry, _ subject: String) throws(Diagnostic) {
    guard entry.isDeflated, entry.byteCount / mostRatio > entry.packedCount else { return }
    throw Diagnostic(
      code: "npz.bomb", subject: subject,
      message:
        "is said to unpack \(entry.packedCount) bytes to \(entry.byteCount), more than deflate"
        + " can", help: "do not trust the file")
  }

  private static func head(
    of entry: ZipEntry, in file: RandomAccessFile, _ subject: String
  ) throws(Diagnostic) -> [UInt8] {
    let count = min(entry.byteCount, NpyHeader.mostBytes)
    guard entry.isDeflated else { return try file.bytes(at: entry.dataOffset, count: count) }
    return try inflate(entry, in: file, count: count, subject)
  }

  /// The first `count` bytes of a deflated entry.
  private static func inflate(
    _ entry: ZipEntry, in file: RandomAccessFile, count: Int, _ subject: String
  ) throws(Diagnostic) -> [UInt8] {
    let isPrefix = count < entry.byteCount
    // A byte of output takes at most a little more than two of input.
    let packed = try file.bytes(
      at: entry.dataOffset,
      count: isPrefix ? min(entry.packedCount, count * 2 + 65_536) : entry.packedCount)
    var fault: Inflater.Fault?
    let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
      packed.withUnsafeBytes { input in
        do throws(Inflater.Fault) {
          try Inflater.run(
            input,
            into: UnsafeMutableRawBufferPointer(
              rebasing: UnsafeMutableRawBufferPointer(buffer)[..<count]),
            isPrefix: isPrefix)
          initialized = count
        } catch { fault = error }
      }
    }
    guard fault == nil else {
      throw Diagnostic(
        code: "npz.deflate", subject: subject,
        message:
          "cannot be unpacked to the \(entry.byteCount) bytes that the zip directory promises",
        help: "the file is incomplete or damaged; fetch it again")
    }
    if !isPrefix, entry.checksum != 0 {
      var sum = ZipChecksum()
      sum.update(bytes)
      guard sum.value == entry.checksum else {
        throw Diagnostic(
          code: "npz.checksum", subject: subject,
          message:
            "has CRC-32 0x\(hex(sum.value)), but the zip directory says 0x\(hex(entry.checksum))",
          help: "the file is damaged; fetch it again")
      }
    }
    return bytes
  }

  /// Reads the bytes `range` of array number `index`, dense, row-major and little-endian, into
  /// `buffer` (`range.count` bytes).
  ///
  /// Memory: a deflated array is unpacked as a whole.
  ///
  /// - Throws: `npz.deflate`, `npz.checksum`; `io.*`.
  public func read(
    _ index: Int, bytes range: Range<Int>, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Diagnostic) {
    checkRange(index, range, buffer)
    let info = tensors[index]
    guard !range.isEmpty else { return }
    if let extent = info.extent {
      return try files[0].read(at: extent.offset + range.lowerBound, into: buffer)
    }
    let size = info.dtype.bitWidth / 8
    let items = range.lowerBound / size..<(range.upperBound + size - 1) / size
    let whole = UnsafeMutableRawBufferPointer.allocate(
      byteCount: items.count * size, alignment: 16)
    defer { whole.deallocate() }
    try readItems(index, items, size, into: whole)
    if arrays[index].header.isSwapped {
      for item in 0..<items.count {
        whole[item * size..<(item + 1) * size].reverse()
      }
    }
    let first = range.lowerBound - items.lowerBound * size
    buffer.copyMemory(
      from: UnsafeRawBufferPointer(rebasing: whole[first..<first + range.count]))
  }

  private func readItems(
    _ index: Int, _ items: Range<Int>, _ size: Int, into whole: UnsafeMutableRawBufferPointer
  ) throws(Diagnostic) {
    let (entry, header) = arrays[index]
    let dims = header.shape.dims
    var strides = [Int](repeating: 1, count: dims.count)
    if header.isFortran {
      for i in dims.indices.dropFirst() { strides[i] = strides[i - 1] * max(dims[i - 1], 1) }
    } else {
      for i in dims.indices.dropLast().reversed() {
        strides[i] = strides[i + 1] * max(dims[i + 1], 1)
      }
    }
    guard entry.isDeflated else {
      let view = StridedView(
        base: entry.dataOffset + header.byteCount, itemSize: size, dims: dims, strides: strides)
      return try view.read(
        items.lowerBound * size..<items.upperBound * size, from: files[0], into: whole)
    }
    let subject = "\(files[0].name): entry \(shown(entry.name))"
    let file = files[0]
    let result = unpacked.withLock { kept -> Result<Void, Diagnostic> in
      do throws(Diagnostic) {
        if kept?.number != index {
          kept = nil
          kept = (index, try Self.inflate(entry, in: file, count: entry.byteCount, subject))
        }
      } catch { return .failure(error) }
      kept!.bytes.withUnsafeBytes { bytes in
        for (place, item) in items.enumerated() {
          var rest = item
          var from = 0
          for i in dims.indices.reversed() {
            from += rest % dims[i] * strides[i]
            rest /= dims[i]
          }
          let start = header.byteCount + from * size
          UnsafeMutableRawBufferPointer(rebasing: whole[place * size..<(place + 1) * size])
            .copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[start..<start + size]))
        }
      }
      return .success(())
    }
    try result.get()
  }
}
