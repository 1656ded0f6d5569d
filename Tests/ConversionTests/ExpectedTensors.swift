import TestSupport

/// What a conversion should give, computed from the source's values with plain array code: no line of
/// it is shared with the code under test.
typealias ExpectedTensors = [String: Matrix]

/// The tensors of a Mamba mixer; a bias may be absent.
let mambaNames = [
  "A_log", "D", "in_proj.weight", "conv1d.weight", "conv1d.bias", "x_proj.weight",
  "dt_proj.weight", "dt_proj.bias", "out_proj.weight", "in_proj.bias", "out_proj.bias",
]

extension StoredCheckpoint {
  /// The tensors whose names begin with `prefix`, under another prefix.
  func moved(_ prefix: String, to other: String) -> ExpectedTensors {
    var result: ExpectedTensors = [:]
    for (name, tensor) in tensors where name.hasPrefix(prefix) {
      result[other + name.dropFirst(prefix.count)] = tensor.matrix
    }
    return result
  }

  /// The tensors of a Mamba mixer.
  func mamba(_ prefix: String, to other: String) -> ExpectedTensors {
    moved(prefix, to: other).filter { key, _ in mambaNames.contains { key == other + $0 } }
  }

  /// lit_gpt's fused q, k, v taken apart: rows in `groups` groups of `heads / groups` queries, a key
  /// and a value (microsoft/Samba, scripts/convert_lit_checkpoint.py, `tensor_split`).
  func attention(
    _ prefix: String, heads: Int, groups: Int, to names: (q: String, k: String, v: String)
  ) -> ExpectedTensors {
    let fused = matrix(prefix + "attn.weight")
    let perGroup = heads / groups
    let width = fused.shape[0] / (heads + 2 * groups)
    func rows(_ slots: [Int]) -> [Int] { slots.flatMap { $0 * width..<($0 + 1) * width } }
    var q: [Int] = []
    var k: [Int] = []
    var v: [Int] = []
    for group in 0..<groups {
      let first = group * (perGroup + 2)
      q += (0..<perGroup).map { first + $0 }
      k.append(first + perGroup)
      v.append(first + perGroup + 1)
    }
    return [
      names.q: fused.rows(rows(q)), names.k: fused.rows(rows(k)), names.v: fused.rows(rows(v)),
    ]
  }

  /// lit_gpt's MLP under fla's names, its width padded with zeros.
  func litMLP(_ prefix: String, to other: String, width: Int) -> ExpectedTensors {
    let swiglu = prefix + "swiglu."
    return [
      other + "gate_proj.weight": matrix(swiglu + "w1.weight").padded(rows: width),
      other + "up_proj.weight": matrix(swiglu + "w2.weight").padded(rows: width),
      other + "down_proj.weight": matrix(swiglu + "w3.weight").padded(columns: width),
    ]
  }
}

extension ExpectedTensors {
  /// Adds tensors; a name given twice is a mistake of the test.
  mutating func add(_ others: ExpectedTensors) {
    merge(others) { _, _ in preconditionFailure("expected twice") }
  }
}

// MARK: Whole models

enum Expect {
  /// The same tensors, other names of embedding and head (mamba_ssm, transformers, fla).
  static func mamba(
    _ source: StoredCheckpoint, embedding: String, head: Bool
  ) -> ExpectedTensors {
    var all = source.moved("backbone.layers.", to: "backbone.layers.")
    all["backbone.norm_f.weight"] = source.matrix("backbone.norm_f.weight")
    let own =
      source.tensors["backbone.embedding.weight"] == nil
      ? "backbone.embeddings.weight" : "backbone.embedding.weight"
    all[embedding] = source.matrix(own)
    if head {
      all["lm_head.weight"] =
        source.tensors["lm_head.weight"]?.matrix ?? source.matrix(own)
    }
    return all
  }

  /// lit_gpt's Mamba-only model under transformers' names; its head is the embedding.
  static func litMambaOnly(
    _ source: StoredCheckpoint, embedding: String, head: Bool
  ) -> ExpectedTensors {
    var all: ExpectedTensors = [
      embedding: source.matrix("transformer.wte.weight"),
      "backbone.norm_f.weight": source.matrix("transformer.ln_f.weight"),
    ]
    if head { all["lm_head.weight"] = source.matrix("lm_head.weight") }
    for i in 0..<3 {
      let to = "backbone.layers.\(i)."
      all.add(source.mamba("transformer.h.\(i).mixer.", to: to + "mixer."))
      all[to + "norm.weight"] = source.matrix("transformer.h.\(i).norm.weight")
    }
    return all
  }

