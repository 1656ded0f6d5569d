import TestSupport
import Tensors
import Testing

/// Runs a conversion over typed values.
private func convert<S: BitwiseCopyable, D: BitwiseCopyable>(
  _ values: [S], _ from: DType, _ to: DType, as type: D.Type = D.self
) -> (values: [D], overflows: Int) {
  var overflows = 0
  let result = [D](unsafeUninitializedCapacity: values.count) { buffer, count in
    count = values.count
    overflows = values.withUnsafeBytes {
      DType.convert(
        from: from, to: to, source: $0, destination: UnsafeMutableRawBufferPointer(buffer))
    }
  }
  return (result, overflows)
}

/// All patterns of 16 bits.
private let patterns = (0...UInt16.max).map { $0 }

/// Rounds by comparing with the two neighbours in exact arithmetic; `table[i]` is the value of the
/// pattern `i`, rising, the last one infinite and standing for the value that would follow.
private func nearest(_ value: Double, _ table: [Double], limit: Double) -> UInt16 {
  let magnitude = value.magnitude
  var low = 0
  var high = table.count - 1
  while high - low > 1 {
    let middle = (low + high) / 2
    if table[middle] <= magnitude { low = middle } else { high = middle }
  }
  let upper = high == table.count - 1 ? limit : table[high]
  if magnitude >= limit { low = table.count - 1 }
  let sign: UInt16 = value.sign == .minus ? 0x8000 : 0
  if low == table.count - 1 { return sign | UInt16(low) }
  let below = magnitude - table[low]
  let above = upper - magnitude
  let up = above < below || (above == below && low & 1 == 1)
  return sign | UInt16(up ? low + 1 : low)
}

@Suite("Conversions between float types")
struct ConversionTests {
  @Test("every F16 pattern widens to the value of Swift's Float16")
  func widenF16() {
    let wide = convert(patterns, .f16, .f32, as: Float.self).values
    let wider = convert(patterns, .f16, .f64, as: Double.self).values
    for bits in patterns {
      let expected = Float(Float16(bitPattern: bits))
      let value = wide[Int(bits)]
      if expected.isNaN {
        #expect(value.isNaN && !value.isSignalingNaN && value.sign == expected.sign)
        #expect(wider[Int(bits)].isNaN && !wider[Int(bits)].isSignalingNaN)
      } else if value.bitPattern != expected.bitPattern
        || wider[Int(bits)].bitPattern != Double(expected).bitPattern
      {
        Issue.record("F16 pattern \(bits) gave \(value) and \(wider[Int(bits)])")
      }
    }
  }

  @Test("every BF16 pattern widens to the upper half of an F32")
  func widenBF16() {
    let wide = convert(patterns, .bf16, .f32, as: Float.self).values
    let wider = convert(patterns, .bf16, .f64, as: Double.self).values
    for bits in patterns {
      let expected = Float(bitPattern: UInt32(bits) << 16)
      let value = wide[Int(bits)]
      if expected.isNaN {
        #expect(value.isNaN && !value.isSignalingNaN && value.sign == expected.sign)
        #expect(wider[Int(bits)].isNaN)
      } else if value.bitPattern != expected.bitPattern || wider[Int(bits)] != Double(expected) {
        Issue.record("BF16 pattern \(bits) gave \(value) and \(wider[Int(bits)])")
      }
    }
  }

  @Test(
    "every 16-bit pattern comes back from F32 and F64, NaN as a quiet NaN",
    arguments: [
      (DType.f16, DType.f32, UInt16(0x7C00), UInt16(0x0200)), (.f16, .f64, 0x7C00, 0x0200),
      (.bf16, .f32, 0x7F80, 0x0040), (.bf16, .f64, 0x7F80, 0x0040),
    ])
  func roundTrip(_ narrow: DType, _ wide: DType, _ infinity: UInt16, _ quiet: UInt16) {
    let back: (values: [UInt16], overflows: Int)
    if wide == .f32 {
      back = convert(convert(patterns, narrow, wide, as: UInt32.self).values, wide, narrow)
    } else {
      back = convert(convert(patterns, narrow, wide, as: UInt64.self).values, wide, narrow)
    }
    #expect(back.overflows == 0)
    let expected = patterns.map { $0 & 0x7FFF > infinity ? $0 | quiet : $0 }
    #expect(back.values == expected)
  }

