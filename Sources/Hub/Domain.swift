public import Tensors

extension MixerKind {
  /// Which values an attribute may have, whatever layout and config they come from.
  ///
  /// An attribute whose default is null may be null as well.
  public struct Domain: Sendable {
    /// The values in words, as messages have them: `a whole number from 1 on`.
    public var expected: String
    /// Whether they are whole numbers; `6.0` is one, too.
    var isWhole = false
    /// Whether a value is one of them.
    public var allows: @Sendable (JSONValue) -> Bool

    /// The values for which `allows` holds.
    public init(_ expected: String, _ allows: @escaping @Sendable (JSONValue) -> Bool) {
      self.expected = expected
      self.allows = allows
    }

    /// Any value.
    public static let any = Domain("any value") { _ in true }
    /// The size of something that is there.
    public static let size: Domain = {
      var domain = Domain("a whole number from 1 on") {
        guard let number = $0.int ?? $0.double.flatMap({ Int(exactly: $0) }) else { return false }
        return (1...MixerKind.mostExtent).contains(number)
      }
      domain.isWhole = true
      return domain
    }()
    /// The number of something in a row that starts at 0.
    public static let index: Domain = {
      var domain = Domain("a whole number from 0 on") {
        guard let number = $0.int ?? $0.double.flatMap({ Int(exactly: $0) }) else { return false }
        return (0...MixerKind.mostExtent).contains(number)
      }
      domain.isWhole = true
      return domain
    }()
    /// A finite number above 0.
    public static let positive = Domain("a finite number above 0") {
      $0.double.map { $0.isFinite && $0 > 0 } ?? false
    }
    /// A finite number that is not negative: what is added below a root, a lower limit.
    public static let notNegative = Domain("a finite number from 0 on") {
      $0.double.map { $0.isFinite && $0 >= 0 } ?? false
    }
    /// A finite number.
    public static let finite = Domain("a finite number") { $0.double?.isFinite ?? false }
    /// True or false.
    public static let flag = Domain("true or false") { $0.bool != nil }
    /// Any text but none at all.
    public static let text = Domain("a text") { !($0.string ?? "").isEmpty }
    /// One of these words.
    public static func words(_ words: String...) -> Domain {
      Domain("one of \(words.joined(separator: ", "))") {
        $0.string.map { words.contains($0) } ?? false
      }
    }

    /// What the default of an attribute says of its other values.
    static func like(_ initial: JSONValue?) -> Domain {
      switch initial {
      case .bool: .flag
      case .int: .size
      case .double: .finite
      default: .any
      }
    }
  }

  /// What must hold between attributes.
  public struct Rule: Sendable {
    /// The fact, over the kind's and the model's attributes.
    public var that: Expression
    /// The attribute that is told as wrong where it does not hold.
    public var attribute: String
    /// The values that it may have, in words.
    public var expected: String

    /// A rule.
    public init(_ that: String, _ attribute: String, _ expected: String) {
      self.that = Expression(literal: that)
      self.attribute = attribute
      self.expected = expected
    }
  }

  /// No tensor is longer in one direction; sums of a few of these do not overflow.
  package static let mostExtent = 1 << 40
}
