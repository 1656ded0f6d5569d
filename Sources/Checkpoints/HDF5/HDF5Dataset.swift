import Tensors

/// A dataset that passed the guard: everything that reading its bytes needs.
struct HDF5Dataset: Sendable {
  /// Where the bytes are.
  enum Storage: Sendable {
    /// Dense, from this byte of the file on.
    case contiguous(offset: Int)
    /// In the object's header; at most 64 KiB.
    case compact
    /// Never written: every element is the fill value.
    case unwritten
    /// In chunks.
    case chunked(HDF5ChunkGrid)
  }

  /// The path in the file, groups separated by slashes.
  var path: String
  /// The element type.
  var element: HDF5Element
  /// The tensor's shape: the dataset's own, but for packed types.
  var shape: Shape
  /// Bytes of the dense tensor.
  var byteCount: Int
  /// Where they are.
  var storage: Storage
  /// One element where nothing was written, in the file's byte order; `nil` for zeros.
  var fill: [UInt8]?
  /// Which object it is.
  var key: HDF5ObjectKey
}

/// How a chunked dataset is cut, and what was done to each chunk.
struct HDF5ChunkGrid: Sendable {
  /// Filters that the reader undoes.
  enum Filter: Int, Sendable {
    case deflate = 1
    case shuffle = 2
    case fletcher32 = 3
    case lzf = 32000
  }

  /// The dataset's extents; behind them those of its elements, where these are arrays.
  var dims: [Int]
  /// The extents of a chunk, none of them 0.
  var chunk: [Int]
  /// Bytes of an element.
  var elementBytes: Int
  /// Extents that the file knows as those of the dataset; the rest belongs to its elements' type.
  var storedRank: Int
  /// Bytes of an element as the file counts them, which are what is shuffled.
  var storedElementBytes: Int
  /// Bytes of a chunk before any filter.
  var chunkBytes: Int
  /// The filters in the order in which writing applied them.
  var filters: [Filter]
  /// Whether chunks that reach over the edge have no filters applied.
  var plainEdges: Bool
}
