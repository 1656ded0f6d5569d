import Hub
import Inference
import Layouts
import Parity
import Tensors

/// A tensor that itself holds NaN or infinity.
struct NotFiniteTensor: Sendable {
  /// What it is.
  let piece: PieceID
  /// As the file names it.
  let name: String
  /// Its values that are NaN or infinite.
  let count: Int

  init(piece: PieceID, name: String, count: Int) {
    self.piece = piece
    self.name = name
    self.count = count
  }

  /// `lm_head.weight: 3 values`.
  var words: String {
    "\(name) holds \(count) value\(count == 1 ? "" : "s") that \(count == 1 ? "is" : "are") NaN or infinite"
  }

  /// The first tensor of a place. Looks through the tensors of sub-layer `sublayer`, or of the embedding, final norm or head where
  /// `stage` is theirs; `nil` when all of them are finite.
  ///
  /// - Throws: what reading throws.
  init?(in member: AlignedPair.Member, at stage: String, _ sublayer: Int?) throws(Diagnostic) {
    let ids: [PieceID]
    if let sublayer {
      ids = member.model.pieces.keys.filter { $0.sublayer == sublayer }.sorted()
    } else {
      let roles: [String]
      switch stage {
      case "final_norm": roles = ["final_norm.weight", "final_norm.bias"]
      case "logits":
        roles =
          (member.model.pieces[PieceID(nil, "head.weight")] == nil
            ? ["embed.weight"] : ["head.weight"]) + ["head.bias"]
      default: roles = ["embed.weight", "embed_norm.weight", "embed_norm.bias"]
      }
      ids = roles.map { PieceID(nil, $0) }
    }
    let source = member.reader.source
    var seen: Set<String> = []
    for (id, name) in ids.flatMap({ id in member.tensors(of: id).map { (id, $0) } })
    where seen.insert(name).inserted {
      guard let number = source.tensors.firstIndex(where: { $0.name.string == name }),
        let statistics = try TensorStatistics(of: number, member.reader),
        statistics.nan + statistics.inf > 0
      else { continue }
      self.init(piece: id, name: name, count: statistics.nan + statistics.inf)
      return
    }
    return nil
  }
}

/// Continues prompts, and says what is wrong where logits are not finite.
struct FiniteGeneration<S: Real> {
  private let model: Model<S>
  private let member: AlignedPair.Member

  init(_ model: Model<S>, _ member: AlignedPair.Member) {
    self.model = model
    self.member = member
  }

  /// - Throws: `generate.not-finite`, with the sub-layer and the tensor; as `Model.generate`.
  func continuation(of prompt: [Int], count: Int, sampling: Sampling) throws -> [Int] {
    var tokens: [Int] = []
    do throws(Problems) {
      try model.generate(prompt: prompt, count: count, sampling: sampling, into: &tokens)
      return tokens
    } catch {
      guard var problem = error.diagnostics.first, problem.code == NotFiniteLogits.code else {
        throw error
      }
      problem.notes.append(try place(prompt + tokens))
      throw Problems([problem])
    }
  }

  /// Where a pass over `tokens` first is not finite, in words.
  private func place(_ tokens: [Int]) throws -> String {
    let pass = try ForwardPass(model, tokens: [tokens])
    func words(_ stage: String, _ sublayer: Int?) throws -> String {
      let place =
        sublayer.map {
          "sub-layer \($0) (\(model.spec.sublayers[$0].kind) of layer \(model.spec.sublayers[$0].layer))"
        } ?? stage
      guard let culprit = try NotFiniteTensor(in: member, at: stage, sublayer) else {
        return "they arise in \(place), of which no tensor holds any"
      }
      return
        "they arise in \(place): \(culprit.name) holds \(culprit.count) values that are NaN or infinite"
    }
    try pass.embed()
    if !pass.isStreamFinite { return try words("the embedding", nil) }
    for index in model.spec.sublayers.indices {
      try pass.advance()
      if !pass.isStreamFinite { return try words("", index) }
    }
    try pass.finish()
    return try words(pass.isStreamFinite ? "logits" : "final_norm", nil)
  }
}
