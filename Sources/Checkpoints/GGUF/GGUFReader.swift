package import OrderedCollections
public import Tensors

/// A GGUF checkpoint, versions 2 and 3, of one file or several.
///
/// Plain numbers are read as they lie. Blocks of quantised numbers are read as the float32 numbers
/// that they stand for; `TensorInfo.stored` tells what the file holds.
public final class GGUFReader: TensorSource {
  /// Always `.gguf`.
  public var container: Container { .gguf }
  /// The file, or the parts in their order.
  public let files: [RandomAccessFile]
  /// The tensors in the order of the parts' tables.
  public let tensors: [TensorInfo]
  /// The texts among the keys, but for the tokenizer's.
  public let metadata: [String: String]
  /// The keys and their values; lists only of numbers, and short ones.
  public let attachments: JSONValue
  /// Tensors of types that are listed and not read.
  public let warnings: [Diagnostic]
  /// The keys and their values as the first file has them.
  package let values: OrderedDictionary<String, GGUFValue>

  private let types: [GGMLType]
  private let places: [TensorInfo.Extent]
  /// Longer lists are no configuration.
  private static let mostListed = 1024

  /// Opens the file, and the other parts of a checkpoint in several.
  ///
  /// - Throws: `gguf.*`, `io.*`.
  public init(path: String) throws(Problems) {
    do throws(Diagnostic) {
      let first = try RandomAccessFile(path: path)
      let header = try GGUFHeader(of: first)
      let parts = try GGUFSplit.parts(of: first, header)
      files = parts.map(\.file)
      values = header.values
      var infos: [TensorInfo] = []
      var types: [GGMLType] = []
      var places: [TensorInfo.Extent] = []
      for (number, part) in parts.enumerated() {
        for tensor in part.header.tensors {
          let place = TensorInfo.Extent(file: number, offset: tensor.offset)
          infos.append(try Self.info(tensor, place, part.file))
          types.append(tensor.type)
          places.append(place)
        }
      }
      tensors = infos
      self.types = types
      self.places = places
      warnings = Self.warnings(infos, types, first)
      var texts: [String: String] = [:]
      for (key, value) in header.values where !key.hasPrefix("tokenizer.") {
        if case .string = value, let text = value.json?.string { texts[key] = text }
      }
      metadata = texts
      attachments = try Self.attachments(header.values, first)
    } catch { throw Problems([error]) }
  }

  private static func info(
    _ tensor: GGUFHeader.Tensor, _ place: TensorInfo.Extent, _ file: RandomAccessFile
  ) throws(Diagnostic) -> TensorInfo {
    let dtype = tensor.type.plain ?? .f32
    guard let bytes = tensor.shape.byteCount(of: dtype) else {
      throw .gguf("size", "\(file.name): \(shown(tensor.name))", "is too large: \(tensor.shape)")
    }
    var info = TensorInfo(
      name: TensorName(tensor.name), dtype: dtype, shape: tensor.shape, byteCount: bytes,
      file: file.name, extent: tensor.type.plain == nil ? nil : place)
    if tensor.type.plain == nil {
      info.stored = TensorInfo.Stored(type: tensor.type.name, byteCount: tensor.byteCount)
    }
    return info
  }

  private static func warnings(
    _ infos: [TensorInfo], _ types: [GGMLType], _ file: RandomAccessFile
  ) -> [Diagnostic] {
    let unread = zip(infos, types).filter { !$0.1.isReadable }
    guard let first = unread.first else { return [] }
    let names = OrderedSet(unread.map(\.1.name)).joined(separator: ", ")
    return [
      Diagnostic(
        .warning, code: "gguf.unread-type", subject: file.name,
        message: "holds \(unread.count) tensors of the types \(names), such as "
          + "\(shown(first.0.name.string)): they are listed, their values cannot be read",
        help: "requantise the file to Q8_0 with llama-quantize, or take the model's F16 file")
    ]
  }

