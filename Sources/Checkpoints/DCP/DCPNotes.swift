import Tensors

/// What a sharded checkpoint tells of itself beside its tensors.
enum DCPNotes {
  /// Step, ranks and files; what was passed over; files that the index does not know.
  static func notes(
    _ metadata: DCPMetadata, _ selection: DCPSelection, used: Set<TensorName>, names: [String],
    directory: String
  ) -> [Diagnostic] {
    let ranks = Set(used.compactMap { DCPFiles.rank(of: $0.string) })
    var parts: [String] = []
    if let step = step(of: FilePath.name(of: FilePath.real(directory) ?? directory)) {
      parts.append("step \(step)")
    }
    parts.append("\(ranks.count) rank\(ranks.count == 1 ? "" : "s")")
    parts.append("\(used.count) file\(used.count == 1 ? "" : "s")")
    if !selection.wrapper.isEmpty {
      parts.append("the model under \(shown(selection.wrapper.joined(separator: ".")))")
    }
    var result = [
      Diagnostic(
        .note, code: "dcp.checkpoint", subject: directory,
        message: "is a sharded checkpoint: " + parts.joined(separator: ", "))
    ]
    let texts = selection.passedOverText(metadata)
    if !texts.isEmpty {
      result.append(
        Diagnostic(
          .note, code: "dcp.passed-over", subject: directory,
          message: "holds more than the model, which is not read",
          notes: Array(texts.prefix(16)) + (texts.count > 16 ? ["and more"] : [])))
    }
    // Ranks that had nothing to save leave empty files.
    let stale = names.filter { name in
      guard name.hasSuffix(".distcp"), !used.contains(TensorName(name)) else { return false }
      let file = try? RandomAccessFile(path: directory + "/" + name)
      return file?.byteCount != 0
    }
    if !stale.isEmpty {
      result.append(
        Diagnostic(
          .warning, code: "dcp.stale-files", subject: directory,
          message: "holds \(stale.count) file\(stale.count == 1 ? "" : "s") that the index does"
            + " not name: \(stale.prefix(4).map { shown($0) }.joined(separator: ", "))"
            + (stale.count > 4 ? ", …" : ""),
          notes: ["an earlier save of more ranks leaves such; they are not read"]))
    }
    return result
  }

  /// The step in `step-2048`, `iter-000128-ckpt.pth`, `checkpoint_500`.
  static func step(of name: String) -> Int? {
    for word in ["step", "iter", "checkpoint", "ckpt", "global_step"] {
      guard let range = name.firstRange(of: word) else { continue }
      let rest = name[range.upperBound...].drop { "-_=".contains($0) }
      let digits = rest.prefix { $0.isASCII && $0.isNumber }
      if let step = Int(digits) { return step }
    }
    return nil
  }
}
