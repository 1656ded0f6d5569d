import Crypto
package import Tensors

/// SHA-256, in blocks, so that memory stays small whatever the size of the file.
package struct Digest {
  private static let blockBytes = 4 << 20
  private var hasher = SHA256()

  package mutating func update(_ bytes: UnsafeRawBufferPointer) {
    hasher.update(bufferPointer: bytes)
  }

  /// The digest of everything so far, in hexadecimal.
  package var hex: String {
    hasher.finalize().reduce(into: "") { $0 += Tensors.hex($1) }
  }

  package static func of(_ text: String) -> String {
    var digest = Digest()
    var text = text
    text.withUTF8 { digest.update(UnsafeRawBufferPointer($0)) }
    return digest.hex
  }

  package static func of(_ file: RandomAccessFile) throws(Diagnostic) -> String {
    try of(byteCount: file.byteCount) { (range, buffer) throws(Diagnostic) in
      try file.read(at: range.lowerBound, into: buffer)
    }
  }

  package static func of(_ tensor: Int, in source: any TensorSource) throws(Diagnostic) -> String {
    try of(byteCount: source.tensors[tensor].byteCount) { (range, buffer) throws(Diagnostic) in
      try source.read(tensor, bytes: range, into: buffer)
    }
  }

  private static func of(
    byteCount: Int, read: (Range<Int>, UnsafeMutableRawBufferPointer) throws(Diagnostic) -> Void
  ) throws(Diagnostic) -> String {
    let buffer = UnsafeMutableRawBufferPointer.allocate(
      byteCount: min(blockBytes, byteCount), alignment: 64)
    defer { buffer.deallocate() }
    var digest = Digest()
    var start = 0
    while start < byteCount {
      let range = start..<min(start + blockBytes, byteCount)
      let block = UnsafeMutableRawBufferPointer(rebasing: buffer[..<range.count])
      try read(range, block)
      digest.update(UnsafeRawBufferPointer(block))
      start = range.upperBound
    }
    return digest.hex
  }
}
