import Conversion
import Hub
import OrderedCollections
import TestSupport
import Tensors
import Testing
import WeighbridgeKit

/// A conversion of ArchScale's, and what is said of it.
struct ArchScaleCase: Sendable, CustomTestStringConvertible {
  enum Verdict: Sendable {
    /// It converts, so exactly.
    case converts(Exactness)
    /// It is refused, by this subject.
    case refused(String)
  }

  var name: String
  var fused: Bool
  var changes: JSONObject
  var to: String
  var verdict: Verdict

  var testDescription: String {
    "\(name)\(fused ? " (2025)" : "") \(JSONValue.object(changes).text()) to \(to)"
  }

  private static func of(
    _ name: String, fused: Bool = false, to: String, _ rows: [(JSONObject, Verdict)]
  ) -> [ArchScaleCase] {
    rows.map { ArchScaleCase(name: name, fused: fused, changes: $0, to: to, verdict: $1) }
  }

  static let all: [ArchScaleCase] = generations + phi + units + samba + transformers

  private static let generations: [ArchScaleCase] = {
    // July 2025 to 2026: a bias of the keys needs a model that does not rotate.
    var all = of(
      "transformer_d8", fused: true, to: "archscale-separate",
      [
        ([:], .converts(.bitwise)),
        (["attn_bias": true], .refused("transformer.h.0.attn.attn.bias")),
        (["attn_bias": true, "nope": true], .converts(.exact)),
        (["condense_ratio": 2], .refused("attention.rope_factor")),
        (["mlp": false, "rnn_per_layer": 1], .refused("the stack of sub-layers")),
      ])
    // 2026 to July 2025.
    all += of(
      "transformer_d8", to: "archscale-fused",
      [
        ([:], .converts(.bitwise)), (["attn_bias": true], .converts(.exact)),
        (["mup": true, "depth_scale": true], .converts(.bitwise)),
        (["qk_norm": true], .refused("attention.qk_norm_eps")),
        (["gated_attn": true], .refused("attention.head_gate")),
        (["attn_norm": true], .refused("attention.out_norm")),
        (["ffn_norm": true], .refused("mlp.inner_norm")),
        (["scaling_factor": 2.0], .refused("attention.rope_scaling")),
        (["depth_scale": true], .refused("attention.residual_scale")),
        (["mup": true], .refused("attention.residual_scale")),
        (["mup": true, "depth_scale": true, "use_muonh": true], .refused("model.logit_scale")),
        (["no_skip": true], .refused("attention.skip")),
        (["_norm_class": "NoNorm"], .refused("_norm_class")),
      ])
    all += of("sambaywdr_d8", to: "archscale-fused", [([:], .refused("attention.rope_base"))])
    all += of("sambaywr_d8", to: "archscale-fused", [([:], .refused("attention.window"))])
    return all
  }()

  private static let phi: [ArchScaleCase] = {
    var all = of(
      "phi4miniflash_d32", fused: true, to: "hf",
      [
        ([:], .converts(.bitwise)),
        (["attn_bias": false, "attn_out_bias": false], .converts(.exact)),
        // sqrt(48 / 12), 1 / sqrt(2 * 8), 16 / 8.
        (["mup": true, "mup_hd0": 48], .converts(.exact)),
        (["mup": true, "mup_hd0": 64], .converts(.rounding)),
        (["n_layer": 4], .converts(.bitwise)),
        (["_norm_class": "FusedRMSNorm"], .refused("model.final_norm")),
        (["use_da": false], .refused("attention.lambda_init")),
        (["da_const_lamb": true], .refused("attention.lambda_init")),
        (["head_dim": 8], .refused("attention.head_dim")),
        (["bias": true], .refused("transformer.h.0.mlp.w1.bias")),
        (["sc_attn": true], .refused("attention.d_conv")),
        (["local_window": -1], .refused("sliding_window")),
        (["full_per_layer": 2], .refused("sliding_window")),
        (["full_per_layer": 4], .refused("attention.window")),
        (["nope": false], .refused("attention.rope_base")),
        (["rnn_type": "mamba2"], .refused("layer 0 (mamba2)")),
        (["rnn_per_layer": 1], .refused("mamba.kind")),
        (["gmu_per_layer": 1], .refused("gmu.kind")),
        (["gmu_per_layer": 4], .refused("cross_attention.kind")),
        (["gmu_attn": true], .refused("attention.saves_memory")),
        (["gmu_mlp": true], .refused("gmu.d_memory")),
        (["jamba_norm": true], .refused("mamba.bcdt_norm_eps")),
        (["scale_embed": true], .refused("model.embed_scale")),
      ])
    all += of(
      "phi4miniflash_d32", to: "hf",
      [
        (["qk_norm": true], .refused("attention.qk_norm_eps")),
        (["gated_attn": true], .refused("attention.head_gate")),
        (["attn_norm": true], .refused("attention.out_norm")),
        (["ffn_norm": true], .refused("mlp.inner_norm")),
        (["yoco_window": true], .refused("attention.window")),
      ])
    // RMSNorm, plain attention.
    for name in ["sambay_d8", "sambayda_d8", "mambay_d16"] {
      all += of(name, to: "hf", [([:], .refused("model.final_norm"))])
    }
    return all
  }()

