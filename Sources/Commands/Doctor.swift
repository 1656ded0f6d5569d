import ArgumentParser
import Hub
import OrderedCollections
import Tensors
import WeighbridgeKit

struct Doctor: Command {
  static let configuration = CommandConfiguration(
    commandName: "doctor",
    abstract: "Show which libraries, processor, memory and limits this machine gives.",
    discussion: """
      Exit status 2 when something that every computation needs is missing. libhdf5 is needed for HDF5 \
      files only.

      Example:
        weighbridge doctor --json
      """)

  @OptionGroup var output: OutputOptions

  func work() throws -> Outcome {
    let findings = Weighbridge.examineMachine()
    let document: JSONObject = [
      "version": .string(Weighbridge.version),
      "findings": .array(
        findings.map {
          [
            "name": .string($0.name), "status": .string($0.status.rawValue),
            "value": .string($0.value), "help": $0.help.map { .string($0) } ?? .null,
          ]
        }),
      "problems": JSONReport.problems(
        findings.filter { $0.status != .fine }.map {
          Diagnostic(
            $0.status == .missing ? .error : .warning, code: "doctor.\($0.status.rawValue)",
            subject: $0.name, message: $0.value, help: $0.help)
        }),
    ]
    let width = (findings.map(\.name.count).max() ?? 0) + 2
    var lines: [String] = []
    for finding in findings {
      let name = finding.name + String(repeating: " ", count: width - finding.name.count)
      let status = finding.status == .fine ? "" : "\(finding.status.rawValue): "
      lines.append("\(name)\(status)\(finding.value)")
      if let help = finding.help { lines.append(String(repeating: " ", count: width) + help) }
    }
    try output.result(document, text: lines.joined(separator: "\n"))
    return findings.contains { $0.status == .missing } ? .errors : .yes
  }
}
