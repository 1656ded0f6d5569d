import Conversion
import Hub
import Synchronization
import Tensors
import WeighbridgeKit

/// Tells on standard error how far a conversion is: a line that is written over, or JSON lines.
final class ProgressLine: Sendable {
  /// How it is told.
  enum Form: Sendable { case line, json }

  private struct State {
    var begun: ContinuousClock.Instant?
    var last: ContinuousClock.Instant?
    var shown = false
  }

  private let form: Form
  /// How long the work may take before anything is shown.
  private let patience: Duration
  private let state = Mutex(State())

  init(_ form: Form, patience: Duration = .zero) {
    self.form = form
    self.patience = patience
  }

  /// Shows the progress, ten times a second at most; as JSON once a second, and at the end.
  func show(_ progress: Executor.Progress) {
    let now = ContinuousClock.now
    state.withLock { state in
      // The rate is that of the bytes, not of what came before the first of them.
      let begun = state.begun ?? now
      state.begun = begun
      let pause: Duration = form == .json ? .seconds(1) : .milliseconds(100)
      let isEnd = form == .json && progress.done == progress.total
      // A rate of the first moments tells nothing.
      guard now - begun >= patience || isEnd else { return }
      if let last = state.last, now - last < pause, !isEnd { return }
      state.last = now
      state.shown = true
      let seconds = max(Double((now - begun) / .milliseconds(1)) / 1000, 0.001)
      let rate = Double(progress.done) / seconds
      let left = rate > 0 ? Double(progress.total - progress.done) / rate : 0
      switch form {
      case .line:
        let head =
          "\(Shown.bytes(progress.done)) of \(Shown.bytes(progress.total))  "
          + "\(Shown.bytes(Int(rate)))/s  \(Self.shown(left)) left  "
        // A line that wraps could not be taken away.
        let room = Standard.errorWidth - 1
        let name = progress.tensor.string.visible(lines: false)
        let shown = max(0, room - head.count)
        let line =
          (head + (name.count > shown ? "…\(name.suffix(max(0, shown - 1)))" : name)).prefix(room)
        Standard.write("\r\u{1B}[K\(line)", to: 2)
      case .json:
        let object: JSONObject = [
          "event": "progress", "done": .int(progress.done), "total": .int(progress.total),
          "bytes_per_second": .int(Int(rate)), "seconds_left": .double((left * 10).rounded() / 10),
          "tensor": .string(progress.tensor.string),
        ]
        Standard.error(JSONValue.object(object).text())
      }
    }
  }

  /// What the work tells its progress to.
  var handler: ProgressHandler { { self.show($0) } }

  /// Takes the line away.
  func clear() {
    state.withLock { state in
      if state.shown, form == .line { Standard.write("\r\u{1B}[K", to: 2) }
      state.shown = false
    }
  }

  /// `42 s`, `3 min 20 s`, `2 h 5 min`.
  private static func shown(_ seconds: Double) -> String {
    let whole = Int(min(seconds.rounded(.up), 1e9))
    if whole < 60 { return "\(whole) s" }
    if whole < 3600 { return "\(whole / 60) min \(whole % 60) s" }
    return "\(whole / 3600) h \(whole % 3600 / 60) min"
  }
}
