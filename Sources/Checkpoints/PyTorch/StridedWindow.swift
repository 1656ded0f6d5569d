import Synchronization
import Tensors

/// Reads strided views ahead, for callers that take a tensor in small pieces from front to back.
///
/// A piece of a transposed matrix lies in little runs all over the file; collecting 32 mebibytes at
/// once makes the runs as many times longer as the piece is smaller. Two windows serve two readers.
final class StridedWindow: Sendable {
  private struct Window {
    var tensor: Int
    var range: Range<Int>
    var bytes: [UInt8]
  }

  private static let windowBytes = 32 << 20

  /// The one used last stands last.
  private let windows = Mutex<[Window]>([])

  /// Reads the bytes `range` of the dense form of `view`, tensor number `tensor` of `byteCount` bytes.
  func read(
    _ tensor: Int, _ view: StridedView, _ range: Range<Int>, of byteCount: Int,
    from file: RandomAccessFile, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Diagnostic) {
    guard !view.isDense, range.count < min(byteCount, Self.windowBytes) else {
      return try view.read(range, from: file, into: buffer)
    }
    // Out of the closure by hand: the lock passes no typed error.
    var failure: Diagnostic?
    let isServed = windows.withLock { windows -> Bool in
      let at = windows.lastIndex {
        $0.tensor == tensor && $0.range.lowerBound <= range.lowerBound
          && range.lowerBound <= $0.range.upperBound
      }
      // A jump is no pass from front to back.
      guard at != nil || range.lowerBound == 0 else { return false }
      var window = at.map { windows.remove(at: $0) }
      if window.map({ range.upperBound > $0.range.upperBound }) ?? true {
        window = nil
        if windows.count > 1 { windows.removeFirst() }
        let ahead =
          range.lowerBound..<min(byteCount, range.lowerBound + Self.windowBytes)
        let bytes = [UInt8](unsafeUninitializedCapacity: ahead.count) { out, count in
          do throws(Diagnostic) {
            try view.read(ahead, from: file, into: UnsafeMutableRawBufferPointer(out))
            count = ahead.count
          } catch { failure = error }
        }
        guard failure == nil else { return true }
        window = Window(tensor: tensor, range: ahead, bytes: bytes)
      }
      let start = range.lowerBound - window!.range.lowerBound
      window!.bytes.withUnsafeBytes {
        buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[start..<start + range.count]))
      }
      windows.append(window!)
      return true
    }
    if let failure { throw failure }
    if !isServed { try view.read(range, from: file, into: buffer) }
  }
}
