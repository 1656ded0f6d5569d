package import Layouts
import OrderedCollections
package import Tensors

/// What an ArchScale trainer says of its run: the `hparams` of its checkpoint, from which the config of
/// the model that was trained follows.
///
/// It is the named configuration `model_name` with the trainer's options over it, and with the flags
/// that `train_config`, the name of the recipe, holds (`pretrain.py`).
package struct ArchScaleRun {
  private let hparams: JSONValue
  private let recipe: String
  /// Whether it is a run of July 2025, with fused projections.
  package let isFused: Bool

  /// `nil` when the checkpoint is no trainer's of ArchScale.
  ///
  /// - Parameter hasFusedProjections: whether the tensors are those of July 2025.
  package init?(_ attachments: JSONValue, hasFusedProjections: Bool) {
    guard let hparams = attachments["hparams"], let model = hparams["model_name"]?.string,
      let recipe = hparams["train_config"]?.string ?? hparams["train_name"]?.string
        ?? Self.recipe(of: hparams["name"]?.string, model: model)
    else { return nil }
    self.hparams = hparams
    self.recipe = recipe
    isFused =
      hparams["base_hps.w_init0"] != nil
      || (hparams["base_hps.w_init_scale"] == nil && hasFusedProjections)
  }

  /// What stands before the model's name in a run's: `scaling_mup` in `scaling_mup_sambay_d16_ctx4096`.
  private static func recipe(of run: String?, model: String) -> String? {
    guard let run, let end = run.firstRange(of: "_\(model)") else { return nil }
    return String(run[..<end.lowerBound])
  }

  /// The name of the configuration.
  package var modelName: String { hparams["model_name"]?.string ?? "" }

  private func has(_ flag: String) -> Bool { recipe.contains(flag) }

  private func flag(_ name: String, _ other: Bool) -> JSONValue {
    .bool(hparams[name]?.bool ?? other)
  }

  /// The config of the model that was trained, as `dataclasses.asdict` would have it; `nil` when the
  /// configuration has a name that ArchScale does not have.
  package func config(_ presets: ArchScalePresets) -> JSONObject? {
    guard var config = presets.config(named: modelName, fused: isFused) else { return nil }
    let mup = hparams["mup"]?.bool ?? (has("mup") || !isFused && has("muonh"))
    let original = hparams["original_mup"]?.bool ?? has("_ori_mup")
    config["mup"] = .bool(mup)
    config["original_mup"] = .bool(original)
    let copied = [
      "seq_len": "block_size", "rope_base": "rope_base", "use_cu_seqlen": "use_cu_seqlen",
      "base_hps.d0": "mup_d0", "base_hps.hd0": "mup_hd0", "local_window": "local_window",
      "swa_len": "local_window", "tied_embed": "tied_embed", "super_mup": "super_mup",
    ]
    for (name, key) in copied.sorted(by: { $0.key < $1.key }) {
      guard let value = hparams[name], value != .null,
        !isFused || key != "super_mup"
      else { continue }
      config[key] = value
    }
    if hparams["base_hps.d0"] == nil { config["mup_d0"] = isFused ? 16 : 8 }
    if hparams["rope_base"] == nil, has("_rbase_") { config["rope_base"] = 640_000 }
    if hparams["tied_embed"] == nil, has("_tie") { config["tied_embed"] = true }
    if isFused { return config }
    config["depth_scale"] = flag("depth_scale", mup && !original || has("_dsca_"))
    config["use_muonh"] = flag("use_muonh", has("muonh"))
    for (name, key) in ["scaling_factor": "scaling_factor", "norm_class": "_norm_class"] {
      if let value = hparams[name], value != .null { config[key] = value }
    }
    if hparams["post_norm"] == true { config["post_norm"] = true }
    if let ar = hparams["ar"]?.int, ar > 0, let depth = config["n_layer"]?.int,
      case let (width, overflows) = ar.multipliedReportingOverflow(by: depth), !overflows
    {
      config["ar"] = .int(ar)
      config.setWidth(width)
    }
    for (flag, keys) in Self.flags where has(flag) {
      for key in keys { config[key] = true }
    }
    // The trainer sums in place of leaving out.
    if has("_noskip_sum") { config["no_skip"] = false }
    return config
  }

  /// Where a config says otherwise than the trainer's hparams: each key with both values.
  ///
  /// - Parameter source: where the config is from, for the message.
  package func contradictions(_ config: JSONObject, from source: String) -> [Diagnostic] {
    var told: JSONObject = [:]
    for (name, key) in [
      "depth": "n_layer", "mup": "mup", "rope_base": "rope_base", "local_window": "local_window",
      "swa_len": "local_window", "tied_embed": "tied_embed",
    ].sorted(by: { $0.key < $1.key }) {
      if let value = hparams[name], value != .null { told[key] = value }
    }
    if told["mup"] == true {
      for (name, key) in [
        "base_hps.d0": "mup_d0", "base_hps.hd0": "mup_hd0", "original_mup": "original_mup",
      ] { told[key] = hparams[name] }
    }
    if config["yoco_window"] == true { told["block_size"] = hparams["seq_len"] }
    if isFused {
      // Only its factor on the sub-layers tells the two apart.
      if told["mup"] != true { told["original_mup"] = nil }
    } else {
      told["original_mup"] = nil
      for (name, key) in [
        "depth_scale": "depth_scale", "scaling_factor": "scaling_factor",
        "norm_class": "_norm_class",
      ] {
        if let value = hparams[name], value != .null { told[key] = value }
      }
      if told["mup"] == true { told["use_muonh"] = .bool(has("muonh")) }
      for (flag, keys) in Self.flags where has(flag) { for key in keys { told[key] = true } }
      if has("_noskip_sum") { told["no_skip"] = false }
    }
    return told.sorted(by: { $0.key < $1.key }).compactMap { key, value in
      guard let own = config[key], own != .null, own != value,
        own.double == nil || own.double != value.double
      else { return nil }
      return Diagnostic(
        .warning, code: "archscale.hparams", subject: key,
        message:
          "is \(own.text()) in \(source), and \(value.text()) by the checkpoint's own hparams",
        notes: ["the config is taken, as it was given"],
        help: "leave the config out to take what the trainer says")
    }
  }

  /// What a flag of the recipe's name switches on.
  private static let flags: [(flag: String, keys: [String])] = [
    ("_qknorm", ["qk_norm"]), ("_ga_", ["gated_attn"]), ("_anorm", ["attn_norm"]),
    ("_fnorm", ["ffn_norm"]), ("_nope", ["nope"]),
    ("_bias", ["bias", "attn_bias", "attn_out_bias"]),
    ("_noskip_sum", ["sum_skip"]), ("_noskip", ["no_skip"]), ("_lc", ["lc"]),
    ("postnorm_decouple", ["decouple_postnorm"]), ("_skipgain", ["skip_gain"]),
  ]

  /// What ArchScale's own `eval.py` takes otherwise than the trainer did, under the model's config.
  package func evaluationNotes(_ config: JSONObject) -> [Diagnostic] {
    var wrong: [String] = []
    let depth = config["n_layer"]?.int ?? 1
    let mup = config["mup"]?.bool ?? false
    if isFused {
      if mup, config["original_mup"] == true {
        wrong.append(
          "it multiplies what each sub-layer adds by 1 / sqrt(2 * \(depth)), which original_mup left out"
        )
      }
    } else {
      // The path has more behind the recipe's name, and nothing before it but a separator.
      if mup, !"\(recipe)_".contains("_mup_") {
        wrong.append("it sees no _mup_ in the path, and evaluates without muP")
      }
      if config["depth_scale"] == true {
        wrong.append("it leaves out the factor 1 / sqrt(2 * \(depth)) on what each sub-layer adds")
      }
      if mup, config["use_muonh"] == true {
        wrong.append("it multiplies the logits by 16 / \(depth), which training with MuonH did not")
      } else if mup, let d0 = config["mup_d0"]?.double, d0 != 16 {
        wrong.append(
          "it multiplies the logits by 16 / \(depth), where training had \(JSONValue.double(d0).text()) / \(depth)"
        )
      }
      let window = config["yoco_window"] == true ? 8192 : 4096
      if config["nope"] != true, let length = config["block_size"]?.int, length != window,
        (config["scaling_factor"]?.double ?? 1) == 1, length > window
      {
        wrong.append(
          "it turns YaRN on with the factor \(length)/\(window), since the path says ctx\(length)")
      }
      for (flag, keys) in Self.flags where has(flag) {
        wrong.append(
          ["_nope", "_noskip"].contains(flag)
            ? "it does not see \(flag) and evaluates without \(keys[0])"
            : "it does not see \(flag), and fails to load the weights")
      }
      if let norm = config["_norm_class"]?.string, hparams["norm_class"]?.string == norm,
        norm != "FusedRMSNorm"
      {
        wrong.append("it does not see --norm_class \(norm)")
      }
    }
    guard !wrong.isEmpty else { return [] }
    return [
      Diagnostic(
        .note, code: "archscale.eval", subject: "eval.py",
        message: "of ArchScale computes another function than was trained: "
          + wrong.joined(separator: "; "),
        notes: ["here the checkpoint's hparams count"])
    ]
  }
}
