import Tensors

/// What stands at the start of an HDF5 file, checked before libhdf5 sees any of it.
///
/// HDF5 File Format Specification, section II.A.
enum HDF5Superblock {
  /// The eight bytes that begin an HDF5 file, after a user block of 0, 512, 1024, 2048… bytes.
  static let signature: [UInt8] = [0x89, 0x48, 0x44, 0x46, 0x0D, 0x0A, 0x1A, 0x0A]

  /// Where the signature stands: where libhdf5 looks for it, and nowhere else.
  ///
  /// - Throws: `io.*`.
  static func find(in file: RandomAccessFile) throws(Diagnostic) -> Int? {
    var offset = 0
    while file.byteCount - offset >= signature.count {
      if try file.bytes(at: offset, count: signature.count) == signature { return offset }
      offset = offset == 0 ? 512 : offset.checkedTimes(2) ?? file.byteCount
    }
    return nil
  }

  /// Finds the signature.
  ///
  /// - Throws: `hdf5.signature`, `io.*`.
  static func offset(in file: RandomAccessFile) throws(Diagnostic) -> Int {
    if let offset = try find(in: file) { return offset }
    let start = try file.bytes(at: 0, count: min(8, file.byteCount))
    throw .hdf5(
      "signature", file.name, "is no HDF5 file: no signature at byte 0, 512, 1024, …",
      notes: [
        "it begins with " + start.map { hex($0) }.joined(separator: " ")
          + "; an HDF5 file with " + signature.map { hex($0) }.joined(separator: " ")
      ], help: "give a file that h5py, Keras or this tool wrote")
  }

  /// Checks version, sizes and the end of the file that the superblock states.
  ///
  /// - Throws: `hdf5.signature`, `hdf5.version`, `hdf5.truncated`, `hdf5.corrupt`, `io.*`.
  static func check(_ file: RandomAccessFile) throws(Diagnostic) {
    let start = try offset(in: file)
    let count = min(96, file.byteCount - start)
    let bytes = try file.bytes(at: start, count: count)
    func truncated(_ end: UInt64) -> Diagnostic {
      .hdf5(
        "truncated", file.name,
        "has \(file.byteCount) bytes, but its superblock says \(end)",
        help: "the file is incomplete; fetch it again")
    }
    guard count >= 48 else { throw truncated(48) }
    let version = bytes[8]
    guard version <= 3 else {
      throw .hdf5(
        "version", file.name, "has superblock version \(version); 0 to 3 are known",
        help: "write it again with libver='latest' of HDF5 1.10 to 2.0, or an older one")
    }
    // Offsets and lengths are 8 bytes in every file that libraries write by default.
    let sizes = version < 2 ? (bytes[13], bytes[14]) : (bytes[9], bytes[10])
    guard sizes == (8, 8) else {
      throw .hdf5(
        "corrupt", file.name,
        "its superblock says that addresses take \(sizes.0) and lengths \(sizes.1) bytes; only 8 "
          + "and 8 are read", help: "write the file again with h5py's defaults")
    }
    let base = version == 0 ? 24 : version == 1 ? 28 : 12
    let end = word(bytes, base + 16)
    // libhdf5 may state addresses from the user block or from the file's start.
    guard end <= UInt64(file.byteCount) else { throw truncated(end) }
  }

  private static func word(_ bytes: [UInt8], _ offset: Int) -> UInt64 {
    (0..<8).reduce(0) { $0 | UInt64(bytes[offset + $1]) << (8 * UInt64($1)) }
  }
}
