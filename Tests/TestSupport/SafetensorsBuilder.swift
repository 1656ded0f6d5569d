public import Tensors

/// Puts together a safetensors file byte by byte, without the code under test.
public struct SafetensorsBuilder {
  private var entries: [String] = []
  private var data: [UInt8] = []

  /// No tensors yet.
  public init() {}

  /// Adds a tensor behind the others; `name` and `bytes` are taken as they are.
  public mutating func add(_ name: String, _ dtype: DType, _ shape: [Int], _ bytes: [UInt8]) {
    let dims = shape.map(String.init).joined(separator: ",")
    entries.append(
      "\"\(name)\":{\"dtype\":\"\(dtype.rawValue)\",\"shape\":[\(dims)],"
        + "\"data_offsets\":[\(data.count),\(data.count + bytes.count)]}")
    data += bytes
  }

  /// Adds an F32 tensor.
  public mutating func add(_ name: String, _ shape: [Int], _ values: [Float]) {
    add(
      name, .f32, shape,
      values.flatMap { value in
        (0..<4).map { UInt8(truncatingIfNeeded: value.bitPattern >> ($0 * 8)) }
      })
  }

  /// The file.
  public var bytes: [UInt8] {
    Self.file(header: "{\(entries.joined(separator: ","))}", data: data)
  }

  /// The length, a header, the data.
  public static func file(header: String, data: [UInt8]) -> [UInt8] {
    let text = Array(header.utf8)
    return (0..<8).map { UInt8(truncatingIfNeeded: text.count >> ($0 * 8)) } + text + data
  }
}
