import Tensors

/// One of several models that a checkpoint keeps under names with a prefix: `ema.layers.0.weight`
/// beside `layers.0.weight`, or `student.` beside `teacher.`.
final class SelectedModel: TiledSource {
  var container: Container { base.container }
  var files: [RandomAccessFile] { base.files }
  let tensors: [TensorInfo]
  var metadata: [String: String] { base.metadata }
  var attachments: JSONValue { base.attachments }
  let warnings: [Diagnostic]
  var others: [String: String] { base.others }

  private let base: any TensorSource
  /// The tensors' numbers in `base`.
  private let numbers: [Int]

  /// - Parameters:
  ///   - base: where the tensors lie.
  ///   - members: which of them, and the names that they get.
  ///   - said: what was read and what was left.
  private init(
    _ base: any TensorSource, _ members: [(number: Int, name: TensorName)], said: Diagnostic
  ) {
    self.base = base
    numbers = members.map { $0.number }
    tensors = members.map { number, name in
      var info = base.tensors[number]
      info.name = name
      return info
    }
    // What lies there is not one model.
    warnings = base.warnings.filter { $0.code != "pytorch.state-dict-key" } + [said]
  }

  func read(
    _ index: Int, bytes range: Range<Int>, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Diagnostic) { try base.read(numbers[index], bytes: range, into: buffer) }

  func grid(of index: Int) -> String? {
    (base as? any TiledSource)?.grid(of: numbers[index])
  }

  /// The model in `source`, or the one that `key` names; `source` itself where there is one only.
  ///
  /// - Parameters:
  ///   - key: the prefix of the names to read, without its dot.
  ///   - source: the checkpoint.
  ///   - subject: its name in messages.
  ///   - models: keys that the container knows, for messages.
  /// - Throws: `checkpoint.ambiguous-model` for two models of which neither is the other's average;
  ///   `checkpoint.unknown-key`.
  static func select(
    _ key: String?, in source: any TensorSource, subject: String, models: [String]
  ) throws(Diagnostic) -> any TensorSource {
    let prefixes = PrefixedModels(source.tensors)
    guard let key else { return try main(prefixes, source, subject) }
    let asked = key.hasSuffix(".") ? String(key.dropLast()) : key
    if let copy = prefixes.copies.first(where: { prefixes.isNamed($0.prefix, asked) }) {
      let rest = source.tensors.count - copy.members.count
      return SelectedModel(
        source, copy.members,
        said: said(
          .note, subject,
          "the \(copy.members.count) tensors under `\(shown(copy.prefix, quoted: false))` are read;"
            + " \(rest) others are left"))
    }
    guard let members = prefixes.members(under: asked) else {
      throw .unknownKey(key, subject, models: models + prefixes.keys)
    }
    // What is asked for is the model that is read unasked.
    if prefixes.copies.contains(where: { $0.original == asked }), !prefixes.hasPeers {
      return try main(prefixes, source, subject)
    }
    let rest = source.tensors.count - members.count
    return SelectedModel(
      source, members,
      said: said(
        .note, subject,
        "the \(members.count) tensors under `\(shown(asked, quoted: false))` are read;"
          + " \(rest) others are left"))
  }

  private static func main(
    _ prefixes: PrefixedModels, _ source: any TensorSource, _ subject: String
  ) throws(Diagnostic) -> any TensorSource {
    guard let first = prefixes.copies.first else { return source }
    if let peers = prefixes.copies.first(where: \.isPeer) {
      throw Diagnostic(
        code: "checkpoint.ambiguous-model", subject: subject,
        message: "holds two models with the same \(peers.members.count) names: under"
          + " `\(shown(peers.original, quoted: false))` and `\(shown(peers.prefix, quoted: false))`",
        help: "choose one with --key \(shown(peers.original, quoted: false)) or --key"
          + " \(shown(peers.prefix, quoted: false))")
    }
    let left = Set(prefixes.copies.flatMap(\.all))
    let members = source.tensors.indices.filter { !left.contains($0) }.map {
      (number: $0, name: source.tensors[$0].name)
    }
    let copies = prefixes.copies.map {
      "the tensors under `\(shown($0.prefix, quoted: false))` have the same \($0.members.count) names"
    }.joined(separator: ", ")
    let read =
      first.original.isEmpty
      ? "the model itself" : "the model under `\(shown(first.original, quoted: false))`"
    return SelectedModel(
      source, members,
      said: Diagnostic(
        .warning, code: "checkpoint.other-model", subject: subject,
        message: "\(read) is read; \(copies) and are left",
        help: "--key \(shown(first.prefix, quoted: false)) reads them instead"))
  }

  private static func said(
    _ severity: Diagnostic.Severity, _ subject: String, _ message: String
  ) -> Diagnostic {
    Diagnostic(severity, code: "checkpoint.other-model", subject: subject, message: message)
  }
}

extension Diagnostic {
  /// A key that names no model; `models` are those that could be named.
  static func unknownKey(_ key: String, _ subject: String, models: [String]) -> Diagnostic {
    let known = models.prefix(8).map { shown($0, quoted: false) }.joined(separator: ", ")
    return Diagnostic(
      code: "checkpoint.unknown-key", subject: subject,
      message: "holds no model under the key \(shown(key))",
      help: models.isEmpty
        ? "it holds one model; leave --key out"
        : "keys that it holds: \(known)\(models.count > 8 ? ", …" : "")")
  }
}
