package import Tensors

/// The directory of a zip file, read strictly: stored entries only (deflated ones too, if asked for),
/// nothing before the first and nothing behind the last, and each local header as the central
/// directory has it.
///
/// Zip readers differ in which of two contradicting places they believe; a file that contradicts
/// itself could show this tool other weights than it shows PyTorch.
package struct ZipDirectory: Sendable {
  /// The entries, as the central directory lists them; folders are none.
  package let entries: [ZipEntry]
  private let byName: [TensorName: ZipEntry]

  /// The entry of exactly that name.
  package subscript(name name: String) -> ZipEntry? {
    byName[TensorName(name)]
  }

  /// Reads the directory at the end of `file` and each entry's local header.
  ///
  /// - Throws: every `pytorch.zip-*` problem, or `io.*`.
  package init(file: any StoredBytes, allowsDeflate: Bool = false) throws(Problems) {
    let end: ZipEnd
    let directory: [UInt8]
    do throws(Diagnostic) {
      end = try ZipEnd(file: file)
      directory = try file.bytes(at: end.directoryOffset, count: end.directorySize)
    } catch { throw Problems([error]) }

    var problems = ProblemList()
    var parser = ZipDirectoryParser(
      file: file, end: end, bytes: directory, allowsDeflate: allowsDeflate)
    let entries = parser.parse(&problems)
    var byName: [TensorName: ZipEntry] = [:]
    byName.reserveCapacity(entries.count)
    for entry in entries {
      guard byName.updateValue(entry, forKey: TensorName(entry.name)) == nil else {
        problems.add(
          .pytorch(
            "zip-duplicate", "\(file.name): entry \(shown(entry.name))",
            "stands twice in the zip directory",
            help: "readers differ in which one they take; " + Diagnostic.saveAgain))
        continue
      }
    }
    Self.checkPlaces(entries, end, file, &problems)
    try problems.check()
    self.entries = entries.filter { !$0.isFolder }
    self.byName = byName
  }

  /// The bytes of `entry`, or its first `limit`; whole ones compared with the checksum, if any.
  ///
  /// - Throws: `pytorch.zip-checksum` or `io.*`.
  package func bytes(
    of entry: ZipEntry, in file: any StoredBytes, atMost limit: Int = .max
  ) throws(Diagnostic) -> [UInt8] {
    let bytes = try file.bytes(at: entry.dataOffset, count: min(entry.byteCount, limit))
    // torch.serialization.set_crc32_options(False) leaves all sums 0.
    guard entry.checksum != 0, bytes.count == entry.byteCount else { return bytes }
    var sum = ZipChecksum()
    sum.update(bytes)
    try Self.check(sum, of: entry, in: file)
    return bytes
  }

  /// Reads `entry` in blocks and compares it with its checksum, where there is one.
  ///
  /// - Throws: `pytorch.zip-checksum` or `io.*`.
  package func verify(_ entry: ZipEntry, in file: any StoredBytes) throws(Diagnostic) {
    guard entry.checksum != 0 else { return }
    let sum = try ZipChecksum.ofBytes(
      entry.dataOffset..<entry.dataOffset + entry.byteCount, in: file)
    try Self.check(sum, of: entry, in: file)
  }

  private static func check(
    _ sum: ZipChecksum, of entry: ZipEntry, in file: any StoredBytes
  ) throws(Diagnostic) {
    guard sum.value == entry.checksum else {
      throw .pytorch(
        "zip-checksum", "\(file.name): entry \(shown(entry.name))",
        "has CRC-32 0x\(hex(sum.value)), but the zip directory says 0x\(hex(entry.checksum))",
        help: Diagnostic.fetchAgain)
    }
  }

  /// The first entry begins the file, and no two share bytes.
  private static func checkPlaces(
    _ entries: [ZipEntry], _ end: ZipEnd, _ file: any StoredBytes, _ problems: inout ProblemList
  ) {
    let sorted = entries.sorted { $0.headerOffset < $1.headerOffset }
    if let first = sorted.first, first.headerOffset != 0, problems.isEmpty {
      problems.add(ZipEnd.prefixed(file, bytes: first.headerOffset))
    }
    for (one, next) in zip(sorted, sorted.dropFirst())
    where next.headerOffset < one.dataOffset + one.packedCount
      && TensorName(one.name) != TensorName(next.name)
    {
      problems.add(
        .pytorch(
          "zip-overlap", "\(file.name): entry \(shown(next.name))",
          "begins at byte \(next.headerOffset), inside entry \(shown(one.name)), which ends at"
            + " byte \(one.dataOffset + one.packedCount)",
          help: "no PyTorch writes such a file; do not trust it"))
    }
  }
}

extension ZipChecksum {
  /// The sum of the bytes `range` of `file`, read in blocks.
  static func ofBytes(_ range: Range<Int>, in file: any StoredBytes) throws(Diagnostic)
    -> ZipChecksum
  {
    var sum = ZipChecksum()
    let block = UnsafeMutableRawBufferPointer.allocate(
      byteCount: max(1, min(range.count, 1 << 20)), alignment: 64)
    defer { block.deallocate() }
    var at = range.lowerBound
    while at < range.upperBound {
      let part = UnsafeMutableRawBufferPointer(
        rebasing: block[..<min(block.count, range.upperBound - at)])
      try file.read(at: at, into: part)
      sum.update(UnsafeRawBufferPointer(part))
      at += part.count
    }
    return sum
  }
}
