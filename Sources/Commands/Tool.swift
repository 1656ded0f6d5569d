public import ArgumentParser
import Hub
import Tensors
import WeighbridgeKit

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// `weighbridge`: one sub-command a file.
public struct Tool: ParsableCommand {
  /// The command's name, help and sub-commands.
  public static let configuration = CommandConfiguration(
    commandName: "weighbridge",
    abstract:
      "Convert checkpoints of sub-quadratic language models, and prove that nothing changed.",
    discussion: """
      Layouts: hf, fla, mamba_ssm, lit_gpt, torchscale, berlino. Containers: safetensors, PyTorch, HDF5.

      Exit status: 0 done or equal; 1 it ran, and the answer is no (files differ, a conversion is \
      refused); 2 failure (bad input, I/O); 64 usage; 128 + n: ended by signal n.
      """,
    version: Weighbridge.version,
    subcommands: [
      Inspect.self, Convert.self, ParityCheck.self, Trace.self, Generate.self, Diff.self,
      Check.self, Show.self, Layouts.self, Kinds.self, Doctor.self,
    ])

  /// The tool.
  public init() {}

  /// Lets the process open as many files as it may: shells give 256 or 1024, and checkpoints have
  /// more shards.
  private static func raiseFileLimit() {
    var limit = rlimit()
    #if canImport(Glibc)
      let resource = __rlimit_resource_t(UInt32(RLIMIT_NOFILE.rawValue))
    #else
      let resource = RLIMIT_NOFILE
    #endif
    guard getrlimit(resource, &limit) == 0, limit.rlim_cur < min(limit.rlim_max, 10_240) else {
      return
    }
    // Some systems refuse more than this, whatever their hard limit says.
    limit.rlim_cur = min(limit.rlim_max, 10_240)
    setrlimit(resource, &limit)
  }

  /// Runs the tool with the process's arguments and exits.
  public static func start() -> Never {
    raiseFileLimit()
    Descriptors.holdStandard()
    ShrunkenFile.arm(json: CommandLine.arguments.contains("--json"))
    do {
      // A flag takes no value: the form that other tools have is the flag of that name.
      let arguments = CommandLine.arguments.dropFirst().map {
        $0 == "--progress=json" ? "--progress-json" : $0
      }
      var command = try parseAsRoot(arguments)
      try command.run()
      end(EXIT_SUCCESS)
    } catch {
      // Help and the version were asked for: they are the output.
      if exitCode(for: error) == .success {
        Standard.output(fullMessage(for: error))
        end(EXIT_SUCCESS)
      }
      if let code = error as? ExitCode { end(code.rawValue) }
      let arguments = Array(CommandLine.arguments.dropFirst())
      let meant =
        exitCode(for: error) == .validationFailure && !message(for: error).contains("Did you mean")
        ? DidYouMean(arguments).text : nil
      // A script that asked for JSON gets JSON for a wrong option too.
      if exitCode(for: error) == .validationFailure, CommandLine.arguments.contains("--json") {
        let problem = Diagnostic(
          code: "usage", subject: "weighbridge", message: message(for: error),
          help: meant ?? "see weighbridge --help")
        Standard.output(JSONReport.document(["problems": JSONReport.problems([problem])]))
      }
      if let meant {
        Standard.error("\(fullMessage(for: error))\n  \(meant)")
        exit(withError: ExitCode.validationFailure)
      }
      exit(withError: error)
    }
  }

  /// Ends the process: with a failure where standard output did not take what was said.
  private static func end(_ status: Int32) -> Never {
    guard let problem = Standard.lost else { exit(withError: ExitCode(status)) }
    Interruption.settle()
    Standard.error(problem.description)
    exit(withError: ExitCode(2))
  }
}
