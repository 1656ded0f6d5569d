import Hub
import Tensors

/// A weight matrix [rows, columns] in its file's element type; kernels widen it block by block.
struct Weight {
  let rows: Int
  let columns: Int
  let dtype: DType
  /// The dense row-major bytes; they live as long as `owner`.
  let bytes: UnsafeRawPointer
  let owner: AnyObject?

  /// The matrix itself, when its elements are `T` and lie as `T` must.
  func direct<T: Real>(as _: T.Type) -> UnsafePointer<T>? {
    let isSame = (dtype == .f32 && T.self == Float.self) || (dtype == .f64 && T.self == Double.self)
    guard isSame, Int(bitPattern: bytes) % MemoryLayout<T>.alignment == 0 else { return nil }
    return bytes.assumingMemoryBound(to: T.self)
  }

  /// out [rows.count, columns.count] = that part, widened
  @specialized(where T == Float)
  @specialized(where T == Double)
  func widen<T: Real>(
    rows: Range<Int>, columns range: Range<Int>, into out: UnsafeMutablePointer<T>
  ) {
    let (kernels, element, size) = (T.kernels, dtype.element, dtype.bitWidth / 8)
    for (i, row) in rows.enumerated() {
      let start = bytes + (row * columns + range.lowerBound) * size
      kernels.widen(start, element, range.count, out + i * range.count)
    }
  }
}
