import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// e to the power `x`.
func exponential(_ x: Double) -> Double { exp(x) }

/// `x` to the power `y`.
func power(_ x: Double, _ y: Double) -> Double { pow(x, y) }

extension Scope {
  /// The names of the functions that every expression may call.
  package static var builtinNames: [String] { builtins.keys.sorted() }

  /// The functions that every expression may call.
  static let builtins: [String: Function] = [
    // ceil(x), floor(x): whole numbers.
    "ceil": { (v) throws(Diagnostic) in try whole(number(v, 0).rounded(.up)) },
    "floor": { (v) throws(Diagnostic) in try whole(number(v, 0).rounded(.down)) },
    // int(x): Python's int(), towards zero.
    "int": { (v) throws(Diagnostic) in try whole(number(v, 0).rounded(.towardZero)) },
    // number(x): x, or what transformers writes for a float that JSON has no word for.
    "number": { (v) throws(Diagnostic) in
      switch v.first?["__float__"]?.string ?? v.first?.string {
      case "Infinity", "inf": return .double(.infinity)
      case "-Infinity", "-inf": return .double(-.infinity)
      case "NaN": return .double(.nan)
      default: return .double(try number(v, 0))
      }
    },
    "infinity": { (v) throws(Diagnostic) in .double(.infinity) },
    // float32(x): the shortest decimal of the float32 nearest to x.
    "float32": { (v) throws(Diagnostic) in
      let narrow = Float(try number(v, 0))
      return .double(Double(narrow.description) ?? Double(narrow))
    },
    // exp(x): e to the power x.
    "exp": { (v) throws(Diagnostic) in .double(exponential(try number(v, 0))) },
    "float": { (v) throws(Diagnostic) in .double(try number(v, 0)) },
    "sqrt": { (v) throws(Diagnostic) in .double(try number(v, 0).squareRoot()) },
    // round_up(x, m): the least multiple of m that is not below x.
    "round_up": { (v) throws(Diagnostic) in
      let multiple = try number(v, 1)
      guard multiple > 0 else { throw bad("the multiple should be positive") }
      return try whole((number(v, 0) / multiple).rounded(.up) * multiple)
    },
    "min": { (v) throws(Diagnostic) in try extreme(v) { $0 < $1 } },
    "max": { (v) throws(Diagnostic) in try extreme(v) { $0 > $1 } },
    "len": { (v) throws(Diagnostic) in
      switch v.first {
      case .array(let values): .int(values.count)
      case .object(let object): .int(object.count)
      case .string(let text): .int(text.utf8.count)
      default: throw bad("needs a list, an object or a text")
      }
    },
    // range(n): [0, …, n-1].
    "range": { (v) throws(Diagnostic) in
      let count = try number(v, 0)
      guard count >= 0, count <= 1_000_000 else { throw bad("out of bounds") }
      return .array((0..<Int(count)).map { .int($0) })
    },
    "all": { (v) throws(Diagnostic) in .bool(try list(v).allSatisfy { $0.truth == true }) },
    "any": { (v) throws(Diagnostic) in .bool(try list(v).contains { $0.truth == true }) },
    // unique(list): each value once, in the order of first appearance.
    "unique": { (v) throws(Diagnostic) in
      var seen: [JSONValue] = []
      // Each is compared with all before it.
      guard try list(v).count <= 10_000 else { throw bad("the list is too long") }
      for value in try list(v) where !seen.contains(where: { $0.isSame(as: value) }) {
        seen.append(value)
      }
      return .array(seen)
    },
    // period(list, all, r = 0): the least p for which `list` is those of `all` that leave the remainder
    // r, as of multiples of p; null if there is none.
    "period": { (v) throws(Diagnostic) in
      guard v.count == 2 || v.count == 3, let list = v[0].array, let all = v[1].array else {
        throw bad("needs two lists")
      }
      let numbers = all.compactMap(\.int)
      let wanted = list.compactMap(\.int)
      guard numbers.count == all.count, wanted.count == list.count, all.count <= 10_000,
        numbers.allSatisfy({ (0...1_000_000).contains($0) })
      else { throw bad("needs lists of whole numbers from 0 on, and not too long") }
      let rest = v.count == 3 ? try whole(number(v, 2)).int! : 0
      guard let most = numbers.max() else { return .null }
      for p in stride(from: 1, through: most + 1, by: 1) {
        // Python's remainder: that of -1 is p - 1.
        let remainder = (rest % p + p) % p
        var left = wanted[...]
        let isSame = numbers.allSatisfy { number in
          number % p != remainder || left.popFirst() == number
        }
        if isSame, left.isEmpty { return .int(p) }
      }
      return .null
    },
    "flatten": { (v) throws(Diagnostic) in
      .array(try list(v).flatMap { $0.array ?? [$0] })
    },
    "is_list": { (v) throws(Diagnostic) in .bool(v.first?.array != nil) },
    "is_number": { (v) throws(Diagnostic) in .bool(v.first?.double != nil) },
    "text": { (v) throws(Diagnostic) in .string(v.first?.text() ?? "") },
    // python_list("[1,5,]"): a Python literal list of whole numbers, as lit_gpt's attn_layer_pos.
    "python_list": { (v) throws(Diagnostic) in
      guard let text = v.first?.string else { throw bad("needs a text") }
      var inner = text.filter { $0 != " " }
      guard let first = inner.first, let last = inner.last, "[(".contains(first),
        "])".contains(last)
      else { throw bad("'\(text)' is no list") }
      inner = String(inner.dropFirst().dropLast())
      if inner.hasSuffix(",") { inner.removeLast() }
      var values: [JSONValue] = []
      for part in inner.split(separator: ",", omittingEmptySubsequences: false) {
        if inner.isEmpty { break }
        guard let value = Int(part) else { throw bad("'\(text)' is no list of whole numbers") }
        values.append(.int(value))
      }
      return .array(values)
    },
  ]

  private static func bad(_ message: String) -> Diagnostic {
    Diagnostic(code: "expression.value", subject: "", message: message)
  }

  private static func number(_ values: [JSONValue], _ place: Int) throws(Diagnostic) -> Double {
    guard place < values.count, let value = values[place].double else {
      throw bad("argument \(place + 1) should be a number")
    }
    return value
  }

  private static func whole(_ value: Double) throws(Diagnostic) -> JSONValue {
    guard let int = Int(exactly: value) else { throw bad("\(value) is out of bounds") }
    return .int(int)
  }

  private static func list(_ values: [JSONValue]) throws(Diagnostic) -> [JSONValue] {
    guard let list = values.first?.array else { throw bad("needs a list") }
    return list
  }

  private static func extreme(
    _ values: [JSONValue], _ before: (Double, Double) -> Bool
  ) throws(Diagnostic) -> JSONValue {
    let all = values.count == 1 ? values[0].array ?? values : values
    guard var best = all.first else { throw bad("needs a value") }
    for value in all {
      guard let a = value.double, let b = best.double else { throw bad("needs numbers") }
      if before(a, b) { best = value }
    }
    return best
  }
}
