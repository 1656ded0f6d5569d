#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// The name of a tensor, compared byte by byte.
///
/// Swift's `String` equality calls canonically equivalent texts equal; two tensors of a file may
/// differ in just that.
public struct TensorName: Sendable, ExpressibleByStringLiteral, CustomStringConvertible {
  /// The name.
  public let string: String

  /// A name.
  public init(_ string: String) { self.string = string }

  /// A name.
  public init(stringLiteral value: String) { string = value }

  /// The name itself.
  public var description: String { string }
}

extension TensorName: Hashable {
  /// Equal in every byte of UTF-8.
  public static func == (a: TensorName, b: TensorName) -> Bool {
    var (x, y) = (a.string, b.string)
    guard x.utf8.count == y.utf8.count else { return false }
    return x.withUTF8 { x in
      y.withUTF8 { y in x.isEmpty || memcmp(x.baseAddress!, y.baseAddress!, x.count) == 0 }
    }
  }

  /// Hashes the bytes of UTF-8.
  public func hash(into hasher: inout Hasher) {
    var copy = string
    copy.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
  }
}

extension TensorName: Comparable {
  /// Orders by bytes, as Python and Rust order names.
  public static func < (a: TensorName, b: TensorName) -> Bool {
    a.string.utf8.lexicographicallyPrecedes(b.string.utf8)
  }

  /// Orders runs of digits by value, so that `h.2` comes before `h.10`.
  public static func naturallyPrecedes(_ a: TensorName, _ b: TensorName) -> Bool {
    let x = Array(a.string.utf8)
    let y = Array(b.string.utf8)
    let digits = UInt8(ascii: "0")...UInt8(ascii: "9")
    var i = 0
    var j = 0
    while i < x.count, j < y.count {
      if digits.contains(x[i]), digits.contains(y[j]) {
        let run1 = x[i...].prefix { digits.contains($0) }
        let run2 = y[j...].prefix { digits.contains($0) }
        let value1 = run1.drop { $0 == UInt8(ascii: "0") }
        let value2 = run2.drop { $0 == UInt8(ascii: "0") }
        if value1.count != value2.count { return value1.count < value2.count }
        if !value1.elementsEqual(value2) { return value1.lexicographicallyPrecedes(value2) }
        i += run1.count
        j += run2.count
      } else {
        if x[i] != y[j] { return x[i] < y[j] }
        i += 1
        j += 1
      }
    }
    if x.count - i != y.count - j { return x.count - i < y.count - j }
    return a < b
  }
}
