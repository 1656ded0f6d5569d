/// Little-endian fields at any offset of a byte array; the caller has checked the bounds.
extension Array where Element == UInt8 {
  func u16(_ at: Int) -> Int { Int(self[at]) | Int(self[at + 1]) << 8 }

  func u32(_ at: Int) -> UInt32 { UInt32(u16(at)) | UInt32(u16(at + 2)) << 16 }

  func u64(_ at: Int) -> UInt64 { UInt64(u32(at)) | UInt64(u32(at + 4)) << 32 }

  mutating func append16(_ value: Int) { append(contentsOf: littleEndian(UInt64(value), 2)) }

  mutating func append32(_ value: UInt32) { append(contentsOf: littleEndian(UInt64(value), 4)) }

  mutating func append64(_ value: Int) { append(contentsOf: littleEndian(UInt64(value), 8)) }

  private func littleEndian(_ value: UInt64, _ count: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) }
  }
}
