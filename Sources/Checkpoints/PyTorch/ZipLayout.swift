package import Tensors

/// Where the entries of a zip file to be written go: each begins at a multiple of 64 bytes, as
/// PyTorch places them, so that storages can be mapped.
package struct ZipLayout {
  /// An entry with its place.
  package struct Entry {
    package var name: String
    package var byteCount: Int
    package var headerOffset: Int
    package var dataOffset: Int
    package var checksum: UInt32 = 0
  }

  package init() {}

  package private(set) var entries: [Entry] = []
  /// Where the next local header goes; after the last entry, the central directory.
  package private(set) var end = 0

  private static let alignment = 64
  private static let most = 0xffff_ffff

  /// Adds an entry of `byteCount` bytes behind the others, and returns its number.
  ///
  /// - Throws: `pytorch.too-large` when the file would pass 2^63 bytes.
  package mutating func add(_ name: String, byteCount: Int) throws(Diagnostic) -> Int {
    let header = 30 + name.utf8.count + (byteCount >= Self.most ? 20 : 0) + 4
    guard let aligned = end.checkedPlus(header + Self.alignment - 1),
      let next = (aligned / Self.alignment * Self.alignment).checkedPlus(byteCount)
    else {
      throw .pytorch("too-large", name, "does not fit a file: \(byteCount) bytes more")
    }
    let data = aligned / Self.alignment * Self.alignment
    entries.append(
      Entry(name: name, byteCount: byteCount, headerOffset: end, dataOffset: data))
    end = next
    return entries.count - 1
  }

  /// Sets the CRC-32 of entry `index`.
  package mutating func setChecksum(_ value: UInt32, of index: Int) {
    entries[index].checksum = value
  }

  /// The local header of entry `index`, up to its first byte.
  package func localHeader(_ index: Int) -> [UInt8] {
    let entry = entries[index]
    let isLarge = entry.byteCount >= Self.most
    var bytes: [UInt8] = []
    bytes.append32(0x0403_4b50)
    appendCommon(entry, isLarge: isLarge, to: &bytes)
    let padding =
      entry.dataOffset - entry.headerOffset - 30 - entry.name.utf8.count - (isLarge ? 20 : 0) - 4
    bytes.append16((isLarge ? 20 : 0) + 4 + padding)
    bytes.append(contentsOf: entry.name.utf8)
    if isLarge {
      bytes.append16(1)
      bytes.append16(16)
      bytes.append64(entry.byteCount)
      bytes.append64(entry.byteCount)
    }
    // PyTorch pads by an extra field "FB" full of Z.
    bytes.append(contentsOf: "FB".utf8)
    bytes.append16(padding)
    bytes.append(contentsOf: repeatElement(UInt8(ascii: "Z"), count: padding))
    return bytes
  }

  /// Version, flags, method, time, checksum, sizes, and the name's length: alike in both headers.
  private func appendCommon(_ entry: Entry, isLarge: Bool, to bytes: inout [UInt8]) {
    bytes.append16(isLarge || entry.headerOffset >= Self.most ? 45 : 20)
    bytes.append16(0x0800)  // names are UTF-8
    bytes.append16(0)  // stored
    bytes.append16(0)
    bytes.append16(0x21)  // 1980-01-01, so that equal weights make equal files
    bytes.append32(entry.checksum)
    let size = isLarge ? UInt32.max : UInt32(entry.byteCount)
    bytes.append32(size)
    bytes.append32(size)
    bytes.append16(entry.name.utf8.count)
  }

  /// The central directory and the end records. The zip64 ones are always written, as PyTorch does.
  package func trailer() -> [UInt8] {
    var bytes: [UInt8] = []
    for entry in entries {
      let isLarge = entry.byteCount >= Self.most
      let isFar = entry.headerOffset >= Self.most
      bytes.append32(0x0201_4b50)
      bytes.append16(45)  // made by
      appendCommon(entry, isLarge: isLarge, to: &bytes)
      let fields = (isLarge ? 16 : 0) + (isFar ? 8 : 0)
      bytes.append16(fields == 0 ? 0 : 4 + fields)
      bytes.append16(0)  // comment
      bytes.append16(0)  // disk
      bytes.append16(0)
      bytes.append32(0)
      bytes.append32(isFar ? UInt32.max : UInt32(entry.headerOffset))
      bytes.append(contentsOf: entry.name.utf8)
      if fields > 0 {
        bytes.append16(1)
        bytes.append16(fields)
        if isLarge {
          bytes.append64(entry.byteCount)
          bytes.append64(entry.byteCount)
        }
        if isFar { bytes.append64(entry.headerOffset) }
      }
    }
    let size = bytes.count
    let count = entries.count
    bytes.append32(ZipEnd.end64Signature)
    bytes.append64(44)
    bytes.append16(45)
    bytes.append16(45)
    bytes.append32(0)
    bytes.append32(0)
    bytes.append64(count)
    bytes.append64(count)
    bytes.append64(size)
    bytes.append64(end)
    bytes.append32(ZipEnd.locatorSignature)
    bytes.append32(0)
    bytes.append64(end + size)
    bytes.append32(1)
    bytes.append32(ZipEnd.endSignature)
    bytes.append16(0)
    bytes.append16(0)
    bytes.append16(min(count, 0xffff))
    bytes.append16(min(count, 0xffff))
    bytes.append32(UInt32(min(size, Self.most)))
    bytes.append32(UInt32(min(end, Self.most)))
    bytes.append16(0)
    return bytes
  }
}
