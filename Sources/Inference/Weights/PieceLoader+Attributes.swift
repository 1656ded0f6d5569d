import Hub
import Tensors

// Attributes of the sub-layer (of the model, for the model's own loader), with the vocabulary's
// defaults; what is missing or of the wrong type becomes a problem.
extension PieceLoader {
  /// The attribute `name`, or the default that its kind declares.
  func attribute(_ name: String) -> JSONValue {
    let set = sublayer.map { $0.attributes[name] } ?? spec.attributes[name]
    if let set { return set }
    return kind?.attributes.first { $0.name == name }?.initial ?? .null
  }

  /// The declaration of this kind.
  var kind: MixerKind? {
    guard let sublayer else { return Vocabulary.standard.model }
    return Vocabulary.standard.kinds[sublayer.kind]
  }

  /// A whole number of at least 1.
  func size(_ name: String) -> Int {
    guard let value = attribute(name).int, value > 0, value <= Int(Int32.max) else {
      wrong(name, "a whole number above 0")
      return 1
    }
    return value
  }

  /// A whole number of at least 1, or `nil` for null.
  func optionalSize(_ name: String) -> Int? {
    attribute(name) == .null ? nil : size(name)
  }

  /// A number.
  func number(_ name: String) -> Double {
    guard let value = attribute(name).double, value.isFinite else {
      wrong(name, "a number")
      return 1
    }
    return value
  }

  /// A number, or `nil` for null.
  func optionalNumber(_ name: String) -> Double? {
    attribute(name) == .null ? nil : number(name)
  }

  /// A truth value.
  func flag(_ name: String) -> Bool {
    guard let value = attribute(name).bool else {
      wrong(name, "true or false")
      return false
    }
    return value
  }

  /// Whether `name` is true; null is not.
  func isOn(_ name: String) -> Bool { attribute(name) == .null ? false : flag(name) }

  /// One of these words.
  func word(_ name: String, _ known: [String]) -> String {
    guard let value = attribute(name).string, known.contains(value) else {
      wrong(name, known.joined(separator: " or "))
      return known[0]
    }
    return value
  }

  /// The function that the attribute `name` says.
  func activation(_ name: String) -> Activation {
    switch word(name, ["silu", "gelu", "gelu_tanh", "relu", "relu2"]) {
    case "gelu": .gelu
    case "gelu_tanh": .exactTanhGELU
    case "relu": .relu
    case "relu2": .squaredReLU
    default: .silu
    }
  }

  /// A list of so many numbers, or `nil` for null.
  func factors(_ name: String, _ count: Int) -> [T]? {
    guard attribute(name) != .null else { return nil }
    let numbers = attribute(name).array?.compactMap(\.double).filter(\.isFinite) ?? []
    guard numbers.count == count, attribute(name).array?.count == count else {
      refuse(
        "model.attribute",
        "\(name) should be \(count) numbers, found \(attribute(name).text())")
      return nil
    }
    return numbers.map { T($0) }
  }

  /// Takes note of a multiple that does not come out even.
  func requireMultiple(_ name: String, _ value: Int, of divisorName: String, _ divisor: Int) {
    if value % divisor != 0 {
      refuse("model.attribute", "\(name) \(value) is no multiple of \(divisorName) \(divisor)")
    }
  }

  /// Takes note of attributes that the kind does not declare: something that might change the
  /// mathematics is never passed over.
  func refuseUnknownAttributes() {
    guard let kind else {
      refuse("model.kind", "the engine has no such kind of sub-layer")
      return
    }
    let known = Set(kind.attributes.map(\.name))
    let names = sublayer.map { Array($0.attributes.keys) } ?? Array(spec.attributes.keys)
    for name in names where !known.contains(name) {
      refuse("model.attribute", "\(name) is not known to the engine")
    }
  }

  private func wrong(_ name: String, _ what: String) {
    refuse("model.attribute", "\(name) should be \(what), found \(attribute(name).text())")
  }
}

extension PieceLoader {
  /// The width of the residual stream.
  var dModel: Int { spec["d_model"].int.map { max(1, $0) } ?? 1 }

  /// A linear projection `name.weight` [rows, columns] with its bias, if it has one.
  func projection(_ name: String, _ rows: Int, _ columns: Int) -> Projection<T> {
    Projection(
      weight: matrix("\(name).weight", rows, columns),
      bias: optionalValues("\(name).bias", [rows]))
  }

  /// A, -e^a_log; taken as it is where the model holds it itself.
  func rates(_ shape: Shape) -> [T] {
    has("a") ? values("a", shape) : values("a_log", shape).map { -T.exp($0) }
  }

  /// The depthwise convolution `name.weight` [channels, width] with its bias, if it has one.
  func convolution(
    _ name: String, _ channels: Int, _ width: Int, isActivated: Bool = true
  ) -> Convolution<T> {
    Convolution(
      weight: transposed(values("\(name).weight", [channels, width]), channels, width),
      bias: optionalValues("\(name).bias", [channels]), channels: channels, width: width,
      isActivated: isActivated)
  }
}
