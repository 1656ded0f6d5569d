package import Hub
package import Inference
import Synchronization
package import Tensors

/// A tensor that itself holds NaN or infinity.
package struct NotFiniteTensor: Sendable {
  /// What it is.
  package let piece: PieceID
  /// As the file names it.
  package let name: String
  /// Its values that are NaN or infinite.
  package let count: Int

  init(piece: PieceID, name: String, count: Int) {
    self.piece = piece
    self.name = name
    self.count = count
  }

  /// `lm_head.weight: 3 values`.
  package var words: String {
    "\(name) holds \(count) value\(count == 1 ? "" : "s") that \(count == 1 ? "is" : "are") NaN or infinite"
  }

  /// The first tensor of a place. Looks through the tensors of sub-layer `sublayer`, or of the embedding, final norm or head where
  /// `stage` is theirs; `nil` when all of them are finite.
  ///
  /// - Throws: what reading throws.
  package init?(in member: HubModel, at stage: String, _ sublayer: Int?) throws(Diagnostic) {
    let ids: [PieceID]
    if let sublayer {
      ids = member.pieces.keys.filter { $0.sublayer == sublayer }.sorted()
    } else {
      let roles: [String]
      switch stage {
      case "final_norm": roles = ["final_norm.weight", "final_norm.bias"]
      case "logits":
        roles =
          (member.pieces[PieceID(nil, "head.weight")] == nil
            ? ["embed.weight"] : ["head.weight"]) + ["head.bias"]
      default: roles = ["embed.weight", "embed_norm.weight", "embed_norm.bias"]
      }
      ids = roles.map { PieceID(nil, $0) }
    }
    for id in ids {
      guard let name = member.tensors(of: id).first else { continue }
      var count = try member.countNotFinite(id)
      guard count > 0 else { continue }
      // Other pieces of the same tensor.
      for other in member.pieces.keys.sorted()
      where other != id && other.sublayer == sublayer && member.tensors(of: other).first == name {
        count += try member.countNotFinite(other)
      }
      self.init(piece: id, name: name, count: count)
      return
    }
    return nil
  }

  /// The piece of `model` of which `count` values are NaN or infinite.
  init(_ model: HubModel, _ piece: PieceID, _ count: Int) {
    self.init(piece: piece, name: model.tensors(of: piece).first ?? piece.description, count: count)
  }
}

extension HubModel {
  /// Values of a piece, from row `first` on, that are NaN or infinite.
  ///
  /// - Throws: what reading throws.
  func countNotFinite(_ id: PieceID, from first: Int = 0) throws(Diagnostic) -> Int {
    guard let value = pieces[id], !value.isNew else { return 0 }
    let dtype = value.isMove ? value.dtype : .f64
    guard dtype.isFloat else { return 0 }
    let rowBytes = value.shape.rowElements * dtype.bitWidth / 8
    let step = max(1, 2_097_152 / max(rowBytes, 1))
    var count = 0
    var row = first
    while row < value.shape.rows {
      let rows = row..<min(row + step, value.shape.rows)
      row = rows.upperBound
      let buffer = UnsafeMutableRawBufferPointer.allocate(
        byteCount: rows.count * rowBytes, alignment: 16)
      defer { buffer.deallocate() }
      try reader.read(value, rows: rows, as: dtype, into: buffer)
      count += dtype.countNotFinite(UnsafeRawBufferPointer(buffer))
    }
    return count
  }
}

/// Counts values that are NaN or infinite as a pass reads a model's weights, so that none is read twice
/// for it.
package final class FinitenessCount: ReadObserver {
  private struct Count {
    var next = 0
    var odd = 0
  }
  private let counts = Mutex<[PieceID: Count]>([:])

  /// Nothing read yet.
  package init() {}

  package func didRead(
    _ piece: PieceID, rows: Range<Int>, _ bytes: UnsafeRawBufferPointer, _ dtype: DType
  ) {
    // Each row is counted once, however often it is read.
    let isNew = counts.withLock { counts in
      guard counts[piece, default: Count()].next == rows.lowerBound, !rows.isEmpty else {
        return false
      }
      counts[piece, default: Count()].next = rows.upperBound
      return true
    }
    guard isNew else { return }
    let odd = dtype.countNotFinite(bytes)
    if odd > 0 { counts.withLock { $0[piece]?.odd += odd } }
  }

  /// The pieces of `model` that hold NaN or infinity, model first, then by sub-layer; what no pass has
  /// read is read now.
  ///
  /// - Throws: what reading throws.
  package func tensors(of model: HubModel) throws(Diagnostic) -> [NotFiniteTensor] {
    var found: [NotFiniteTensor] = []
    for id in model.pieces.keys.sorted() {
      let seen = counts.withLock { $0[id] } ?? Count()
      let count = try seen.odd + model.countNotFinite(id, from: seen.next)
      if count > 0 { found.append(NotFiniteTensor(model, id, count)) }
    }
    return found
  }
}

/// Continues prompts, and says what is wrong where logits are not finite.
package struct FiniteGeneration<S: Real> {
  private let model: Model<S>
  private let member: HubModel

  /// Continuations by `model`, whose tensors `member` names.
  package init(_ model: Model<S>, _ member: HubModel) {
    self.model = model
    self.member = member
  }

  /// - Throws: `generate.not-finite`, with the sub-layer and the tensor; as `Model.generate`.
  package func continuation(of prompt: [Int], count: Int, sampling: Sampling) throws -> [Int] {
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
