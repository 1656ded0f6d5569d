import Hub
public import Tensors

/// One forward pass, a sub-layer at a time, so that two models can be run in lockstep:
///
///     let pass = try ForwardPass(model, tokens: tokens)
///     try pass.embed()
///     while pass.next < model.spec.sublayers.count { try pass.advance() }
///     try pass.finish()
///     let logits = try pass.logits(rows: 0..<pass.rows)
///
/// The activation is the residual stream [batch, tokens, width]; a sub-layer's weights are fetched
/// by `advance()` and let go before it returns, unless the model keeps them.
public final class ForwardPass<Scalar: Real> {
  /// The model.
  public let model: Model<Scalar>
  /// The number of sequences.
  public let batch: Int
  /// Tokens of each sequence.
  public let tokens: Int
  /// Rows of the activation: batch * tokens.
  public var rows: Int { batch * tokens }
  /// The sub-layer that `advance()` runs.
  public private(set) var next = 0

  /// Whether `change` is kept.
  package var keepsChange = false
  /// What the sub-layer that ran last added to the stream, or put in its place: [batch, tokens, width].
  package private(set) var change: [Scalar] = []

  private let ids: [Int]
  private let run: Run<Scalar>
  private let state: DecodeState<Scalar>?
  private let stream: Buffer<Scalar>

  /// A pass over `tokens` [batch][tokens]: whole sequences, or with a state the tokens that follow
  /// those which it has seen.
  ///
  /// - Throws: `tokens.shape` when the sequences are empty or of different lengths, `tokens.range`
  ///   for each token without a row in the embedding.
  public init(
    _ model: Model<Scalar>, tokens: [[Int]], state: DecodeState<Scalar>? = nil
  ) throws(Problems) {
    let problems = ForwardPass.check(tokens, model.vocabularyRows, batch: state?.batch)
    if !problems.isEmpty { throw Problems(problems) }
    self.model = model
    batch = tokens.count
    self.tokens = tokens[0].count
    ids = tokens.flatMap { $0 }
    self.state = state
    run = Run(
      batch: batch, tokens: tokens[0].count, position: state?.position ?? 0,
      workers: model.workers, workspace: model.workspace, rotary: model.rotary,
      selfExtend: model.options.selfExtend, isRough: model.options.isRough)
    stream = model.workspace.buffer(batch * tokens[0].count * model.width)
  }

  private static func check(_ tokens: [[Int]], _ rows: Int, batch: Int?) -> [Diagnostic] {
    func shape(_ message: String) -> [Diagnostic] {
      [Diagnostic(code: "tokens.shape", subject: "tokens", message: message)]
    }
    guard let first = tokens.first, !first.isEmpty else { return shape("there are none") }
    if let other = tokens.firstIndex(where: { $0.count != first.count }) {
      return shape(
        "sequence \(other) has \(tokens[other].count) tokens, sequence 0 has \(first.count)")
    }
    if let batch, batch != tokens.count {
      return shape("the state is of \(batch) sequences, the tokens are of \(tokens.count)")
    }
    if tokens.count.multipliedReportingOverflow(by: first.count).partialValue > Int(Int32.max) {
      return shape("there are more than \(Int32.max)")
    }
    var problems: [Diagnostic] = []
    for (b, sequence) in tokens.enumerated() {
      for (t, id) in sequence.enumerated() where id < 0 || id >= rows {
        problems.append(
          Diagnostic(
            code: "tokens.range", subject: "token \(t) of sequence \(b)",
            message: "is \(id); the embedding has \(rows) rows"))
        if problems.count == 20 { return problems }
      }
    }
    return problems
  }

  /// Calls `body` with the residual stream [batch, tokens, width] as it stands; it may be changed,
  /// so that a model can be run from another's stream.
  public func withStream<R, E: Error>(
    _ body: (UnsafeMutableBufferPointer<Scalar>) throws(E) -> R
  ) throws(E) -> R {
    try body(UnsafeMutableBufferPointer(start: stream.pointer, count: stream.count))
  }

  /// Fills the stream with the tokens' embeddings, scaled and normed as the model has it.
  ///
  /// - Throws: what reading the weights gives.
  public func embed() throws(Problems) {
    run.workspace.recycle()
    let ends = try model.modelEnds()
    try lookUp()
    if ends.embedScale != 1 {
      scale(stream.pointer, stream.count, by: Scalar(ends.embedScale))
    }
    if let norm = ends.embedNorm {
      norm(stream.read, rows, model.width, run, into: stream.pointer)
    }
    next = 0
  }

  // A row of the embedding for each token, each read once.
  private func lookUp() throws(Problems) {
    let (d, piece) = (model.width, PieceID(nil, "embed.weight"))
    guard let dtype = model.weights.info(piece)?.dtype else { return }
    let size = d * dtype.bitWidth / 8
    let row: Buffer<UInt8> = run.workspace.buffer(size)
    var seen: [Int: Int] = [:]
    for (i, id) in ids.enumerated() {
      let out = stream.pointer + i * d
      if let earlier = seen[id] {
        out.update(from: stream.read + earlier * d, count: d)
        continue
      }
      seen[id] = i
      do throws(Diagnostic) {
        try model.weights.read(
          piece, rows: id..<id + 1,
          into: UnsafeMutableRawBufferPointer(start: row.pointer, count: size))
      } catch { throw Problems([error]) }
      widen(row.pointer, dtype, d, into: out)
    }
  }

