import Hub

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Tables that torchscale keeps in the file and fla computes.
enum RetentionTables {
  /// The rotary frequencies [head_k_dim / 2]: 10000^(-2i/d) (fla/modules/rotary.py).
  @Sendable static func frequencies(_ spec: ModelSpec) -> [Double]? {
    guard let width = retention(spec)?["head_k_dim"].int else { return nil }
    return (0..<width / 2).map { pow(10000, -2 * Double($0) / Double(width)) }
  }

  /// The log of each head's decay [n_heads]: gamma_h = 1 - 2^(-5-h) (Sun et al. 2023, section 3.1).
  @Sendable static func logDecay(_ spec: ModelSpec) -> [Double]? {
    guard let heads = retention(spec)?["n_heads"].int else { return nil }
    return (0..<heads).map { log1p(-exp2(-5 - Double($0))) }
  }

  private static func retention(_ spec: ModelSpec) -> ModelSpec.Sublayer? {
    spec.sublayers.first { $0.kind == MixerKind.retention.name }
  }
}
