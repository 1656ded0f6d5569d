import Tensors

/// Walks the central directory and compares each entry with its local header.
struct ZipDirectoryParser {
  let file: any StoredBytes
  let end: ZipEnd
  let bytes: [UInt8]
  let allowsDeflate: Bool
  /// Bytes of all local headers so far.
  private var localBytes = 0

  init(file: any StoredBytes, end: ZipEnd, bytes: [UInt8], allowsDeflate: Bool = false) {
    self.allowsDeflate = allowsDeflate
    self.file = file
    self.end = end
    self.bytes = bytes
  }

  private static let centralSignature: UInt32 = 0x0201_4b50
  private static let localSignature: UInt32 = 0x0403_4b50
  private static let centralSize = 46
  private static let localSize = 30

  /// What the central directory says of one entry.
  private struct Central {
    var name: String
    var nameBytes: ArraySlice<UInt8>
    var flags: Int
    var method: Int
    var checksum: UInt32
    var packedCount: Int
    var byteCount: Int
    var headerOffset: Int
  }

  /// The entries; what is wrong with any of them goes to `problems`.
  mutating func parse(_ problems: inout ProblemList) -> [ZipEntry] {
    var entries: [ZipEntry] = []
    entries.reserveCapacity(end.entryCount)
    var at = 0
    var count = 0
    while at < bytes.count {
      guard bytes.count - at >= Self.centralSize, bytes.u32(at) == Self.centralSignature else {
        problems.add(broken(count, at, "no entry begins there"))
        return entries
      }
      let nameCount = bytes.u16(at + 28)
      let extraCount = bytes.u16(at + 30)
      let next = at + Self.centralSize + nameCount + extraCount + bytes.u16(at + 32)
      guard next <= bytes.count else {
        problems.add(broken(count, at, "it ends behind the directory"))
        return entries
      }
      // Or else many entries that point to one long header would read it again and again.
      guard localBytes <= end.directoryOffset else {
        problems.add(
          .pytorch(
            "zip-duplicate", file.name,
            "has entries that share a local header: those of the first \(count) entries alone would"
              + " take more bytes than the file has",
            help: "no PyTorch writes such a file; do not trust it"))
        return entries
      }
      do throws(Diagnostic) {
        let central = try self.central(at, nameCount, extraCount)
        entries.append(try entry(central))
      } catch { problems.add(error) }
      at = next
      count += 1
    }
    if count != end.entryCount {
      problems.add(
        .pytorch(
          "zip-count", file.name,
          "says that its zip directory holds \(end.entryCount) entries, but it holds \(count)",
          help: Diagnostic.fetchAgain))
    }
    return entries
  }

  private func broken(_ index: Int, _ at: Int, _ reason: String) -> Diagnostic {
    .pytorch(
      "zip-directory", file.name,
      "has a broken zip directory: entry \(index) at byte \(end.directoryOffset + at): \(reason)",
      help: Diagnostic.fetchAgain)
  }

  private func central(
    _ at: Int, _ nameCount: Int, _ extraCount: Int
  ) throws(Diagnostic) -> Central {
    let nameStart = at + Self.centralSize
    let nameBytes = bytes[nameStart..<nameStart + nameCount]
    guard let name = String(validating: nameBytes, as: UTF8.self) else {
      throw .pytorch(
        "zip-name", "\(file.name): byte \(end.directoryOffset + at)",
        "an entry's name is no UTF-8",
        help: "PyTorch writes no such names; do not trust the file")
    }
    guard name.isStreamSafe else {
      throw .pytorch(
        "zip-name", "\(file.name): entry \(shown(name))",
        "has a name with more than 30 combining marks in a row",
        help: "PyTorch writes no such names; do not trust the file")
    }
    var packed = UInt64(bytes.u32(at + 20))
    var plain = UInt64(bytes.u32(at + 24))
    var offset = UInt64(bytes.u32(at + 42))
    let extra = nameStart + nameCount..<nameStart + nameCount + extraCount
    try Self.applyZip64(
      bytes, extra, subject: self.subject(name), plain: &plain, packed: &packed, offset: &offset)
    guard let plainCount = Int(exactly: plain), let packedCount = Int(exactly: packed),
      let headerOffset = Int(exactly: offset)
    else { throw range(name, "its place or size is beyond any file's size") }
    return Central(
      name: name, nameBytes: nameBytes, flags: bytes.u16(at + 8), method: bytes.u16(at + 10),
      checksum: bytes.u32(at + 16), packedCount: packedCount, byteCount: plainCount,
      headerOffset: headerOffset)
  }

  /// Replaces the values that stand at their maximum by those of the zip64 extra field.
  private static func applyZip64(
    _ bytes: [UInt8], _ extra: Range<Int>, subject: @autoclosure () -> String, plain: inout UInt64,
    packed: inout UInt64, offset: inout UInt64
  ) throws(Diagnostic) {
    let most = UInt64(UInt32.max)
    guard plain == most || packed == most || offset == most else { return }
    var at = extra.lowerBound
    while extra.upperBound - at >= 4 {
      let id = bytes.u16(at)
      let count = bytes.u16(at + 2)
      at += 4
      guard count <= extra.upperBound - at else { break }
      if id == 1 {
        var field = at
        func next() throws(Diagnostic) -> UInt64 {
          guard at + count - field >= 8 else {
            throw .pytorch(
              "zip-extra", subject(),
              "has a zip64 field of \(count) bytes, too short for its sizes",
              help: Diagnostic.fetchAgain)
          }
          defer { field += 8 }
          return bytes.u64(field)
        }
        if plain == most { plain = try next() }
        if packed == most { packed = try next() }
        if offset == most { offset = try next() }
        return
      }
      at += count
    }
    // Without the field the values mean what they say.
  }