  @Test(
    "around every 16-bit value and every tie, F64 rounds once to nearest even",
    arguments: [
      (DType.f16, 0x7C00, 65536.0), (.bf16, 0x7F80, 0x1p128),
    ])
  func ties(_ narrow: DType, _ infinity: Int, _ limit: Double) {
    let table = convert((0...UInt16(infinity)).map { $0 }, narrow, .f64, as: Double.self).values
    var values: [Double] = []
    for i in 0..<infinity {
      let next = i + 1 == infinity ? limit : table[i + 1]
      let tie = (table[i] + next) / 2
      for value in [table[i], tie] {
        values += [value, value.nextUp, value.nextDown, -value, -value.nextUp, -value.nextDown]
      }
    }
    let rounded = convert(values, .f64, narrow, as: UInt16.self)
    var overflows = 0
    for (value, bits) in zip(values, rounded.values) {
      let expected = nearest(value, table, limit: limit)
      if Int(expected & 0x7FFF) == infinity { overflows += 1 }
      if bits != expected { Issue.record("\(value) became \(bits), not \(expected)") }
    }
    #expect(rounded.overflows == overflows)
    #expect(overflows > 0)
  }

  @Test(
    "F32 rounds to F16 as Swift's Float16 does, and to BF16 to nearest even",
    arguments: [
      UInt32(1), 0x9E37_79B9,
    ])
  func sampledF32(_ seed: UInt32) {
    // A stride coprime to 2^32 spreads a million patterns over all exponents.
    var bits: [UInt32] = []
    var next = seed
    for _ in 0..<1_000_000 {
      bits.append(next)
      next &+= 0x0001_0F3B
    }
    let half = convert(bits, .f32, .f16, as: UInt16.self)
    let brain = convert(bits, .f32, .bf16, as: UInt16.self)
    let table = convert((0...UInt16(0x7F80)).map { $0 }, .bf16, .f64, as: Double.self).values
    var overflows = 0
    for (i, pattern) in bits.enumerated() {
      let value = Float(bitPattern: pattern)
      if value.isNaN {
        #expect(half.values[i] & 0x7FFF > 0x7C00 && half.values[i] & 0x0200 != 0)
        #expect(brain.values[i] & 0x7FFF > 0x7F80 && brain.values[i] & 0x0040 != 0)
        continue
      }
      if half.values[i] != Float16(value).bitPattern {
        Issue.record("\(value) became F16 \(half.values[i])")
      }
      if value.isFinite, Float16(value).isInfinite { overflows += 1 }
      if i % 16 == 0, value.isFinite,
        brain.values[i] != nearest(Double(value), table, limit: 0x1p128)
      {
        Issue.record("\(value) became BF16 \(brain.values[i])")
      }
    }
    #expect(half.overflows == overflows)
  }

  @Test("F64 to F32 rounds, counts overflows and keeps special values")
  func doubleToSingle() {
    let values: [Double] = [
      1, 0.1, -0.0, 1e39, -1e39, .infinity, -.infinity, .nan, 0x1p-149, 0x1p-150, 0x1.8p-149,
      Double(Float.greatestFiniteMagnitude), 0x1.ffffffp127,
    ]
    let result = convert(values, .f64, .f32, as: Float.self)
    for (value, single) in zip(values, result.values) {
      #expect(value.isNaN ? single.isNaN : single.bitPattern == Float(value).bitPattern)
    }
    #expect(result.overflows == 3)
    #expect(convert(result.values, .f32, .f64, as: Double.self).values[1] == Double(Float(0.1)))
  }

  @Test("between F16 and BF16 the value is rounded once")
  func acrossHalves() {
    let toBrain = convert(patterns, .f16, .bf16, as: UInt16.self)
    let viaWide = convert(
      convert(patterns, .f16, .f64, as: Double.self).values, .f64, .bf16, as: UInt16.self)
    #expect(toBrain.values == viaWide.values)
    let toHalf = convert(patterns, .bf16, .f16, as: UInt16.self)
    let viaDouble = convert(
      convert(patterns, .bf16, .f64, as: Double.self).values, .f64, .f16, as: UInt16.self)
    #expect(toHalf.values == viaDouble.values)
    #expect(toHalf.overflows == viaDouble.overflows)
    #expect(toHalf.overflows > 0)
  }

  @Test("equal types are copied bit by bit, signaling NaN included")
  func same() {
    #expect(convert(patterns, .f16, .f16, as: UInt16.self).values == patterns)
  }