  /// The way back: a Mamba of transformers as lit_gpt's Mamba-only model.
  static func mambaAsLit(_ source: StoredCheckpoint) -> ExpectedTensors {
    let embedding = source.matrix("backbone.embeddings.weight")
    var all: ExpectedTensors = [
      "transformer.wte.weight": embedding, "lm_head.weight": embedding,
      "transformer.ln_f.weight": source.matrix("backbone.norm_f.weight"),
    ]
    for i in 0..<3 {
      all.add(source.mamba("backbone.layers.\(i).mixer.", to: "transformer.h.\(i).mixer."))
      all["transformer.h.\(i).norm.weight"] = source.matrix("backbone.layers.\(i).norm.weight")
    }
    return all
  }

  /// lit_gpt's Samba as fla's: Mamba in even layers, attention in odd ones, MLPs widened to 256.
  static func litSamba(_ source: StoredCheckpoint) -> ExpectedTensors {
    var all: ExpectedTensors = [
      "backbone.embeddings.weight": source.matrix("transformer.wte.weight"),
      "backbone.norm_f.weight": source.matrix("transformer.ln_f.weight"),
    ]
    for i in 0..<4 {
      let (from, to) = ("transformer.h.\(i).", "backbone.layers.\(i).")
      all[to + "mixer_norm.weight"] = source.matrix(from + "norm_1.weight")
      all[to + "mlp_norm.weight"] = source.matrix(from + "norm_2.weight")
      all.add(source.litMLP(from + "mlp.", to: to + "mlp.", width: 256))
      if i % 2 == 0 {
        all.add(source.mamba(from + "attn.", to: to + "mixer."))
      } else {
        all.add(litAttention(source, from, to + "mixer.", groups: 4))
      }
    }
    return all
  }

  private static func litAttention(
    _ source: StoredCheckpoint, _ from: String, _ to: String, heads: Int = 4, groups: Int
  ) -> ExpectedTensors {
    var all = source.attention(
      from + "attn.", heads: heads, groups: groups,
      to: (to + "q_proj.weight", to + "k_proj.weight", to + "v_proj.weight"))
    all[to + "o_proj.weight"] = source.matrix(from + "attn.proj.weight")
    return all
  }

  /// lit_gpt's Mamba-SWA-MLP: a layer becomes two, the first with an MLP of zeros.
  static func litMambaSWAMLP(_ source: StoredCheckpoint) -> ExpectedTensors {
    var all: ExpectedTensors = [
      "backbone.embeddings.weight": source.matrix("transformer.wte.weight"),
      "backbone.norm_f.weight": source.matrix("transformer.ln_f.weight"),
    ]
    for i in 0..<2 {
      let from = "transformer.h.\(i)."
      let (first, second) = ("backbone.layers.\(2 * i).", "backbone.layers.\(2 * i + 1).")
      all[first + "mixer_norm.weight"] = source.matrix(from + "norm_m.weight")
      all.add(source.mamba(from + "mb.", to: first + "mixer."))
      all[first + "mlp_norm.weight"] = Matrix([64], filledWith: 1)
      all[first + "mlp.gate_proj.weight"] = Matrix([256, 64], filledWith: 0)
      all[first + "mlp.up_proj.weight"] = Matrix([256, 64], filledWith: 0)
      all[first + "mlp.down_proj.weight"] = Matrix([64, 256], filledWith: 0)
      all[second + "mixer_norm.weight"] = source.matrix(from + "norm_attn.weight")
      all.add(litAttention(source, from, second + "mixer.", groups: 4))
      all[second + "mlp_norm.weight"] = source.matrix(from + "norm_2.weight")
      all.add(source.litMLP(from + "mlp.", to: second + "mlp.", width: 256))
    }
    return all
  }

