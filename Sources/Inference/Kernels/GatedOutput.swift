import Hub
import Tensors

/// The end of gated linear attention and retention: a norm of each head's output, the SiLU gate, the
/// output projection (`FusedRMSNormGated` of `fla/modules/fused_norm_gate.py`).
struct GatedOutput<T: Real> {
  let heads: Int
  let dv: Int
  let eps: Double
  let removesMean: Bool
  let weight: [T]?
  let gate: Projection<T>?
  let out: Projection<T>

  init(_ loader: PieceLoader<T>, heads: Int, dv: Int, removesMean: Bool) {
    self.heads = heads
    self.dv = dv
    self.removesMean = removesMean
    eps = loader.number("group_norm_eps")
    weight = loader.optionalValues("g_norm.weight", [dv])
    gate = loader.flag("output_gate") ? loader.projection("g", heads * dv, loader.dModel) : nil
    out = loader.projection("o", loader.dModel, heads * dv)
  }

  /// o [rows, heads, dv] to [rows, d_model]; o is overwritten
  func callAsFunction(_ o: Buffer<T>, _ normed: UnsafePointer<T>, _ run: Run<T>) -> Buffer<T> {
    if removesMean {
      run.layerNorm(o.read, run.rows * heads, dv, weight, nil, eps, into: o.pointer)
    } else {
      run.rmsNorm(o.read, run.rows * heads, dv, weight, eps, into: o.pointer)
    }
    if let gate {
      let g = gate(normed, run)
      run.gate(g.read, g.count, .silu, times: o.pointer)
    }
    return out(o.read, run)
  }
}

extension PieceLoader {
  /// The attribute `feature_map`, by fla's names (`ACT2FN` of `fla/modules/activations.py`): a
  /// function of each channel; `nil` for none.
  func featureMap() -> Activation? {
    switch attribute("feature_map") {
    case .null: return nil
    case "relu": return .relu
    case "silu", "swish": return .silu
    case "sigmoid": return .sigmoid
    case "logsigmoid": return .logSigmoid
    case "sqrelu": return .squaredReLU
    case "gelu": return .tanhGELU
    case let other:
      refuse("model.attribute", "feature_map \(other.text()) is not supported")
      return nil
    }
  }
}
