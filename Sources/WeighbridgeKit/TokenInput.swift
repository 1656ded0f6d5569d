import Checkpoints
public import Hub
import Layouts
import Parity
import Tensors

/// Where the tokens of a run come from.
public enum TokenInput: Sendable {
  /// A JSON array of arrays, or a trace's `input_ids`; `-` is standard input, and a pipe is read to
  /// its end.
  case file(String)
  /// `batch` sequences of `length` tokens drawn from the vocabulary without its padding rows.
  case random(batch: Int, length: Int, seed: UInt64)

  /// The tokens.
  ///
  /// - Throws: `tokens.format`, `tokens.shape`; what reading throws.
  public func tokens(for spec: ModelSpec) throws -> [[Int]] {
    switch self {
    case .file(let path):
      if path.hasSuffix(".safetensors") { return try TraceFile(path: path).tokens }
      let bytes = try TokenFile.bytes(path)
      let value = try JSONParser.parse(bytes, file: path)
      guard let rows = value.array, !rows.isEmpty else {
        throw Diagnostic(
          code: "tokens.format", subject: path,
          message: "should be a JSON array of arrays of tokens")
      }
      var tokens: [[Int]] = []
      for row in rows {
        guard let items = row.array, let ids = Optional(items.compactMap(\.int)),
          ids.count == items.count
        else {
          throw Diagnostic(
            code: "tokens.format", subject: path,
            message: "should be a JSON array of arrays of whole numbers")
        }
        tokens.append(ids)
      }
      return tokens
    case .random(let batch, let length, let seed):
      let rows = spec["vocab_rows"].int ?? 1
      let count = UInt64(max(1, min(spec["vocab_size"].int ?? rows, rows)))
      var state = seed
      return (0..<batch).map { _ in
        (0..<length).map { _ in
          // SplitMix64 (Steele, Lea and Flood 2014), the high half scaled to the range.
          state &+= 0x9e37_79b9_7f4a_7c15
          var z = state
          z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
          z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
          // In Swift a shift binds closer than a product.
          return Int((((z ^ (z >> 31)) >> 32) * count) >> 32)
        }
      }
    }
  }
}

/// A trace in a safetensors file.
struct TraceFile: TraceSource {
  let name: String
  let tokens: [[Int]]
  /// A prompt and its greedy continuation, when the trace holds one.
  let greedy: [Int]?
  /// Of the type that the metadata names, or of the stages where it names none.
  let unitRoundoff: Double
  private let source: any TensorSource

  init(path: String) throws {
    name = path
    let reader = try SafetensorsReader(path: path)
    source = reader
    let units = ["float64": 0x1p-53, "float32": 0x1p-24, "float16": 0x1p-11, "bfloat16": 0x1p-8]
    let stored: [DType: Double] = [.f64: 0x1p-53, .f32: 0x1p-24, .f16: 0x1p-11, .bf16: 0x1p-8]
    unitRoundoff =
      reader.metadata["dtype"].flatMap { units[$0] }
      ?? reader.tensors.compactMap { stored[$0.dtype] }.max() ?? 0x1p-53
    guard let ids = try Self.integers("input_ids", reader),
      let shape = ids.shape.dims.count == 2 ? ids.shape : nil
    else {
      throw Diagnostic(
        code: "trace.tokens", subject: path, message: "holds no input_ids of I64 [batch, length]",
        help: "a trace is a safetensors file with input_ids, hidden_states.i, final_norm and logits"
      )
    }
    // A billion sequences of no token would take no byte in the file, and many here.
    guard shape.dims.allSatisfy({ $0 > 0 }) else {
      throw Diagnostic(
        code: "trace.tokens", subject: path, message: "holds input_ids of \(shape): no tokens")
    }
    tokens = (0..<shape[0]).map { Array(ids.values[$0 * shape[1]..<($0 + 1) * shape[1]]) }
    greedy = try Self.integers("greedy", reader)?.values
  }

  private static func integers(
    _ name: String, _ source: any TensorSource
  ) throws(Diagnostic) -> (shape: Shape, values: [Int])? {
    guard let number = source.tensors.firstIndex(where: { $0.name == TensorName(name) }) else {
      return nil
    }
    let info = source.tensors[number]
    guard info.dtype == .i64 || info.dtype == .i32 else { return nil }
    let bytes = try source.bytes(of: number)
    let size = info.dtype.bitWidth / 8
    return (
      info.shape,
      (0..<bytes.count / size).map { i in
        bytes.withUnsafeBytes {
          size == 8
            ? Int($0.loadUnaligned(fromByteOffset: i * 8, as: Int64.self))
            : Int($0.loadUnaligned(fromByteOffset: i * 4, as: Int32.self))
        }
      }
    )
  }

  func values(_ stage: String) throws(Diagnostic) -> [Double]? {
    guard let number = source.tensors.firstIndex(where: { $0.name == TensorName(stage) }) else {
      return nil
    }
    let info = source.tensors[number]
    guard info.dtype.isFloat else {
      throw Diagnostic(
        code: "trace.dtype", subject: stage, message: "is \(info.dtype.rawValue), no float type")
    }
    let bytes = try source.bytes(of: number)
    let count = bytes.count * 8 / info.dtype.bitWidth
    return [Double](unsafeUninitializedCapacity: count) { buffer, initialized in
      let target = UnsafeMutableRawBufferPointer(buffer)
      bytes.withUnsafeBytes {
        if info.dtype == .f64 {
          target.copyMemory(from: $0)
        } else {
          _ = DType.convert(from: info.dtype, to: .f64, source: $0, destination: target)
        }
      }
      initialized = count
    }
  }
}
