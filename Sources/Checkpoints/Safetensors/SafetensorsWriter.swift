public import Tensors

/// Writes a single safetensors file.
///
/// The header is written first, padded with spaces so that the data begins at a multiple of 8. The
/// header lists the tensors in the manifest's order; their bytes lie by falling element width, so
/// that each is aligned to its own elements.
public final class SafetensorsWriter: TensorSink {
  /// Where each tensor's bytes go.
  public let extents: [TensorInfo.Extent?]
  /// The one file.
  public let outputs: [String]
  /// Bytes of the whole file.
  public let byteCount: Int
  private let file: OutputFile
  private let sizes: [Int]

  /// Creates `directory/fileName` at its full size and writes the header.
  ///
  /// `{"format": "pt"}` is always among the metadata, as transformers wants it.
  ///
  /// - Throws: `io.write`; `safetensors.shared-storage`, `safetensors.duplicate`,
  ///   `safetensors.name`, `safetensors.size`, `safetensors.header-length` for a manifest that the
  ///   format cannot hold.
  public init(
    manifest: OutputManifest, directory: String, fileName: String
  ) throws(Diagnostic) {
    let path = directory + "/" + fileName
    let tensors = manifest.tensors
    try Self.check(tensors, path: path)
    let order = tensors.indices.sorted {
      (-tensors[$0].dtype.bitWidth, $0) < (-tensors[$1].dtype.bitWidth, $1)
    }
    var begins = [Int](repeating: 0, count: tensors.count)
    var end = 0
    for index in order {
      begins[index] = end
      guard let next = end.checkedPlus(tensors[index].byteCount) else {
        throw Diagnostic(
          code: "safetensors.size", subject: path, message: "takes more than 2^63 - 1 bytes")
      }
      end = next
    }
    var header = Self.header(tensors, begins: begins, metadata: manifest.metadata)
    while header.count % 8 != 0 { header.append(UInt8(ascii: " ")) }
    guard header.count <= SafetensorsHeader.maxLength else {
      throw Diagnostic(
        code: "safetensors.header-length", subject: path,
        message: "the header would take \(header.count) bytes; the format allows "
          + "\(SafetensorsHeader.maxLength)",
        help: "write several shards, or keep less metadata")
    }
    let start = 8 + header.count
    guard let total = start.checkedPlus(end) else {
      throw Diagnostic(
        code: "safetensors.size", subject: path, message: "takes more than 2^63 - 1 bytes")
    }
    let length = (0..<8).map { UInt8(truncatingIfNeeded: header.count >> ($0 * 8)) }
    file = try OutputFile(path: path, byteCount: total)
    try file.write(at: 0, length + header)
    extents = begins.map { .init(file: 0, offset: start + $0) }
    outputs = [path]
    byteCount = total
    sizes = tensors.map(\.byteCount)
  }

  private static func check(
    _ tensors: [OutputTensor], path: String
  ) throws(Diagnostic) {
    var names: Set<TensorName> = []
    for tensor in tensors {
      let subject = "\(path): tensor \(shown(tensor.name.string))"
      if let other = tensor.sharesStorageWith {
        throw Diagnostic(
          code: "safetensors.shared-storage", subject: subject,
          message: "shares the storage of \(shown(tensors[other].name.string)), which safetensors "
            + "cannot say",
          help: "leave the tensor out, or write it as a copy")
      }
      guard names.insert(tensor.name).inserted, tensor.name.string != "__metadata__" else {
        throw Diagnostic(
          code: "safetensors.duplicate", subject: subject, message: "the name is taken already")
      }
      if let fault = SafetensorsHeaderParser.nameFault(tensor.name.string) {
        throw Diagnostic(
          code: "safetensors.name", subject: subject, message: "the name \(fault)")
      }
      guard tensor.shape.byteCount(of: tensor.dtype) == tensor.byteCount else {
        throw Diagnostic(
          code: "safetensors.size", subject: subject,
          message: "\(tensor.dtype.rawValue) \(tensor.shape) does not take \(tensor.byteCount) "
            + "bytes")
      }
    }
  }

  /// Compact JSON, the metadata first with its keys in order, so that equal inputs give equal files.
  private static func header(
    _ tensors: [OutputTensor], begins: [Int], metadata: [String: String]
  ) -> [UInt8] {
    var metadata = metadata
    metadata["format"] = "pt"
    let texts = metadata.sorted { $0.key < $1.key }.map { "\(shown($0.key)):\(shown($0.value))" }
    var header = Array("{\"__metadata__\":{\(texts.joined(separator: ","))}".utf8)
    for (tensor, begin) in zip(tensors, begins) {
      let dims = tensor.shape.dims.map(String.init).joined(separator: ",")
      let entry =
        ",\(JSONValue.string(tensor.name.string).text(indent: nil, ascii: false)):{\"dtype\":\"\(tensor.dtype.rawValue)\","
        + "\"shape\":[\(dims)],\"data_offsets\":[\(begin),\(begin + tensor.byteCount)]}"
      header.append(contentsOf: entry.utf8)
    }
    header.append(UInt8(ascii: "}"))
    return header
  }

  /// Writes `bytes` at byte `offset` of tensor number `index`.
  ///
  /// - Throws: `io.write` with the system's reason.
  public func write(
    _ index: Int, at offset: Int, _ bytes: UnsafeRawBufferPointer
  ) throws(Diagnostic) {
    precondition(offset >= 0 && offset <= sizes[index] && bytes.count <= sizes[index] - offset)
    try file.write(at: (extents[index]?.offset ?? 0) + offset, bytes)
  }

  /// Moves bytes of another file to where a tensor lies.
  ///
  /// - Throws: `io.read`, `io.truncated`, `io.write`.
  public func move(
    _ count: Int, of source: RandomAccessFile, at offset: Int, toOutput output: Int, at target: Int
  ) throws(Diagnostic) {
    precondition(output == 0 && target >= 0 && count <= byteCount - target)
    try file.move(count, of: source, at: offset, to: target)
  }

  /// Closes the file, after `fsync` if `sync`.
  ///
  /// - Throws: `io.write`.
  public func finish(sync: Bool) throws(Diagnostic) { try file.finish(sync: sync) }
}
