import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

extension Scope {
  /// Functions of scaled rotary frequencies, which some formats keep as a table and some as numbers.
  static let rotary: [String: Function] = [
    // merge(a, b): the members of a, and those of b over them.
    "merge": { (v) throws(Diagnostic) in
      guard v.count == 2, var object = v[0].object, let other = v[1].object else {
        throw Llama3Scaling.bad("needs two objects")
      }
      object.merge(other) { _, new in new }
      return .object(object)
    },
    // without_nulls(object): its members that are not null.
    "without_nulls": { (v) throws(Diagnostic) in
      guard let object = v.first?.object else { throw Llama3Scaling.bad("needs an object") }
      return .object(object.filter { $0.value != .null })
    },
    // llama3_divisors(scaling, width, base): what each frequency is divided by, in float32.
    "llama3_divisors": { (v) throws(Diagnostic) in
      guard v.count == 3, let scaling = Llama3Scaling(v[0]) else {
        throw Llama3Scaling.bad("needs a scaling of the type llama3")
      }
      let divisors = try scaling.divisors(width: v[1], base: v[2])
      return .array(divisors.map { .double(Double(Float($0))) })
    },
    // llama3_scaling(divisors, given, width, base): the scaling that has these divisors: `given`, if it
    // is not null; null for divisors of 1; false if none has them.
    "llama3_scaling": { (v) throws(Diagnostic) in
      guard v.count == 4, let list = v[0].array else {
        throw Llama3Scaling.bad("needs divisors")
      }
      let divisors = list.compactMap(\.double)
      guard divisors.count == list.count, divisors.allSatisfy({ $0.isFinite && $0 > 0 }) else {
        return false
      }
      if v[1] != .null {
        guard let given = Llama3Scaling(v[1]),
          try given.has(divisors, width: v[2], base: v[3])
        else { return false }
        return v[1]
      }
      if divisors.allSatisfy({ $0 == 1 }) { return .null }
      let found = try Llama3Scaling.finding(divisors, width: v[2], base: v[3])
      return found?.json ?? false
    },
  ]
}

/// Llama 3's scaling of the rotary frequencies: long wavelengths are divided by a factor, short ones
/// stay, and those between go over smoothly.
private struct Llama3Scaling {
  var factor: Double
  var low: Double
  var high: Double
  var original: Double

  init(factor: Double, low: Double = 1, high: Double = 4, original: Double) {
    (self.factor, self.low, self.high, self.original) = (factor, low, high, original)
  }

  /// `nil` for anything else than such a scaling.
  init?(_ value: JSONValue) {
    guard value["rope_type"]?.string == "llama3", let factor = value["factor"]?.double,
      let low = value["low_freq_factor"]?.double, let high = value["high_freq_factor"]?.double,
      let original = value["original_max_position_embeddings"]?.double, factor > 0, low > 0,
      high > low, original > 0
    else { return nil }
    self.init(factor: factor, low: low, high: high, original: original)
  }

  /// As configs of transformers have it.
  var json: JSONValue {
    [
      "rope_type": "llama3", "factor": .double(factor), "low_freq_factor": .double(low),
      "high_freq_factor": .double(high),
      "original_max_position_embeddings": Int(exactly: original).map { .int($0) }
        ?? .double(original),
    ]
  }

  static func bad(_ message: String) -> Diagnostic {
    Diagnostic(code: "expression.value", subject: "", message: message)
  }

  /// Wider heads are a config's claim, and no checkpoint's.
  private static let mostWidth = 1 << 16

  private static func wavelengths(
    _ width: JSONValue, _ base: JSONValue
  ) throws(Diagnostic) -> [Double] {
    guard let width = width.int, (2...mostWidth).contains(width), let base = base.double, base > 0
    else { throw bad("needs the width of a head and the base of its frequencies") }
    return stride(from: 0, to: width, by: 2).map {
      2 * Double.pi * pow(base, Double($0) / Double(width))
    }
  }

  func divisors(width: JSONValue, base: JSONValue) throws(Diagnostic) -> [Double] {
    try Self.wavelengths(width, base).map { length in
      if length < original / high { return 1 }
      if length > original / low { return factor }
      let smooth = (original / length - low) / (high - low)
      return 1 / ((1 - smooth) / factor + smooth)
    }
  }

  /// Converters compute the table in float32, step by step.
  func has(_ table: [Double], width: JSONValue, base: JSONValue) throws(Diagnostic) -> Bool {
    let own = try divisors(width: width, base: base)
    return own.count == table.count
      && zip(own, table).allSatisfy { abs($0 - $1) <= 3e-5 * $0 }
  }

  /// The numbers behind a table. Only the ratios of three of them can be told from it, so `low` is 1,
  /// as it is in every model that was published.
  static func finding(
    _ table: [Double], width: JSONValue, base: JSONValue
  ) throws(Diagnostic) -> Llama3Scaling? {
    let lengths = try wavelengths(width, base)
    guard let factor = table.max(), factor > 1, lengths.count == table.count else { return nil }
    // The original length is a power of two, nearly always; 8192 for Llama 3 itself.
    for power in [13] + Array(5...24).filter({ $0 != 13 }) {
      let scaling = Llama3Scaling(factor: factor, original: Double(1 << power))
      if try scaling.has(table, width: width, base: base) { return scaling }
    }
    // smooth = original / (high - low) / length - low / (high - low): a straight line.
    let points = zip(lengths, table).filter { $1 > 1 && $1 < factor }.map { length, divisor in
      (1 / length, (1 / divisor - 1 / factor) / (1 - 1 / factor))
    }
    guard let first = points.first, let last = points.last, points.count > 1 else { return nil }
    let slope = (first.1 - last.1) / (first.0 - last.0)
    let offset = slope * first.0 - first.1
    guard offset > 0, slope > 0 else { return nil }
    let high = 1 + 1 / offset
    let original = slope / offset
    for scaling in [
      Llama3Scaling(
        factor: factor, high: (high * 100).rounded() / 100, original: original.rounded()),
      Llama3Scaling(factor: factor, high: high, original: original),
    ] where scaling.high > scaling.low {
      if try scaling.has(table, width: width, base: base) { return scaling }
    }
    return nil
  }
}
