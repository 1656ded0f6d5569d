import Hub
public import Tensors

extension Model {
  /// Runs `tokens` [batch][tokens] and calls `body` with each stage's values as they come:
  /// `hidden_states.i` [batch, tokens, width], with `everySublayer` also the stream behind each
  /// sub-layer, then `final_norm` and `logits` [batch, tokens, vocab_rows].
  ///
  /// - Throws: `Problems` of the tokens or of reading weights, and what `body` throws.
  public func forward(
    tokens: [[Int]], everySublayer: Bool = false,
    _ body: (Stage, UnsafeBufferPointer<Scalar>) throws -> Void
  ) throws {
    let pass = try ForwardPass(self, tokens: tokens)
    func tell(_ stage: Stage) throws {
      try pass.withStream { stream in try body(stage, UnsafeBufferPointer(stream)) }
    }
    try pass.embed()
    for index in spec.sublayers.indices {
      for stage in spec.stages(before: index) { try tell(stage) }
      try pass.advance()
      if everySublayer { try tell(.sublayer(index)) }
    }
    for stage in spec.stages(before: spec.sublayers.count) { try tell(stage) }
    try pass.finish()
    try tell(.finalNorm)
    try pass.withLogits(rows: 0..<pass.rows) { try body(.logits, $0) }
  }

  /// The logits [batch, tokens, vocab_rows] of `tokens` [batch][tokens].
  ///
  /// - Throws: `Problems` of the tokens or of reading weights.
  public func logits(tokens: [[Int]]) throws(Problems) -> [Scalar] {
    let pass = try ForwardPass(self, tokens: tokens)
    try pass.embed()
    for _ in spec.sublayers { try pass.advance() }
    try pass.finish()
    return try pass.logits(rows: 0..<pass.rows)
  }

  /// A state before the first token of `batch` sequences.
  ///
  /// - Throws: what reading the weights gives.
  public func makeState(batch: Int = 1) throws(Problems) -> DecodeState<Scalar> {
    var states: [MixerState<Scalar>] = []
    for index in spec.sublayers.indices {
      states.append(try block(index).mixer.makeState(batch: batch, workspace: workspace))
    }
    return DecodeState(batch: batch, mixers: states)
  }

  /// Takes in `tokens` [batch][tokens] behind those that `state` has seen, and gives the logits
  /// behind the last of each sequence: [batch, vocab_rows].
  ///
  /// One token at a time runs each mixer's recurrence, several its parallel or chunked form.
  ///
  /// - Throws: `Problems` of the tokens or of reading weights.
  public func step(
    _ tokens: [[Int]], _ state: DecodeState<Scalar>
  ) throws(Problems) -> [Scalar] {
    let pass = try ForwardPass(self, tokens: tokens, state: state)
    try pass.embed()
    for _ in spec.sublayers { try pass.advance() }
    try pass.finish()
    var logits: [Scalar] = []
    for b in 0..<pass.batch {
      let last = (b + 1) * pass.tokens - 1
      logits += try pass.logits(rows: last..<last + 1)
    }
    return logits
  }
}