  /// Checks an entry's own rules and its local header.
  private mutating func entry(_ central: Central) throws(Diagnostic) -> ZipEntry {
    try checkName(central.name)
    func subject() -> String { self.subject(central.name) }
    guard central.flags & 0x2041 == 0 else {
      throw .pytorch("zip-encrypted", subject(), "is encrypted", help: "decrypt the file first")
    }
    let isDeflated = allowsDeflate && central.method == 8
    guard central.method == 0 || isDeflated else {
      throw .pytorch(
        "zip-compressed", subject(),
        "is compressed (method \(central.method)\(central.method == 8 ? ", deflate" : ""));"
          + " PyTorch stores its entries plainly",
        help: "unpack it and pack it again with `zip -0 -r`, or save it again with `torch.save`")
    }
    guard central.packedCount == central.byteCount || isDeflated else {
      throw .pytorch(
        "zip-size", subject(),
        "is stored plainly, but the directory gives it \(central.packedCount) bytes in the file"
          + " and \(central.byteCount) unpacked",
        help: Diagnostic.fetchAgain)
    }
    let dataOffset = try checkLocal(central)
    guard let dataEnd = dataOffset.checkedPlus(central.packedCount), dataEnd <= end.directoryOffset
    else {
      throw range(
        central.name,
        "it has \(central.packedCount) bytes at byte \(dataOffset), but the zip directory begins at"
          + " byte \(end.directoryOffset)")
    }
    return ZipEntry(
      name: central.name, headerOffset: central.headerOffset, dataOffset: dataOffset,
      byteCount: central.byteCount, checksum: central.checksum, packedCount: central.packedCount,
      isDeflated: isDeflated)
  }

  private func checkName(_ name: String) throws(Diagnostic) {
    let utf8 = Array(name.utf8)
    let parts = utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
    let bad =
      utf8.isEmpty || utf8[0] == UInt8(ascii: "/") || utf8.contains(0)
      || utf8.contains(UInt8(ascii: "\\")) || parts.contains { $0.elementsEqual("..".utf8) }
      || parts.dropLast().contains { $0.isEmpty }
    guard !bad else {
      throw .pytorch(
        "zip-name", "\(file.name): entry \(shown(name))",
        "has a name that leads out of the archive or is no plain path",
        help: "PyTorch writes no such names; do not trust the file")
    }
  }

  /// Compares the local header, and returns where the entry's bytes begin.
  private mutating func checkLocal(_ central: Central) throws(Diagnostic) -> Int {
    let nameCount = central.nameBytes.count
    let at = central.headerOffset
    guard let headerEnd = at.checkedPlus(Self.localSize + nameCount),
      headerEnd <= end.directoryOffset
    else {
      throw range(
        central.name,
        "its local header is said to be at byte \(at), but the zip directory begins at byte"
          + " \(end.directoryOffset)")
    }
    let local = try file.bytes(at: at, count: Self.localSize + nameCount)
    guard local.u32(0) == Self.localSignature else {
      throw disagree(central, "no local header begins at byte \(at)")
    }
    guard local.u16(26) == nameCount, local[Self.localSize...].elementsEqual(central.nameBytes)
    else {
      throw disagree(central, "the local header at byte \(at) has another name")
    }
    guard local.u16(6) == central.flags, local.u16(8) == central.method else {
      throw disagree(
        central,
        "flags and method are \(local.u16(6)) and \(local.u16(8)) in the local header,"
          + " \(central.flags) and \(central.method) in the directory")
    }
    let extraCount = local.u16(28)
    localBytes += Self.localSize + nameCount + extraCount
    var packed = UInt64(local.u32(18))
    var plain = UInt64(local.u32(22))
    if packed == UInt64(UInt32.max) || plain == UInt64(UInt32.max) {
      let extra = try file.bytes(at: headerEnd, count: extraCount)
      var none: UInt64 = 0
      try Self.applyZip64(
        extra, 0..<extraCount, subject: subject(central.name), plain: &plain, packed: &packed,
        offset: &none)
    }
    // With flag 3 the sizes follow the data, and the local header may leave them 0.
    let deferred = central.flags & 8 != 0
    let checksum = local.u32(14)
    let agrees =
      (checksum == central.checksum || deferred && checksum == 0)
      && (packed == UInt64(central.packedCount) || deferred && packed == 0)
      && (plain == UInt64(central.byteCount) || deferred && plain == 0)
    guard agrees else {
      throw disagree(
        central,
        "checksum and size are 0x\(hex(checksum)) and \(plain) in the local header,"
          + " 0x\(hex(central.checksum)) and \(central.byteCount) in the directory")
    }
    return headerEnd + extraCount
  }

  private func subject(_ name: String) -> String { "\(file.name): entry \(shown(name))" }

  private func range(_ name: String, _ reason: String) -> Diagnostic {
    .pytorch(
      "zip-range", subject(name), "does not lie in the file: \(reason)",
      help: Diagnostic.fetchAgain)
  }

  private func disagree(_ central: Central, _ reason: String) -> Diagnostic {
    .pytorch(
      "zip-local-header", subject(central.name),
      "is told of differently in its two places: \(reason)",
      help: "readers differ in which one they believe; do not trust the file")
  }
}