  /// Runs sub-layer `next` and adds what it gives to the stream.
  ///
  /// - Throws: what reading the weights gives.
  public func advance() throws(Problems) {
    run.workspace.recycle()
    let index = next
    precondition(index < model.spec.sublayers.count, "there is no sub-layer left")
    let block = try model.block(index)
    if index == 0, model.readsOrigin { run.crossing.origin = run.copy(stream) }
    let normed = normed(block, index)
    var read = normed
    if block.inputScale != 1 {
      read = run.copy(normed)
      scale(read.pointer, read.count, by: Scalar(block.inputScale))
    }
    let input = MixerInput(normed: read.read, residual: stream.read)
    let change = block.mixer(input, run, state?.mixers[index])
    withExtendedLifetime((normed, read)) {}
    if !block.loader.problems.isEmpty { throw Problems(block.loader.problems) }
    let factor = Scalar(block.scale)
    run.forEachElement(of: stream.count) { range in
      let own = change.pointer + range.lowerBound
      if block.scale != 1 { scale(own, range.count, by: factor) }
      if block.skips {
        add(own, range.count, to: stream.pointer + range.lowerBound)
      } else {
        (stream.pointer + range.lowerBound).update(from: own, count: range.count)
      }
    }
    if keepsChange {
      self.change = Array(UnsafeBufferPointer(start: change.read, count: stream.count))
    }
    model.evict(of: index)
    next += 1
  }

  // What sub-layer `index` reads: the norm of the stream, or what the one before it read.
  private func normed(_ block: Block<Scalar>, _ index: Int) -> Buffer<Scalar> {
    let sublayers = model.spec.sublayers
    var source = stream
    var normed: Buffer<Scalar>?
    if block.isParallel {
      normed = run.crossing.normed
    } else if let injection = run.crossing.injection {
      source = run.copy(stream)
      add(injection.pointer, injection.count, to: source.pointer)
      run.crossing.injection = nil
    }
    if normed == nil, let norm = block.norm {
      let room = run.activation(model.width)
      norm(source.read, rows, model.width, run, into: room.pointer)
      normed = room
    }
    let isReadAgain = index + 1 < sublayers.count && sublayers[index + 1]["norm"] == "parallel"
    run.crossing.normed = isReadAgain ? normed : nil
    return normed ?? source
  }

  /// What the sub-layers before `next` have left for those behind it, besides the stream; of a pass
  /// without a state.
  public var crossed: CrossedValues { run.crossing.values }

  /// Goes to sub-layer `index` without running those before it: the stream is what the caller makes
  /// it, and what they would have left is `crossed`.
  ///
  /// - Returns: whether the sub-layer can read that: the widths are those of its model.
  public func jump(to index: Int, crossed: CrossedValues) -> Bool {
    precondition(state == nil, "only whole sequences can be entered in their middle")
    let expected = model.crossingWidths(before: index)
    guard run.crossing.take(crossed, rows: rows, tokens: tokens, expected, run.workspace) else {
      return false
    }
    next = index
    return true
  }

  /// Turns the stream into what the last norm gives; a state then counts the tokens as seen.
  ///
  /// - Throws: what reading the weights gives.
  public func finish() throws(Problems) {
    run.workspace.recycle()
    let ends = try model.modelEnds()
    if let norm = ends.finalNorm {
      norm(stream.read, rows, model.width, run, into: stream.pointer)
    }
    state?.advance(by: tokens)
  }

  /// Calls `body` with the logits of `rows` of the finished stream (row b * tokens + t):
  /// [rows.count, vocab_rows].
  ///
  /// - Throws: what reading the weights gives, and what `body` throws.
  public func withLogits<R>(
    rows range: Range<Int>, _ body: (UnsafeBufferPointer<Scalar>) throws -> R
  ) throws -> R {
    let logits = try logitBuffer(range)
    return try body(UnsafeBufferPointer(start: logits.read, count: logits.count))
  }

  /// The logits of `rows` of the finished stream: [rows.count, vocab_rows].
  ///
  /// - Throws: what reading the weights gives.
  public func logits(rows range: Range<Int>) throws(Problems) -> [Scalar] {
    let logits = try logitBuffer(range)
    return Array(UnsafeBufferPointer(start: logits.read, count: logits.count))
  }

  private func logitBuffer(_ range: Range<Int>) throws(Problems) -> Buffer<Scalar> {
    let (weight, bias) = (try model.headWeight(), try model.modelEnds().headBias)
    let logits: Buffer<Scalar> = run.workspace.buffer(range.count * weight.rows)
    var input = stream.read + range.lowerBound * model.width
    let factor = try model.modelEnds().logitScale
    let scaled: Buffer<Scalar>? =
      factor == 1 ? nil : run.workspace.buffer(range.count * model.width)
    if let scaled {
      scaled.pointer.update(from: input, count: scaled.count)
      scale(scaled.pointer, scaled.count, by: Scalar(factor))
      input = scaled.read
    }
    linear(input, range.count, weight, bias, run, into: logits.pointer)
    model.evict(of: nil)
    return logits
  }
}
