import Foundation
import TestSupport
import Tensors
import Testing

/// A conversion that stands still: its progress goes into a pipe that is full, so that it cannot end
/// before the test lets it.
final class StalledConversion {
  let process = Process()
  private let pipe = Pipe()
  private let stuffing: Int

  init(_ arguments: [String], output: String) throws {
    let descriptor = pipe.fileHandleForWriting.fileDescriptor
    let flags = fcntl(descriptor, F_GETFL)
    _ = fcntl(descriptor, F_SETFL, flags | O_NONBLOCK)
    var count = 0
    let block = [UInt8](repeating: UInt8(ascii: "."), count: 4096)
    for size in [4096, 1] {
      while true {
        let written = block.withUnsafeBytes { write(descriptor, $0.baseAddress, size) }
        guard written > 0 else { break }
        count += written
      }
    }
    _ = fcntl(descriptor, F_SETFL, flags)
    stuffing = count
    Files.write("", to: output)
    process.executableURL = URL(fileURLWithPath: BuiltTool.path)
    process.arguments = ["convert"] + arguments + ["--progress", "--no-fsync"]
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = FileHandle(forWritingAtPath: output)
    process.standardError = pipe
    try process.run()
    try pipe.fileHandleForWriting.close()
  }

  /// Lets it write, and waits for its end.
  ///
  /// - Returns: standard error.
  func finish() -> String {
    let bytes = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return String(decoding: bytes.dropFirst(stuffing), as: UTF8.self)
  }
}

/// Waits for something that is bound to happen; a minute is for slow machines.
func wait(_ what: String, until condition: () -> Bool) {
  for _ in 0..<6000 where !condition() { usleep(10_000) }
  #expect(condition(), "\(what) did not happen")
}

@Suite("Interruptions", .tags(.slow))
struct InterruptionTests {
  let home = TemporaryDirectory()
  let source = ModelFixture.named("mamba-tied/hf").path

  func partials() -> [String] {
    Files.names(in: home.path).filter { $0.hasSuffix(".partial") }
  }

  private func stalled(_ more: String...) throws -> StalledConversion {
    let conversion = try StalledConversion(
      [source, home.file("out"), "--to", "mamba_ssm"] + more, output: home.file("stdout"))
    wait("the temporary") {
      partials().contains { !Files.names(in: home.file($0)).isEmpty }
    }
    return conversion
  }

  @Test(
    "a signal removes the temporary, says so, and ends the process by that signal",
    arguments: [SIGINT, SIGTERM, SIGHUP])
  func signals(signal: Int32) throws {
    let conversion = try stalled("--json")
    kill(conversion.process.processIdentifier, signal)
    wait("the clean-up") { partials().isEmpty }
    let error = conversion.finish()
    #expect(conversion.process.terminationReason == .uncaughtSignal)
    #expect(conversion.process.terminationStatus == signal)
    #expect(error.contains("error[convert.interrupted]: "))
    #expect(error.contains("is removed"))
    #expect(Files.names(in: home.path) == ["stdout"])
    let document = try JSONParser.parse(Files.read(home.file("stdout")), file: "stdout")
    #expect(document["problems"]?.array?.first?["code"] == "convert.interrupted")
  }

  @Test("a mapped file that shrinks under the reader is a failure that says so")
  func shrunken() throws {
    let conversion = try stalled("--json")
    kill(conversion.process.processIdentifier, SIGBUS)
    let error = conversion.finish()
    #expect(conversion.process.terminationReason == .exit)
    #expect(conversion.process.terminationStatus == 2)
    #expect(error.contains("error[io.changed]: a checkpoint's file: became shorter"))
    let document = try JSONParser.parse(Files.read(home.file("stdout")), file: "stdout")
    #expect(document["problems"]?.array?.first?["code"] == "io.changed")
    #expect(!Files.exists(home.file("out")))
  }

  @Test("with --force the old destination stays as it was")
  func old() throws {
    let first = try BuiltTool.run(
      "convert", source, home.file("out"), "--to", "hf", "--dtype", "bfloat16", "--sha256")
    #expect(first.status == 0)
    let conversion = try stalled("--force")
    kill(conversion.process.processIdentifier, SIGTERM)
    wait("the clean-up") { partials().isEmpty }
    _ = conversion.finish()
    #expect(Files.names(in: home.path) == ["out", "stdout"])
    #expect(try BuiltTool.run("check", home.file("out")).status == 0)
  }

  @Test("with --resume the temporary is kept and named; the same command goes on")
  func resumable() throws {
    let conversion = try stalled("--resume")
    kill(conversion.process.processIdentifier, SIGINT)
    let error = conversion.finish()
    #expect(error.contains("is kept in \(home.path)/.out.weighbridge-resume.partial"))
    #expect(partials() == [".out.weighbridge-resume.partial"])
    let run = try BuiltTool.run(
      "convert", source, home.file("out"), "--to", "mamba_ssm", "--resume", "--no-fsync")
    #expect(run.status == 0)
    #expect(Files.names(in: home.path) == ["out", "stdout"])
  }

  @Test("what SIGKILL leaves is named and removed by the next run")
  func killed() throws {
    let conversion = try stalled()
    kill(conversion.process.processIdentifier, SIGKILL)
    _ = conversion.finish()
    let left = partials()
    #expect(left.count == 1)
    let run = try BuiltTool.run(
      "convert", source, home.file("out"), "--to", "mamba_ssm", "--no-fsync")
    #expect(run.status == 0)
    #expect(run.error.contains("note[output.leftover]: \(home.file(left[0])): "))
    #expect(partials() == [])
  }

  @Test("of two conversions into one destination one wins, and the other says so")
  func two() throws {
    for more in [[], ["--resume"]] {
      let conversion = try StalledConversion(
        [source, home.file("out"), "--to", "mamba_ssm"] + more, output: home.file("stdout"))
      wait("the temporary") { !partials().isEmpty }
      let second = try BuiltTool.run(
        ["convert", source, home.file("out"), "--to", "mamba_ssm"] + more)
      #expect(second.status == 2)
      #expect(second.error.hasPrefix("error[output.busy]: "))
      _ = conversion.finish()
      #expect(conversion.process.terminationStatus == 0)
      #expect(Files.names(in: home.path) == ["out", "stdout"])
      Files.remove(home.file("out"))
    }
  }

  @Test("check exits with 0 and 1, and names the tensor in its document")
  func check() throws {
    let run = try BuiltTool.run(
      "convert", source, home.file("out"), "--to", "hf", "--sha256", "--no-fsync")
    #expect(run.status == 0)
    #expect(try BuiltTool.run("check", home.file("out")).output.hasPrefix("pass: "))
    var bytes = Files.read(home.file("out/model.safetensors"))
    bytes[bytes.count - 1] ^= 0x80
    Files.write(bytes, to: home.file("out/model.safetensors"))
    let check = try BuiltTool.run("check", home.file("out"), "--json")
    #expect(check.status == 1)
    let document = try check.document()
    #expect(document["verdict"] == "fail")
    #expect(document["bad_files"] == ["model.safetensors"])
    #expect(document["bad_tensors"]?.array?.count == 1)
    #expect(try BuiltTool.run("check", source).status == 2)
  }
}
