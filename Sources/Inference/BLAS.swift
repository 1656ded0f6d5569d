import COpenBLAS

// The only file that calls OpenBLAS.
//
// OpenBLAS's own threads are switched off: the engine splits products into blocks that depend on
// the shapes alone and runs them on its own workers, so that a result does not depend on the
// number of threads. (OpenBLAS's sums change with its thread count.)

/// What is told about OpenBLAS in a report.
public enum BLAS {
  /// The kernel set that OpenBLAS chose for this processor, such as `Haswell` or `SkylakeX`.
  public static var core: String { String(cString: openblas_get_corename()) }

  /// The library's version and build options.
  public static var configuration: String { String(cString: openblas_get_config()) }

  /// Pins OpenBLAS to one thread, once in the process.
  static let pinned: Void = openblas_set_num_threads(1)
}

extension Float {
  /// `c = alpha op(a) op(b) + beta c`; see `Real`.
  public static func gemm(
    transposeA: Bool, transposeB: Bool, m: Int, n: Int, k: Int, alpha: Float,
    a: UnsafePointer<Float>, lda: Int, b: UnsafePointer<Float>, ldb: Int, beta: Float,
    c: UnsafeMutablePointer<Float>, ldc: Int
  ) {
    BLAS.pinned
    cblas_sgemm(
      CblasRowMajor, transposeA ? CblasTrans : CblasNoTrans, transposeB ? CblasTrans : CblasNoTrans,
      // blasint has 32 bits; larger extents are refused when a model is loaded.
      Int32(m), Int32(n), Int32(k), alpha, a, Int32(lda), b, Int32(ldb), beta, c, Int32(ldc))
  }
}

extension Double {
  /// `c = alpha op(a) op(b) + beta c`; see `Real`.
  public static func gemm(
    transposeA: Bool, transposeB: Bool, m: Int, n: Int, k: Int, alpha: Double,
    a: UnsafePointer<Double>, lda: Int, b: UnsafePointer<Double>, ldb: Int, beta: Double,
    c: UnsafeMutablePointer<Double>, ldc: Int
  ) {
    BLAS.pinned
    cblas_dgemm(
      CblasRowMajor, transposeA ? CblasTrans : CblasNoTrans, transposeB ? CblasTrans : CblasNoTrans,
      Int32(m), Int32(n), Int32(k), alpha, a, Int32(lda), b, Int32(ldb), beta, c, Int32(ldc))
  }
}
