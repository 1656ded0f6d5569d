import Hub
public import Tensors

#if canImport(Darwin)
  import Darwin
#elseif canImport(Musl)
  import Musl
#else
  import Glibc
#endif

// The only file that calls OpenBLAS.
//
// It is loaded when a model is made, not when the program starts: most commands never multiply, and
// what OpenBLAS reads from the environment as it loads can be set first.
//
// OpenBLAS's own threads are switched off: the engine splits products into blocks that depend on
// the shapes alone and runs them on its own workers, so that a result does not depend on the
// number of threads. (OpenBLAS's sums change with its thread count.)

/// The matrix products' library: which it is, and what it uses.
public enum BLAS {
  /// The kernel set that OpenBLAS runs, such as `Haswell` or `SkylakeX`; `none` when it is missing.
  public static var core: String { (try? library.get())?.core ?? "none" }

  /// The library's version and build options; empty when it is missing.
  public static var configuration: String { (try? library.get())?.configuration ?? "" }

  /// Loads the library, once in the process.
  ///
  /// - Throws: `engine.no_openblas` when the system has none.
  public static func load() throws(Diagnostic) { _ = try library.get() }

  static let library: Result<BLASLibrary, Diagnostic> = {
    guard let first = BLASLibrary.open() else {
      return .failure(
        Diagnostic(
          code: "engine.no_openblas", subject: BLASLibrary.names[0],
          message: "is not installed; the engine's matrix products need it",
          help: "apt-get install libopenblas0 (Debian, Ubuntu), dnf install openblas (Fedora), "
            + "brew install openblas (macOS)"))
    }
    guard
      let core = coreType(
        features: ProcessorFeatures.present, chosen: first.core,
        environment: getenv("OPENBLAS_CORETYPE").map { String(cString: $0) })
    else { return .success(first) }
    // The kernels are chosen as the library loads. One second chance, whatever comes of it.
    first.close()
    setenv("OPENBLAS_CORETYPE", core, 1)
    defer { unsetenv("OPENBLAS_CORETYPE") }
    return BLASLibrary.open().map { .success($0) } ?? .success(first)
  }()

  /// The kernel set that OpenBLAS should be told to use; `nil` to leave it as it is.
  ///
  /// OpenBLAS goes by the processor's model, and takes AVX2 kernels on one that is newer than itself.
  ///
  /// - Parameters:
  ///   - features: what the processor has, by the names of `/proc/cpuinfo`.
  ///   - chosen: what OpenBLAS took by itself.
  ///   - environment: the user's own `OPENBLAS_CORETYPE`, which is respected.
  package static func coreType(
    features: Set<String>, chosen: String, environment: String?
  ) -> String? {
    guard environment?.isEmpty ?? true else { return nil }
    guard ["avx512f", "avx512dq", "avx512bw", "avx512vl"].allSatisfy(features.contains) else {
      return nil
    }
    let known = ["skylakex", "cooperlake", "sapphirerapids"]
    return known.contains(chosen.lowercased()) ? nil : "SkylakeX"
  }
}

/// OpenBLAS, loaded.
struct BLASLibrary: @unchecked Sendable {
  typealias SGEMM =
    @convention(c) (
      _ order: UInt32, _ transposeA: UInt32, _ transposeB: UInt32, _ m: Int32, _ n: Int32,
      _ k: Int32, _ alpha: Float, _ a: UnsafePointer<Float>, _ lda: Int32,
      _ b: UnsafePointer<Float>, _ ldb: Int32, _ beta: Float, _ c: UnsafeMutablePointer<Float>,
      _ ldc: Int32
    ) -> Void
  typealias DGEMM =
    @convention(c) (
      _ order: UInt32, _ transposeA: UInt32, _ transposeB: UInt32, _ m: Int32, _ n: Int32,
      _ k: Int32, _ alpha: Double, _ a: UnsafePointer<Double>, _ lda: Int32,
      _ b: UnsafePointer<Double>, _ ldb: Int32, _ beta: Double, _ c: UnsafeMutablePointer<Double>,
      _ ldc: Int32
    ) -> Void
  private typealias Text = @convention(c) () -> UnsafePointer<CChar>?

  private let handle: UnsafeMutableRawPointer
  let sgemm: SGEMM
  let dgemm: DGEMM
  let core: String
  let configuration: String

