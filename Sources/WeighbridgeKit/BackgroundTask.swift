import Dispatch
import Hub
import Synchronization
import Tensors

/// Runs a closure on another thread while its caller goes on.
final class BackgroundTask<Value: Sendable>: Sendable {
  private let result = Mutex<Result<Value, Diagnostic>?>(nil)
  private let finished = DispatchGroup()

  /// Starts `body`.
  init(_ body: @escaping @Sendable () throws(Diagnostic) -> Value) {
    finished.enter()
    DispatchQueue.global().async { [self] in
      let found: Result<Value, Diagnostic>
      do throws(Diagnostic) { found = .success(try body()) } catch { found = .failure(error) }
      result.withLock { $0 = found }
      finished.leave()
    }
  }

  /// Waits for the result.
  func value() throws(Diagnostic) -> Value {
    finished.wait()
    return try result.withLock { $0! }.get()
  }
}
