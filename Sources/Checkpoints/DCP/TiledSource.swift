public import Tensors

/// A source whose tensors lie in parts that ranks saved.
public protocol TiledSource: TensorSource {
  /// How tensor number `index` is cut: the number of parts along each dimension where they form a
  /// grid (`2 x 4`), else their number (`7 parts`); `nil` for a tensor in one part.
  func grid(of index: Int) -> String?
}

extension TiledTensor {
  /// As `TiledSource.grid(of:)`.
  var grid: String? {
    guard tiles.count > 1 else { return nil }
    let counts = dims.indices.map { axis in Set(tiles.map { $0.box.offsets[axis] }).count }
    guard counts.reduce(1, *) == tiles.count else { return "\(tiles.count) parts" }
    return counts.map(String.init).joined(separator: " x ")
  }
}
