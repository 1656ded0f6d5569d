import Hub
import Parity

/// A stage's error against its bound as a bar: five decades up to the bound, which is the stroke, and
/// eight beyond it.
///
///     ██████▌   │        a few hundredths of the bound
///     ██████████┃██▎     some decades beyond it
enum StageBar {
  private static let below = 10
  private static let beyond = 4

  static func text(_ stage: ParityReport.Stage) -> String {
    if stage.ok {
      let share = stage.maxAbs > 0 ? 1 + decades(stage.maxAbs / stage.bound) / 5 : 0
      return bar(share, below) + "│" + String(repeating: " ", count: beyond)
    }
    let ratio = stage.maxAbs / stage.bound
    let share = ratio.isFinite ? decades(ratio) / 8 : 1
    return bar(1, below) + "┃" + bar(share, beyond)
  }

  private static func decades(_ ratio: Double) -> Double { LogAxis.logarithm(ratio) }

  private static func bar(_ share: Double, _ cells: Int) -> String {
    let eighths = Int((min(max(share, 0), 1) * Double(cells * 8)).rounded())
    let parts = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"]
    let text = String(repeating: "█", count: eighths / 8) + parts[eighths % 8]
    return text + String(repeating: " ", count: cells - text.count)
  }
}
