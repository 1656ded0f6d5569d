import Hub
import Inference
import Synchronization
import Tensors
import Testing

/// The loops in C beside the same in plain Swift, for every level of vector units that this processor
/// has, at every length around the vectors' own.
@Suite("Vector loops and their plain twins")
struct VectorTests {
  static let levels = VectorLevel.available

  // Fused or not, a value that is a handful of operations differs by a few units in the last place.
  private func agree<T: Real>(_ a: [T], _ b: [T], ulps: T = 8) -> Bool {
    a.count == b.count
      && zip(a, b).allSatisfy {
        ($0.isNaN && $1.isNaN) || $0 == $1 || ($0 - $1).magnitude <= ulps * $1.ulp
      }
  }

  private func checkElementwise<T: Real>(_ kernels: Kernels<T>, _ level: VectorLevel) {
    var random = Values(seed: 5)
    for n in 0..<70 {
      var x = random.normal(n).map { T($0 * 20) }
      for (i, special) in [T(0), -1000, 1000, .nan, .infinity].enumerated() where i < n - 40 {
        x[i] = special
      }
      let y = random.normal(n).map { T($0) }
      // One value behind the end must stay as it is.
      var out = x + [7]
      kernels.silu(x, n, &out)
      #expect(agree(out, x.map { silu($0) } + [7]), "silu \(level) \(n)")
      out = y + [7]
      kernels.gate(x, n, &out)
      #expect(agree(out, zip(x, y).map { silu($0) * $1 } + [7]), "gate \(level) \(n)")
      let finite = x.map { $0.isFinite ? $0 : 1 }
      out = finite + [7]
      kernels.logGate(&out, n, 16, -2)
      #expect(
        agree(out, finite.map { max(logSigmoid($0) / 16, -2) } + [7]), "log gate \(level) \(n)")
      out = finite + [7]
      kernels.softmax(&out, n)
      let top = finite.max() ?? 0
      let powers = finite.map { T.exp($0 - top) }
      let sum = powers.reduce(0.0) { $0 + Double($1) }
      #expect(agree(out, powers.map { $0 * T(1 / sum) } + [7]), "softmax \(level) \(n)")
    }
  }

  @Test("SiLU, gates and softmax", arguments: levels)
  func elementwise(level: VectorLevel) {
    checkElementwise(Kernels<Float>(level), level)
    checkElementwise(Kernels<Double>(level), level)
  }

  /// `values` in each float type, behind a first byte, so that nothing is aligned.
  private func everyType(_ values: [Float], _ check: (UnsafeRawPointer, DType) -> Void) {
    func pass<S>(_ values: [S], _ dtype: DType) {
      let shifted = [0] + values.withUnsafeBytes { [UInt8]($0) }
      shifted.withUnsafeBytes { check($0.baseAddress! + 1, dtype) }
    }
    pass(values.map { Double($0) }, .f64)
    pass(values, .f32)
    pass(values.map { UInt16(truncatingIfNeeded: $0.bitPattern >> 16) }, .bf16)
    pass(values.map { Float16($0).bitPattern }, .f16)
  }

  private func checkProducts<T: Real>(_ kernels: Kernels<T>, _ level: VectorLevel) {
    for n in 0..<140 {
      // Small whole numbers: every sum is exact in any order.
      let a = (0..<n).map { Float($0 % 7) - 3 }
      let x = (0..<n).map { T($0 % 5) - 1 }
      let want = zip(a, x).reduce(T(0)) { $0 + T($1.0) * $1.1 }
      everyType(a) { start, dtype in
        #expect(kernels.dot(start, dtype.element, x, n) == want, "\(dtype) \(level) \(n)")
        var out = [T](repeating: 7, count: n + 1)
        kernels.widen(start, dtype.element, n, &out)
        #expect(out == a.map { T($0) } + [7], "\(dtype) \(level) \(n)")
      }
    }
  }

  @Test("dot products and widening of every element type", arguments: levels)
  func products(level: VectorLevel) {
    checkProducts(Kernels<Float>(level), level)
    checkProducts(Kernels<Double>(level), level)
  }

  private func checkRows<T: Real>(_ kernels: Kernels<T>, _ level: VectorLevel) {
    for (rows, n, m) in [(1, 0, 1), (3, 1, 2), (5, 63, 1), (2, 64, 3), (7, 131, 7), (4, 257, 2)] {
      let a = (0..<rows * n).map { Float($0 % 7) - 3 }
      let x = (0..<m * n).map { T($0 % 5) - 1 }
      let bias = (0..<rows).map { T($0) + 1 }
      // Rows of the result lie apart, and what is between them stays.
      let stride = rows + 2
      everyType(a) { start, dtype in
        for isBiased in [true, false] {
          var want = [T](repeating: 7, count: m * stride)
          for j in 0..<m {
            for r in 0..<rows {
              want[j * stride + r] = (0..<n).reduce(isBiased ? bias[r] : 0) {
                $0 + T(a[r * n + $1]) * x[j * n + $1]
              }
            }
          }
          var out = [T](repeating: 7, count: m * stride)
          kernels.dots(start, dtype.element, rows, n, x, m, isBiased ? bias : nil, &out, stride)
          #expect(out == want, "\(dtype) \(level) \(rows) \(n) \(m) \(isBiased)")
        }
      }
    }
  }

  @Test("rows of dot products, with and without a bias", arguments: levels)
  func rows(level: VectorLevel) {
    checkRows(Kernels<Float>(level), level)
    checkRows(Kernels<Double>(level), level)
  }

  @Test("every half-precision number widens exactly", arguments: levels)
  func halves(level: VectorLevel) {
    let all = Array(UInt16.min...UInt16.max)
    var wide = [Float](repeating: 0, count: all.count)
    Kernels<Float>(level).widen(all, DType.f16.element, all.count, &wide)
    for (bits, value) in zip(all, wide) {
      let want = Float(Float16(bitPattern: bits))
      #expect(value == want || (value.isNaN && want.isNaN), "\(bits)")
    }
  }

  private func checkConvolution<T: Real>(_ kernels: Kernels<T>, _ level: VectorLevel) {
    var random = Values(seed: 9)
    for (count, taps, tokens) in [(1, 4, 3), (16, 4, 1), (37, 3, 9), (40, 1, 2), (8, 5, 7)] {
      let stride = count + 3
      let x = random.normal(tokens * stride).map { T($0) }
      let tail = random.normal((taps - 1) * stride + 1).map { T($0) }
      let w = random.normal(taps * stride).map { T($0) }
      let bias = random.normal(stride).map { T($0) }
      for bias in [bias, nil] {
        var y = [T](repeating: 7, count: tokens * stride)
        var want = y
        kernels.convolve(x, tokens, count, stride, w, bias, taps, tail, &y)
        for t in 0..<tokens {
          for c in 0..<count {
            var sum = bias?[c] ?? 0
            for k in 0..<taps {
              let from = t - (taps - 1) + k
              let input = from < 0 ? tail[(from + taps - 1) * stride + c] : x[from * stride + c]
              sum += w[k * stride + c] * input
            }
            want[t * stride + c] = silu(sum)
          }
        }
        // The sum may cancel, so the bound is absolute: a few units at the size of its terms.
        let off = zip(y, want).map { ($0 - $1).magnitude }.max() ?? 0
        #expect(off <= 32 * T(1).ulp, "\(level) \(count) \(taps) \(tokens)")
      }
    }
  }

  @Test("the causal convolution, with a tail and without a bias", arguments: levels)
  func convolution(level: VectorLevel) {
    checkConvolution(Kernels<Float>(level), level)
    checkConvolution(Kernels<Double>(level), level)
  }

  private func checkScan<T: Real>(_ kernels: Kernels<T>, _ level: VectorLevel, _ bound: Double) {
    let (width, tokens) = (70, 9)
    for (count, n) in [(1, 1), (16, 16), (23, 5), (64, 3)] {
      var random = Values(seed: UInt64(count))
      let u = random.normal(tokens * width)
      let dt = random.normal(tokens * width)
      let z = random.normal(tokens * width)
      let a = random.normal(n * width).map { -abs($0) }
      let (b, c) = (random.normal(tokens * n), random.normal(tokens * n))
      let d = random.normal(width)
      let want = selectiveScanPlainly(
        u, dt, a, b, c, d, gate: z, tokens: tokens, width: width, n: n)
      func narrow(_ values: [Double]) -> [T] { values.map { T($0) } }
      var state = [T](repeating: 0, count: n * width)
      var y = [T](repeating: 7, count: tokens * width)
      withUnsafeTemporaryAllocation(byteCount: 2 * n * 64 * 8, alignment: 64) { scratch in
        guard let scratch = scratch.baseAddress else { return }
        kernels.scan(
          narrow(u), narrow(dt), narrow(a), narrow(b), narrow(c), narrow(d), narrow(z), tokens,
          width, n, count, &state, scratch.assumingMemoryBound(to: T.self), &y)
      }
      let largest = want.map { abs($0) }.max() ?? 0
      for i in y.indices {
        if i % width < count {
          #expect(abs(Double(y[i]) - want[i]) < bound * largest, "\(level) \(count) \(n)")
        } else {
          #expect(y[i] == 7, "a channel that is not the scan's")
        }
      }
    }
  }

  @Test("the selective scan", arguments: levels)
  func scan(level: VectorLevel) {
    checkScan(Kernels<Float>(level), level, 2e-6)
    checkScan(Kernels<Double>(level), level, 4e-15)
  }
}

