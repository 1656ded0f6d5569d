import CKernels
import Hub
import Tensors

/// The threads of a pass. Work is cut into pieces that depend on shapes alone, never on the number
/// of threads, and no two pieces write to the same place: the result is the same for any number.
package struct Workers: Sendable {
  /// How many threads take part, this one included.
  package let count: Int

  /// `count` threads; 0 means one a core.
  package init(_ count: Int) {
    self.count = count > 0 ? count : Workers.cores
  }

  /// The cores that this process may use.
  static let cores = Cores.current.usable

  /// Calls `body(piece, lane)` for each piece of 0..<pieces; pieces of one lane run one after
  /// another, so that `lane` (below `count`) may choose a scratch buffer.
  package func forEach(_ pieces: Int, _ body: (_ piece: Int, _ lane: Int) -> Void) {
    let lanes = min(count, pieces)
    guard lanes > 1 else {
      for piece in 0..<pieces { body(piece, 0) }
      return
    }
    withoutActuallyEscaping(body) { body in
      withUnsafePointer(to: body) { body in
        ck_pool_run(
          Workers.pool, lanes, pieces,
          { context, piece, lane in
            context.unsafelyUnwrapped.assumingMemoryBound(to: ((Int, Int) -> Void).self).pointee(
              piece, lane)
          }, UnsafeMutableRawPointer(mutating: body))
      }
    }
  }

  /// The threads of all models: one job at a time, since it takes all cores.
  nonisolated(unsafe) private static let pool = ck_pool_make(cores - 1)

  /// Calls `body` for each run of at most `grain` of `count` items.
  func forEachRun(of count: Int, grain: Int, _ body: (Range<Int>) -> Void) {
    forEach((count + grain - 1) / grain) { piece, _ in
      body(piece * grain..<min(count, (piece + 1) * grain))
    }
  }
}
