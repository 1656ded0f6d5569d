import Tensors

// The one switch from a container to its reader and writer.
enum ContainerFactory {
  /// Opens the file at `path`, which was sniffed as `container`; `key` chooses among the dicts of a
  /// pickled one.
  static func reader(
    _ container: Container, path: String, rules: SafetensorsHeader.Rules, key: String? = nil
  ) throws(Problems) -> any TensorSource {
    switch container {
    case .safetensors: return try SafetensorsReader(path: path, rules: rules)
    case .pytorch: return try TorchReader(path: path, choosing: key)
    case .hdf5: return try HDF5Reader(path: path)
    case .gguf: return try GGUFReader(path: path)
    case .npz: return try NpzReader(path: path)
    }
  }

  /// Creates `directory/fileName`.
  static func writer(
    _ container: Container, manifest: OutputManifest, directory: String, fileName: String
  ) throws(Diagnostic) -> any TensorSink {
    switch container {
    case .safetensors:
      return try SafetensorsWriter(manifest: manifest, directory: directory, fileName: fileName)
    case .pytorch:
      return try TorchWriter(manifest: manifest, directory: directory, fileName: fileName)
    case .hdf5:
      return try HDF5Writer(manifest: manifest, directory: directory, fileName: fileName)
    case .gguf:
      return try GGUFWriter(manifest: manifest, directory: directory, fileName: fileName)
    case .npz: return try NpzWriter(manifest: manifest, directory: directory, fileName: fileName)
    }
  }
}
