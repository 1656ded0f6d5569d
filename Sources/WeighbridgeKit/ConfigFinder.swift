import Checkpoints
import Hub
import Layouts
import OrderedCollections
import Output
import Remote
import Tensors

/// Finds the config of a checkpoint: the one given, the one inside the file, the one beside it, or
/// the preset that the file names.
struct ConfigFinder {
  let library: LayoutLibrary

  func find(
    _ input: CheckpointInput, _ location: CheckpointLocation, _ source: any TensorSource
  ) throws(Diagnostic) -> JSONObject? {
    if let path = input.configPath {
      guard Remote.isURL(path) else { return try read(path) }
      let file = try Remote.file(path)
      return try read(file)
    }
    if let name = input.preset { return try preset(name, source) }
    // An HDF5 file carries its own.
    if let own = source.attachments["config"]?.object, source.container == .hdf5 {
      return JSONValue.object(own).resolvingFloatTags.object
    }
    if source.container == .gguf { return Self.keys(of: source.attachments) }
    // A layout of one's own may have a config file of another name than any framework's here.
    for name in library.givenConfigNames {
      let path = location.directory == "/" ? "/\(name)" : "\(location.directory)/\(name)"
      if path != location.config, let names = try? TextFile.names(in: location.directory),
        names.contains(name)
      {
        return try read(path)
      }
    }
    if let path = location.config { return try read(path) }
    if let run = Self.archScaleRun(source) {
      if let config = run.config(library.archScalePresets) { return config }
    }
    return try attached(source.attachments)
  }

  /// The keys of a GGUF file that say what the model is: those of its architecture and the general
  /// ones. llama.cpp looks at no other tool's.
  private static func keys(of attachments: JSONValue) -> JSONObject? {
    guard let architecture = attachments["general.architecture"]?.string else { return nil }
    return attachments.object?.filter { key, _ in
      ["general.", "tokenizer.", architecture + "."].contains { key.hasPrefix($0) }
    }
  }

  private func read(_ path: String) throws(Diagnostic) -> JSONObject {
    try read(try RandomAccessFile(path: path))
  }

  private func read(_ file: RandomAccessFile) throws(Diagnostic) -> JSONObject {
    let path = file.path
    guard file.byteCount <= 64 << 20 else {
      throw Diagnostic(
        code: "config.too-large", subject: path, message: "has \(file.byteCount) bytes")
    }
    let bytes = try file.bytes(at: 0, count: file.byteCount)
    if path.hasSuffix(".yaml") || path.hasSuffix(".yml") {
      return try YAMLConfig.parse(String(decoding: bytes, as: UTF8.self), file: path)
    }
    let value = try JSONParser.parse(bytes, file: path, mode: .python).resolvingFloatTags
    guard let config = value.object else {
      throw Diagnostic(code: "config.not-an-object", subject: path, message: "holds no object")
    }
    return config
  }

  /// What the trainer of ArchScale says of its run, in a checkpoint of its own.
  static func archScaleRun(_ source: any TensorSource) -> ArchScaleRun? {
    ArchScaleRun(source.attachments, hasFusedProjections: hasFusedProjections(source))
  }

  private static func hasFusedProjections(_ source: any TensorSource) -> Bool {
    source.tensors.contains { $0.name.string.hasSuffix("attn.attn.weight") }
  }

  private func preset(
    _ name: String, _ source: any TensorSource
  ) throws(Diagnostic) -> JSONObject {
    if let preset = library.presets[name] { return preset }
    if let config = library.archScalePresets.config(
      named: name, fused: Self.hasFusedProjections(source))
    {
      return config
    }
    let names = library.presetNames
    throw Diagnostic(
      code: "preset.unknown", subject: name,
      message: "is none of microsoft/Samba's and microsoft/ArchScale's configurations",
      help: Suggestion.nearest(name, names).map { "did you mean \($0)?" }
        ?? "presets: \(names.joined(separator: ", "))")
  }

  /// What torchscale takes of fairseq's arguments, which hold a whole training run:
  /// `RetNetConfig.override` looks at its own fields, where they are not `None`.
  private func retNet(_ arguments: JSONObject) -> JSONObject {
    let known = library.layouts(of: "torchscale").map(\.config)
    let keys = Set(known.flatMap { $0.keys.flatMap { [$0.name] + $0.aliases } })
    let inert = known.flatMap { $0.inert.map { Glob($0) } }
    return arguments.filter { key, value in
      value != .null && (keys.contains(key) || inert.contains { $0.matches(key) })
    }
  }

  /// The config that a pickled checkpoint carries.
  private func attached(_ attachments: JSONValue) throws(Diagnostic) -> JSONObject? {
    // fairseq: cfg.model, or args of older versions.
    for candidate in [attachments["cfg"]?["model"], attachments["args"], attachments["config"]] {
      guard let config = candidate?.object else { continue }
      if config["n_embd"] != nil { return config }
      if config["decoder_embed_dim"] != nil { return retNet(config) }
    }
    // lit_gpt's trainer: hparams.model_name.
    if let name = attachments["hparams"]?["model_name"]?.string
      ?? attachments["hparams"]?["name"]?.string,
      let preset = library.presets[name]
    {
      return preset
    }
    return nil
  }
}