@Suite("Threads")
struct WorkersTests {
  @Test("run every piece once, in lanes of their own, also from several threads and from inside")
  func pieces() async {
    await withTaskGroup(of: Void.self) { group in
      for caller in 0..<4 {
        group.addTask {
          let workers = Workers(3)
          for pieces in [0, 1, 2, 3, 64, 1000] {
            let seen = Mutex([Int](repeating: 0, count: pieces))
            let busy = Mutex(Set<Int>())
            workers.forEach(pieces) { piece, lane in
              #expect(lane < workers.count)
              #expect(busy.withLock { $0.insert(lane).inserted }, "two pieces in a lane at once")
              workers.forEach(2) { _, _ in seen.withLock { $0[piece] += 1 } }
              busy.withLock { _ = $0.remove(lane) }
            }
            #expect(seen.withLock { $0.allSatisfy { $0 == 2 } }, "\(pieces) of caller \(caller)")
          }
        }
      }
    }
  }
}

@Suite("OpenBLAS's kernels")
struct CoreTypeTests {
  private let wide: Set = ["sse2", "avx2", "fma", "avx512f", "avx512dq", "avx512bw", "avx512vl"]

  @Test("AVX-512 is asked for where OpenBLAS did not see it")
  func unknown() {
    for chosen in ["Haswell", "Zen", "Prescott", "ZEN"] {
      #expect(BLAS.coreType(features: wide, chosen: chosen, environment: nil) == "SkylakeX")
      #expect(BLAS.coreType(features: wide, chosen: chosen, environment: "") == "SkylakeX")
    }
  }

  @Test("kernels that have AVX-512 stay, whatever their spelling")
  func known() {
    for chosen in ["SkylakeX", "SKYLAKEX", "Cooperlake", "SapphireRapids"] {
      #expect(BLAS.coreType(features: wide, chosen: chosen, environment: nil) == nil)
    }
  }

  @Test("a processor without one of the four parts is left alone")
  func narrow() {
    for part in ["avx512f", "avx512dq", "avx512bw", "avx512vl"] {
      #expect(
        BLAS.coreType(features: wide.subtracting([part]), chosen: "Haswell", environment: nil)
          == nil)
    }
    #expect(BLAS.coreType(features: [], chosen: "Haswell", environment: nil) == nil)
  }

  @Test("the user's own choice is respected")
  func own() {
    #expect(BLAS.coreType(features: wide, chosen: "Haswell", environment: "Haswell") == nil)
  }

  @Test("the library is there, and says what it runs")
  func present() throws {
    try BLAS.load()
    #expect(BLAS.core != "none" && BLAS.configuration.contains("OpenBLAS"))
  }
}
