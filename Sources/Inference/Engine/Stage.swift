public import Hub

/// A place in the forward pass whose values can be looked at; named as in a trace.
public enum Stage: Sendable, Hashable, CustomStringConvertible {
  /// The residual stream entering layer i of the framework's own layers; for i = their number, what
  /// leaves the last one.
  case hiddenStates(Int)
  /// The residual stream leaving sub-layer i.
  case sublayer(Int)
  /// What the last norm gives.
  case finalNorm
  /// What the head gives: [batch, tokens, vocab_rows].
  case logits

  /// `hidden_states.3`, `sublayer.5`, `final_norm`, `logits`.
  public var name: String {
    switch self {
    case .hiddenStates(let i): "hidden_states.\(i)"
    case .sublayer(let i): "sublayer.\(i)"
    case .finalNorm: "final_norm"
    case .logits: "logits"
    }
  }

  /// The name.
  public var description: String { name }
}

extension ModelSpec {
  /// The stages whose values are the residual stream just before sub-layer `index` runs; for
  /// `index` = the number of sub-layers, those of the stream that leaves the last.
  ///
  ///     spec.stages(before: 0)  // [hidden_states.0]
  public func stages(before index: Int) -> [Stage] {
    let layer = index < sublayers.count ? sublayers[index].layer : layerCount
    let last = index > 0 ? sublayers[index - 1].layer : -1
    return layer > last ? (last + 1...layer).map { .hiddenStates($0) } : []
  }
}
