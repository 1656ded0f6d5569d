public import Checkpoints
import Dispatch
import Synchronization
public import Tensors

/// Carries a plan out: source to recipe to sink, in blocks, on several threads. Memory is a few
/// blocks, whatever the size of the checkpoint.
public struct Executor: Sendable {
  /// How far a conversion is.
  public struct Progress: Sendable {
    /// Bytes written.
    public var done: Int
    /// Bytes to be written.
    public var total: Int
    /// The tensor that was last worked on.
    public var tensor: TensorName

    /// So far.
    public init(done: Int, total: Int, tensor: TensorName) {
      self.done = done
      self.total = total
      self.tensor = tensor
    }
  }

  /// Bytes of a block.
  static let blockBytes = 8 << 20

  /// Threads that read, transform and write.
  public var threads: Int

  /// An executor with this many threads.
  public init(threads: Int = 2) { self.threads = threads }

  /// Writes every tensor of `plan`.
  ///
  /// - Parameter progress: called now and then, from any thread.
  /// - Returns: warnings, such as values that became infinite.
  /// - Throws: what reading or writing throws; the sink is then incomplete.
  public func run(
    _ plan: ConversionPlan, from source: any TensorSource, to sink: any TensorSink,
    progress: (@Sendable (Progress) -> Void)? = nil
  ) throws(Diagnostic) -> [Diagnostic] {
    let work = Executor.blocks(of: plan)
    let reader = PieceReader(source: source)
    let next = Atomic(0)
    let written = Atomic(0)
    let state = Mutex(State())
    let total = plan.byteCount
    DispatchQueue.concurrentPerform(iterations: min(threads, max(work.count, 1))) { _ in
      let buffer = UnsafeMutableRawBufferPointer.allocate(
        byteCount: work.map(\.byteCount).max() ?? 0, alignment: 4096)
      defer { buffer.deallocate() }
      while true {
        let number = next.wrappingAdd(1, ordering: .relaxed).oldValue
        guard number < work.count, state.withLock({ $0.failure == nil }) else { return }
        let block = work[number]
        let tensor = plan.tensors[block.tensor]
        do throws(Diagnostic) {
          let bytes = UnsafeMutableRawBufferPointer(rebasing: buffer[..<block.byteCount])
          let overflows = try Executor.fill(bytes, block, tensor, reader)
          try sink.write(
            block.tensor, at: block.rows.lowerBound * tensor.rowBytes, UnsafeRawBufferPointer(bytes)
          )
          if overflows > 0 {
            state.withLock { $0.overflows[block.tensor, default: 0] += overflows }
          }
        } catch {
          state.withLock { if $0.failure == nil { $0.failure = error } }
          return
        }
        let done = written.wrappingAdd(block.byteCount, ordering: .relaxed).newValue
        progress?(Progress(done: done, total: total, tensor: tensor.output.name))
      }
    }
    let (failure, overflows) = state.withLock { ($0.failure, $0.overflows) }
    if let failure { throw failure }
    return overflows.sorted { $0.key < $1.key }.map { number, count in
      let output = plan.tensors[number].output
      return Diagnostic(
        .warning, code: "convert.overflow", subject: output.name.string,
        message: "\(count) finite values became infinite in \(output.dtype.rawValue)",
        help: "bfloat16 has float32's range")
    }
  }

  private struct State {
    var failure: Diagnostic?
    var overflows: [Int: Int] = [:]
  }

  /// Some rows of a tensor of the plan.
  struct Block: Sendable {
    var tensor: Int
    var rows: Range<Int>
    var byteCount: Int
  }

  /// The tensors cut into blocks of rows, in the order of the file.
  static func blocks(of plan: ConversionPlan) -> [Block] {
    var blocks: [Block] = []
    for (number, tensor) in plan.tensors.enumerated() {
      guard tensor.output.sharesStorageWith == nil, tensor.output.byteCount > 0 else { continue }
      let rows = tensor.output.shape.rows
      let step = max(1, blockBytes / max(tensor.rowBytes, 1))
      var row = 0
      while row < rows {
        let end = min(row + step, rows)
        blocks.append(
          Block(tensor: number, rows: row..<end, byteCount: (end - row) * tensor.rowBytes))
        row = end
      }
    }
    return blocks
  }

  /// Computes a block.
  static func fill(
    _ bytes: UnsafeMutableRawBufferPointer, _ block: Block, _ tensor: ConversionPlan.Tensor,
    _ reader: PieceReader
  ) throws(Diagnostic) -> Int {
    var overflows = 0
    var start = 0
    for part in tensor.parts {
      let own = start..<start + part.count
      start += part.count
      let rows = own.clamped(to: block.rows)
      guard !rows.isEmpty else { continue }
      let first = (rows.lowerBound - block.rows.lowerBound) * tensor.rowBytes
      let target = UnsafeMutableRawBufferPointer(
        rebasing: bytes[first..<first + rows.count * tensor.rowBytes])
      let pieceRows =
        part.start + rows.lowerBound - own.lowerBound..<part.start + rows.upperBound
        - own.lowerBound
      overflows += try reader.read(
        part.value, rows: pieceRows, as: tensor.output.dtype, into: target)
    }
    return overflows
  }
}
