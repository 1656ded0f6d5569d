import Dispatch

/// Work of several threads at once.
enum DispatchThreads {
  /// Calls `body` with each number below `count`.
  static func run(_ count: Int, _ body: @Sendable (Int) -> Void) {
    DispatchQueue.concurrentPerform(iterations: count, execute: body)
  }
}
