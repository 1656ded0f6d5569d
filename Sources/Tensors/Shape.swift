/// The extents of a tensor, outermost first; `[]` is a scalar.
public struct Shape: Sendable, Hashable, ExpressibleByArrayLiteral, CustomStringConvertible {
  /// The extents.
  public var dims: [Int]

  /// A shape with these extents.
  public init(_ dims: [Int]) { self.dims = dims }

  /// A shape with these extents.
  public init(arrayLiteral elements: Int...) { dims = elements }

  /// The number of dimensions.
  public var rank: Int { dims.count }

  /// The extent of dimension `axis`.
  public subscript(axis: Int) -> Int { dims[axis] }

  /// The product of the extents: 1 for a scalar; `nil` on overflow or a negative extent.
  ///
  /// Every prefix of the product is checked, also when a later extent is 0.
  public var elementCount: Int? {
    var count = 1
    for dim in dims {
      guard dim >= 0, let next = count.checkedTimes(dim == 0 ? 1 : dim) else { return nil }
      count = next
    }
    return dims.contains(0) ? 0 : count
  }

  /// Bytes that a dense tensor of `dtype` takes; `nil` on overflow or when packed elements do not
  /// fill whole bytes.
  public func byteCount(of dtype: DType) -> Int? {
    guard let count = elementCount, let bits = count.checkedTimes(dtype.bitWidth), bits % 8 == 0
    else { return nil }
    return bits / 8
  }

  /// `[3, 4]`.
  public var description: String {
    "[" + dims.map(String.init).joined(separator: ", ") + "]"
  }
}
