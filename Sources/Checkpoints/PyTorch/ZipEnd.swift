import Tensors

/// What the end of a zip file says of its directory.
struct ZipEnd {
  /// Where the central directory begins.
  var directoryOffset: Int
  /// Bytes of the central directory.
  var directorySize: Int
  /// Entries in it.
  var entryCount: Int

  /// Bytes of the end record without comment, of the zip64 end record, and of its locator.
  private static let endSize = 22
  private static let end64Size = 56
  private static let locatorSize = 20

  static let endSignature: UInt32 = 0x0605_4b50
  static let end64Signature: UInt32 = 0x0606_4b50
  static let locatorSignature: UInt32 = 0x0706_4b50

  /// Finds and checks the end records of `file`.
  ///
  /// - Throws: `pytorch.zip-*`, `io.*`.
  init(file: any StoredBytes) throws(Diagnostic) {
    let (position, record) = try Self.findEnd(file)
    let disk = record.u16(4)
    let directoryDisk = record.u16(6)
    guard disk == 0 || disk == 0xffff, directoryDisk == 0 || directoryDisk == 0xffff,
      record.u16(8) == record.u16(10)
    else {
      throw .pytorch(
        "zip-multidisk", file.name, "is one part of a zip file in several parts",
        help: "join the parts, or save the checkpoint as one file")
    }
    entryCount = record.u16(10)
    directorySize = Int(record.u32(12))
    directoryOffset = Int(record.u32(16))
    var behindDirectory = position

    if position >= Self.locatorSize {
      let at = position - Self.locatorSize
      let locator = try file.bytes(at: at, count: Self.locatorSize)
      if locator.u32(0) == Self.locatorSignature {
        behindDirectory = try read64(locator, at: at, file)
      }
    }

    guard let end = directoryOffset.checkedPlus(directorySize), end <= behindDirectory else {
      throw .pytorch(
        "zip-directory", file.name,
        "says that its zip directory has \(directorySize) bytes at byte \(directoryOffset), but"
          + " the directory must end at byte \(behindDirectory)",
        help: Diagnostic.fetchAgain)
    }
    guard end == behindDirectory else {
      throw Self.prefixed(file, bytes: behindDirectory - end)
    }
    // A directory entry takes at least 46 bytes: the count cannot claim more than the bytes hold.
    guard entryCount <= directorySize / 46 else {
      throw .pytorch(
        "zip-count", file.name,
        "says that its zip directory holds \(entryCount) entries, but \(directorySize) bytes have"
          + " room for \(directorySize / 46)",
        help: Diagnostic.fetchAgain)
    }
  }

  /// Something that is no entry stands before the first one or the directory.
  static func prefixed(_ file: any StoredBytes, bytes: Int?) -> Diagnostic {
    .pytorch(
      "zip-prefixed", file.name,
      "has \(bytes.map { "\($0) bytes" } ?? "something") that is no entry in front of its first"
        + " entry or its zip directory",
      help: "readers differ in what they make of it; " + Diagnostic.saveAgain)
  }

  /// The position and bytes of the end record: the last place whose comment ends with the file.
  private static func findEnd(_ file: any StoredBytes) throws(Diagnostic) -> (Int, [UInt8]) {
    let size = file.byteCount
    if size >= endSize {
      let record = try file.bytes(at: size - endSize, count: endSize)
      if record.u32(0) == endSignature, record.u16(20) == 0 { return (size - endSize, record) }
      let count = min(size, endSize + 0xffff)
      let tail = try file.bytes(at: size - count, count: count)
      var at = count - endSize
      while at >= 0 {
        if tail[at] == 0x50, tail.u32(at) == endSignature, at + endSize + tail.u16(at + 20) == count
        {
          return (size - count + at, Array(tail[at..<at + endSize]))
        }
        at -= 1
      }
    }
    throw .pytorch(
      "zip-truncated", file.name,
      "begins as a zip file, but has no directory at its end (\(size) bytes)",
      help: Diagnostic.fetchAgain)
  }

  /// Takes the values of the zip64 end record, and returns where it begins.
  private mutating func read64(
    _ locator: [UInt8], at: Int, _ file: any StoredBytes
  ) throws(Diagnostic) -> Int {
    let found = at - Self.end64Size
    let claimed = locator.u64(8)
    guard found >= 0 else { throw Self.broken64(file, "there is no room for it") }
    let record = try file.bytes(at: found, count: Self.end64Size)
    guard record.u32(0) == Self.end64Signature, record.u64(4) == UInt64(Self.end64Size - 12) else {
      throw Self.broken64(file, "it does not stand before its locator at byte \(at)")
    }
    guard claimed == UInt64(found) else {
      if claimed < UInt64(found) { throw Self.prefixed(file, bytes: found - Int(claimed)) }
      throw Self.broken64(file, "its locator points to byte \(claimed), but it stands at \(found)")
    }
    guard locator.u32(4) == 0, locator.u32(16) <= 1, record.u32(16) == 0, record.u32(20) == 0,
      record.u64(24) == record.u64(32)
    else { throw Self.broken64(file, "it speaks of several parts") }
    guard let count = Int(exactly: record.u64(32)), let size = Int(exactly: record.u64(40)),
      let offset = Int(exactly: record.u64(48))
    else { throw Self.broken64(file, "its numbers are beyond any file's size") }
    // The short record must agree, or say by its largest value that it leaves the word to zip64.
    guard entryCount == count || entryCount == 0xffff,
      directorySize == size || directorySize == 0xffff_ffff,
      directoryOffset == offset || directoryOffset == 0xffff_ffff
    else {
      throw Self.broken64(
        file,
        "it says \(count) entries in \(size) bytes at byte \(offset), the short end record"
          + " \(entryCount) in \(directorySize) at \(directoryOffset)")
    }
    entryCount = count
    directorySize = size
    directoryOffset = offset
    return found
  }

  private static func broken64(_ file: any StoredBytes, _ reason: String) -> Diagnostic {
    .pytorch(
      "zip-end64", file.name, "has a zip64 end record that cannot be trusted: \(reason)",
      help: Diagnostic.fetchAgain)
  }
}
