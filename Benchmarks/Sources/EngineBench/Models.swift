import Inference
import Layouts
import Tensors

/// A model of random weights, as large as those that people run.
struct Candidate {
  let name: String
  let width: Int
  let vocabulary: Int
  /// Kinds of sub-layers with their attributes, repeated `repeats` times.
  let pattern: [(kind: String, attributes: JSONObject)]
  let repeats: Int

  /// A model for each family of the goals, of 370 to 430 million parameters.
  static let all = [mamba(), gla(), retnet(), samba()]

  /// Mamba of 370M parameters, as state-spaces/mamba-370m.
  static func mamba(width: Int = 1024, layers: Int = 48) -> Candidate {
    Candidate(
      name: "mamba", width: width, vocabulary: 50280, pattern: [("mamba", scan(width))],
      repeats: layers)
  }

  /// Gated linear attention with fla's proportions.
  static func gla(width: Int = 1024, layers: Int = 28) -> Candidate {
    Candidate(
      name: "gla", width: width, vocabulary: 32000,
      pattern: [
        (
          "gla",
          [
            "n_heads": 4, "n_kv_heads": 4, "head_k_dim": .int(width / 8),
            "head_v_dim": .int(width / 4), "group_norm_eps": 1e-5,
          ]
        ), ("mlp", ["d_ff": .int(width * 11 / 4)]),
      ], repeats: layers)
  }

  /// Retention with fla's proportions.
  static func retnet(width: Int = 1024, layers: Int = 22) -> Candidate {
    Candidate(
      name: "retnet", width: width, vocabulary: 32000,
      pattern: [
        (
          "retention",
          [
            "n_heads": 4, "n_kv_heads": 4, "head_k_dim": .int(width / 4),
            "head_v_dim": .int(width / 2), "group_norm_eps": 1e-5,
          ]
        ), ("mlp", ["d_ff": .int(width * 11 / 4)]),
      ], repeats: layers)
  }

  /// Samba with lit_gpt's proportions: Mamba, MLP, attention in a window, MLP.
  static func samba(width: Int = 1536, layers: Int = 6) -> Candidate {
    let mlp: JSONObject = ["d_ff": .int(width * 8 / 3)]
    return Candidate(
      name: "samba", width: width, vocabulary: 32000,
      pattern: [
        ("mamba", scan(width)), ("mlp", mlp),
        (
          "attention",
          [
            "n_heads": .int(width / 128), "n_kv_heads": .int(width / 128), "head_dim": 128,
            "window": 2048, "rope_base": 10000.0,
          ]
        ), ("mlp", mlp),
      ], repeats: layers)
  }

  private static func scan(_ width: Int) -> JSONObject {
    ["d_inner": .int(2 * width), "d_state": 16, "d_conv": 4, "dt_rank": .int(width / 16)]
  }

  /// What is computed.
  var spec: ModelSpec {
    var sublayers: [ModelSpec.Sublayer] = []
    for layer in 0..<repeats {
      for (kind, attributes) in pattern {
        var all: JSONObject = ["norm": "rms", "norm_eps": 1e-5]
        all.merge(attributes) { $1 }
        sublayers.append(ModelSpec.Sublayer(layer: layer, kind: kind, attributes: all))
      }
    }
    return ModelSpec(
      family: name,
      attributes: [
        "d_model": .int(width), "vocab_rows": .int(vocabulary), "vocab_size": .int(vocabulary),
        "tied": true, "final_norm": "rms", "final_norm_eps": 1e-5,
      ], layerCount: repeats, sublayers: sublayers)
  }