  /// lit_gpt's LLaMA as transformers' Llama.
  static func litLlamaAsHF(_ source: StoredCheckpoint) -> ExpectedTensors {
    var all: ExpectedTensors = [
      "model.embed_tokens.weight": source.matrix("transformer.wte.weight"),
      "model.norm.weight": source.matrix("transformer.ln_f.weight"),
      "lm_head.weight": source.matrix("lm_head.weight"),
    ]
    for i in 0..<3 {
      let (from, to) = ("transformer.h.\(i).", "model.layers.\(i).")
      all[to + "input_layernorm.weight"] = source.matrix(from + "norm_1.weight")
      all[to + "post_attention_layernorm.weight"] = source.matrix(from + "norm_2.weight")
      all.add(litAttention(source, from, to + "self_attn.", groups: 2))
      all.add(source.litMLP(from + "mlp.", to: to + "mlp.", width: 96))
    }
    return all
  }

  /// lit_gpt's LLaMA as fla's Transformer.
  static func litLlamaAsFLA(_ source: StoredCheckpoint) -> ExpectedTensors {
    var all: ExpectedTensors = [
      "model.embeddings.weight": source.matrix("transformer.wte.weight"),
      "model.norm.weight": source.matrix("transformer.ln_f.weight"),
      "lm_head.weight": source.matrix("lm_head.weight"),
    ]
    for i in 0..<3 {
      let (from, to) = ("transformer.h.\(i).", "model.layers.\(i).")
      all[to + "attn_norm.weight"] = source.matrix(from + "norm_1.weight")
      all[to + "mlp_norm.weight"] = source.matrix(from + "norm_2.weight")
      all.add(litAttention(source, from, to + "attn.", groups: 2))
      all.add(source.litMLP(from + "mlp.", to: to + "mlp.", width: 96))
    }
    return all
  }

  /// lit_gpt's LLaMA with windows in every second layer, which among fla's models only Samba has.
  static func litLlamaAsSamba(_ source: StoredCheckpoint) -> ExpectedTensors {
    var all: ExpectedTensors = [
      "backbone.embeddings.weight": source.matrix("transformer.wte.weight"),
      "backbone.norm_f.weight": source.matrix("transformer.ln_f.weight"),
      "lm_head.weight": source.matrix("lm_head.weight"),
    ]
    for i in 0..<4 {
      let (from, to) = ("transformer.h.\(i).", "backbone.layers.\(i).")
      all[to + "mixer_norm.weight"] = source.matrix(from + "norm_1.weight")
      all[to + "mlp_norm.weight"] = source.matrix(from + "norm_2.weight")
      all.add(litAttention(source, from, to + "mixer.", groups: 1))
      all.add(source.litMLP(from + "mlp.", to: to + "mlp.", width: 256))
    }
    return all
  }

  /// lit_gpt's LLaMA, or its Samba without windows, as a hybrid of mamba_ssm: q, k, v one below the
  /// other, fc1 = [up; gate] padded to a multiple of 128.
  static func litAsHybrid(
    _ source: StoredCheckpoint, layers: Int, groups: Int, mamba: (Int) -> Bool
  ) -> ExpectedTensors {
    var all: ExpectedTensors = [
      "backbone.embedding.weight": source.matrix("transformer.wte.weight"),
      "backbone.norm_f.weight": source.matrix("transformer.ln_f.weight"),
      "lm_head.weight": source.matrix("lm_head.weight"),
    ]
    for i in 0..<layers {
      let (from, to) = ("transformer.h.\(i).", "backbone.layers.\(i).")
      all[to + "norm.weight"] = source.matrix(from + "norm_1.weight")
      all[to + "norm2.weight"] = source.matrix(from + "norm_2.weight")
      if mamba(i) {
        all.add(source.mamba(from + "attn.", to: to + "mixer."))
      } else {
        let parts = source.attention(from + "attn.", heads: 4, groups: groups, to: ("q", "k", "v"))
        all[to + "mixer.in_proj.weight"] = Matrix(
          concatenating: ["q", "k", "v"].map { parts[$0]! })
        all[to + "mixer.out_proj.weight"] = source.matrix(from + "attn.proj.weight")
      }
      let mlp = source.litMLP(from + "mlp.", to: "", width: 128)
      all[to + "mlp.fc1.weight"] = Matrix(concatenating: [
        mlp["up_proj.weight"]!, mlp["gate_proj.weight"]!,
      ])
      all[to + "mlp.fc2.weight"] = mlp["down_proj.weight"]!
    }
    return all
  }

