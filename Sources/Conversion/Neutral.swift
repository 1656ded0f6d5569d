import Hub
import Layouts
import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Tables that some frameworks keep in the file and others compute.
enum Neutral {
  /// The values that a framework without the table computes; `nil` for what is no such table.
  static func table(_ role: String, _ spec: ModelSpec) -> [Double]? {
    guard let retention = spec.sublayers.first(where: { $0.kind == "retention" }) else {
      return nil
    }
    switch role {
    case "rotary.frequencies":
      // fla/modules/rotary.py: 10000^(-2i/d).
      guard let width = retention["head_k_dim"].int else { return nil }
      return (0..<width / 2).map { pow(10000, -2 * Double($0) / Double(width)) }
    case "rotary.log_decay":
      // Retentive network, section 3.1: gamma_h = 1 - 2^(-5-h).
      guard let heads = retention["n_heads"].int else { return nil }
      return (0..<heads).map { log1p(-exp2(-5 - Double($0))) }
    default: return nil
    }
  }
}
