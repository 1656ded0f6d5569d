import Tensors

/// Which rows of a tensor each rank holds, as FSDP2 deals them out: `ceil(rows / ranks)` rows each,
/// until there are none left.
struct DCPRanks {
  /// The ranks.
  let count: Int

  /// A rank's part of a tensor.
  struct Part: Hashable {
    var rank: Int
    var box: DCPMetadata.Box
    /// The part's first byte in the dense tensor.
    var start: Int
    /// The part's bytes.
    var byteCount: Int
  }

  /// The parts of a tensor. Scalars are the first rank's; ranks behind the last rows share one empty
  /// part behind the end, as one key of the index can have one place only.
  func parts(of tensor: OutputTensor) -> [Part] {
    let dims = tensor.shape.dims
    guard let rows = dims.first, count > 1 else {
      return [
        Part(
          rank: 0, box: DCPMetadata.Box(offsets: dims.map { _ in 0 }, sizes: dims), start: 0,
          byteCount: tensor.byteCount)
      ]
    }
    let step = (rows + count - 1) / count
    let rowBytes = rows == 0 ? 0 : tensor.byteCount / rows
    var parts: [Part] = []
    for rank in 0..<count {
      let first = min(rows, rank * step)
      let end = min(rows, first + step)
      if first == end, parts.last?.box.sizes[0] == 0 { break }
      var box = DCPMetadata.Box(offsets: dims.map { _ in 0 }, sizes: dims)
      box.offsets[0] = first
      box.sizes[0] = end - first
      parts.append(
        Part(
          rank: rank, box: box, start: first * rowBytes, byteCount: (end - first) * rowBytes))
    }
    return parts
  }
}
