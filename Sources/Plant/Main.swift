import Planting
import WeighbridgeKit

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// `weighbridge-plant SHARE SEED MODEL [TRACE] [MODEL [TRACE] …]`: plants faults in models and prints how
/// many were found, where, and how many harmless changes were taken for faults. A trace ends in
/// `.safetensors`.
@main
struct Main {
  static func main() throws {
    let arguments = Array(CommandLine.arguments.dropFirst())
    guard arguments.count >= 3, let share = Double(arguments[0]), let seed = UInt64(arguments[1])
    else {
      print("usage: weighbridge-plant SHARE SEED MODEL [TRACE] …")
      exit(64)
    }
    let weighbridge = try Weighbridge()
    var planting = Planting(seed: seed)
    var rest = arguments.dropFirst(2)
    while let path = rest.popFirst() {
      let trace = rest.first.flatMap { $0.hasSuffix(".safetensors") ? $0 : nil }
      if trace != nil { rest = rest.dropFirst() }
      try planting.run(PlantedModel(path, trace: trace, weighbridge), share: share)
    }
    print(planting.table)
    exit(planting.isGood ? 0 : 1)
  }
}