  @Test("unaligned buffers and no elements at all are converted")
  func unaligned() {
    var source = [UInt8](repeating: 0, count: 9)
    source.replaceSubrange(1..<9, with: [0, 0, 0x80, 0x3F, 0, 0, 0x20, 0xC1])
    var output = [UInt8](repeating: 0xAA, count: 6)
    source.withUnsafeBytes { input in
      output.withUnsafeMutableBytes { out in
        let overflows = DType.convert(
          from: .f32, to: .bf16, source: UnsafeRawBufferPointer(rebasing: input[1..<9]),
          destination: UnsafeMutableRawBufferPointer(rebasing: out[1..<5]))
        #expect(overflows == 0)
      }
    }
    #expect(output == [0xAA, 0x80, 0x3F, 0x20, 0xC1, 0xAA])
    #expect(convert([Float](), .f32, .f16, as: UInt16.self).values == [])
  }

  @Test(
    "the processor's loops give the plain ones' bits, at every length and alignment",
    arguments: [(DType.f32, DType.bf16), (.f32, .f16), (.bf16, .f32), (.f16, .f32)])
  func twins(from: DType, to: DType) {
    var random = SeededRandom(11)
    let (size, width) = (from.bitWidth / 8, to.bitWidth / 8)
    // Random bits hold every kind of value; a quarter lies around the largest finite ones.
    let bits = (0..<2000).map { i -> UInt32 in
      let any = UInt32.random(in: 0...UInt32.max, using: &random)
      return i % 4 == 0 ? any & 0x8000_0FFF | 0x477F_E000 : any
    }
    bits.withUnsafeBytes { all in
      for count in Array(0...70) + [255, 256, 257, 1900] {
        for shift in [0, 1, 3] {
          let input = UnsafeRawBufferPointer(rebasing: all[shift..<shift + count * size])
          var fast = [UInt8](repeating: 0xAA, count: count * width + 8)
          var plain = fast
          let overflows = fast.withUnsafeMutableBytes {
            DType.cast(
              from: from, to: to, source: input,
              destination: UnsafeMutableRawBufferPointer(
                rebasing: $0[shift..<shift + count * width]))
          }
          let expected = plain.withUnsafeMutableBytes {
            DType.convertPlainly(
              from: from, to: to, input.baseAddress!, count, $0.baseAddress! + shift)
          }
          #expect(fast == plain && overflows == expected, "\(count) values, shifted by \(shift)")
        }
      }
    }
  }

  @Test(
    "what became infinite, what became zero and what was not finite is counted",
    arguments: [
      (DType.f32, DType.f16, 2, 2), (.f32, .bf16, 1, 1), (.f64, .f16, 2, 2), (.f64, .f32, 0, 0),
      (.f64, .bf16, 1, 1), (.bf16, .f16, 1, 2), (.f16, .f32, 0, 0), (.bf16, .f32, 0, 0),
      (.f16, .bf16, 0, 0),
    ])
  func counts(_ from: DType, _ to: DType, _ overflows: Int, _ underflows: Int) {
    // 3.4e38 is beyond bfloat16, 70000 beyond float16; 1e-10 and 2^-149 are below float16's least value,
    // 2^-149 below bfloat16's.
    let values: [Float] = [
      1, -0.0, 0, .nan, .infinity, -.infinity, .greatestFiniteMagnitude, 70000, 1e-10,
      -.leastNonzeroMagnitude, 0.5,
    ]
    // Many times over, so that the vectors' loops and their ends are both passed.
    let many = (0..<37).flatMap { _ in values }
    let source: [UInt8]
    switch from {
    case .f64: source = many.map { Double($0) }.withUnsafeBytes { Array($0) }
    case .f32: source = many.withUnsafeBytes { Array($0) }
    case .bf16:
      source = many.map { UInt16(truncatingIfNeeded: $0.bitPattern >> 16) | ($0.isNaN ? 1 : 0) }
        .withUnsafeBytes { Array($0) }
    default: source = many.map { Float16($0) }.withUnsafeBytes { Array($0) }
    }
    var out = [UInt8](repeating: 0, count: many.count * to.bitWidth / 8)
    let counts = source.withUnsafeBytes { input in
      out.withUnsafeMutableBytes {
        DType.cast(from: from, to: to, source: input, destination: $0)
      }
    }
    // Cut to bfloat16 the largest float32 stays finite, and 2^-149 is zero already; float16 has made
    // infinities of two values.
    let odd = from == .f16 ? 5 : 3
    let expected: (Int, Int) =
      from == .bf16 && to == .f16 ? (2, 1) : (overflows, underflows)
    #expect(
      counts
        == CastCounts(
          overflows: 37 * expected.0, underflows: 37 * expected.1, notFinite: 37 * odd))
  }
}
