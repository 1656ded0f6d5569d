import Hub
package import Tensors

/// out[i] = value i of `bytes` (F64, F32, F16 or BF16; any alignment), i in 0..<count
package func widen<T: Real>(
  _ bytes: UnsafeRawPointer, _ dtype: DType, _ count: Int, into out: UnsafeMutablePointer<T>
) {
  T.kernels.widen(bytes, dtype.element, count, out)
}
