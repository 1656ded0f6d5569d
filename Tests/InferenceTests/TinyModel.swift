import Hub
import Inference
import OrderedCollections
import Tensors
import TestSupport

/// A tied model of two layers (Mamba; attention with a window, then an MLP), width 4, nine tokens.
struct TinyModel {
  let spec: ModelSpec
  let weights: MemoryWeights

  /// Random weights; `rounding` keeps two bits behind the point, which every float type holds.
  init(rounding: Bool = false) {
    let pre: JSONObject = ["norm_eps": 1e-5]
    func sublayer(_ layer: Int, _ kind: String, _ attributes: JSONObject) -> ModelSpec.Sublayer {
      ModelSpec.Sublayer(layer: layer, kind: kind, attributes: pre.merging(attributes) { $1 })
    }
    spec = ModelSpec(
      family: "test",
      attributes: [
        "d_model": 4, "vocab_rows": 9, "vocab_size": 9, "tied": true, "final_norm_eps": 1e-5,
      ], layerCount: 2,
      sublayers: [
        sublayer(0, "mamba", ["d_inner": 6, "d_state": 3, "d_conv": 4, "dt_rank": 2]),
        sublayer(
          1, "attention",
          ["n_heads": 2, "n_kv_heads": 1, "head_dim": 2, "window": 3, "rope_base": 100.0]),
        sublayer(1, "mlp", ["d_ff": 5]),
      ])
    let shapes: [(Int?, String, Shape)] = [
      (nil, "embed.weight", [9, 4]), (nil, "final_norm.weight", [4]), (0, "norm.weight", [4]),
      (0, "in_x.weight", [6, 4]), (0, "in_z.weight", [6, 4]), (0, "conv.weight", [6, 4]),
      (0, "conv.bias", [6]), (0, "x_dt.weight", [2, 6]), (0, "x_b.weight", [3, 6]),
      (0, "x_c.weight", [3, 6]), (0, "dt.weight", [6, 2]), (0, "dt.bias", [6]),
      (0, "a_log", [6, 3]), (0, "d", [6]), (0, "out.weight", [4, 6]), (1, "q.weight", [4, 4]),
      (1, "k.weight", [2, 4]), (1, "v.weight", [2, 4]), (1, "o.weight", [4, 4]),
      (2, "gate.weight", [5, 4]), (2, "up.weight", [5, 4]), (2, "down.weight", [4, 5]),
    ]
    var random = Values(seed: 11)
    var entries: [PieceID: MemoryWeights.Entry] = [:]
    for (sublayer, role, shape) in shapes {
      let values = random.normal(shape.elementCount ?? 0)
      entries[PieceID(sublayer, role)] = MemoryWeights.Entry(
        shape: shape, rounding ? values.map { ($0 * 4).rounded() / 4 } : values)
    }
    weights = MemoryWeights(entries)
  }

  func model<T: Real>(_: T.Type, _ options: ModelOptions = ModelOptions()) throws -> Model<T> {
    try Model<T>(spec: spec, weights: weights, options: options)
  }

  /// The weights in another element type.
  func stored(as dtype: DType) -> MemoryWeights {
    func bytes<T>(_ values: [T]) -> [UInt8] { values.withUnsafeBytes { [UInt8]($0) } }
    return MemoryWeights(
      weights.entries.mapValues { entry in
        let values = entry.bytes.withUnsafeBytes { Array($0.bindMemory(to: Double.self)) }
        let stored =
          switch dtype {
          case .f32: bytes(values.map { Float($0) })
          case .f16: bytes(values.map { Float16($0) })
          case .bf16: bytes(values.map { UInt16(Float($0).bitPattern >> 16) })
          default: entry.bytes
          }
        return MemoryWeights.Entry(shape: entry.shape, dtype: dtype, bytes: stored)
      })
  }
}
