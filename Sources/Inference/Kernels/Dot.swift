import Tensors

// Products of one row at a time, for decoding: bound by the memory that the weights come from, so
// they are read once, in their file dtype. Sums run in eight lanes, in a fixed order.

extension Float {
  /// Σ_i a[i] b[i], i in 0..<n
  static func dot(_ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, _ n: Int) -> Float {
    let x = UnsafeRawPointer(a)
    let y = UnsafeRawPointer(b)
    var sum0 = SIMD8<Float>()
    var sum1 = SIMD8<Float>()
    var i = 0
    while i &+ 16 <= n {
      let offset = 4 &* i
      sum0 +=
        x.loadUnaligned(fromByteOffset: offset, as: SIMD8<Float>.self)
        * y.loadUnaligned(fromByteOffset: offset, as: SIMD8<Float>.self)
      sum1 +=
        x.loadUnaligned(fromByteOffset: offset &+ 32, as: SIMD8<Float>.self)
        * y.loadUnaligned(fromByteOffset: offset &+ 32, as: SIMD8<Float>.self)
      i &+= 16
    }
    var total = (sum0 + sum1).sum()
    while i < n {
      total += a[i] * b[i]
      i &+= 1
    }
    return total
  }

  /// Σ_i a[i] b[i] with a in bfloat16, i in 0..<n
  static func dotBF16(_ a: UnsafeRawPointer, _ b: UnsafePointer<Float>, _ n: Int) -> Float {
    let y = UnsafeRawPointer(b)
    var sum0 = SIMD8<Float>()
    var sum1 = SIMD8<Float>()
    var i = 0
    while i &+ 16 <= n {
      let low = a.loadUnaligned(fromByteOffset: 2 &* i, as: SIMD8<UInt16>.self)
      let high = a.loadUnaligned(fromByteOffset: 2 &* i &+ 16, as: SIMD8<UInt16>.self)
      sum0 +=
        unsafeBitCast(
          SIMD8<UInt32>(truncatingIfNeeded: low) &<< 16, to: SIMD8<Float>.self)
        * y.loadUnaligned(fromByteOffset: 4 &* i, as: SIMD8<Float>.self)
      sum1 +=
        unsafeBitCast(
          SIMD8<UInt32>(truncatingIfNeeded: high) &<< 16, to: SIMD8<Float>.self)
        * y.loadUnaligned(fromByteOffset: 4 &* i &+ 32, as: SIMD8<Float>.self)
      i &+= 16
    }
    var total = (sum0 + sum1).sum()
    while i < n {
      let bits = a.loadUnaligned(fromByteOffset: 2 &* i, as: UInt16.self)
      total += Float(bitPattern: UInt32(bits) &<< 16) * b[i]
      i &+= 1
    }
    return total
  }
}

extension Double {
  /// Σ_i a[i] b[i], i in 0..<n
  static func dot(_ a: UnsafePointer<Double>, _ b: UnsafePointer<Double>, _ n: Int) -> Double {
    let x = UnsafeRawPointer(a)
    let y = UnsafeRawPointer(b)
    var sum0 = SIMD4<Double>()
    var sum1 = SIMD4<Double>()
    var i = 0
    while i &+ 8 <= n {
      let offset = 8 &* i
      sum0 +=
        x.loadUnaligned(fromByteOffset: offset, as: SIMD4<Double>.self)
        * y.loadUnaligned(fromByteOffset: offset, as: SIMD4<Double>.self)
      sum1 +=
        x.loadUnaligned(fromByteOffset: offset &+ 32, as: SIMD4<Double>.self)
        * y.loadUnaligned(fromByteOffset: offset &+ 32, as: SIMD4<Double>.self)
      i &+= 8
    }
    var total = (sum0 + sum1).sum()
    while i < n {
      total += a[i] * b[i]
      i &+= 1
    }
    return total
  }
}

/// Σ_i a[i] b[i], i in 0..<n
@inline(__always)
func dot<T: Real>(_ a: UnsafePointer<T>, _ b: UnsafePointer<T>, _ n: Int) -> T {
  if T.self == Float.self {
    return unsafeBitCast(
      Float.dot(
        UnsafeRawPointer(a).assumingMemoryBound(to: Float.self),
        UnsafeRawPointer(b).assumingMemoryBound(to: Float.self), n), to: T.self)
  }
  return unsafeBitCast(
    Double.dot(
      UnsafeRawPointer(a).assumingMemoryBound(to: Double.self),
      UnsafeRawPointer(b).assumingMemoryBound(to: Double.self), n), to: T.self)
}
