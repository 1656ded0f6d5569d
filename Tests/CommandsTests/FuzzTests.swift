import TestSupport
import Testing

/// Every target of `weighbridge-fuzz` for a moment. Each runs in a process of its own: the processor's
/// time and the memory of a process that runs other tests as well would say nothing about it.
@Suite("Fuzzing", .tags(.slow))
struct FuzzTests {
  static let fuzzer = BuiltTool.path + "-fuzz"

  @Test(
    "changed fixtures are read or refused, in less than 5 s and 512 MB",
    arguments: [
      ("safetensors", 5000), ("pickle", 5000), ("zip", 5000), ("hdf5", 300), ("dcp", 2000),
      ("gguf", 5000), ("npz", 3000), ("shards", 5000),
      ("json", 5000), ("config", 300), ("layout", 300), ("expression", 5000),
    ])
  func short(target: String, executions: Int) throws {
    let run = try BuiltTool.run([target, "\(executions)", "1"], tool: Self.fuzzer)
    #expect(run.status == 0, "\(run.output)\(run.error)")
    #expect(run.output.hasPrefix("\(target): \(executions) executions from 0, seed 1: "))
  }

  @Test("no target is left out")
  func all() throws {
    let run = try BuiltTool.run(["nothing", "1"], tool: Self.fuzzer)
    #expect(run.status == 64)
    #expect(
      run.output.hasSuffix(
        "targets: safetensors pickle zip hdf5 dcp gguf npz shards json config layout expression\n"))
  }
}