  /// Every piece and its shape.
  var shapes: [(piece: PieceID, shape: [Int])] {
    var all: [(PieceID, [Int])] = [
      (PieceID(nil, "embed.weight"), [vocabulary, width]),
      (PieceID(nil, "final_norm.weight"), [width]),
    ]
    for (i, sublayer) in spec.sublayers.enumerated() {
      func size(_ name: String) -> Int { sublayer.attributes[name]?.int ?? 0 }
      func add(_ role: String, _ shape: Int...) { all.append((PieceID(i, role), shape)) }
      add("norm.weight", width)
      switch sublayer.kind {
      case "mamba":
        let (e, n, rank) = (size("d_inner"), size("d_state"), size("dt_rank"))
        add("in_x.weight", e, width)
        add("in_z.weight", e, width)
        add("conv.weight", e, size("d_conv"))
        add("conv.bias", e)
        add("x_dt.weight", rank, e)
        add("x_b.weight", n, e)
        add("x_c.weight", n, e)
        add("dt.weight", e, rank)
        add("dt.bias", e)
        add("a_log", e, n)
        add("d", e)
        add("out.weight", width, e)
      case "mlp":
        let f = size("d_ff")
        add("gate.weight", f, width)
        add("up.weight", f, width)
        add("down.weight", width, f)
      case "attention":
        let wide = size("n_heads") * size("head_dim")
        for role in ["q", "k", "v"] { add("\(role).weight", wide, width) }
        add("o.weight", width, wide)
      default:
        let (dk, dv) = (4 * size("head_k_dim"), 4 * size("head_v_dim"))
        add("q.weight", dk, width)
        add("k.weight", dk, width)
        add("v.weight", dv, width)
        add("g.weight", dv, width)
        add("g_norm.weight", size("head_v_dim"))
        add("o.weight", width, dv)
        if sublayer.kind == "gla" {
          add("gk_a.weight", 16, width)
          add("gk_b.weight", dk, 16)
          add("gk_b.bias", dk)
        }
      }
    }
    return all
  }

  /// How many parameters.
  var parameters: Int { shapes.reduce(0) { $0 + $1.shape.reduce(1, *) } }

  /// The matrices, how often each shape occurs in a layer's products: [rows, columns] to count.
  var matrices: [[Int]: Int] {
    var counts: [[Int]: Int] = [:]
    for (piece, shape) in shapes
    where shape.count == 2 && piece.sublayer != nil && shape[1] > 4 && piece.role != "a_log" {
      counts[shape, default: 0] += 1
    }
    return counts
  }
}

/// Random weights in one stretch of memory.
final class RandomWeights: WeightSource, @unchecked Sendable {
  private let places: [PieceID: (offset: Int, shape: Shape)]
  private let bytes: UnsafeMutableRawBufferPointer
  private let dtype: DType

  init(_ candidate: Candidate, _ dtype: DType) {
    self.dtype = dtype
    let size = dtype.bitWidth / 8
    var places: [PieceID: (Int, Shape)] = [:]
    var end = 0
    for (piece, shape) in candidate.shapes {
      places[piece] = (end, Shape(shape))
      end += (shape.reduce(1, *) * size + 63) / 64 * 64
    }
    self.places = places
    bytes = .allocate(byteCount: end, alignment: 64)
    var state: UInt32 = 7
    for (piece, shape) in candidate.shapes {
      // About unit gain; what a scan needs to be stable is small anyway.
      let scale = shape.count == 2 ? 2 / Float(shape[1]).squareRoot() : 0.5
      let start = places[piece]?.0 ?? 0
      for i in 0..<shape.reduce(1, *) {
        state = state &* 1_664_525 &+ 1_013_904_223
        let value = (Float(state >> 8) / 8_388_608 - 1) * scale
        if dtype == .bf16 {
          let bits = UInt16(value.bitPattern >> 16)
          bytes.storeBytes(of: bits, toByteOffset: start + 2 * i, as: UInt16.self)
        } else {
          bytes.storeBytes(of: value, toByteOffset: start + 4 * i, as: Float.self)
        }
      }
    }
  }

  deinit { bytes.deallocate() }

  /// Bytes of all weights.
  var count: Int { bytes.count }

  func info(_ piece: PieceID) -> (shape: Shape, dtype: DType)? {
    places[piece].map { ($0.shape, dtype) }
  }

  func resident(_ piece: PieceID) -> UnsafeRawBufferPointer? {
    places[piece].map { place in
      let count = (place.shape.elementCount ?? 0) * dtype.bitWidth / 8
      return UnsafeRawBufferPointer(rebasing: bytes[place.offset..<place.offset + count])
    }
  }

  func read(
    _ piece: PieceID, rows: Range<Int>, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Diagnostic) {
    guard let all = resident(piece), !rows.isEmpty else { return }
    let row = buffer.count / rows.count
    buffer.copyMemory(
      from: UnsafeRawBufferPointer(rebasing: all[rows.lowerBound * row..<rows.upperBound * row]))
  }
}
