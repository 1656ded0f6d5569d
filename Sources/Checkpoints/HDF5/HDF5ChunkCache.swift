/// The chunks that were unpacked last, by dataset and place, within a bound of bytes.
struct HDF5ChunkCache {
  /// A chunk of a reader.
  struct Key: Hashable {
    var dataset: Int
    var place: [Int]
  }

  /// Bytes kept at most, unless one chunk alone is larger. Enough for a row of chunks as h5py cuts
  /// them, so that reading rows in order unpacks each chunk once.
  static let limit = 64 << 20

  private var chunks: [Key: (bytes: [UInt8], used: Int)] = [:]
  private var byteCount = 0
  private var clock = 0

  /// The chunk, if it is still there.
  mutating func find(_ key: Key) -> [UInt8]? {
    clock += 1
    chunks[key]?.used = clock
    return chunks[key]?.bytes
  }

  /// Keeps a chunk, and lets go of those that were not used for longest.
  mutating func insert(_ key: Key, _ bytes: [UInt8]) {
    clock += 1
    if let old = chunks.updateValue((bytes, clock), forKey: key) { byteCount -= old.bytes.count }
    byteCount += bytes.count
    while byteCount > Self.limit, chunks.count > 1,
      let oldest = chunks.min(by: { $0.value.used < $1.value.used })?.key
    {
      byteCount -= chunks.removeValue(forKey: oldest)?.bytes.count ?? 0
    }
  }
}
