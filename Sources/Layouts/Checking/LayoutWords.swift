public import Hub
public import Tensors

/// The words that a layout may use besides those of the schema.
public struct LayoutWords: Sendable {
  /// The kinds of sub-layers, with their attributes and pieces.
  public var vocabulary: Vocabulary
  /// The rewrites of the planner.
  public var rewrites: [String]
  /// The containers.
  public var containers: [String]

  /// Words.
  public init(
    vocabulary: Vocabulary, rewrites: [String],
    containers: [String] = Container.allCases.map(\.rawValue)
  ) {
    self.vocabulary = vocabulary
    self.rewrites = rewrites
    self.containers = containers
  }

  /// The kind of this name; `model` is the model as a whole.
  func kind(_ name: String) -> MixerKind? {
    name == "model" ? vocabulary.model : vocabulary.kinds[name]
  }

  var kindNames: [String] { vocabulary.kinds.keys.sorted() }
}
