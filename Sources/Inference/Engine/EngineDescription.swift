import Hub

/// What a pass is computed with, for reports: figures of other kernels differ in their last bits.
public struct EngineDescription: Sendable, Hashable {
  /// The kernel set of OpenBLAS.
  public var openBLAS: String
  /// The vector units of the engine's own loops: `baseline`, `avx2` or `avx512`.
  public var vectors: String
  /// The threads that take part.
  public var threads: Int

  /// What this process computes with.
  public static var current: EngineDescription {
    EngineDescription(
      openBLAS: BLAS.core, vectors: "\(VectorLevel.best)", threads: Workers.cores)
  }

  /// A line for people.
  public var text: String {
    "\(threads) threads, OpenBLAS's \(openBLAS) kernels, \(vectors) vectors"
  }
}
