import Fuzzing
import TestSupport
import Testing

@Suite("Fuzzing")
struct FuzzTests {
  @Test(
    "changed fixtures are read or refused, quickly and in little memory",
    arguments: FuzzTarget.allCases)
  func short(target: FuzzTarget) throws {
    let package = String(Fixtures.root.dropLast("/Fixtures".count))
    let slow = [.layout, .config, .hdf5].contains(target)
    let run = try FuzzRun(
      target, executions: slow ? 300 : 5000, seed: 1, package: package)
    #expect(run.slowest < 5)
    #expect(run.growth < 512)
  }
}
