/// Marc Lehmann's LZF, which h5py offers as `compression="lzf"` (liblzf 3.6, `lzf_d.c`).
///
/// A byte below 32 announces one more than so many literal bytes. Any other announces a copy of what
/// came out before: its upper three bits are the length less 2, where 7 means that a byte more is to be
/// added; its lower five and the byte behind are how far back it starts, less 1.
enum LZF {
  /// Unpacks a text that must become exactly `byteCount` bytes and end there.
  ///
  /// - Returns: the bytes, or a text that says what is wrong.
  static func unpack(_ packed: [UInt8], byteCount: Int) -> Result<[UInt8], HDF5ChunkError> {
    var fault: HDF5ChunkError?
    let bytes = [UInt8](unsafeUninitializedCapacity: byteCount) { output, count in
      fault = packed.withUnsafeBufferPointer { unpack($0, into: output, count: byteCount) }
      count = fault == nil ? byteCount : 0
    }
    return fault.map { .failure($0) } ?? .success(bytes)
  }

  /// Fills the first `count` bytes of `output`; what is wrong, or `nil` when all of them are there.
  private static func unpack(
    _ input: UnsafeBufferPointer<UInt8>, into output: UnsafeMutableBufferPointer<UInt8>, count: Int
  ) -> HDF5ChunkError? {
    let cut = HDF5ChunkError("its lzf data ends in the middle of an instruction")
    let long = HDF5ChunkError("it unpacks to more than \(count) bytes")
    var read = 0
    var written = 0
    while read < input.count {
      let control = Int(input[read])
      read += 1
      if control < 32 {
        let length = control + 1
        guard input.count - read >= length else { return cut }
        guard count - written >= length else { return long }
        for i in 0..<length { output[written + i] = input[read + i] }
        read += length
        written += length
        continue
      }
      var length = control >> 5
      if length == 7 {
        guard read < input.count else { return cut }
        length += Int(input[read])
        read += 1
      }
      length += 2
      guard read < input.count else { return cut }
      let back = (control & 31) << 8 + Int(input[read]) + 1
      read += 1
      guard back <= written else {
        return HDF5ChunkError("its lzf data repeats what is before its start")
      }
      guard count - written >= length else { return long }
      // Byte by byte: a copy may overlap what it writes.
      for i in 0..<length { output[written + i] = output[written + i - back] }
      written += length
    }
    return written == count ? nil : HDF5ChunkError("it unpacks to less than \(count) bytes")
  }
}
