import ArgumentParser
import Conversion
import Hub
import OrderedCollections
import Tensors

/// How a command ended.
enum Outcome {
  /// Done, or equal.
  case yes
  /// It ran, and the answer is no.
  case no
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
      if try work() == .no { throw ExitCode(1) }
      return
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
    Standard.problems(problems)
    if output.json {
      var document = emptyDocument
      document["problems"] = JSONReport.problems(problems)
      Standard.output(JSONReport.document(document))
    }
    throw ExitCode(status)
  }
}
