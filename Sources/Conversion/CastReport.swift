import Hub
public import Tensors

/// What the casts of a conversion did to values, told once for each cause.
public struct CastReport: Sendable {
  private let plan: ConversionPlan
  private let counts: [(tensor: Int, counts: CastCounts)]

  /// The report of what an `Executor` counted while it carried `plan` out.
  public init(_ plan: ConversionPlan, _ counts: [Int: CastCounts]) {
    self.plan = plan
    self.counts = counts.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
  }

  /// Finite values that became infinite, in all tensors.
  public var overflows: Int { counts.reduce(0) { $0 + $1.counts.overflows } }

  /// A diagnostic for each of: infinities made, values that became zero, values that were not finite.
  ///
  /// - Parameter overflow: how bad an infinity is that was made.
  public func diagnostics(overflow: Diagnostic.Severity) -> [Diagnostic] {
    var found: [Diagnostic] = []
    if let problem = told(
      overflow, "convert.overflow", \.overflows,
      { count, total, type in
        "\(count) finite values became infinite in \(type), of \(total)"
      },
      help: overflow == .error
        ? "\(wider); --allow-lossy writes the infinities" : wider)
    {
      found.append(problem)
    }
    // A few of millions are the tail of any distribution; a tensor that lost a share of its values is
    // another matter.
    let isGrave = counts.contains { $0.counts.underflows * 1000 >= elements($0.tensor) }
    if let problem = told(
      isGrave ? .warning : .note, "convert.underflow", \.underflows,
      { count, total, type in
        "\(count) of \(total) values were not zero and became zero in \(type)"
      }, help: wider)
    {
      found.append(problem)
    }
    if let problem = told(
      .warning, "convert.not-finite", \.notFinite,
      { count, total, _ in "\(count) of \(total) values are NaN or infinite in the source" },
      help: "no conversion mends them, and no model computes with them")
    {
      found.append(problem)
    }
    return found
  }

  /// The type whose range may hold what these types did not.
  private var wider: String {
    let types = Set(counts.map { plan.tensors[$0.tensor].output.dtype })
    if types.contains(.f16) { return "bfloat16 has float32's range" }
    return types.contains(.f32)
      ? "keep the source's type: float64 has the range"
      : "the values are near bfloat16's limit: float32 has more digits there"
  }

  private func elements(_ tensor: Int) -> Int {
    plan.tensors[tensor].output.shape.elementCount ?? 0
  }

  /// One diagnostic for all tensors in which `which` happened; `nil` for none.
  private func told(
    _ severity: Diagnostic.Severity, _ code: String, _ which: KeyPath<CastCounts, Int>,
    _ words: (_ count: Int, _ total: Int, _ type: String) -> String, help: String
  ) -> Diagnostic? {
    let own = counts.filter { $0.counts[keyPath: which] > 0 }
    guard let first = own.first else { return nil }
    func sentence(_ item: (tensor: Int, counts: CastCounts)) -> String {
      words(
        item.counts[keyPath: which], elements(item.tensor),
        plan.tensors[item.tensor].output.dtype.rawValue)
    }
    let name = plan.tensors[first.tensor].output.name.string
    guard own.count > 1 else {
      return Diagnostic(
        severity, code: code, subject: name, message: sentence(first), help: help)
    }
    var notes = own.prefix(Self.named).map {
      "\(plan.tensors[$0.tensor].output.name): \(sentence($0))"
    }
    if own.count > Self.named { notes.append("and \(own.count - Self.named) tensors more") }
    let sum = own.reduce(0) { $0 + $1.counts[keyPath: which] }
    let total = own.reduce(0) { $0 + elements($1.tensor) }
    let types = Set(own.map { plan.tensors[$0.tensor].output.dtype.rawValue }).sorted()
    return Diagnostic(
      severity, code: code, subject: "\(own.count) tensors",
      message: words(sum, total, types.joined(separator: " or ")), notes: notes, help: help)
  }

  /// Tensors that are named; more would fill the screen.
  private static let named = 12
}
