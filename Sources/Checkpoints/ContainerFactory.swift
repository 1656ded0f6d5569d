import Tensors

// The one switch from a container to its reader and writer.
enum ContainerFactory {
  /// Opens the file at `path`, which was sniffed as `container`.
  static func reader(
    _ container: Container, path: String, rules: SafetensorsHeader.Rules
  ) throws(Problems) -> any TensorSource {
    switch container {
    case .safetensors: return try SafetensorsReader(path: path, rules: rules)
    // MERGE: case .pytorch: return try TorchReader(path: path)
    // MERGE: case .hdf5: return try HDF5Reader(path: path)
    case .pytorch, .hdf5: throw Problems([unfinished(container, path)])
    }
  }

  /// Creates `directory/fileName`.
  static func writer(
    _ container: Container, manifest: OutputManifest, directory: String, fileName: String
  ) throws(Diagnostic) -> any TensorSink {
    switch container {
    case .safetensors:
      return try SafetensorsWriter(manifest: manifest, directory: directory, fileName: fileName)
    // MERGE: case .pytorch:
    //   return try TorchWriter(manifest: manifest, directory: directory, fileName: fileName)
    // MERGE: case .hdf5:
    //   return try HDF5Writer(manifest: manifest, directory: directory, fileName: fileName)
    case .pytorch, .hdf5: throw unfinished(container, directory + "/" + fileName)
    }
  }

  // MERGE: remove.
  private static func unfinished(_ container: Container, _ path: String) -> Diagnostic {
    Diagnostic(
      code: "container.unfinished", subject: path,
      message: "\(container.rawValue) is not wired up yet")
  }
}