  /// lit_gpt's sliding GLA or RetNet as fla's hybrid: linear attention in even layers.
  static func litSliding(
    _ source: StoredCheckpoint, heads: Int, width: Int, tied: Bool
  ) -> ExpectedTensors {
    var all: ExpectedTensors = [
      "model.embeddings.weight": source.matrix("transformer.wte.weight"),
      "model.norm.weight": source.matrix("transformer.ln_f.weight"),
    ]
    if !tied { all["lm_head.weight"] = source.matrix("lm_head.weight") }
    for i in 0..<2 {
      let (from, to) = ("transformer.h.\(i).", "model.layers.\(i).")
      all[to + "attn_norm.weight"] = source.matrix(from + "norm_1.weight")
      all[to + "mlp_norm.weight"] = source.matrix(from + "norm_2.weight")
      all.add(source.litMLP(from + "mlp.", to: to + "mlp.", width: width))
      all.add(
        i == 0
          ? source.moved(from + "attn.", to: to + "attn.")
          : litAttention(source, from, to + "attn.", heads: heads, groups: heads))
    }
    return all
  }

  /// fla's Samba with 4 query and 2 key heads as lit_gpt's.
  static func sambaAsLit(_ source: StoredCheckpoint) -> ExpectedTensors {
    var all: ExpectedTensors = [
      "transformer.wte.weight": source.matrix("backbone.embeddings.weight"),
      "transformer.ln_f.weight": source.matrix("backbone.norm_f.weight"),
      "lm_head.weight": source.matrix("lm_head.weight"),
    ]
    for i in 0..<4 {
      let (from, to) = ("backbone.layers.\(i).", "transformer.h.\(i).")
      all[to + "norm_1.weight"] = source.matrix(from + "mixer_norm.weight")
      all[to + "norm_2.weight"] = source.matrix(from + "mlp_norm.weight")
      all[to + "mlp.swiglu.w1.weight"] = source.matrix(from + "mlp.gate_proj.weight")
      all[to + "mlp.swiglu.w2.weight"] = source.matrix(from + "mlp.up_proj.weight")
      all[to + "mlp.swiglu.w3.weight"] = source.matrix(from + "mlp.down_proj.weight")
      if i % 2 == 0 {
        all.add(source.mamba(from + "mixer.", to: to + "attn."))
      } else {
        let q = source.matrix(from + "mixer.q_proj.weight")
        let k = source.matrix(from + "mixer.k_proj.weight")
        let v = source.matrix(from + "mixer.v_proj.weight")
        all[to + "attn.attn.weight"] = Matrix(
          concatenating: [
            q.rows(0..<32), k.rows(0..<16), v.rows(0..<16),
            q.rows(32..<64), k.rows(16..<32), v.rows(16..<32),
          ])
        all[to + "attn.proj.weight"] = source.matrix(from + "mixer.o_proj.weight")
      }
    }
    return all
  }

  /// berlino's GLA as fla's: keys times 32^-0.5 (the value heads' width), values less the mean over
  /// each head's channels, a norm of ones.
  static func berlino(_ source: StoredCheckpoint) -> ExpectedTensors {
    var all: ExpectedTensors = [
      "model.embeddings.weight": source.matrix("transformer.wte.weight"),
      "model.norm.weight": source.matrix("transformer.ln_f.weight"),
      "lm_head.weight": source.matrix("lm_head.weight"),
    ]
    for i in 0..<2 {
      let (from, to) = ("transformer.h.\(i).", "model.layers.\(i).")
      all[to + "attn_norm.weight"] = source.matrix(from + "ln_1.weight")
      all[to + "mlp_norm.weight"] = source.matrix(from + "ln_2.weight")
      all[to + "mlp.gate_proj.weight"] = source.matrix(from + "w1.weight")
      all[to + "mlp.up_proj.weight"] = source.matrix(from + "w3.weight")
      all[to + "mlp.down_proj.weight"] = source.matrix(from + "w2.weight")
      all[to + "attn.q_proj.weight"] = source.matrix(from + "attn.q_proj.weight")
      all[to + "attn.g_proj.weight"] = source.matrix(from + "attn.g_proj.weight")
      all[to + "attn.o_proj.weight"] = source.matrix(from + "attn.out_proj.weight")
      all.add(source.moved(from + "attn.k_gate.", to: to + "attn.gk_proj."))
      all[to + "attn.k_proj.weight"] = source.matrix(from + "attn.k_proj.weight")
        .mapped { _, _, value in value / 32.0.squareRoot() }
      let v = source.matrix(from + "attn.v_proj.weight")
      all[to + "attn.v_proj.weight"] = v.mapped { row, column, value in
        let head = row / 32 * 32
        let sum = (head..<head + 32).reduce(0.0) { $0 + Double(v.values[$1 * v.width + column]) }
        return value - sum / 32
      }
      all[to + "attn.g_norm_swish_gate.weight"] = Matrix([32], filledWith: 1)
    }
    return all
  }

