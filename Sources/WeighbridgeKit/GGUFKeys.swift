import Checkpoints
import Conversion
import OrderedCollections
import Tensors

/// The keys of a GGUF file that is written: what the model is, and its tokenizer.
enum GGUFKeys {
  /// The keys in their order.
  ///
  /// - Parameter problems: what the user should know of the tokenizer.
  /// - Throws: `io.*`; `gguf.value` for a value that no key can hold.
  static func fields(
    _ loaded: LoadedCheckpoint, _ plan: ConversionPlan, _ problems: inout [Diagnostic]
  ) throws(Diagnostic) -> [GGUFField] {
    var config = plan.config.filter { $0.value != .null }
    var own: [GGUFField] = []
    if let source = loaded.source as? GGUFReader, plan.from.name == plan.to.name {
      // The file's own keys stay, also those that no layout knows.
      own = try source.fields().filter {
        !$0.key.hasPrefix("split.") && $0.key != "general.alignment"
      }
      let changed = config.filter { loaded.config?[$0.key] != $0.value }
      own.removeAll { changed[$0.key] != nil }
      config = changed
      own.removeAll { ["general.file_type", "general.quantization_version"].contains($0.key) }
      config["general.file_type"] = .int(type(of: plan))
      if plan.tensors.contains(where: { $0.output.blocks != nil }) {
        config["general.quantization_version"] = 2
      }
    }
    var fields: [GGUFField] = []
    for (key, value) in config {
      guard let field = GGUFField(key, value) else {
        throw Diagnostic(
          code: "gguf.value", subject: key, message: "is \(value.text()), which no key can hold")
      }
      fields.append(field)
    }
    guard own.isEmpty else {
      // The architecture stays the first key, which some readers look for there.
      return own + fields
    }
    let name = FileName.last(of: loaded.location.path)
    if let field = GGUFField("general.name", .string(name)) {
      fields.insert(field, at: min(2, fields.count))
    }
    return fields + (try GGUFTokenizer.fields(loaded, plan, &problems))
  }

  /// llama.cpp's number for what most of a file is (`enum llama_ftype`).
  private static func type(of plan: ConversionPlan) -> Int {
    let outputs = plan.tensors.map(\.output)
    if outputs.contains(where: { $0.blocks != nil }) { return 7 }
    if outputs.contains(where: { $0.dtype == .f16 }) { return 1 }
    return outputs.contains(where: { $0.dtype == .bf16 }) ? 32 : 0
  }
}
