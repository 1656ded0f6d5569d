import Dispatch

#if canImport(Darwin)
  import Darwin
#else
  import Glibc
#endif

/// Seconds since some moment.
func now() -> Double {
  var time = timespec()
  clock_gettime(CLOCK_MONOTONIC, &time)
  return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
}

/// The median of `runs` times of `body`, after one that is not counted.
func median(_ runs: Int, _ body: () throws -> Void) rethrows -> Double {
  try body()
  var times: [Double] = []
  for _ in 0..<runs {
    let start = now()
    try body()
    times.append(now() - start)
  }
  return times.sorted()[runs / 2]
}

/// This process's peak memory so far, in bytes.
func peakMemory() -> Int {
  var usage = rusage()
  #if canImport(Darwin)
    getrusage(RUSAGE_SELF, &usage)
    return usage.ru_maxrss
  #else
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    return usage.ru_maxrss * 1024
  #endif
}

/// What the machine can do, measured in the same run as what is compared with it.
enum Machine {
  /// The processor's cores.
  static let cores = max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN)))

  /// Bytes a second that all cores together read from memory.
  static func bandwidth() -> Double {
    let count = 1 << 29
    let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 64)
    defer { bytes.deallocate() }
    memset(bytes.baseAddress!, 1, count)
    nonisolated(unsafe) let source = UnsafeRawPointer(bytes.baseAddress!)
    let pieces = 64
    let time = median(5) {
      DispatchQueue.concurrentPerform(iterations: pieces) { piece in
        var sums = (SIMD8<UInt64>(), SIMD8<UInt64>())
        let start = source + piece * (count / pieces)
        for i in stride(from: 0, to: count / pieces, by: 128) {
          sums.0 &+= start.load(fromByteOffset: i, as: SIMD8<UInt64>.self)
          sums.1 &+= start.load(fromByteOffset: i + 64, as: SIMD8<UInt64>.self)
        }
        precondition((sums.0 &+ sums.1).wrappedSum() != 1)
      }
    }
    return Double(count) / time
  }

  private typealias SGEMM =
    @convention(c) (
      UInt32, UInt32, UInt32, Int32, Int32, Int32, Float, UnsafePointer<Float>, Int32,
      UnsafePointer<Float>, Int32, Float, UnsafeMutablePointer<Float>, Int32
    ) -> Void
  private typealias DGEMM =
    @convention(c) (
      UInt32, UInt32, UInt32, Int32, Int32, Int32, Double, UnsafePointer<Double>, Int32,
      UnsafePointer<Double>, Int32, Double, UnsafeMutablePointer<Double>, Int32
    ) -> Void

  /// Seconds that OpenBLAS, with its own threads on all cores, takes for x [m, k] wᵀ [k, n] alone.
  ///
  /// The engine has loaded it, and pins it to one thread; that is restored.
  static func product<T: BinaryFloatingPoint>(_: T.Type, m: Int, n: Int, k: Int) -> Double {
    guard let library = dlopen("libopenblas.so.0", RTLD_LAZY),
      let threads = dlsym(library, "openblas_set_num_threads"),
      let gemm = dlsym(library, T.self == Float.self ? "cblas_sgemm" : "cblas_dgemm")
    else { return .nan }
    let set = unsafeBitCast(threads, to: (@convention(c) (Int32) -> Void).self)
    set(Int32(cores))
    defer { set(1) }
    let x = [T](repeating: 0.5, count: m * k)
    let w = [T](repeating: 0.25, count: n * k)
    var y = [T](repeating: 0, count: m * n)
    return median(5) {
      x.withUnsafeBytes { x in
        w.withUnsafeBytes { w in
          y.withUnsafeMutableBytes { y in
            let (m, n, k) = (Int32(m), Int32(n), Int32(k))
            if T.self == Float.self {
              unsafeBitCast(gemm, to: SGEMM.self)(
                101, 111, 112, m, n, k, 1, x.baseAddress!.assumingMemoryBound(to: Float.self), k,
                w.baseAddress!.assumingMemoryBound(to: Float.self), k, 0,
                y.baseAddress!.assumingMemoryBound(to: Float.self), n)
            } else {
              unsafeBitCast(gemm, to: DGEMM.self)(
                101, 111, 112, m, n, k, 1, x.baseAddress!.assumingMemoryBound(to: Double.self), k,
                w.baseAddress!.assumingMemoryBound(to: Double.self), k, 0,
                y.baseAddress!.assumingMemoryBound(to: Double.self), n)
            }
          }
        }
      }
    }
  }
}
