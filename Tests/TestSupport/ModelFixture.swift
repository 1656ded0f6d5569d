/// A model of `Fixtures/models` in one framework's files, and what is known of it from its own
/// framework.
public struct ModelFixture: Sendable, CustomStringConvertible {
  /// The case: `lit-samba`.
  public let name: String
  /// The framework: `lit_gpt`.
  public let framework: String
  /// The layout file that describes it.
  public let layout: String
  /// The family.
  public let family: String
  /// Its parameters, tied ones once and buffers not at all.
  public let parameters: Int
  /// The kinds of its sub-layers in order, by their initials: see `kinds`.
  public let stack: String
  /// Whether the head is the embedding.
  public let tied: Bool

  /// The directory.
  public var path: String { Fixtures.path("models/\(name)/\(framework)") }

  /// The kinds of the sub-layers.
  public var kinds: [String] {
    let names: [Character: String] = [
      "M": "mamba", "A": "attention", "G": "gla", "R": "retention", "F": "mlp", "S": "mega",
      "C": "cross_attention", "U": "gmu", "2": "mamba2", "P": "ffn", "E": "moe",
      "B": "shared_block",
    ]
    return stack.map { names[$0]! }
  }

  /// `lit-samba/lit_gpt`.
  public var description: String { "\(name)/\(framework)" }

  /// The fixture called `case/framework`.
  public static func named(_ name: String) -> ModelFixture {
    all.first { $0.description == name }!
  }

