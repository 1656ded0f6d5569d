import Hub
import Layouts
import Tensors

/// Forms of checkpoints that other tools make and that are no model as it is read here: recognised
/// by the marks they leave among the names, and told as one fault with the way out.
enum ForeignForms {
  /// A form and the marks that give it away.
  private struct Form {
    var code: String
    /// Globs over names; one match is enough unless `needs` says more.
    var marks: [String]
    /// Globs of which each must match as well.
    var needs: [String] = []
    /// The contents of the checkpoint.
    var message: String
    /// The way out.
    var help: String
  }

  /// The form of a checkpoint that no layout could make sense of.
  ///
  /// - Parameters:
  ///   - inventory: its tensors.
  ///   - config: its config, which may name the method of quantization.
  ///   - path: where it is.
  static func diagnosis(
    of inventory: Inventory, config: JSONObject?, path: String
  ) -> Diagnostic? {
    for form in adapters + quantizations {
      let marks = form.marks.map { Glob($0) }
      var found: [String] = []
      var count = 0
      for (name, members) in inventory.kinds where marks.contains(where: { $0.matches(name) }) {
        found.append(name)
        count += members
      }
      guard !found.isEmpty, form.needs.allSatisfy({ inventory.first(Glob($0)) != nil }) else {
        continue
      }
      var notes = ["\(count) of \(inventory.names.count) tensors, such as \(list(found))"]
      if form.code == "checkpoint.adapter", count == inventory.names.count {
        notes.append("it holds the adapter alone; the model that it was trained on is another file")
      }
      if let method = method(config) { notes.append("the config names \(method)") }
      return Diagnostic(
        code: form.code, subject: path, message: form.message, notes: notes, help: form.help)
    }
    return packed(inventory, config, path)
  }

  private static func list(_ names: [String]) -> String {
    names.prefix(3).joined(separator: ", ")
  }

  /// `quantization_config: gptq`, as the config has it.
  private static func method(_ config: JSONObject?) -> String? {
    for key in ["quantization_config", "quantization"] {
      guard let object = config?[key]?.object else { continue }
      let name = object["quant_method"]?.string ?? object["bits"]?.int.map { "\($0) bits" }
      return name.map { "\(key): \($0)" } ?? key
    }
    return nil
  }

  /// Whole numbers or 8-bit floats under a config that says it quantizes, without other marks.
  private static func packed(
    _ inventory: Inventory, _ config: JSONObject?, _ path: String
  ) -> Diagnostic? {
    guard let method = method(config) else { return nil }
    let found = inventory.infos.filter {
      $0.shape.dims.count >= 2 && ($0.dtype.isWhole || $0.dtype.bitWidth <= 8)
    }
    guard let first = found.first else { return nil }
    return Diagnostic(
      code: "checkpoint.quantized", subject: path,
      message: "holds quantized weights, which are not the model's own numbers",
      notes: [
        "\(found.count) of \(inventory.names.count) tensors, such as \(first.name), "
          + "\(first.dtype.rawValue)", "the config names \(method)",
      ],
      help: "convert the weights before quantization, or dequantize them to BF16 first")
  }

  // MARK: Adapters

  private static let merge =
    "merge the adapter into the model first: merge_and_unload() of PEFT, "
    + "litgpt merge_lora, mlx_lm.fuse"

  private static let adapters = [
    Form(
      code: "checkpoint.adapter",
      marks: [
        "*lora_A*", "*lora_B*", "*lora_embedding_*", "*.lora_a", "*.lora_b", "lora_a", "lora_b",
        "*lora_magnitude*", "*lora_down*", "*lora_up*",
      ],
      message: "holds LoRA matrices that are not merged into the weights",
      help: merge),
    Form(
      code: "checkpoint.adapter",
      marks: ["*.base_layer.*", "*.original_module.*", "*.modules_to_save.*"],
      message: "holds a model that PEFT has wrapped for an adapter", help: merge),
    Form(
      code: "checkpoint.adapter",
      marks: [
        "*ia3_l*", "*hada_w1_a", "*lokr_w1*", "*oft_r*", "*oft_s", "*boft_R*", "*vera_lambda_*",
        "*adapter_wte*", "*gating_factor", "*adapter_scale", "*adapter_bias", "prompt_embeddings",
        "*.prompt_encoder.*",
      ],
      message: "holds the weights of an adapter beside or instead of the model's own",
      help: "merge the adapter into the model first where it can be: merge_and_unload() of PEFT"),
  ]

  // MARK: Quantization

  private static let quantizations = [
    Form(
      code: "checkpoint.quantized",
      marks: [
        "*.absmax", "*.quant_map", "*.quant_state.*", "*.nested_absmax", "*.nested_quant_map",
        "*.SCB", "*.weight_format",
      ],
      message: "holds weights quantized by bitsandbytes, which are not the model's own numbers",
      help: "convert the weights before quantization, or write them out dequantized: "
        + "model.dequantize() of transformers, then save_pretrained"),
    Form(
      code: "checkpoint.quantized",
      marks: ["*.qweight", "*.qzeros", "*.g_idx"],
      message: "holds weights quantized by GPTQ or AWQ, which are not the model's own numbers",
      help: "convert the weights before quantization; or dequantize them with the tool that made "
        + "them, and save as BF16"),
    Form(
      code: "checkpoint.quantized", marks: ["*.scales"], needs: ["*.biases"],
      message: "holds weights quantized by MLX, which are not the model's own numbers",
      help: "mlx_lm.convert --dequantize writes the weights out; or convert them before "
        + "quantization"),
    Form(
      code: "checkpoint.quantized",
      marks: [
        "*.weight_scale", "*.weight_scale_inv", "*.weight_scale_2", "*.weight_packed",
        "*.weight_zero_point", "*.weight_g_idx", "*.input_scale", "*.weight_scales",
        "*.W_q", "*._data", "*._scale", "*.weight_quantizer.*", "*.input_quantizer.*",
        "*.weight_fake_quant.*", "*_packed_params*",
      ],
      message: "holds quantized weights with their scales, which are not the model's own numbers",
      help: "convert the weights before quantization; or dequantize them with the tool that made "
        + "them (compressed-tensors, torchao, FP8 recipes) and save as BF16"),
  ]
}
