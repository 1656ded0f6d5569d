import Checkpoints
import Conversion
import Hub
import Output
import Tensors

extension Weighbridge {
  /// The digests of everything that a conversion reads: weights, index and configs. They are made
  /// beside the conversion.
  func sourceDigests(_ loaded: LoadedCheckpoint) -> BackgroundTask<[WrittenManifest.File]> {
    let files = loaded.source.files
    var others = loaded.location.configs
    if case .index(let path) = loaded.location.weights { others.append(path) }
    return BackgroundTask { [others] () throws(Diagnostic) in
      var digests: [WrittenManifest.File] = []
      for file in files { digests.append(try Self.digest(file)) }
      for path in others { digests.append(try Self.digest(RandomAccessFile(path: path))) }
      return digests
    }
  }

  private static func digest(_ file: RandomAccessFile) throws(Diagnostic) -> WrittenManifest.File {
    WrittenManifest.File(
      name: file.name, byteCount: file.byteCount, sha256: try Digest.of(file))
  }

  /// Writes `weighbridge.json`, and compares what the disk gives back with what was meant.
  func writeManifest(
    _ plan: ConversionPlan, _ sources: [WrittenManifest.File], _ written: WeightsWriter.Result,
    options: JSONObject, in directory: String
  ) throws {
    let files = BackgroundTask { () throws(Diagnostic) in
      var files: [WrittenManifest.File] = []
      for name in try TextFile.names(in: directory) where name != WrittenManifest.fileName {
        files.append(try Self.digest(RandomAccessFile(path: directory + "/" + name)))
      }
      return files
    }
    var manifest = WrittenManifest(
      tool: Self.version, from: plan.from.name, to: plan.to.name, family: plan.spec.family,
      exactness: plan.exactness.rawValue, reasons: plan.reasons.map(\.document),
      plan: Digest.of(JSONValue.object(plan.document).text()), sources: sources,
      weights: written.weights, files: [],
      tensors: zip(plan.tensors, written.digests).map { tensor, digest in
        WrittenManifest.Tensor(
          name: tensor.output.name, dtype: tensor.output.dtype.rawValue,
          shape: tensor.output.shape.dims, sha256: digest)
      })
    manifest.options = .object(options)
    var result = CheckResult(manifest: manifest)
    checkTensors(manifest, directory, nil, &result)
    manifest.files = try files.value()
    guard result.passes else { throw Problems(result.problems) }
    try TextFile.write(manifest.text, to: directory + "/" + WrittenManifest.fileName)
  }
}