  /// Every fixture. Parameters were counted from the files' headers by a script of its own.
  public static let all: [ModelFixture] = [
    model("as-norms-gates", "archscale", "archscale", "llama", 55082, "AFAFAFAF", tied: false),
    model(
      "as-sambaywdr-yarn", "archscale", "archscale", "samba", 87366, "MFAFMFAFMFAFUFCF",
      tied: false),
    model(
      "as-sambayattn-nonorm", "archscale", "archscale", "samba", 58400, "MFAFMFAFMFAFUFUF",
      tied: true),
    model(
      "as-swayoco-mlp", "archscale", "archscale", "samba", 72761, "AFAFAFAFAFAFUFCF", tied: false),
    model(
      "as-transformer-condensed", "archscale", "archscale-fused", "llama", 42570, "AFAFAF",
      tied: false),
    model("as-mamba", "archscale", "archscale-fused", "mamba", 78520, "MMM", tied: false),
    model("as-retnet", "archscale", "archscale", "retnet", 115728, "RFAFRFAF", tied: false),
    model("as-samba", "archscale", "archscale", "samba", 210288, "MFAFMFAF", tied: false),
    model("as-sambay", "archscale", "archscale", "samba", 231120, "MFAFMFAFMFAFUFCF", tied: false),
    model(
      "as-sambay-da", "archscale", "archscale-fused", "samba", 206876, "MFAFMFAFMFAFUFCF",
      tied: true),
    model(
      "as-sambay2", "archscale", "archscale", "samba", 203456, "2FAF2FAF2FAFUFCF", tied: false),
    model(
      "as-sambayoco", "archscale", "archscale", "samba", 162040, "MFAFMFAFMFAFCFCF", tied: false),
    model(
      "as-transformer-gqa-mup", "archscale", "archscale", "llama", 205620, "AFAFAFAFAF",
      tied: true),
    model(
      "phi4flash", "archscale", "archscale-fused", "samba", 178848, "MFAFMFAFMFAFUFCF", tied: true),
    model("phi4flash", "hf", "phi4flash-hf", "samba", 178848, "MFAFMFAFMFAFUFCF", tied: true),
    model("gla-base", "fla", "gla-fla", "gla", 122496, "GFGFGF", tied: false),
    model("gla-conv-gqa-clamp", "fla", "gla-fla", "gla", 73472, "GFGF", tied: true),
    model("gla-berlino", "berlino", "gla-berlino", "gla", 245760, "GFGF", tied: false),
    model("hy-bamba", "hf", "bamba-hf", "bamba", 16848, "AFAFAF2F", tied: false),
    model("hy-falcon-h1", "hf", "falcon_h1-hf", "falcon_h1", 10518, "2AF2AF2AF", tied: false),
    model(
      "hy-granite-dense", "hf", "granitemoehybrid-hf", "granitemoehybrid", 21846, "2FAF2F",
      tied: true),
    model(
      "hy-granite-moe", "hf", "granitemoehybrid-hf", "granitemoehybrid", 6196, "2EAE2EAE",
      tied: false),
    model("hy-jamba", "hf", "jamba-hf", "jamba", 19413, "MFAEMFME", tied: true),
    model("hy-mamba2attn", "mamba_ssm", "mamba2-ssm", "mamba", 2472, "2A2", tied: true),
    model("hy-mamba2attn-mlp", "mamba_ssm", "mamba2-ssm", "mamba", 45612, "2FAF", tied: false),
    model("hy-nemotron-h", "hf", "nemotron_h-hf", "nemotron_h", 19790, "2P2EA2", tied: false),
    model("hy-zamba2", "hf", "zamba2-hf", "zamba2", 20704, "2B22B2B2B2", tied: true),
    model("lit-llama-full", "lit_gpt", "lit_gpt", "llama", 108992, "AFAFAF", tied: false),
    model("lit-llama-mqa-bf16", "lit_gpt", "lit_gpt", "llama", 131648, "AFAFAFAF", tied: false),
    model("lit-mamba-only", "lit_gpt", "lit_gpt", "mamba", 106368, "MMM", tied: true),
    model("lit-mamba-swa-mlp", "lit_gpt", "lit_gpt", "samba", 143552, "MAFMAF", tied: true),
    model("lit-mlp-swa-mlp", "lit_gpt", "lit_gpt", "samba", 164416, "FFAFFFAF", tied: true),
    model("lit-s6-mega", "lit_gpt", "lit_gpt", "samba", 164928, "SFSFSF", tied: true),
    model("lit-samba", "lit_gpt", "lit_gpt", "samba", 180544, "MFAFMFAF", tied: true),
    model("lit-samba-gqa-nope", "lit_gpt", "lit_gpt", "samba", 172352, "MFAFMFAF", tied: true),
    model("lit-sliding-gla", "lit_gpt", "lit_gpt", "gla", 1_584_576, "GFAF", tied: false),
    model("lit-sliding-retnet", "lit_gpt", "lit_gpt", "retnet", 178752, "RFAF", tied: true),
    model("mamba-bias-untied", "hf", "mamba-hf", "mamba", 34440, "MM", tied: false),
    model("mamba-bias-untied", "mamba_ssm", "mamba-ssm", "mamba", 34440, "MM", tied: false),
    model("mamba-fla", "fla", "mamba-fla", "mamba", 48720, "MM", tied: false),
    model("mamba-tied", "hf", "mamba-hf", "mamba", 65376, "MMM", tied: true),
    model("mamba-tied", "mamba_ssm", "mamba-ssm", "mamba", 65376, "MMM", tied: true),
    model("retnet-base", "fla", "retnet-fla", "retnet", 167040, "RFRFRF", tied: false),
    model("retnet-gqa-nogate", "fla", "retnet-fla", "retnet", 86912, "RFRF", tied: false),
    model(
      "retnet-torchscale", "torchscale", "retnet-torchscale", "retnet", 166848, "RFRFRF",
      tied: false),
    model(
      "retnet-torchscale-norm", "torchscale", "retnet-torchscale", "retnet", 68832, "RFRF",
      tied: false),
    model("samba-fla", "fla", "samba-fla", "samba", 299840, "MFAFMFAF", tied: false),
  ]

  private static func model(
    _ name: String, _ framework: String, _ layout: String, _ family: String, _ parameters: Int,
    _ stack: String, tied: Bool
  ) -> ModelFixture {
    ModelFixture(
      name: name, framework: framework, layout: layout, family: family, parameters: parameters,
      stack: stack, tied: tied)
  }
}