  /// Where it may be, the likeliest first.
  static var names: [String] {
    #if canImport(Darwin)
      [
        "libopenblas.0.dylib", "libopenblas.dylib",
        "/opt/homebrew/opt/openblas/lib/libopenblas.dylib",
        "/usr/local/opt/openblas/lib/libopenblas.dylib",
      ]
    #else
      ["libopenblas.so.0", "libopenblas.so", "libopenblasp.so.0", "libopenblaso.so.0"]
    #endif
  }

  /// The library that the system has, pinned to one thread; `nil` when it has none.
  static func open() -> BLASLibrary? {
    // Without it the library starts a thread for each core, none of which would ever work.
    let own = getenv("OPENBLAS_NUM_THREADS").map { String(cString: $0) }
    setenv("OPENBLAS_NUM_THREADS", "1", 1)
    defer {
      if let own {
        setenv("OPENBLAS_NUM_THREADS", own, 1)
      } else {
        unsetenv("OPENBLAS_NUM_THREADS")
      }
    }
    for name in names {
      if let handle = dlopen(name, RTLD_LAZY | RTLD_LOCAL) {
        if let library = BLASLibrary(handle) { return library }
        dlclose(handle)
      }
    }
    return nil
  }

  private init?(_ handle: UnsafeMutableRawPointer) {
    guard let sgemm = dlsym(handle, "cblas_sgemm"), let dgemm = dlsym(handle, "cblas_dgemm"),
      let core = dlsym(handle, "openblas_get_corename"),
      let configuration = dlsym(handle, "openblas_get_config"),
      let pin = dlsym(handle, "openblas_set_num_threads")
    else { return nil }
    self.handle = handle
    self.sgemm = unsafeBitCast(sgemm, to: SGEMM.self)
    self.dgemm = unsafeBitCast(dgemm, to: DGEMM.self)
    // A copy that the process has loaded before may have threads.
    unsafeBitCast(pin, to: (@convention(c) (Int32) -> Void).self)(1)
    func text(_ symbol: UnsafeMutableRawPointer) -> String {
      unsafeBitCast(symbol, to: Text.self)().map { String(cString: $0) } ?? ""
    }
    self.core = text(core)
    self.configuration = text(configuration)
  }

  /// Lets it go: nothing of it may be called any more.
  func close() { dlclose(handle) }
}

/// What the processor has.
enum ProcessorFeatures {
  /// By the names of Linux's `/proc/cpuinfo`, which leaves out what the system does not support;
  /// empty elsewhere.
  static var present: Set<String> {
    guard let file = fopen("/proc/cpuinfo", "r") else { return [] }
    defer { fclose(file) }
    // The first processor's entry is enough.
    var bytes = [UInt8](repeating: 0, count: 16384)
    let count = fread(&bytes, 1, bytes.count, file)
    let text = String(decoding: bytes[..<count], as: UTF8.self)
    guard let line = text.split(separator: "\n").first(where: { $0.hasPrefix("flags") }) else {
      return []
    }
    return Set(line.split(whereSeparator: { " \t:".contains($0) }).map(String.init))
  }
}

private let rowMajor: UInt32 = 101
private func operation(_ isTransposed: Bool) -> UInt32 { isTransposed ? 112 : 111 }

private let loaded: BLASLibrary = {
  switch BLAS.library {
  case .success(let library): return library
  case .failure(let problem): preconditionFailure("no model is made without it: \(problem)")
  }
}()

extension Float {
  /// `c = alpha op(a) op(b) + beta c`; see `Real`.
  public static func gemm(
    transposeA: Bool, transposeB: Bool, m: Int, n: Int, k: Int, alpha: Float,
    a: UnsafePointer<Float>, lda: Int, b: UnsafePointer<Float>, ldb: Int, beta: Float,
    c: UnsafeMutablePointer<Float>, ldc: Int
  ) {
    loaded.sgemm(
      rowMajor, operation(transposeA), operation(transposeB),
      // OpenBLAS's integers have 32 bits; larger extents are refused when a model is loaded.
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
    loaded.dgemm(
      rowMajor, operation(transposeA), operation(transposeB), Int32(m), Int32(n), Int32(k), alpha,
      a, Int32(lda), b, Int32(ldb), beta, c, Int32(ldc))
  }
}
