public import Hub

/// A kind of sub-layer that the engine runs: what it declares, and how it is made in each precision.
struct MixerDefinition: Sendable {
  /// Attributes and pieces.
  let kind: MixerKind
  // Concrete types, so that the compiler specialises the mixer for both precisions.
  private let makeFloat: @Sendable (PieceLoader<Float>) -> any Mixer<Float>
  private let makeDouble: @Sendable (PieceLoader<Double>) -> any Mixer<Double>

  init<F: Mixer<Float>, D: Mixer<Double>>(_ kind: MixerKind, _: F.Type, _: D.Type) {
    self.kind = kind
    makeFloat = { F($0) }
    makeDouble = { D($0) }
  }

  /// Every mixer; a new one is a file beside this and a line here.
  static let all: [MixerDefinition] = [
    MixerDefinition(.mamba, MambaMixer<Float>.self, MambaMixer<Double>.self),
    MixerDefinition(.mamba2, Mamba2Mixer<Float>.self, Mamba2Mixer<Double>.self),
    MixerDefinition(.attention, AttentionMixer<Float>.self, AttentionMixer<Double>.self),
    MixerDefinition(
      .crossAttention, CrossAttentionMixer<Float>.self, CrossAttentionMixer<Double>.self),
    MixerDefinition(.gmu, GatedMemoryMixer<Float>.self, GatedMemoryMixer<Double>.self),
    MixerDefinition(.gla, GLAMixer<Float>.self, GLAMixer<Double>.self),
    MixerDefinition(.retention, RetentionMixer<Float>.self, RetentionMixer<Double>.self),
    MixerDefinition(.mlp, GatedMLPMixer<Float>.self, GatedMLPMixer<Double>.self),
    MixerDefinition(.mega, MegaMixer<Float>.self, MegaMixer<Double>.self),
    MixerDefinition(.ffn, PlainMLPMixer<Float>.self, PlainMLPMixer<Double>.self),
    MixerDefinition(.moe, MixtureMixer<Float>.self, MixtureMixer<Double>.self),
    MixerDefinition(.sharedBlock, SharedBlockMixer<Float>.self, SharedBlockMixer<Double>.self),
  ]

  private static let named = [String: MixerDefinition](
    uniqueKeysWithValues: all.map { ($0.kind.name, $0) })

  /// The mixer that `loader`'s sub-layer asks for; `nil` for a kind that the engine does not run.
  static func make<T: Real>(_ loader: PieceLoader<T>) -> (any Mixer<T>)? {
    guard let name = loader.sublayer?.kind, let definition = named[name] else { return nil }
    if let loader = loader as? PieceLoader<Float> {
      return definition.makeFloat(loader) as? any Mixer<T>
    }
    if let loader = loader as? PieceLoader<Double> {
      return definition.makeDouble(loader) as? any Mixer<T>
    }
    return nil
  }
}

extension Vocabulary {
  /// Every kind of sub-layer that the engine runs.
  public static let standard = Vocabulary(
    model: .model, kinds: MixerDefinition.all.map(\.kind))
}
