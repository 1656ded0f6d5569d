import ArgumentParser
import Conversion
import Hub
import OrderedCollections
import Output
import Tensors
import WeighbridgeKit

/// How a command ended.
enum Outcome {
  /// Done, or equal.
  case yes
  /// It ran, and the answer is no.
  case no
  /// It told what it could, and there are errors.
  case errors
}

/// A sub-command: does its work, reports it, and leaves errors to the common code here.
protocol Command: ParsableCommand {
  var output: OutputOptions { get }
  /// What the JSON document holds besides the problems when the work failed.
  var emptyDocument: JSONObject { get }
  func work() throws -> Outcome
}

extension Command {
  var emptyDocument: JSONObject { [:] }

  func run() throws {
    let problems: [Diagnostic]
    let status: Int32
    do {
      try Descriptors.check()
      try output.checkPlace()
      switch try work() {
      case .yes: return
      case .no: throw ExitCode(1)
      case .errors: throw ExitCode(2)
      }
    } catch let refusal as Refusal {
      problems = refusal.problems
      status = 1
    } catch let found as Problems {
      problems = found.diagnostics
      status = 2
    } catch let diagnostic as Diagnostic {
      problems = [diagnostic]
      status = 2
    }
    Interruption.settle()
    output.problems(problems)
    var document = emptyDocument
    document["problems"] = JSONReport.problems(problems)
    let text = JSONReport.document(document)
    if output.json { Standard.output(text) }
    // What is wrong with the file itself has been told.
    if let file = output.jsonFile { try? ReportFile(file, form: .json).write(text + "\n") }
    throw ExitCode(status)
  }
}
