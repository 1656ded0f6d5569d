import Checkpoints
import Conversion
import WeighbridgeKit

/// `embed SOURCE DESTINATION`: what a program does with a checkpoint, without the command.
@main
struct Main {
  static func main() throws {
    let arguments = CommandLine.arguments
    guard arguments.count == 3 else { fatalError("usage: embed SOURCE DESTINATION") }
    let source = CheckpointInput(path: arguments[1])

    // One part alone: the bytes of a file, whatever its container.
    let file = try openCheckpoint(at: arguments[1])
    print("\(file.tensors.count) tensors in \(file.container.rawValue)")

    // And all of it.
    let weighbridge = try Weighbridge()
    let inspection = try weighbridge.inspect(source)
    print("\(inspection.family ?? "unknown"), \(inspection.parameters) parameters")
    do {
      let result = try weighbridge.convert(
        ConversionRequest(input: source, destination: arguments[2], to: "fla"))
      print("\(result.plan.exactness): \(result.plan.reasons.map(\.text))")
    } catch let refusal as Refusal {
      print("refused: \(refusal.problems.map(\.message))")
      return
    }
    let parity = try weighbridge.parity(
      source, CheckpointInput(path: arguments[2]), tokens: .random(batch: 2, length: 32, seed: 1),
      ParityRequest())
    print(parity.passes ? "pass" : "fail: \(parity.report.firstDivergence?.suspects ?? [])")
  }
}
