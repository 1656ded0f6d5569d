/// One entry of a zip file; stored, but for the archives that may be deflated.
package struct ZipEntry: Sendable, Hashable {
  /// The name with its folders.
  package var name: String
  /// Where the entry's local header begins, in bytes from the start of the file.
  package var headerOffset: Int
  /// Where the entry's own bytes begin.
  package var dataOffset: Int
  /// Bytes of the entry.
  package var byteCount: Int
  /// The CRC-32 that the directory gives; 0 also where the writer computed none.
  package var checksum: UInt32
  /// Bytes that it takes in the file.
  package var packedCount: Int
  /// Whether these are deflated.
  package var isDeflated: Bool

  /// Whether it only names a folder, as re-packed archives do.
  var isFolder: Bool { name.utf8.last == UInt8(ascii: "/") && byteCount == 0 }
}
