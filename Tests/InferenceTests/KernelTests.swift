import Hub
import Inference
import Tensors
import TestSupport
import Testing

#if canImport(Darwin)
  import Darwin
#elseif canImport(Musl)
  import Musl
#else
  import Glibc
#endif

@Suite("Elementary functions")
struct ElementaryTests {
  @Test("exp is good to two units in the last place of float64")
  func exponential() {
    for i in -70_000...70_000 {
      let x = Double(i) / 100.7
      let want = exp(x)
      #expect(abs(Double.exp(x) - want) <= 2.5 * want.ulp, "at \(x)")
    }
  }

  @Test("exp is good to two units in the last place of float32")
  func exponentialInFloat() {
    for i in -87_000...88_000 {
      let x = Float(i) / 1000
      let want = Float(exp(Double(x)))
      #expect(abs(Float.exp(x) - want) <= 2.5 * want.ulp, "at \(x)")
    }
  }

  @Test("exp at its ends")
  func ends() {
    #expect(Double.exp(0) == 1 && Float.exp(0) == 1)
    #expect(Double.exp(-.infinity) == 0 && Float.exp(-.infinity) == 0)
    #expect(Double.exp(.infinity) == .infinity && Float.exp(.infinity) == .infinity)
    #expect(Double.exp(-1e9) == 0 && Float.exp(-1e9) == 0)
    #expect(Double.exp(.nan).isNaN && Float.exp(.nan).isNaN)
  }

  @Test("log1p is good to three units in the last place, from the smallest number to the largest")
  func logarithm() {
    for i in 0..<100_000 {
      let x = Double.exp(Double(i) / 100_000 * 1400 - 700)
      let want = log1p(x)
      #expect(abs(Double.log1p(x) - want) <= 3 * want.ulp, "at \(x)")
      let y = Float.exp(Float(i) / 100_000 * 170 - 85)
      let wanted = Float(log1p(Double(y)))
      #expect(abs(Float.log1p(y) - wanted) <= 3 * wanted.ulp, "at \(y)")
    }
    #expect(Double.log1p(0) == 0 && Float.log1p(0) == 0)
  }

  @Test("activations at both ends and at zero")
  func activations() {
    #expect(silu(0.0) == 0 && silu(-1000.0) == 0 && silu(1000.0) == 1000)
    #expect(abs(silu(1.0) - 0.731_058_578_630_004_9) < 1e-15)
    #expect(sigmoid(-1000.0) == 0 && sigmoid(1000.0) == 1 && sigmoid(0.0) == 0.5)
    #expect(softplus(-1000.0) == 0 && softplus(1000.0) == 1000)
    #expect(softplus(20.5) == 20.5, "PyTorch gives x itself above 20")
    #expect(abs(softplus(0.0) - 0.693_147_180_559_945_3) < 1e-15)
    #expect(logSigmoid(-1000.0) == -1000 && logSigmoid(1000.0) == 0)
    #expect(abs(logSigmoid(-0.5) + 0.974_076_984_180_106_7) < 1e-15)
    #expect(gelu(0.0) == 0 && gelu(30.0) == 30 && gelu(-40.0) == 0)
    #expect(abs(gelu(1.0) - 0.841_344_746_068_542_9) < 1e-15)
    var x: [Double] = [-2, 0, 3]
    activate(&x, 3, .squaredReLU)
    #expect(x == [0, 0, 9])
    var log: [Float] = [-100, 100]
    logGate(&log, 2, dividedBy: 16, atLeast: -2)
    #expect(log[0] == -2 && log[1] == 0)
  }
}

@Suite("Kernels")
struct KernelTests {
  @Test("RMSNorm by hand: (3, 4) has a mean square of 12.5")
  func rootMeanSquare() {
    var y: [Double] = [0, 0]
    rmsNorm([3, 4], 1, 2, [2, 10], 0, into: &y)
    #expect(abs(y[0] - 6 / 12.5.squareRoot()) < 1e-15)
    #expect(abs(y[1] - 40 / 12.5.squareRoot()) < 1e-15)
    rmsNorm([0, 0], 1, 2, nil, 1e-6, into: &y)
    #expect(y == [0, 0])
  }

  @Test("LayerNorm by hand: (1, 3) becomes (-1, 1)")
  func layer() {
    var y: [Double] = [0, 0]
    layerNorm([1, 3], 1, 2, [2, 2], [10, 20], 0, into: &y)
    #expect(y == [8, 22])
  }

