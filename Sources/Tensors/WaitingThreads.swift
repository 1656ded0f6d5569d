#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Threads for work that waits for something else than the processor. Dispatch runs no more of it at
/// once than there are cores.
package enum WaitingThreads {
  private final class Work: Sendable {
    let body: @Sendable (Int) -> Void
    let number: Int

    init(_ body: @escaping @Sendable (Int) -> Void, _ number: Int) {
      self.body = body
      self.number = number
    }
  }

  /// Calls `body` with each number below `count`, each on a thread of its own, and returns when all
  /// have returned.
  package static func run(_ count: Int, _ body: @Sendable (Int) -> Void) {
    withoutActuallyEscaping(body) { body in
      var threads: [pthread_t] = []
      // The first is this thread's own, and so is what no thread can be had for.
      for number in stride(from: 1, to: count, by: 1) {
        let work = Unmanaged.passRetained(Work(body, number))
        guard let thread = start(work.toOpaque()) else {
          work.release()
          body(number)
          continue
        }
        threads.append(thread)
      }
      if count > 0 { body(0) }
      for thread in threads { pthread_join(thread, nil) }
    }
  }

  private static func start(_ work: UnsafeMutableRawPointer) -> pthread_t? {
    #if canImport(Darwin)
      var thread: pthread_t?
      let code = pthread_create(
        &thread, nil,
        { pointer in
          let work = Unmanaged<Work>.fromOpaque(pointer).takeRetainedValue()
          work.body(work.number)
          return nil
        }, work)
      return code == 0 ? thread : nil
    #else
      var thread = pthread_t()
      let code = pthread_create(
        &thread, nil,
        { pointer in
          guard let pointer else { return nil }
          let work = Unmanaged<Work>.fromOpaque(pointer).takeRetainedValue()
          work.body(work.number)
          return nil
        }, work)
      return code == 0 ? thread : nil
    #endif
  }
}
