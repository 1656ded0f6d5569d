public import ArgumentParser
import Hub
import Inference
import Parity
import WeighbridgeKit

/// `--random 2x64`.
struct BatchSize: ExpressibleByArgument {
  var batch: Int
  var length: Int

  init?(argument: String) {
    let parts = argument.split(separator: "x", omittingEmptySubsequences: false)
    guard parts.count == 2, let batch = Int(parts[0]), let length = Int(parts[1]), batch > 0,
      length > 0, batch <= 1 << 16, length <= 1 << 24
    else { return nil }
    self.batch = batch
    self.length = length
  }
}

/// `--self-extend 4,16`.
struct GroupAndWindow: ExpressibleByArgument {
  var value: SelfExtend

  init?(argument: String) {
    let parts = argument.split(separator: ",", omittingEmptySubsequences: false)
    guard parts.count == 2, let group = Int(parts[0]), let window = Int(parts[1]), group > 0,
      window > 0, window % group == 0
    else { return nil }
    value = SelfExtend(group: group, window: window)
  }
}

extension Precision: ExpressibleByArgument {}

extension StepFloor: ExpressibleByArgument {}

/// How the Samba paper's evaluations choose tokens.
enum SamplingPreset {
  static func sampling(_ name: String, seed: UInt64) -> Sampling? {
    switch name {
    case "gsm8k": .greedy
    case "humaneval": Sampling(temperature: 0.2, topP: 0.95, seed: seed)
    case "mbpp", "squad": Sampling(temperature: 0.01, topP: 0.95, seed: seed)
    default: nil
    }
  }
}