  /// Gated memory units and shared keys have no equal elsewhere.
  private static let units: [ArchScaleCase] = {
    var all: [ArchScaleCase] = []
    for target in ["fla", "lit_gpt", "mamba_ssm", "gguf", "torchscale", "berlino"] {
      for name in ["sambay_d8", "sambayattn_d16", "sambaymlp_d16", "sambay2_d16"] {
        all += of(name, to: target, [([:], .refused("layer 6 (gmu)"))])
      }
      for name in ["sambayoco_d8", "swayoco_d8"] {
        all += of(name, to: target, [([:], .refused("layer 6 (cross_attention)"))])
      }
    }
    for name in ["sambayoco_d8", "swayoco_d8"] {
      all += of(name, to: "hf", [([:], .refused("layer 6 (cross_attention)"))])
    }
    all += of("sambay2_d16", to: "hf", [([:], .refused("layer 0 (mamba2)"))])
    return all
  }()

  private static let samba: [ArchScaleCase] = {
    var all = of(
      "samba_d8", to: "lit_gpt",
      [
        ([:], .converts(.bitwise)), (["sc_attn": true], .converts(.bitwise)),
        (["nope": true], .converts(.bitwise)),
        (["mup": true, "depth_scale": true, "mup_d0": 4], .converts(.rounding)),
        (["head_dim": 8], .refused("attention.head_dim")),
        (["rope_base": 640000], .refused("attention.rope_base")),
        (["qk_norm": true], .refused("attention.qk_norm_eps")),
        (["gated_attn": true], .refused("attention.head_gate")),
      ])
    all += of(
      "samba_d8", to: "fla",
      [
        (["intermediate_size": 256], .converts(.rounding)),
        (["rope_base": 640000], .converts(.rounding)),
        (["full_per_layer": 4, "n_layer": 8], .converts(.rounding)),
        (["head_dim": 8], .refused("attention.head_dim")),
        (["nope": true], .refused("attention.rope_base")),
        (["qk_norm": true], .refused("attention.qk_norm_eps")),
        (["gated_attn": true], .refused("attention.head_gate")),
        (["attn_out_bias": true], .refused("transformer.h.1.attn.proj.bias")),
        (["sc_attn": true], .refused("attention.d_conv")),
        (["rotary_percentage": 0.5], .refused("attention.rope_dim")),
      ])
    for target in ["hf", "fla", "mamba_ssm"] {
      all += of(
        "samba_d8", fused: true, to: target,
        [(["rnn_per_layer": 1, "mlp": false], .converts(.bitwise))])
    }
    return all
  }()

  private static let transformers: [ArchScaleCase] = {
    var all = of(
      "transformer_d8", to: "hf",
      [
        ([:], .converts(.rounding)), (["attn_bias": true], .converts(.rounding)),
        (["mup": true, "depth_scale": true], .converts(.rounding)),
        (["local_window": 3], .converts(.rounding)), (["head_dim": 8], .converts(.rounding)),
        (["qk_norm": true], .converts(.rounding)),
        (["local_window": 3, "full_per_layer": 2], .refused("attention.window")),
        (["gated_attn": true], .refused("attention.head_gate")),
        (["attn_norm": true], .refused("attention.out_norm")),
        (["ffn_norm": true], .refused("mlp.inner_norm")),
        (["nope": true], .refused("attention.rope_base")),
        (["scaling_factor": 2.0], .refused("rope_parameters")),
        (["rotary_percentage": 0.5], .refused("attention.rope_dim")),
        (["_norm_class": "LayerNorm"], .refused("model.final_norm")),
        (["no_skip": true], .refused("attention.skip")),
      ])
    all += of(
      "transformer_d8", to: "fla",
      [
        ([:], .converts(.rounding)), (["qk_norm": true], .converts(.rounding)),
        (["head_dim": 8], .refused("attention.head_dim")),
      ])
    return all
  }()
}

@Suite("ArchScale's conversions")
struct ArchScaleMatrixTests {
  @Test("are what is possible, and are refused with their reason", arguments: ArchScaleCase.all)
  func verdict(_ one: ArchScaleCase) throws {
    let directory = TemporaryDirectory()
    let source = try TinyArchScale(one.name, fused: one.fused, one.changes).write(in: directory)
    switch one.verdict {
    case .converts(let exactness):
      #expect(try Converted(source, to: one.to).result.plan.exactness == exactness)
    case .refused(let subject):
      let error = #expect(throws: Refusal.self) { try Converted(source, to: one.to) }
      #expect(
        error?.problems.contains { $0.subject == subject } == true,
        "\(error?.problems.map(\.subject) ?? [])")
    }
  }
}
