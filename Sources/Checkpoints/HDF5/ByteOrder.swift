/// Turning numbers of one byte order into the other.
enum ByteOrder {
  /// Reverses each run of `size` bytes (1, 2, 4 or 8) in place; whole runs are expected.
  static func reverse(each size: Int, in buffer: UnsafeMutableRawBufferPointer) {
    switch size {
    case 2: reverse(UInt16.self, buffer)
    case 4: reverse(UInt32.self, buffer)
    case 8: reverse(UInt64.self, buffer)
    default: break
    }
  }

  private static func reverse<T: FixedWidthInteger & BitwiseCopyable>(
    _ type: T.Type, _ buffer: UnsafeMutableRawBufferPointer
  ) {
    let size = MemoryLayout<T>.size
    for offset in stride(from: 0, to: buffer.count - buffer.count % size, by: size) {
      let value = buffer.loadUnaligned(fromByteOffset: offset, as: T.self)
      buffer.storeBytes(of: value.byteSwapped, toByteOffset: offset, as: T.self)
    }
  }
}
