public import Conversion
import Hub
import Synchronization
import Tensors

/// How far long work is.
public typealias ProgressHandler = @Sendable (Executor.Progress) -> Void

/// Counts the bytes that were worked through, and tells them on.
final class Meter: ReadObserver {
  private let counts: Mutex<(done: Int, total: Int)>
  private let tell: ProgressHandler

  /// A meter; none where nobody wants to know.
  init?(total: Int, _ tell: ProgressHandler?) {
    guard let tell else { return nil }
    counts = Mutex((0, total))
    self.tell = tell
  }

  func didRead(
    _ piece: PieceID, rows: Range<Int>, _ bytes: UnsafeRawBufferPointer, _ dtype: DType
  ) {
    add(bytes.count, piece.description)
  }

  /// Adds bytes of `tensor`. Where more is read than was foreseen, the total grows along.
  func add(_ bytes: Int, _ tensor: String) {
    let (done, total) = counts.withLock { counts in
      counts.done += bytes
      counts.total = max(counts.total, counts.done)
      return counts
    }
    tell(Executor.Progress(done: done, total: total, tensor: TensorName(tensor)))
  }
}
