import CKernels
import Dispatch
import Testing

#if canImport(Darwin)
  import Darwin
#elseif canImport(Musl)
  import Musl
#else
  import Glibc
#endif

/// What the pieces of one job write to, without any lock: a piece that ran twice, two pieces in one
/// lane at a time or a return before the last piece's end would show.
private final class Ledger: @unchecked Sendable {
  let pieces: UnsafeMutablePointer<Int>
  let lanes: UnsafeMutablePointer<Int>
  let most: Int

  init(most: Int, lanes count: Int) {
    self.most = most
    pieces = .allocate(capacity: most)
    lanes = .allocate(capacity: count)
    pieces.initialize(repeating: 0, count: most)
    lanes.initialize(repeating: 0, count: count)
  }

  deinit {
    pieces.deallocate()
    lanes.deallocate()
  }

  func run(_ pool: OpaquePointer?, lanes count: Int, pieces number: Int) {
    pieces.update(repeating: 0, count: most)
    lanes.update(repeating: 0, count: count)
    ck_pool_run(
      pool, count, number,
      { context, piece, lane in
        let ledger = Unmanaged<Ledger>.fromOpaque(context.unsafelyUnwrapped).takeUnretainedValue()
        ledger.pieces[piece] += 1
        ledger.lanes[lane] += 1
      }, Unmanaged.passUnretained(self).toOpaque())
  }

  /// Whether each piece ran once, and no lane lost count.
  func isRight(lanes count: Int, pieces number: Int) -> Bool {
    (0..<most).allSatisfy { pieces[$0] == ($0 < number ? 1 : 0) }
      && (0..<count).reduce(0) { $0 + lanes[$1] } == number
  }
}

@Suite("The thread pool under stress")
struct ThreadPoolStressTests {
  @Test("thousands of short jobs, one after another, with any number of threads")
  func shortJobs() {
    for threads in [1, 2, 7] {
      let pool = ck_pool_make(threads)
      let ledger = Ledger(most: 64, lanes: threads + 1)
      for job in 0..<4000 {
        let pieces = job * 7 % 65
        // Fewer lanes than threads, as many, and a job of one.
        let lanes = 1 + job % (threads + 1)
        ledger.run(pool, lanes: lanes, pieces: pieces)
        guard ledger.isRight(lanes: lanes, pieces: pieces) else {
          Issue.record("job \(job): \(pieces) pieces in \(lanes) lanes on \(threads) threads")
          return
        }
      }
    }
  }

  @Test("jobs between which the threads fall asleep")
  func sleepers() {
    let pool = ck_pool_make(3)
    let ledger = Ledger(most: 16, lanes: 4)
    for job in 0..<400 {
      // From before the threads sleep to well after it.
      usleep(UInt32(job % 8) * 60)
      ledger.run(pool, lanes: 4, pieces: 16)
      guard ledger.isRight(lanes: 4, pieces: 16) else {
        Issue.record("job \(job)")
        return
      }
    }
  }

  @Test("callers that find the pool taken run their pieces themselves")
  func contention() {
    nonisolated(unsafe) let pool = ck_pool_make(3)
    let right = (0..<4).map { _ in Ledger(most: 32, lanes: 4) }
    DispatchQueue.concurrentPerform(iterations: right.count) { caller in
      for job in 0..<2000 {
        let pieces = (job + caller) % 33
        right[caller].run(pool, lanes: 4, pieces: pieces)
        guard right[caller].isRight(lanes: 4, pieces: pieces) else {
          Issue.record("job \(job) of caller \(caller)")
          return
        }
      }
    }
  }

  @Test("a piece that starts a job of its own runs it to the end")
  func nesting() {
    final class Nest: @unchecked Sendable {
      let pool = ck_pool_make(3)
      let inner = (0..<24).map { _ in Ledger(most: 8, lanes: 4) }
    }
    let nest = Nest()
    for _ in 0..<300 {
      ck_pool_run(
        nest.pool, 4, nest.inner.count,
        { context, piece, _ in
          let nest = Unmanaged<Nest>.fromOpaque(context.unsafelyUnwrapped).takeUnretainedValue()
          nest.inner[piece].run(nest.pool, lanes: 4, pieces: 8)
        }, Unmanaged.passUnretained(nest).toOpaque())
      guard nest.inner.allSatisfy({ $0.isRight(lanes: 4, pieces: 8) }) else {
        Issue.record("a job inside a job")
        return
      }
    }
  }

  @Test("without a pool, or without threads, the caller runs all pieces in lane 0")
  func alone() {
    for pool in [nil, ck_pool_make(0)] {
      let ledger = Ledger(most: 8, lanes: 4)
      ledger.run(pool, lanes: 4, pieces: 8)
      #expect(ledger.isRight(lanes: 4, pieces: 8))
      #expect(ledger.lanes[0] == 8)
    }
  }
}
