import Checkpoints
import Conversion
import Hub
import OrderedCollections
import Tensors

/// The keys of a GGUF file that is written: what the model is, and its tokenizer.
enum GGUFKeys {
  /// The keys in their order.
  ///
  /// - Parameter problems: what the user should know of the tokenizer.
  /// - Throws: `io.*`; `gguf.value` for a value that no key can hold; `gguf.tokenizer-rows`.
  static func fields(
    _ loaded: LoadedCheckpoint, _ plan: ConversionPlan, _ problems: inout [Diagnostic]
  ) throws(Diagnostic) -> [GGUFField] {
    if let source = loaded.source as? GGUFReader, plan.from.name == plan.to.name {
      return try kept(source, loaded.config ?? [:], plan)
    }
    var fields: [GGUFField] = []
    for (key, value) in plan.config where value != .null { fields.append(try field(key, value)) }
    if let name = GGUFField("general.name", .string(Weighbridge.name(of: loaded.location.path))) {
      fields.insert(name, at: min(2, fields.count))
    }
    return fields + (try GGUFTokenizer.fields(loaded, plan, &problems))
  }

  private static func field(_ key: String, _ value: JSONValue) throws(Diagnostic) -> GGUFField {
    guard let field = GGUFField(key, value) else {
      throw Diagnostic(
        code: "gguf.value", subject: key, message: "is \(value.text()), which no key can hold")
    }
    return field
  }

  /// The file's own keys, also those that no layout knows, but for what the conversion changes.
  private static func kept(
    _ source: GGUFReader, _ config: JSONObject, _ plan: ConversionPlan
  ) throws(Diagnostic) -> [GGUFField] {
    var changed = plan.config.filter { $0.value != .null && config[$0.key] != $0.value }
    let own = try source.fields().filter {
      !$0.key.hasPrefix("split.") && $0.key != "general.alignment"
    }
    let keepsBlocks = plan.tensors.contains { $0.output.stored != nil }
    if !keepsBlocks || config["general.file_type"] == nil {
      changed["general.file_type"] = .int(fileType(of: plan))
    }
    let hasBlocks = keepsBlocks || plan.tensors.contains { $0.output.blocks != nil }
    if hasBlocks, !keepsBlocks { changed["general.quantization_version"] = 2 }
    if case .array(let tokens)? = source.values["tokenizer.ggml.tokens"],
      let rows = plan.spec["vocab_rows"].int, rows != tokens.count
    {
      throw Diagnostic(
        code: "gguf.tokenizer-rows", subject: "tokenizer.ggml.tokens",
        message: "has \(tokens.count) tokens, and the embedding would have \(rows) rows",
        help: "convert to another layout with --vocab-size, and back from there")
    }
    var fields: [GGUFField] = []
    for field in own {
      if let value = changed.removeValue(forKey: field.key) {
        fields.append(try self.field(field.key, value))
      } else if hasBlocks || field.key != "general.quantization_version" {
        fields.append(field)
      }
    }
    for (key, value) in changed { fields.append(try field(key, value)) }
    return fields
  }

  /// llama.cpp's number for what most of a file is (`enum llama_ftype`).
  private static func fileType(of plan: ConversionPlan) -> Int {
    let outputs = plan.tensors.map(\.output)
    if outputs.contains(where: { $0.typeName == "Q8_0" }) { return 7 }
    if outputs.contains(where: { $0.dtype == .f16 }) { return 1 }
    return outputs.contains(where: { $0.dtype == .bf16 }) ? 32 : 0
  }
}
