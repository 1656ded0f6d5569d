import CKernels

/// The CRC-32 of zip files, resumable and combinable, so that blocks may be summed in any order.
package struct ZipChecksum: Sendable, Hashable {
  /// The sum, as zip files store it.
  package private(set) var value: UInt32

  /// The sum of no bytes, or a known one.
  package init(value: UInt32 = 0) { self.value = value }

  /// The reversed polynomial of zip's CRC-32.
  private static let polynomial: UInt32 = 0xedb8_8320

  /// Sixteen tables of 256: entry `256 k + b` is what byte `b` adds with `k` bytes after it.
  private static let tables: [UInt32] = {
    var table = [UInt32](repeating: 0, count: 16 * 256)
    for byte in 0..<256 {
      var crc = UInt32(byte)
      for _ in 0..<8 { crc = crc & 1 == 1 ? (crc >> 1) ^ polynomial : crc >> 1 }
      table[byte] = crc
    }
    for k in 1..<16 {
      for byte in 0..<256 {
        let before = table[(k - 1) * 256 + byte]
        table[k * 256 + byte] = (before >> 8) ^ table[Int(before & 0xff)]
      }
    }
    return table
  }()

  /// Adds `bytes` behind those summed so far.
  package mutating func update(_ bytes: UnsafeRawBufferPointer) {
    // Most of it in large steps where the processor can; what is left of these is 16 bytes.
    var rest: InlineArray<16, UInt8> = .init(repeating: 0)
    var done = 0
    if let start = bytes.baseAddress {
      let register = ~value
      done = withUnsafeMutableBytes(of: &rest) {
        ck_crc32_fold(register, start, bytes.count, $0.baseAddress)
      }
    }
    if done > 0 {
      value = ~0
      withUnsafeBytes(of: &rest) { updatePlainly($0) }
    }
    updatePlainly(UnsafeRawBufferPointer(rebasing: bytes[done...]))
  }

  /// The same by tables: the plain twin.
  package mutating func updatePlainly(_ bytes: UnsafeRawBufferPointer) {
    var crc = ~value
    Self.tables.withUnsafeBufferPointer { tables in
      let table = tables.baseAddress!
      var i = 0
      let end = bytes.count
      // Sixteen bytes a step: sixteen independent look-ups instead of a chain of them.
      while end - i >= 16 {
        let low =
          UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: i, as: UInt64.self))
          ^ UInt64(crc)
        let high = UInt64(
          littleEndian: bytes.loadUnaligned(fromByteOffset: i + 8, as: UInt64.self))
        var sum = table[15 * 256 + Int(low & 0xff)]
        sum ^= table[14 * 256 + Int(low >> 8 & 0xff)]
        sum ^= table[13 * 256 + Int(low >> 16 & 0xff)]
        sum ^= table[12 * 256 + Int(low >> 24 & 0xff)]
        sum ^= table[11 * 256 + Int(low >> 32 & 0xff)]
        sum ^= table[10 * 256 + Int(low >> 40 & 0xff)]
        sum ^= table[9 * 256 + Int(low >> 48 & 0xff)]
        sum ^= table[8 * 256 + Int(low >> 56)]
        sum ^= table[7 * 256 + Int(high & 0xff)]
        sum ^= table[6 * 256 + Int(high >> 8 & 0xff)]
        sum ^= table[5 * 256 + Int(high >> 16 & 0xff)]
        sum ^= table[4 * 256 + Int(high >> 24 & 0xff)]
        sum ^= table[3 * 256 + Int(high >> 32 & 0xff)]
        sum ^= table[2 * 256 + Int(high >> 40 & 0xff)]
        sum ^= table[256 + Int(high >> 48 & 0xff)]
        sum ^= table[Int(high >> 56)]
        crc = sum
        i += 16
      }
      while i < end {
        crc = (crc >> 8) ^ table[Int((crc ^ UInt32(bytes[i])) & 0xff)]
        i += 1
      }
    }
    value = ~crc
  }

  /// Adds `bytes` behind those summed so far.
  package mutating func update(_ bytes: [UInt8]) {
    bytes.withUnsafeBytes { update($0) }
  }

  /// Adds `count` bytes whose own sum is `next` behind those summed so far.
  package mutating func append(_ next: ZipChecksum, count: Int) {
    // Appending n bytes multiplies the sum by x^(8n) in GF(2)[x] modulo the polynomial.
    value = Self.multiply(Self.powerOfX(bytes: count), value) ^ next.value
  }

  /// `a * b` modulo the polynomial; bit 31 is the coefficient of x^0.
  private static func multiply(_ a: UInt32, _ b: UInt32) -> UInt32 {
    var product: UInt32 = 0
    var shifted = b
    for bit in stride(from: UInt32(31), through: 0, by: -1) {
      if a >> bit & 1 == 1 { product ^= shifted }
      shifted = shifted & 1 == 1 ? (shifted >> 1) ^ polynomial : shifted >> 1
    }
    return product
  }

  /// x^(8 · `bytes`) modulo the polynomial, by repeated squaring.
  private static func powerOfX(bytes: Int) -> UInt32 {
    var result: UInt32 = 1 << 31
    var square: UInt32 = 1 << 23
    var rest = bytes
    while rest > 0 {
      if rest & 1 == 1 { result = multiply(square, result) }
      square = multiply(square, square)
      rest >>= 1
    }
    return result
  }
}
