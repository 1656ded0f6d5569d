public import Tensors

/// Writes a GGUF checkpoint, version 3, in one file or several.
///
/// Tensors lie in the manifest's order, each padded to 32 bytes. A tensor that the manifest wants in
/// blocks takes float32 numbers in whole blocks and rounds them as they come.
public final class GGUFWriter: TensorSink {
  /// Where each tensor's bytes go; `nil` for blocks, which are made of the numbers on their way.
  public let extents: [TensorInfo.Extent?]
  /// The file, or its parts in their order.
  public let outputs: [String]

  private let files: [OutputFile]
  private let sizes: [Int]
  private let tensors: [OutputTensor]
  private let places: [TensorInfo.Extent]

  /// Creates the files at their full size and writes their heads.
  ///
  /// - Parameters:
  ///   - manifest: the tensors; `fields` are the keys, and where it is empty the config is.
  ///   - directory: where.
  ///   - fileName: `model.gguf`; parts are called `model-00001-of-00002.gguf`.
  ///   - split: the tensors of each part; `nil` for one file.
  /// - Throws: `io.write`; `gguf.*` for what the format cannot hold.
  public init(
    manifest: OutputManifest, directory: String, fileName: String, split: [[Int]]? = nil
  ) throws(Diagnostic) {
    tensors = manifest.tensors
    let path = directory + "/" + fileName
    var names: Set<TensorName> = []
    for tensor in tensors { try Self.check(tensor, &names, path) }
    let parts = split ?? [Array(tensors.indices)]
    var places = [TensorInfo.Extent](
      repeating: .init(file: 0, offset: 0), count: tensors.count)
    var outputs: [String] = []
    var files: [OutputFile] = []
    var sizes: [Int] = []
    for (number, members) in parts.enumerated() {
      let own = try Self.fields(ofPart: number, of: parts.count, manifest, path: path)
      let (head, offsets, total) = try Self.head(own, members.map { manifest.tensors[$0] }, path)
      for (member, offset) in zip(members, offsets) {
        places[member] = .init(file: number, offset: offset)
      }
      let name =
        parts.count > 1
        ? ShardedWriter.name(fileName, number: number + 1, of: parts.count) : fileName
      let file = try OutputFile(path: directory + "/" + name, byteCount: total)
      try file.write(at: 0, head)
      files.append(file)
      sizes.append(total)
      outputs.append(directory + "/" + name)
    }
    self.outputs = outputs
    self.files = files
    self.sizes = sizes
    self.places = places
    extents = zip(tensors, places).map { $0.blocks == nil ? $1 : nil }
  }

  /// The keys of a part, from 0: the first has those of the model, and of several each has its number.
  ///
  /// - Parameter manifest: that of the whole checkpoint.
  /// - Throws: `gguf.split-count`, `gguf.value`.
  package static func fields(
    ofPart number: Int, of count: Int, _ manifest: OutputManifest, path: String
  ) throws(Diagnostic) -> [GGUFField] {
    let fields = number == 0 ? try fields(manifest, path) : []
    guard count > 1 else { return fields }
    guard UInt16(exactly: count) != nil else {
      throw .gguf("split-count", path, "would have \(count) parts; 65535 are possible")
    }
    return fields + [
      GGUFField(GGUFSplit.numberKey, uint16: number),
      GGUFField(GGUFSplit.countKey, uint16: count),
      GGUFField(GGUFSplit.totalKey, int32: manifest.tensors.count),
    ]
  }

  private static func fields(
    _ manifest: OutputManifest, _ path: String
  ) throws(Diagnostic) -> [GGUFField] {
    guard manifest.fields.isEmpty else { return manifest.fields }
    var fields: [GGUFField] = []
    for (key, value) in manifest.config.object ?? [:] where value != .null {
      guard let field = GGUFField(key, value) else {
        throw .gguf("value", "\(path): \(shown(key))", "is \(value.text()), which no key can hold")
      }
      fields.append(field)
    }
    return fields
  }

  private static func check(
    _ tensor: OutputTensor, _ names: inout Set<TensorName>, _ path: String
  ) throws(Diagnostic) {
    let subject = "\(path): tensor \(shown(tensor.name.string))"
    let bytes = tensor.name.string.utf8
    guard tensor.sharesStorageWith == nil else {
      throw .gguf("shared-storage", subject, "shares another's storage, which GGUF cannot say")
    }
    guard !bytes.isEmpty, bytes.count <= GGUFHeader.mostNameBytes, !bytes.contains(0) else {
      throw .gguf(
        "name", subject,
        "has a name of \(bytes.count) bytes; ggml takes 1 to \(GGUFHeader.mostNameBytes)")
    }
    guard names.insert(tensor.name).inserted else {
      throw .gguf("duplicate-tensor", subject, "the name is taken already")
    }
    guard tensor.shape.rank <= GGUFHeader.mostDimensions else {
      throw .gguf("dimensions", subject, "has \(tensor.shape.rank) dimensions; ggml has 4")
    }
    guard GGMLType(tensor.dtype) != nil else {
      throw .gguf(
        "tensor-type", subject, "is \(tensor.dtype.rawValue), which ggml has no type for",
        help: "cast the weights with --dtype")
    }
    guard tensor.shape.byteCount(of: tensor.dtype) == tensor.byteCount,
      tensor.blocks == nil
        || tensor.dtype == .f32 && (tensor.shape.dims.last ?? 1) % tensor.blockCount == 0
    else { throw .gguf("size", subject, "does not take \(tensor.byteCount) bytes") }
    guard let stored = tensor.stored else { return }
    // As many bytes as the type's blocks of these rows take.
    guard let type = GGMLType(named: stored.type), let count = tensor.shape.elementCount,
      (tensor.shape.dims.last ?? 1) % type.blockCount == 0,
      (count / type.blockCount).checkedTimes(type.blockBytes) == stored.byteCount
    else { throw .gguf("size", subject, "is no whole number of blocks of \(stored.type)") }
  }

