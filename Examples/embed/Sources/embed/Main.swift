import Conversion
import Hub
import Parity
import WeighbridgeKit

/// `embed SOURCE DESTINATION`: what a program does with a checkpoint, without the command.
@main
struct Main {
  static func main() throws {
    let arguments = CommandLine.arguments
    guard arguments.count == 3 else { fatalError("usage: embed SOURCE DESTINATION") }
    let (source, destination) = (arguments[1], arguments[2])

    let weighbridge = try Weighbridge()
    let inspection = try weighbridge.inspect(CheckpointInput(path: source))
    print(inspection.family ?? "unknown", inspection.parameters)

    let request = ConversionRequest(
      input: CheckpointInput(path: source), destination: destination, to: "fla")
    do {
      let result = try weighbridge.convert(request)
      print(result.plan.exactness, result.plan.reasons.map(\.text))
    } catch let refusal as Refusal {
      print("refused: \(refusal.problems.map(\.message))")
      return
    }

    let parity = try weighbridge.parity(
      CheckpointInput(path: source), CheckpointInput(path: destination),
      tokens: .random(batch: 2, length: 32, seed: 1), ParityRequest())
    print(parity.passes, parity.report.firstDivergence?.suspects ?? [])

    // And each part for itself.
    let loaded = try weighbridge.load(CheckpointInput(path: source))
    try Parts.run(path: source, config: loaded.config ?? [:])
  }
}
