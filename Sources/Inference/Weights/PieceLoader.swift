import Hub
import Tensors

/// Hands a mixer its pieces. Each fetch states the shape that it expects; whatever is wrong is
/// collected, so that one dry run over a model names every problem before any byte is read.
final class PieceLoader<T: Real> {
  let sublayer: ModelSpec.Sublayer?
  let index: Int?
  let spec: ModelSpec
  /// Self-Extend, when the run asks for it.
  let selfExtend: SelfExtend?
  private let source: any WeightSource
  private let workspace: Workspace
  /// Whether only shapes are checked; pieces are then empty and must not be run.
  let isDry: Bool
  /// Whether weights stay in memory once used.
  let keepsWeights: Bool
  private(set) var problems: [Diagnostic] = []

  init(
    _ source: any WeightSource, spec: ModelSpec, sublayer index: Int?, selfExtend: SelfExtend?,
    workspace: Workspace, keepsWeights: Bool = false, isDry: Bool
  ) {
    self.keepsWeights = keepsWeights
    self.selfExtend = selfExtend
    self.source = source
    self.spec = spec
    self.index = index
    sublayer = index.map { spec.sublayers[$0] }
    self.workspace = workspace
    self.isDry = isDry
  }

  /// What the loader is about, for messages: `gla in layer 3`, or `model`.
  var subject: String {
    sublayer.map { "\($0.kind) in layer \($0.layer)" } ?? "model"
  }

  /// Takes note of a problem.
  func refuse(_ code: String, _ message: String, help: String? = nil) {
    problems.append(Diagnostic(code: code, subject: subject, message: message, help: help))
  }

  /// Whether the model has the piece.
  func has(_ role: String, ofModel: Bool = false) -> Bool {
    source.info(PieceID(ofModel ? nil : index, role)) != nil
  }

  /// Lets the bytes of a piece leave memory, unless weights are kept.
  func evict(_ role: String) {
    if !keepsWeights { source.evict(PieceID(index, role)) }
  }

  /// The matrix `role` [rows, columns]; `room` takes its bytes where they must be read.
  func matrix(_ role: String, _ rows: Int, _ columns: Int, room: WeightRoom? = nil) -> Weight {
    let piece = PieceID(index, role)
    guard let dtype = check(piece, [rows, columns]), !isDry else {
      return Weight(
        rows: rows, columns: columns, dtype: .f32, bytes: PieceLoader.nothing, owner: nil)
    }
    if let resident = source.resident(piece), let address = resident.baseAddress {
      return Weight(
        rows: rows, columns: columns, dtype: dtype, bytes: address, owner: source as AnyObject)
    }
    let size = rows * columns * dtype.bitWidth / 8
    let buffer = room?.buffer(size, workspace) ?? workspace.buffer(size)
    read(piece, rows, UnsafeMutableRawBufferPointer(start: buffer.pointer, count: size))
    return Weight(
      rows: rows, columns: columns, dtype: dtype, bytes: UnsafeRawPointer(buffer.pointer),
      owner: buffer)
  }

  /// The small piece `role` of this shape, widened as a whole.
  func values(_ role: String, _ shape: Shape, ofModel: Bool = false) -> [T] {
    let piece = PieceID(ofModel ? nil : index, role)
    guard let dtype = check(piece, shape), !isDry, let count = shape.elementCount else { return [] }
    let size = count * dtype.bitWidth / 8
    let buffer: Buffer<UInt8> = workspace.buffer(size)
    read(piece, shape[0], UnsafeMutableRawBufferPointer(start: buffer.pointer, count: size))
    return [T](unsafeUninitializedCapacity: count) { out, initialized in
      if let out = out.baseAddress { widen(buffer.pointer, dtype, count, into: out) }
      initialized = count
    }
  }

  /// The small piece `role`, or `nil` when the model has none.
  func optionalValues(_ role: String, _ shape: Shape, ofModel: Bool = false) -> [T]? {
    has(role, ofModel: ofModel) ? values(role, shape, ofModel: ofModel) : nil
  }

  // The dtype, when the piece is as it should be.
  private func check(_ piece: PieceID, _ shape: Shape) -> DType? {
    let before = problems.count
    guard let info = source.info(piece) else {
      refuse("model.piece", "\(piece.role) is missing; it should be \(shape)")
      return nil
    }
    if info.shape != shape {
      refuse("model.shape", "\(piece.role) is \(info.shape); it should be \(shape)")
    }
    if !info.dtype.isFloat {
      refuse(
        "model.dtype",
        "\(piece.role) is \(info.dtype.rawValue); the engine runs F64, F32, F16, BF16")
    }
    if shape.dims.contains(where: { $0 > Int(Int32.max) }) || shape.byteCount(of: .f64) == nil {
      refuse("model.shape", "\(piece.role) is too large: \(shape)")
    }
    return problems.count == before ? info.dtype : nil
  }

  private func read(_ piece: PieceID, _ rows: Int, _ buffer: UnsafeMutableRawBufferPointer) {
    guard buffer.count > 0 else { return }
    do throws(Diagnostic) {
      try source.read(piece, rows: 0..<rows, into: buffer)
    } catch { problems.append(error) }
  }

  // A pointer that is never read.
  private static var nothing: UnsafeRawPointer {
    UnsafeRawPointer(bitPattern: 64).unsafelyUnwrapped
  }
}

/// Room for the bytes of a weight, used again for the next one.
final class WeightRoom {
  private var held: Buffer<UInt8>?

  init() {}

  func buffer(_ size: Int, _ workspace: Workspace) -> Buffer<UInt8> {
    if let held, held.count >= size { return held }
    let buffer: Buffer<UInt8> = workspace.buffer(size)
    held = buffer
    return buffer
  }
}
