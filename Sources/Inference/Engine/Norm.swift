import Hub
import Tensors

/// The norm before a sub-layer, before the head or behind the embedding.
struct Norm<T: Real> {
  private enum Kind {
    case rms
    case layer
    /// A factor for each channel, and no norm.
    case scale
  }

  private let kind: Kind
  private let weight: [T]?
  private let bias: [T]?
  private let eps: Double

  /// The norm that attribute `name` says, with the pieces `name.weight` and `name.bias` of the
  /// sub-layer or of the model; `nil` for none.
  init?(_ loader: PieceLoader<T>, _ name: String, eps: String) {
    switch loader.attribute(name) {
    case "rms": kind = .rms
    case "layer": kind = .layer
    case "scale": kind = .scale
    case "none": return nil
    case "parallel":
      loader.requireNormBefore()
      return nil
    case "shared":
      // lit_gpt's own forward raises here: the block asks for a norm_2 that it does not have.
      loader.refuse("model.attribute", "\(name): a shared norm cannot be run")
      return nil
    case let other:
      loader.refuse(
        "model.attribute", "\(name) \(other.text()) is not supported (rms, layer, scale, none)")
      return nil
    }
    self.eps = loader.number(eps)
    weight = loader.optionalValues("\(name).weight", [loader.dModel])
    bias = loader.optionalValues("\(name).bias", [loader.dModel])
    if case .rms = kind, bias != nil {
      loader.refuse("model.piece", "\(name).bias: an RMSNorm has none")
    }
    if case .scale = kind, bias != nil {
      loader.refuse("model.piece", "\(name).bias: a factor for each channel has none")
    }
  }

  /// y [rows, d] = norm(x [rows, d])
  func callAsFunction(
    _ x: UnsafePointer<T>, _ rows: Int, _ d: Int, _ run: Run<T>, into y: UnsafeMutablePointer<T>
  ) {
    switch kind {
    case .rms: run.rmsNorm(x, rows, d, weight, eps, into: y)
    case .layer: run.layerNorm(x, rows, d, weight, bias, eps, into: y)
    case .scale: run.multiplyChannels(x, rows, d, weight, into: y)
    }
  }
}
