import Checkpoints
import Dispatch
import Hub
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
  /// As many connections to a server, at least.
  private static let remoteThreads = 6

  /// An executor with this many threads.
  public init(threads: Int = 2) { self.threads = threads }

  private static func run(_ threads: Int, waiting: Bool, _ body: @Sendable (Int) -> Void) {
    guard !waiting else { return WaitingThreads.run(threads, body) }
    DispatchQueue.concurrentPerform(iterations: threads, execute: body)
  }

  /// Writes every tensor of `plan`.
  ///
  /// - Parameters:
  ///   - plan: what to write.
  ///   - source: the checkpoint that the plan was made for.
  ///   - sink: where the tensors go.
  ///   - progress: called now and then, from any thread.
  /// - Returns: what casts did to values, by the tensor's number in the plan; tensors with which nothing
  ///   happened are left out.
  /// - Throws: what reading or writing throws; the sink is then incomplete.
  public func run(
    _ plan: ConversionPlan, from source: any TensorSource, to sink: any TensorSink,
    progress: (@Sendable (Progress) -> Void)? = nil
  ) throws(Diagnostic) -> [Int: CastCounts] {
    let work = TransferList(plan, source, sink)
    let reader = PieceReader(source: source)
    let queue = WorkQueue(count: work.items.count, middle: work.middle)
    let written = Atomic(0)
    let state = Mutex(State())
    let total = work.items.reduce(0) { $0 + $1.byteCount }
    let bufferBytes = work.largestBlock
    // What comes over a network takes its time whatever the processor does.
    let isRemote = source.files.contains(where: \.isRemote)
    let threads = isRemote ? max(self.threads, Self.remoteThreads) : self.threads
    Self.run(max(1, min(threads, work.items.count)), waiting: isRemote) { thread in
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
            let counts = try Executor.fill(bytes, block, tensor, reader)
            try sink.write(
              block.tensor, at: block.rows.lowerBound * tensor.rowBytes,
              UnsafeRawBufferPointer(bytes))
            if counts != CastCounts() {
              state.withLock { $0.counts[block.tensor, default: CastCounts()] += counts }
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
    let (failure, counts) = state.withLock { ($0.failure, $0.counts) }
    if let failure { throw failure }
    return counts
  }

  /// Computes what the casts of `plan` do to values, without writing.
  ///
  /// - Throws: what reading throws.
  public func counts(
    _ plan: ConversionPlan, from source: any TensorSource
  ) throws(Diagnostic) -> [Int: CastCounts] {
    let reader = PieceReader(source: source)
    let state = Mutex(State())
    DispatchQueue.concurrentPerform(iterations: plan.tensors.count) { number in
      let tensor = plan.tensors[number]
      let isCast = tensor.parts.contains {
        !$0.value.isMove || $0.value.dtype != tensor.output.dtype
      }
      guard isCast, tensor.rowBytes > 0, state.withLock({ $0.failure == nil }) else { return }
      let rows = tensor.rows
      let step = max(1, TransferList.computedBytes / tensor.rowBytes)
      let buffer = UnsafeMutableRawBufferPointer.allocate(
        byteCount: min(step, rows) * tensor.rowBytes, alignment: 16)
      defer { buffer.deallocate() }
      do throws(Diagnostic) {
        var counts = CastCounts()
        for start in stride(from: 0, to: rows, by: step) {
          let end = min(start + step, rows)
          let block = TransferList.Block(
            tensor: number, rows: start..<end, byteCount: (end - start) * tensor.rowBytes)
          counts += try Executor.fill(
            UnsafeMutableRawBufferPointer(rebasing: buffer[..<block.byteCount]), block, tensor,
            reader)
        }
        if counts != CastCounts() { state.withLock { $0.counts[number] = counts } }
      } catch { state.withLock { if $0.failure == nil { $0.failure = error } } }
    }
    let (failure, counts) = state.withLock { ($0.failure, $0.counts) }
    if let failure { throw failure }
    return counts
  }

  private struct State {
    var failure: Diagnostic?
    var counts: [Int: CastCounts] = [:]
  }

  /// Computes a block.
  static func fill(
    _ bytes: UnsafeMutableRawBufferPointer, _ block: TransferList.Block,
    _ tensor: ConversionPlan.Tensor,
    _ reader: PieceReader
  ) throws(Diagnostic) -> CastCounts {
    var counts = CastCounts()
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
      let found = try reader.read(
        part.value, rows: pieceRows, as: tensor.output.dtype, into: target)
      // Bytes that are not cast are looked at where they pass through memory all the same.
      counts +=
        part.value.isMove && part.value.dtype == tensor.output.dtype
        ? CastCounts(notFinite: tensor.output.dtype.countNotFinite(UnsafeRawBufferPointer(target)))
        : found
    }
    return counts
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
