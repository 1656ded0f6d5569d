import Conversion
import Synchronization

/// One line on standard error that tells how far a conversion is.
final class ProgressLine: Sendable {
  private struct State {
    var last: ContinuousClock.Instant?
    var shown = false
  }

  private let start = ContinuousClock.now
  private let state = Mutex(State())

  /// Shows the progress, ten times a second at most.
  func show(_ progress: Executor.Progress) {
    let now = ContinuousClock.now
    state.withLock { state in
      if let last = state.last, now - last < .milliseconds(100) { return }
      state.last = now
      state.shown = true
      let seconds = max(Double((now - start) / .milliseconds(1)) / 1000, 0.001)
      let rate = Double(progress.done) / seconds
      let left = rate > 0 ? Double(progress.total - progress.done) / rate : 0
      Standard.write(
        "\r\u{1B}[K\(Shown.bytes(progress.done)) of \(Shown.bytes(progress.total))  \(Shown.bytes(Int(rate)))/s  \(Int(left)) s left  \(progress.tensor)",
        to: 2)
    }
  }

  /// Takes the line away.
  func clear() {
    state.withLock { state in
      if state.shown { Standard.write("\r\u{1B}[K", to: 2) }
      state.shown = false
    }
  }
}
