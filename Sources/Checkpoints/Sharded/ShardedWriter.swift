public import Tensors

/// Writes a checkpoint in several files and its index.
///
/// Tensors are dealt out in the manifest's order: a shard is closed when the next tensor would bring
/// it over the limit; a tensor larger than the limit gets a shard of its own. Tensors that share
/// storage stay with its owner. The index is written last.
public final class ShardedWriter: TensorSink {
  /// Where each tensor's bytes go.
  public let extents: [TensorInfo.Extent?]
  /// The shards, then the index.
  public let outputs: [String]
  private let shards: [any TensorSink]
  /// The place in `outputs` of each shard's first.
  private let firstOutputs: [Int]
  private let places: [(shard: Int, tensor: Int)]
  private let index: ShardIndex

  /// Creates the shards.
  ///
  /// - Parameters:
  ///   - manifest: the tensors of all shards.
  ///   - directory: where.
  ///   - fileName: the name that a single file would have: `model.safetensors` gives
  ///     `model-00001-of-00002.safetensors` and `model.safetensors.index.json`.
  ///   - split: what `ShardedWriter.split` returned for the manifest.
  ///   - makeShard: creates one shard from its manifest, the directory and its file name.
  /// - Throws: as `makeShard`.
  public init(
    manifest: OutputManifest, directory: String, fileName: String, split: [[Int]],
    makeShard: (OutputManifest, String, String) throws(Diagnostic) -> any TensorSink
  ) throws(Diagnostic) {
    var places = [(shard: Int, tensor: Int)](
      repeating: (0, 0), count: manifest.tensors.count)
    for (number, members) in split.enumerated() {
      for (place, tensor) in members.enumerated() { places[tensor] = (number, place) }
    }
    var shards: [any TensorSink] = []
    var outputs: [String] = []
    var firstOutput: [Int] = []
    var entries: [ShardIndex.Entry] = []
    for (number, members) in split.enumerated() {
      var part = manifest
      part.tensors = members.map {
        var tensor = manifest.tensors[$0]
        tensor.sharesStorageWith = tensor.sharesStorageWith.map { places[$0].tensor }
        return tensor
      }
      let name = Self.name(fileName, number: number + 1, of: split.count)
      entries += part.tensors.map { ShardIndex.Entry(name: $0.name, file: name) }
      let shard = try makeShard(part, directory, name)
      firstOutput.append(outputs.count)
      outputs += shard.outputs
      shards.append(shard)
    }
    var total = 0
    for tensor in manifest.tensors where tensor.sharesStorageWith == nil {
      total = total.checkedPlus(tensor.byteCount) ?? .max
    }
    extents = places.map { place in
      guard var extent = shards[place.shard].extents[place.tensor] else { return nil }
      extent.file += firstOutput[place.shard]
      return extent
    }
    self.outputs = outputs + [directory + "/" + fileName + ".index.json"]
    self.shards = shards
    firstOutputs = firstOutput
    self.places = places
    index = ShardIndex(entries: entries, totalSize: total)
  }

  /// The shards as lists of the manifest's tensors, each in order.
  ///
  ///     // sizes 6, 6, 9, 2, at most 10 bytes: [[0], [1], [2], [3]]; at most 12: [[0, 1], [2, 3]]
  public static func split(_ manifest: OutputManifest, maxShardBytes: Int) -> [[Int]] {
    var shards: [[Int]] = [[]]
    var home = [Int](repeating: 0, count: manifest.tensors.count)
    var bytes = 0
    for (index, tensor) in manifest.tensors.enumerated() {
      if let owner = tensor.sharesStorageWith {
        home[index] = home[owner]
        shards[home[owner]].append(index)
        continue
      }
      let next = bytes.checkedPlus(tensor.storedByteCount)
      if !shards[shards.count - 1].isEmpty, next.map({ $0 > maxShardBytes }) ?? true {
        shards.append([])
        bytes = 0
      }
      bytes += tensor.storedByteCount
      home[index] = shards.count - 1
      shards[shards.count - 1].append(index)
    }
    return shards
  }

  /// A shard as a checkpoint of its own.
  public struct Part: Sendable {
    /// Its file's name.
    public var name: String
    /// What its sink is told.
    public var manifest: OutputManifest
    /// The places of its tensors in the whole manifest.
    public var members: [Int]

    /// A shard.
    public init(name: String, manifest: OutputManifest, members: [Int]) {
      self.name = name
      self.manifest = manifest
      self.members = members
    }
  }

  /// The shards that a writer would make of `manifest`, for one that makes them one after another;
  /// a single one, under the plain name, when all fits.
  public static func parts(
    _ manifest: OutputManifest, fileName: String, maxShardBytes: Int?
  ) -> [Part] {
    let all = Array(manifest.tensors.indices)
    let split = maxShardBytes.map { self.split(manifest, maxShardBytes: $0) } ?? [all]
    guard split.count > 1 else { return [Part(name: fileName, manifest: manifest, members: all)] }
    return split.enumerated().map { number, members in
      var places: [Int: Int] = [:]
      for (place, tensor) in members.enumerated() { places[tensor] = place }
      var part = manifest
      part.tensors = members.map {
        var tensor = manifest.tensors[$0]
        tensor.sharesStorageWith = tensor.sharesStorageWith.flatMap { places[$0] }
        return tensor
      }
      return Part(
        name: name(fileName, number: number + 1, of: split.count), manifest: part, members: members)
    }
  }

  /// `model-00001-of-00002.safetensors` from `model.safetensors`.
  static func name(_ fileName: String, number: Int, of count: Int) -> String {
    func five(_ value: Int) -> String {
      let digits = String(value)
      return String(repeating: "0", count: max(0, 5 - digits.utf8.count)) + digits
    }
    let dot = fileName.lastIndex(of: ".") ?? fileName.endIndex
    return fileName[..<dot] + "-\(five(number))-of-\(five(count))" + fileName[dot...]
  }

  /// Writes `bytes` at byte `offset` of tensor number `index`.
  ///
  /// - Throws: as the shard's sink.
  public func write(
    _ index: Int, at offset: Int, _ bytes: UnsafeRawBufferPointer
  ) throws(Diagnostic) {
    let place = places[index]
    try shards[place.shard].write(place.tensor, at: offset, bytes)
  }

  /// Moves bytes of another file to where a tensor lies.
  ///
  /// - Throws: as the shard's sink.
  public func move(
    _ count: Int, of source: RandomAccessFile, at offset: Int, toOutput output: Int, at target: Int
  ) throws(Diagnostic) {
    let shard = firstOutputs.lastIndex { $0 <= output } ?? 0
    try shards[shard].move(
      count, of: source, at: offset, toOutput: output - firstOutputs[shard], at: target)
  }

  /// Completes every shard, then writes the index.
  ///
  /// - Throws: `io.write`.
  public func finish(sync: Bool) throws(Diagnostic) {
    for shard in shards { try shard.finish(sync: sync) }
    let text = Array(index.text.utf8)
    let file = try OutputFile(path: outputs[outputs.count - 1], byteCount: text.count)
    try file.write(at: 0, text)
    try file.finish(sync: sync)
  }
}