  private static func attachments(
    _ values: OrderedDictionary<String, GGUFValue>, _ file: RandomAccessFile
  ) throws(Diagnostic) -> JSONValue {
    var object: JSONObject = [:]
    for (key, value) in values {
      if let json = value.json {
        object[key] = json
      } else if case .array(let list) = value, list.element != .string,
        list.count <= mostListed
      {
        object[key] = .array(try list.values(in: file))
      }
    }
    return .object(object)
  }

  /// Reads the bytes `range` of tensor number `index`; of blocks, the bytes of the float32 numbers
  /// that they stand for.
  ///
  /// - Throws: `gguf.unread-type`; `io.read`, `io.truncated`.
  public func read(
    _ index: Int, bytes range: Range<Int>, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Diagnostic) {
    checkRange(index, range, buffer)
    let info = tensors[index]
    let (type, place) = (types[index], places[index])
    guard type.plain == nil else {
      return try files[place.file].read(at: place.offset + range.lowerBound, into: buffer)
    }
    guard type.isReadable else {
      throw .gguf(
        "unread-type", "\(info.file): \(shown(info.name.string))",
        "is \(type.name), whose values cannot be read here",
        help: "requantise the file to Q8_0 with llama-quantize, or take the model's F16 file")
    }
    guard !range.isEmpty else { return }
    let wide = type.blockCount * 4
    let first = range.lowerBound / wide
    let last = (range.upperBound - 1) / wide
    // A few thousand numbers at a time: the buffer's size is the caller's matter, not this one's.
    let step = max(1, 16_384 / type.blockCount)
    let packed = UnsafeMutableRawBufferPointer.allocate(
      byteCount: min(step, last - first + 1) * type.blockBytes, alignment: 16)
    defer { packed.deallocate() }
    let numbers = UnsafeMutableRawBufferPointer.allocate(
      byteCount: min(step, last - first + 1) * wide, alignment: 16)
    defer { numbers.deallocate() }
    var block = first
    while block <= last {
      let count = min(step, last - block + 1)
      let bytes = UnsafeMutableRawBufferPointer(rebasing: packed[..<(count * type.blockBytes)])
      try files[place.file].read(at: place.offset + block * type.blockBytes, into: bytes)
      let out = UnsafeMutableRawBufferPointer(rebasing: numbers[..<(count * wide)])
      GGMLBlocks.widen(type, UnsafeRawBufferPointer(bytes), into: out)
      let held = block * wide..<(block + count) * wide
      let wanted = held.clamped(to: range)
      UnsafeMutableRawBufferPointer(
        rebasing: buffer[
          wanted.lowerBound - range.lowerBound..<wanted.upperBound - range.lowerBound]
      ).copyMemory(
        from: UnsafeRawBufferPointer(
          rebasing: out[wanted.lowerBound - held.lowerBound..<wanted.upperBound - held.lowerBound])
      )
      block += count
    }
  }

  /// The texts of a list; `nil` for a key that is none.
  ///
  /// - Throws: `io.*`; `gguf.truncated` when the file was cut since.
  package func texts(_ key: String) throws(Diagnostic) -> [[UInt8]]? {
    guard case .array(let list) = values[key], list.element == .string else { return nil }
    var cursor = GGUFCursor(files[0], at: list.offset)
    var texts: [[UInt8]] = []
    for _ in 0..<list.count {
      texts.append(try cursor.string(atMost: GGUFHeader.mostTextBytes, "a text of \(key)"))
    }
    return texts
  }

  /// The numbers of a list; `nil` for a key that is none.
  ///
  /// - Throws: `io.*`; `gguf.truncated` when the file was cut since.
  package func numbers(_ key: String) throws(Diagnostic) -> [JSONValue]? {
    guard case .array(let list) = values[key], list.element != .string else { return nil }
    return try list.values(in: files[0])
  }
}

extension GGUFValue.List {
  /// The numbers or truth values of a list.
  ///
  /// - Throws: `io.*`; `gguf.truncated` when the file was cut since.
  func values(in file: RandomAccessFile) throws(Diagnostic) -> [JSONValue] {
    var cursor = GGUFCursor(file, at: offset)
    var values: [JSONValue] = []
    for _ in 0..<count { values.append(try GGUFHeader.number(&cursor, element)) }
    return values
  }
}