  /// fla's RetNet as torchscale's: rotary pairs side by side, the heads' norms folded into the output
  /// projection, fla's own frequencies and decays in the tables.
  static func retnetAsTorchscale(_ source: StoredCheckpoint) -> ExpectedTensors {
    var angle: [Float] = []
    for i in 0..<16 {
      let frequency = Float(1 / power(10_000, Double(i) / 16))
      angle += [frequency, frequency]
    }
    let decay = [logarithm(1 - 1.0 / 32), logarithm(1 - 1.0 / 64)]
    var all: ExpectedTensors = [
      "embed_tokens.weight": source.matrix("model.embeddings.weight"),
      "layer_norm.weight": source.matrix("model.norm.weight"),
      "output_projection.weight": source.matrix("lm_head.weight"),
      "retnet_rel_pos.angle": Matrix([32], angle),
      "retnet_rel_pos.decay": Matrix([2], decay),
    ]
    // Heads of 32: rows 0, 16, 1, 17, … of each.
    var pairs: [Int] = []
    for head in [0, 32] {
      for i in head..<head + 16 { pairs += [i, i + 16] }
    }
    for i in 0..<3 {
      let (from, to) = ("model.layers.\(i).", "layers.\(i).")
      all[to + "retention_layer_norm.weight"] = source.matrix(from + "attn_norm.weight")
      all[to + "final_layer_norm.weight"] = source.matrix(from + "mlp_norm.weight")
      all[to + "ffn.fc1.weight"] = source.matrix(from + "mlp.gate_proj.weight")
      all[to + "ffn.gate.weight"] = source.matrix(from + "mlp.up_proj.weight")
      all[to + "ffn.fc2.weight"] = source.matrix(from + "mlp.down_proj.weight")
      all[to + "retention.q_proj.weight"] = source.matrix(from + "attn.q_proj.weight").rows(pairs)
      all[to + "retention.k_proj.weight"] = source.matrix(from + "attn.k_proj.weight").rows(pairs)
      all[to + "retention.v_proj.weight"] = source.matrix(from + "attn.v_proj.weight")
      all[to + "retention.g_proj.weight"] = source.matrix(from + "attn.g_proj.weight")
      let norm = source.matrix(from + "attn.g_norm_swish_gate.weight").values
      all[to + "retention.out_proj.weight"] = source.matrix(from + "attn.o_proj.weight")
        .mapped { _, column, value in value * Double(norm[column % 64]) }
    }
    return all
  }
}

/// `base` to the power `exponent`, by squares and a Taylor series: the C library is the other side's.
private func power(_ base: Double, _ exponent: Double) -> Double {
  exponential(exponent * naturalLogarithm(base))
}

private func logarithm(_ x: Double) -> Float { Float(naturalLogarithm(x)) }

private func naturalLogarithm(_ x: Double) -> Double {
  // Halve towards 1, then 2 atanh((m - 1) / (m + 1)).
  var m = x
  var halvings = 0.0
  while m > 1.5 {
    m /= 2
    halvings += 1
  }
  return nearOne(m) + halvings * nearOne(2)
}

private func nearOne(_ m: Double) -> Double {
  let z = (m - 1) / (m + 1)
  var sum = 0.0
  for term in stride(from: 61.0, through: 1, by: -2) { sum = sum * z * z + 1 / term }
  return 2 * sum * z
}

private func exponential(_ x: Double) -> Double {
  // e^x = (e^(x / 1024))^1024.
  var result = 1.0
  for term in stride(from: 20.0, through: 1, by: -1) { result = 1 + result * x / 1024 / term }
  for _ in 0..<10 { result *= result }
  return result
}
