import Checkpoints
import Hub
import Inference
import OrderedCollections
import TestSupport
import Tensors
import Testing

/// A file of `Fixtures/mixers`: one residual sub-layer, or two of which the second reads what the first
/// leaves beside the stream, with what enters and what leaves it.
struct MixerFixture: Sendable, CustomTestStringConvertible {
  let name: String
  let spec: ModelSpec
  let weights: MemoryWeights
  let selfExtend: SelfExtend?
  let batch: Int
  let tokens: Int
  let width: Int
  let input: [Double]
  let output: [Double]

  var testDescription: String { name }

  static let all: [MixerFixture] = Fixtures.list("mixers").map { path in
    do { return try MixerFixture(path: path) } catch { preconditionFailure("\(path): \(error)") }
  }

  static func named(_ name: String) -> MixerFixture {
    all.first { $0.name == name } ?? all[0]
  }

  init(path: String) throws {
    let reader = try SafetensorsReader(path: path)
    var entries: [PieceID: MemoryWeights.Entry] = [:]
    var (input, output): ([Double], [Double]) = ([], [])
    var shape: Shape = []
    let before = reader.metadata["before_kind"]
    for (index, info) in reader.tensors.enumerated() {
      let bytes = try reader.bytes(of: index)
      let values = bytes.withUnsafeBytes { Array($0.bindMemory(to: Double.self)) }
      switch info.name.string {
      case "input": (input, shape) = (values, info.shape)
      case "output": output = values
      case let role:
        let entry = MemoryWeights.Entry(shape: info.shape, dtype: info.dtype, bytes: bytes)
        let last = before == nil ? 0 : 1
        let id =
          role.hasPrefix("model.")
          ? PieceID(nil, String(role.dropFirst(6)))
          : role.hasPrefix("before.")
            ? PieceID(0, String(role.dropFirst(7)))
            : role.hasPrefix("then.") ? PieceID(1, String(role.dropFirst(5))) : PieceID(last, role)
        entries[id] = entry
      }
    }
    (batch, tokens, width) = (shape[0], shape[1], shape[2])
    (self.input, self.output) = (input, output)
    entries[PieceID(nil, "embed.weight")] = MemoryWeights.Entry(
      shape: [1, shape[2]], [Double](repeating: 0, count: shape[2]))
    weights = MemoryWeights(entries)
    name = path.split(separator: "/").last.map { String($0.dropLast(12)) } ?? path
    let attributes = try JSONParser.parse(reader.metadata["attributes"] ?? "", file: name)
    var spec = MixerFixture.spec(
      kind: reader.metadata["kind"] ?? "", attributes.object ?? [:], width: shape[2])
    if let before {
      let attributes = try JSONParser.parse(
        reader.metadata["before_attributes"] ?? "", file: name)
      spec.sublayers.insert(
        ModelSpec.Sublayer(layer: 0, kind: before, attributes: attributes.object ?? [:]), at: 0)
    }
    if let kind = reader.metadata["then_kind"] {
      let own = try JSONParser.parse(reader.metadata["then_attributes"] ?? "", file: name)
      spec.sublayers.append(.init(layer: 0, kind: kind, attributes: own.object ?? [:]))
    }
    self.spec = spec
    let extend = try JSONParser.parse(reader.metadata["self_extend"] ?? "", file: name)
    selfExtend = extend.array.map { SelfExtend(group: $0[0].int ?? 0, window: $0[1].int ?? 0) }
  }

  /// A model of one sub-layer and one token.
  static func spec(kind: String, _ attributes: JSONObject, width: Int) -> ModelSpec {
    ModelSpec(
      family: "test",
      attributes: [
        "d_model": .int(width), "vocab_rows": 1, "vocab_size": 1, "tied": true,
        "final_norm": "none", "final_norm_eps": 1e-5,
      ], layerCount: 1,
      sublayers: [ModelSpec.Sublayer(layer: 0, kind: kind, attributes: attributes)])
  }

  func model<T: Real>(_: T.Type, threads: Int = 0) throws -> Model<T> {
    try Model<T>(
      spec: spec, weights: weights,
      options: ModelOptions(threads: threads, selfExtend: selfExtend))
  }

  /// The stream leaving the sub-layer, all tokens at once.
  func whole<T: Real>(_: T.Type, threads: Int = 0) throws -> [Double] {
    let pass = try ForwardPass(
      model(T.self, threads: threads), tokens: Array(repeating: ids(tokens), count: batch))
    pass.withStream { stream in for i in input.indices { stream[i] = T(input[i]) } }
    for _ in spec.sublayers { try pass.advance() }
    return pass.withStream { $0.map { Double($0) } }
  }

  /// The same in pieces of `sizes` tokens (the last repeated), with a state between them.
  func inPieces<T: Real>(_: T.Type, _ sizes: [Int]) throws -> [Double] {
    let model = try model(T.self)
    let state = try model.makeState(batch: batch)
    var output = [Double](repeating: 0, count: input.count)
    var (t, piece) = (0, 0)
    while t < tokens {
      let count = min(sizes[min(piece, sizes.count - 1)], tokens - t)
      let pass = try ForwardPass(
        model, tokens: Array(repeating: ids(count), count: batch), state: state)
      pass.withStream { stream in
        for b in 0..<batch {
          for i in 0..<count * width {
            stream[b * count * width + i] = T(input[(b * tokens + t) * width + i])
          }
        }
      }
      for _ in spec.sublayers { try pass.advance() }
      try pass.finish()
      pass.withStream { stream in
        for b in 0..<batch {
          for i in 0..<count * width {
            output[(b * tokens + t) * width + i] = Double(stream[b * count * width + i])
          }
        }
      }
      (t, piece) = (t + count, piece + 1)
    }
    return output
  }

  private func ids(_ count: Int) -> [Int] { [Int](repeating: 0, count: count) }

  /// The largest difference from the fixture's output, as a part of what the sub-layer adds.
  func distance(_ values: [Double]) -> Double {
    largest(zip(values, output)) / largest(zip(output, input))
  }

  /// The largest difference from the fixture's output, as a part of its largest value.
  func relativeDistance(_ values: [Double]) -> Double {
    largest(zip(values, output)) / (output.map { abs($0) }.max() ?? 1)
  }

  private func largest(_ pairs: some Sequence<(Double, Double)>) -> Double {
    let differences = pairs.map { abs($0 - $1) }
    return differences.contains { $0.isNaN } ? .nan : differences.max() ?? .nan
  }
}
