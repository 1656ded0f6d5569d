public import Tensors

/// Opens the checkpoint at `path`: a file, an index, or a directory.
///
/// - Parameters:
///   - path: where.
///   - rules: how strictly safetensors is read.
///   - key: which of several models in the file: the key of a pickled or sharded dict (`model_ema`),
///     or what the names of its tensors begin with (`ema`); `nil` for the model itself.
/// - Throws: every independent problem at once: `checkpoint.*`, `container.*`, `shards.*`, those of
///   the containers, `io.*`.
public func openCheckpoint(
  at path: String, rules: SafetensorsHeader.Rules = .strict, key: String? = nil
) throws(Problems) -> any TensorSource {
  let location: CheckpointLocation
  do throws(Diagnostic) {
    location = try CheckpointLocation(finding: path)
  } catch { throw Problems([error]) }
  return try openCheckpoint(location, rules: rules, key: key)
}

extension Diagnostic {
  /// A container that is read from files only.
  static func notStreamed(_ what: String, _ path: String) -> Diagnostic {
    Diagnostic(
      code: "source.container", subject: path,
      message: "is \(what), which cannot be read from a URL",
      help: path.hasPrefix("hf://")
        ? "fetch it with `hf download`, and give its path" : "download it, and give its path")
  }
}

/// Opens a checkpoint whose parts were found already.
///
/// - Throws: as `openCheckpoint(at:rules:key:)`.
public func openCheckpoint(
  _ location: CheckpointLocation, rules: SafetensorsHeader.Rules = .strict, key: String? = nil
) throws(Problems) -> any TensorSource {
  func open(_ path: String, _ key: String?) throws(Problems) -> any TensorSource {
    let container: Container
    do throws(Diagnostic) {
      container = try ContainerSniffer.sniff(path: path)
    } catch { throw Problems([error]) }
    let source = try ContainerFactory.reader(container, path: path, rules: rules, key: key)
    try DCPSafetensorsReader.checkWhole(source, path: path)
    return source
  }
  let source: any TensorSource
  var key = key
  var models: [String] = []
  switch location.weights {
  case .file(let path):
    source = try open(path, key)
    if let torch = source as? TorchReader {
      key = torch.keyRest
      models = torch.models
    }
  case .index(let path):
    source = try ShardedReader(indexPath: path) { path throws(Problems) in try open(path, nil) }
  case .shards(let paths):
    source = try ShardedReader(shards: paths) { path throws(Problems) in try open(path, nil) }
  case .sharded(let path):
    guard RemotePlaces.holder(of: path) == nil else {
      throw Problems([.notStreamed("a sharded checkpoint (DCP)", path)])
    }
    let names: [String]
    do throws(Diagnostic) {
      names = try FilePath.names(in: path)
    } catch { throw Problems([error]) }
    if DCPFiles.isSharded(names) {
      let reader = try DCPReader(directory: path, choosing: key)
      key = reader.keyRest
      models = reader.models
      source = reader
    } else {
      source = try DCPSafetensorsReader(directory: path, rules: rules)
    }
  }
  let subject = FilePath.name(of: location.weights.path)
  do throws(Diagnostic) {
    try TrainingShards.check(source.tensors, subject: subject)
    return try SelectedModel.select(key, in: source, subject: subject, models: models)
  } catch { throw Problems([error]) }
}

/// Creates the weights of a checkpoint in `directory`, which must exist.
///
/// - Parameters:
///   - container: the container.
///   - manifest: the tensors and what is written beside them.
///   - directory: where.
///   - fileName: `model.safetensors`; shards derive their names from it.
///   - maxShardBytes: bytes of tensors at which a shard is closed; `nil` for a single file. A
///     checkpoint that fits one shard is a single file without an index. HDF5 is never split,
///     and DCP by ranks only.
/// - Throws: `io.write`, or what the container cannot hold.
public func makeSink(
  container: Container, manifest: OutputManifest, directory: String, fileName: String,
  maxShardBytes: Int? = nil
) throws(Diagnostic) -> any TensorSink {
  if let maxShardBytes, container == .gguf {
    let split = ShardedWriter.split(manifest, maxShardBytes: maxShardBytes)
    return try GGUFWriter(
      manifest: manifest, directory: directory, fileName: fileName, split: split)
  }
  if let maxShardBytes, container != .hdf5, container != .dcp {
    let split = ShardedWriter.split(manifest, maxShardBytes: maxShardBytes)
    if split.count > 1 {
      return try ShardedWriter(
        manifest: manifest, directory: directory, fileName: fileName, split: split
      ) { (part, directory, name) throws(Diagnostic) in
        try ContainerFactory.writer(
          container, manifest: part, directory: directory, fileName: name)
      }
    }
  }
  return try ContainerFactory.writer(
    container, manifest: manifest, directory: directory, fileName: fileName)
}
