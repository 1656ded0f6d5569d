import ArgumentParser
import Hub
import OrderedCollections
import Tensors
import WeighbridgeKit

struct Check: Command {
  static let configuration = CommandConfiguration(
    commandName: "check",
    abstract: "Read a converted checkpoint again and compare it with its weighbridge.json.",
    discussion: """
      `convert --sha256` writes the digests of every file and tensor; this finds a single flipped \
      bit, and says where. Exit status 1 when anything is not as it was written.

      Examples:
        weighbridge check samba-fla
        weighbridge check samba-fla --json
      """)

  @Argument(
    help: "The directory that was written with convert --sha256.",
    completion: Completions.checkpoints)
  var directory: String

  @OptionGroup var output: OutputOptions
  @OptionGroup var progressOptions: ProgressOptions

  var emptyDocument: JSONObject {
    ["verdict": .null, "path": .string(directory), "bad_files": [], "bad_tensors": []]
  }

  func work() throws -> Outcome {
    var weighbridge = try Weighbridge()
    let line = progressOptions.line
    defer { line?.clear() }
    weighbridge.progress = line?.handler
    let result = try weighbridge.check(directory)
    line?.clear()
    output.problems(result.problems)
    let verdict = result.passes ? "pass" : "fail"
    let document: JSONObject = [
      "verdict": .string(verdict), "path": .string(directory),
      "tool": (result.manifest?.tool).map { .string($0) } ?? .null,
      "exactness": (result.manifest?.exactness).map { .string($0) } ?? .null,
      "files": .int(result.manifest?.files.count ?? 0),
      "tensors": .int(result.manifest?.tensors.count ?? 0),
      "bad_files": .array(result.badFiles.map { .string($0) }),
      "bad_tensors": .array(result.badTensors.map { .string($0) }),
      "problems": JSONReport.problems(result.problems),
    ]
    try output.result(document, text: text(result, verdict))
    return result.passes ? .yes : .no
  }

  private func text(_ result: CheckResult, _ verdict: String) -> String {
    guard let manifest = result.manifest else { return "\(verdict): \(directory)" }
    let told =
      result.passes
      ? "as they were written"
      : "\(result.badFiles.count) files and \(result.badTensors.count) tensors are not as written"
    return """
      \(verdict): \(directory)
        \(manifest.from) to \(manifest.to), \(manifest.exactness), by weighbridge \(manifest.tool)
        \(manifest.files.count) files, \(manifest.tensors.count) tensors: \(told)
      """
  }
}
