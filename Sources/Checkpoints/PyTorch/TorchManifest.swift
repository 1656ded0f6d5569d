import Tensors

/// What a manifest must keep to be written as a state dict.
enum TorchManifest {
  /// Checks every tensor of `manifest`, and the file's name.
  ///
  /// - Throws: `pytorch.dtype`, `pytorch.manifest`.
  static func check(_ manifest: OutputManifest, fileName: String) throws(Diagnostic) {
    guard !fileName.isEmpty, fileName != ".", fileName != "..",
      !fileName.utf8.contains(where: { $0 == 0x2f || $0 == 0x5c || $0 == 0 }),
      fileName.utf8.count <= 255
    else {
      throw .pytorch(
        "manifest", shown(fileName), "is no plain file name", help: "give a name such as model.pt")
    }
    var names: Set<TensorName> = []
    names.reserveCapacity(manifest.tensors.count)
    for (index, tensor) in manifest.tensors.enumerated() {
      guard TorchDType.saved(tensor.dtype) != nil else {
        throw .pytorch(
          "dtype", "\(fileName): tensor \(shown(tensor.name.string))",
          "is of \(tensor.dtype.rawValue), a type that PyTorch does not have",
          help: "write it as safetensors, or cast it with --dtype")
      }
      guard tensor.shape.byteCount(of: tensor.dtype) == tensor.byteCount else {
        throw bad(
          fileName, tensor,
          "has \(tensor.byteCount) bytes, which are not those of \(tensor.dtype.rawValue)"
            + " \(tensor.shape)")
      }
      guard names.insert(tensor.name).inserted else {
        throw bad(fileName, tensor, "stands twice among the tensors")
      }
      guard let owner = tensor.sharesStorageWith else { continue }
      guard (0..<index).contains(owner), manifest.tensors[owner].sharesStorageWith == nil,
        manifest.tensors[owner].dtype == tensor.dtype,
        manifest.tensors[owner].byteCount >= tensor.byteCount
      else {
        throw bad(
          fileName, tensor,
          "shares the storage of tensor number \(owner), which is not an earlier one of its type"
            + " with a storage of its own that is large enough")
      }
    }
  }

  /// A problem of one tensor to be written.
  static func bad(_ fileName: String, _ tensor: OutputTensor, _ message: String) -> Diagnostic {
    .pytorch("manifest", "\(fileName): tensor \(shown(tensor.name.string))", message)
  }

  /// The folder inside the archive: the name without its last extension.
  static func folder(_ fileName: String) -> String {
    guard let dot = fileName.utf8.lastIndex(of: UInt8(ascii: ".")), dot > fileName.startIndex else {
      return fileName
    }
    return String(fileName[..<dot])
  }
}