  /// The bytes in front of the data, where each tensor goes, and the size of the file.
  private static func head(
    _ fields: [GGUFField], _ tensors: [OutputTensor], _ path: String
  ) throws(Diagnostic) -> ([UInt8], [Int], Int) {
    let alignment = GGUFHeader.defaultAlignment
    func padded(_ count: Int) -> Int? {
      count.checkedPlus(alignment - 1).map { $0 / alignment * alignment }
    }
    var head = Array("GGUF".utf8) + GGUFField.little(UInt32(3))
    head += GGUFField.little(UInt64(tensors.count)) + GGUFField.little(UInt64(fields.count))
    for field in fields { head += field.encoded }
    var offsets: [Int] = []
    var next = 0
    for tensor in tensors {
      head += GGUFField.string(Array(tensor.name.string.utf8))
      head += GGUFField.little(UInt32(tensor.shape.rank))
      for extent in tensor.shape.dims.reversed() { head += GGUFField.little(UInt64(extent)) }
      head += GGUFField.little(tensor.ggmlType.rawValue) + GGUFField.little(UInt64(next))
      offsets.append(next)
      guard let end = next.checkedPlus(tensor.storedByteCount), let after = padded(end) else {
        throw .gguf("size", path, "takes more than 2^63 - 1 bytes")
      }
      next = after
    }
    let start = padded(head.count)!
    guard let total = start.checkedPlus(next) else {
      throw .gguf("size", path, "takes more than 2^63 - 1 bytes")
    }
    return (head, offsets.map { start + $0 }, total)
  }

  /// Writes `bytes` at byte `offset` of tensor number `index`: of one in blocks, float32 numbers in
  /// whole blocks.
  ///
  /// - Throws: `io.write`; `gguf.quantise` for numbers that blocks cannot hold.
  public func write(
    _ index: Int, at offset: Int, _ bytes: UnsafeRawBufferPointer
  ) throws(Diagnostic) {
    let (tensor, place) = (tensors[index], places[index])
    precondition(offset >= 0 && offset <= tensor.byteCount)
    precondition(bytes.count <= tensor.byteCount - offset)
    precondition(tensor.stored == nil, "blocks of another file are moved")
    guard tensor.blocks != nil else {
      return try files[place.file].write(at: place.offset + offset, bytes)
    }
    precondition(offset % 128 == 0 && bytes.count % 128 == 0, "blocks come whole")
    let count = bytes.count / 128 * 34
    let blocks = UnsafeMutableRawBufferPointer.allocate(byteCount: max(count, 1), alignment: 16)
    defer { blocks.deallocate() }
    let out = UnsafeMutableRawBufferPointer(rebasing: blocks[..<count])
    guard GGMLBlocks.narrowQ8(bytes, into: out) else {
      throw .gguf(
        "quantise", tensor.name.string,
        "holds numbers that Q8_0 cannot: NaN, infinities, or beyond 127 times float16's largest",
        help: "write it as F32 or BF16")
    }
    try files[place.file].write(
      at: place.offset + offset / 128 * 34, UnsafeRawBufferPointer(out))
  }

  /// Moves bytes of another file to where a tensor lies.
  ///
  /// - Throws: `io.read`, `io.truncated`, `io.write`.
  public func move(
    _ count: Int, of source: RandomAccessFile, at offset: Int, toOutput output: Int, at target: Int
  ) throws(Diagnostic) {
    precondition(target >= 0 && count <= sizes[output] - target)
    try files[output].move(count, of: source, at: offset, to: target)
  }

  /// Closes the files, after `fsync` if `sync`.
  ///
  /// - Throws: `io.write`.
  public func finish(sync: Bool) throws(Diagnostic) {
    for file in files { try file.finish(sync: sync) }
  }
}

extension OutputTensor {
  /// Numbers of a block; 1 without blocks.
  var blockCount: Int { blocks == nil ? 1 : 32 }

  /// The type in a GGUF file.
  var ggmlType: GGMLType {
    if let stored, let type = GGMLType(named: stored.type) { return type }
    return blocks == .q8_0 ? .q8_0 : GGMLType(dtype)!
  }
}
