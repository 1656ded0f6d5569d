import Tensors

extension HDF5ChunkGrid {
  /// Undoes the filters of one chunk.
  ///
  /// libhdf5's own pipeline believes the packed data: it lets gzip grow without bound, and reads
  /// past what came out if that is too short. Here every size is known before.
  ///
  /// - Parameters:
  ///   - stored: the chunk as it is in the file.
  ///   - skipped: a bit for each filter that was not applied to this chunk.
  /// - Returns: `chunkBytes` bytes, or a text that says what is wrong.
  func decode(_ stored: [UInt8], skipped: UInt32) -> Result<[UInt8], HDF5ChunkError> {
    var bytes = stored
    for (index, filter) in filters.enumerated().reversed() where skipped >> index & 1 == 0 {
      // What went into this filter when it was written: checksums before it added 4 bytes each.
      let checksums = filters[..<index].enumerated().count {
        $0.element == .fletcher32 && skipped >> $0.offset & 1 == 0
      }
      let expected = chunkBytes + 4 * checksums
      switch filter {
      case .deflate:
        // Before any memory is taken: zlib packs at most 1032 times.
        guard expected / 1040 <= bytes.count else {
          return .failure(
            HDF5ChunkError("\(bytes.count) packed bytes cannot become \(expected)"))
        }
        var result = HDF5Session.Inflation.corrupt
        let packed = bytes
        bytes = [UInt8](unsafeUninitializedCapacity: expected) { buffer, count in
          result = HDF5Session.inflate(packed, into: UnsafeMutableRawBufferPointer(buffer))
          count = result == .exact ? expected : 0
        }
        switch result {
        case .exact: break
        case .corrupt: return .failure(HDF5ChunkError("its gzip data is damaged"))
        case .short: return .failure(HDF5ChunkError("it unpacks to less than \(expected) bytes"))
        case .long: return .failure(HDF5ChunkError("it unpacks to more than \(expected) bytes"))
        }
      case .lzf:
        // Before any memory is taken: lzf packs at most 264 bytes into 3.
        guard expected / 88 <= bytes.count else {
          return .failure(
            HDF5ChunkError("\(bytes.count) packed bytes cannot become \(expected)"))
        }
        switch LZF.unpack(bytes, byteCount: expected) {
        case .success(let unpacked): bytes = unpacked
        case .failure(let error): return .failure(error)
        }
      case .shuffle:
        guard bytes.count == expected else {
          return .failure(HDF5ChunkError("it has \(bytes.count) bytes instead of \(expected)"))
        }
        bytes = unshuffled(bytes)
      case .fletcher32:
        guard bytes.count >= 4 else { return .failure(HDF5ChunkError("its checksum is missing")) }
        let stored = bytes.suffix(4).reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        bytes.removeLast(4)
        guard stored == Self.fletcher32(bytes) else {
          return .failure(HDF5ChunkError("its Fletcher-32 checksum does not match"))
        }
      }
    }
    guard bytes.count == chunkBytes else {
      return .failure(
        HDF5ChunkError("it has \(bytes.count) bytes instead of \(chunkBytes)"))
    }
    return .success(bytes)
  }

  /// Puts byte `k` of every element, stored as one run, back into the elements.
  private func unshuffled(_ bytes: [UInt8]) -> [UInt8] {
    let size = storedElementBytes
    let count = bytes.count / size
    guard size > 1, count > 1 else { return bytes }
    return [UInt8](unsafeUninitializedCapacity: bytes.count) { buffer, initialized in
      bytes.withUnsafeBufferPointer { source in
        for k in 0..<size {
          var position = k
          for i in k * count..<(k + 1) * count {
            buffer[position] = source[i]
            position += size
          }
        }
        for i in size * count..<bytes.count { buffer[i] = source[i] }
      }
      initialized = bytes.count
    }
  }

  /// HDF5's Fletcher-32: sums of big-endian 16-bit words (`H5checksum.c`).
  static func fletcher32(_ bytes: [UInt8]) -> UInt32 {
    var a: UInt32 = 0
    var b: UInt32 = 0
    var index = 0
    let words = bytes.count / 2
    var word = 0
    while word < words {
      // 360 words is what fits before 32 bits overflow.
      let stop = min(words, word + 360)
      while word < stop {
        a &+= UInt32(bytes[index]) << 8 | UInt32(bytes[index + 1])
        b &+= a
        index += 2
        word += 1
      }
      a = (a & 0xFFFF) + (a >> 16)
      b = (b & 0xFFFF) + (b >> 16)
    }
    if bytes.count % 2 == 1 {
      a &+= UInt32(bytes[index]) << 8
      b &+= a
      a = (a & 0xFFFF) + (a >> 16)
      b = (b & 0xFFFF) + (b >> 16)
    }
    a = (a & 0xFFFF) + (a >> 16)
    b = (b & 0xFFFF) + (b >> 16)
    return b << 16 | a
  }
}

/// Why a chunk cannot be read.
struct HDF5ChunkError: Error {
  var message: String
  init(_ message: String) { self.message = message }
}
