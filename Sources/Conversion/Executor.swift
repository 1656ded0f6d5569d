public import Checkpoints
import Dispatch
import Synchronization
public import Tensors

/// Carries a plan out, on several threads: what stays as it is goes from file to file, the rest in
/// blocks that are computed. Memory is a few blocks, whatever the checkpoint's size.
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

  /// Threads that read, transform and write.
  public var threads: Int

  /// An executor with this many threads.
  public init(threads: Int = 2) { self.threads = threads }

  /// Writes every tensor of `plan`.
  ///
  /// - Parameters:
  ///   - plan: what to write.
  ///   - source: the checkpoint that the plan was made for.
  ///   - sink: where the tensors go.
  ///   - progress: called now and then, from any thread.
  /// - Returns: warnings, such as values that became infinite.
  /// - Throws: what reading or writing throws; the sink is then incomplete.
  public func run(
    _ plan: ConversionPlan, from source: any TensorSource, to sink: any TensorSink,
    progress: (@Sendable (Progress) -> Void)? = nil
  ) throws(Diagnostic) -> [Diagnostic] {
    let work = Work(plan, source, sink)
    let reader = PieceReader(source: source)
    let queue = WorkQueue(count: work.items.count, middle: work.middle)
    let written = Atomic(0)
    let state = Mutex(State())
    let total = work.items.reduce(0) { $0 + $1.byteCount }
    let bufferBytes = work.largestBlock
    DispatchQueue.concurrentPerform(iterations: max(1, min(threads, work.items.count))) { thread in
      let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: bufferBytes, alignment: 16)
      defer { buffer.deallocate() }
      while let number = queue.next(thread), state.withLock({ $0.failure == nil }) {
        let item = work.items[number]
        let tensor = plan.tensors[item.tensor]
        do throws(Diagnostic) {
          switch item {
          case .move(let move):
            try sink.move(
              move.count, of: source.files[move.source.file], at: move.source.offset,
              toOutput: move.target.file, at: move.target.offset)
          case .block(let block):
            let bytes = UnsafeMutableRawBufferPointer(rebasing: buffer[..<block.byteCount])
            let overflows = try Executor.fill(bytes, block, tensor, reader)
            try sink.write(
              block.tensor, at: block.rows.lowerBound * tensor.rowBytes,
              UnsafeRawBufferPointer(bytes))
            if overflows > 0 {
              state.withLock { $0.overflows[block.tensor, default: 0] += overflows }
            }
          }
        } catch {
          state.withLock { if $0.failure == nil { $0.failure = error } }
          return
        }
        let done = written.wrappingAdd(item.byteCount, ordering: .relaxed).newValue
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

  /// Computes a block.
  static func fill(
    _ bytes: UnsafeMutableRawBufferPointer, _ block: Work.Block, _ tensor: ConversionPlan.Tensor,
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

/// Hands out numbers: half of the threads begin at the front and half in the middle, each going
/// forward, so that two of them seldom write to one file (a file system lets one at a time) and the
/// blocks of a tensor come in order.
private struct WorkQueue: ~Copyable, Sendable {
  private let ranges: Mutex<[Range<Int>]>

  init(count: Int, middle: Int) { ranges = Mutex([0..<middle, middle..<count]) }

  func next(_ thread: Int) -> Int? {
    ranges.withLock { ranges in
      let own = thread % 2
      let from = ranges[own].isEmpty ? 1 - own : own
      guard let number = ranges[from].first else { return nil }
      ranges[from] = number + 1..<ranges[from].upperBound
      return number
    }
  }
}