  @Test("norms of large float32 values do not overflow")
  func largeNorms() {
    var y: [Float] = [0, 0, 0, 0, 0]
    rmsNorm([1e25, 1e25, 1e25, 1e25, 1e25], 1, 5, nil, 1e-5, into: &y)
    #expect(y.allSatisfy { abs($0 - 1) < 1e-6 })
  }

  @Test("softmax by hand, and with scores that overflow by themselves")
  func softmaxes() {
    var x: [Double] = [0, 0.693_147_180_559_945_3, 0]
    softmax(&x, 3)
    #expect(zip(x, [0.25, 0.5, 0.25]).allSatisfy { abs($0 - $1) < 1e-15 })
    var large: [Float] = [-1e30, 3e4, 3e4]
    softmax(&large, 3)
    #expect(large == [0, 0.5, 0.5])
  }

  @Test("a convolution's last column multiplies the current token; its tail carries over")
  func convolution() {
    // One channel, width 3, weights 100, 10, 1: digits of the last three inputs.
    var tail: [Double] = [0, 0]
    var y: [Double] = [0, 0, 0]
    causalConvolution([1, 2, 3], 3, 0..<1, 1, [100, 10, 1], nil, 3, tail: &tail, into: &y)
    #expect(zip(y, [1, 12, 123].map { silu($0) }).allSatisfy { abs($0 - $1) <= 2 * $1.ulp })
    #expect(tail == [2, 3])
    causalConvolution([4], 1, 0..<1, 1, [100, 10, 1], [1000], 3, tail: &tail, into: &y)
    #expect(y[0] == silu(1234))
    #expect(tail == [3, 4])
  }

  @Test("a rotation turns channel i with channel i + d/2 and leaves the rest")
  func rotation() {
    var y: [Double] = [0, 0, 0, 0, 0]
    rotate([1, 2, 3, 4, 5], 1, 1, 5, [0, 1], [1, 0], 2, into: &y)
    #expect(y == [-3, 2, 1, 4, 5])
  }

  @Test("lit_gpt's rotary tables: angles in float32, values in bfloat16")
  func litTables() {
    let kind = RotaryKind(base: 10000, dim: 4, positionFactor: 2, table: .bfloat16)
    let values = kind.values(at: 3)
    #expect(values[0].cos == roundToBF16(Float(cos(1.5))))
    #expect(values[1].sin == roundToBF16(Float(sin(0.015))))
    #expect(roundToBF16(1.003_906_25) == 1 && roundToBF16(1.011_718_75) == 1.015_625)
  }

  @Test("each float type widens to both precisions, at any alignment", arguments: [0, 1, 3])
  func widening(shift: Int) {
    func check(_ bytes: [UInt8], _ dtype: DType) {
      let room = [UInt8](repeating: 0, count: shift) + bytes
      var (a, b): ([Float], [Double]) = ([0, 0], [0, 0])
      room.withUnsafeBytes { raw in
        guard let start = raw.baseAddress else { return }
        widen(start + shift, dtype, 2, into: &a)
        widen(start + shift, dtype, 2, into: &b)
      }
      #expect(a == [1, -2.5] && b == [1, -2.5], "\(dtype)")
    }
    func bytes<T>(_ values: [T]) -> [UInt8] { values.withUnsafeBytes { [UInt8]($0) } }
    check(bytes([1.0, -2.5] as [Double]), .f64)
    check(bytes([1.0, -2.5] as [Float]), .f32)
    check(bytes([0x3f80, 0xc020] as [UInt16]), .bf16)
    check(bytes([0x3c00, 0xc100] as [UInt16]), .f16)
  }

  @Test("dot products agree at every length")
  func dots() {
    for n in 0..<70 {
      let a = (0..<n).map { Double($0 % 7) - 3 }
      let b = (0..<n).map { Double($0 % 5) - 1 }
      let want = zip(a, b).map { $0 * $1 }.reduce(0, +)
      #expect(dot(a, b, n) == want)
      #expect(dot(a.map { Float($0) }, b.map { Float($0) }, n) == Float(want))
      let halves = a.map { UInt16(truncatingIfNeeded: Float($0).bitPattern >> 16) }
      let kernels = (Float.kernels, Double.kernels)
      #expect(kernels.0.dot(halves, DType.bf16.element, b.map { Float($0) }, n) == Float(want))
      #expect(kernels.1.dot(halves, DType.bf16.element, b, n) == want)
    }
  }
}
