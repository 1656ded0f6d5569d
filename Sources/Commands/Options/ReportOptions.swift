import ArgumentParser
import Hub
import Output
import WeighbridgeKit

/// Where a report goes.
struct ReportOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Also write a report to look at: one HTML file that needs nothing else.",
      valueName: "file.html"), completion: .file(extensions: ["html"]))
  var report: String?

  /// The place, examined before the work begins.
  func place() throws -> ReportFile? {
    guard let report else { return nil }
    return try ReportFile(report)
  }

  /// The command as one would type it again.
  static var command: String {
    (["weighbridge"] + CommandLine.arguments.dropFirst().map(quoted)).joined(separator: " ")
  }

  /// An argument for a shell.
  private static func quoted(_ given: String) -> String {
    let argument = Weighbridge.shown(given)
    let plain = argument.utf8.allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"),
        UInt8(ascii: "."), UInt8(ascii: "/"), UInt8(ascii: "="), UInt8(ascii: ","),
        UInt8(ascii: ":"), UInt8(ascii: "+"), UInt8(ascii: "@"):
        true
      default: false
      }
    }
    if plain, !argument.isEmpty { return argument }
    let parts = argument.split(separator: "'", omittingEmptySubsequences: false)
    return "'" + parts.joined(separator: "'\\''") + "'"
  }
}
