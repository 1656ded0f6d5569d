import Checkpoints
import Foundation
import TestSupport
import Tensors
import Testing

/// A watch in a process of its own.
private final class Watch {
  let process = Process()
  private let home: TemporaryDirectory

  init(_ arguments: [String], in home: TemporaryDirectory) throws {
    self.home = home
    for name in ["stdout", "stderr"] { Files.write("", to: home.file(name)) }
    process.executableURL = URL(fileURLWithPath: BuiltTool.path)
    process.arguments =
      ["convert"] + arguments + ["--watch", "--no-fsync", "--watch-interval", "0.1"]
    process.currentDirectoryURL = URL(fileURLWithPath: home.path)
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = FileHandle(forWritingAtPath: home.file("stdout"))
    process.standardError = FileHandle(forWritingAtPath: home.file("stderr"))
    try process.run()
  }

  func end(_ signal: Int32? = nil) -> ToolRun {
    if let signal { kill(process.processIdentifier, signal) }
    process.waitUntilExit()
    return ToolRun(
      status: process.terminationReason == .exit ? process.terminationStatus : -1,
      output: String(decoding: Files.read(home.file("stdout")), as: UTF8.self),
      error: String(decoding: Files.read(home.file("stderr")), as: UTF8.self))
  }
}

@Suite("Watching a run")
struct WatchTests {
  let home = TemporaryDirectory()
  let flame = Fixtures.path("dcp/flame-3r/exp")

  private func converted(_ name: String) -> Bool {
    Files.exists(home.file("out/\(name)/weighbridge.json"))
  }

  private func statuses(_ run: ToolRun) throws -> [String] {
    try #require(try run.document()["conversions"]?.array).map {
      "\($0["source"]?.string ?? "?") \($0["status"]?.string ?? "?")"
    }
  }

  @Test(
    "sharded checkpoints are converted once .metadata is there, until a signal ends the watch with 0",
    arguments: [SIGINT, SIGTERM])
  func sharded(signal: Int32) throws {
    let watch = try Watch(["run/checkpoint", "out", "--to", "hf", "--json"], in: home)
    // The run begins later.
    for folder in ["run", "run/checkpoint", "run/checkpoint/step-7", "run/checkpoint/step-8"] {
      Files.makeDirectory(home.file(folder))
    }
    Files.write(Files.read(flame + "/config.json"), to: home.file("run/config.json"))
    let step = flame + "/checkpoint/step-7"
    let ranks = Files.names(in: step).filter { $0.hasSuffix(".distcp") }
    #expect(ranks.count == 3)
    for rank in ranks {
      Files.write(Files.read("\(step)/\(rank)"), to: home.file("run/checkpoint/step-7/\(rank)"))
      Files.write(Files.read("\(step)/\(rank)"), to: home.file("run/checkpoint/step-8/\(rank)"))
    }
    Files.write(Files.read("\(step)/.metadata"), to: home.file("run/checkpoint/step-7/.metadata"))
    wait("step-7") { converted("step-7") }
    #expect(!converted("step-8"))
    Files.write(Files.read("\(step)/.metadata"), to: home.file("run/checkpoint/step-8/.metadata"))
    wait("step-8") { converted("step-8") }
    // A log, an optimizer's folder and a hidden one are none.
    Files.makeDirectory(home.file("run/checkpoint/logs"))
    Files.write("text", to: home.file("run/checkpoint/logs/events.txt"))
    Files.makeDirectory(home.file("run/checkpoint/step-9"))
    Files.write(
      Files.read("\(step)/\(ranks[0])"), to: home.file("run/checkpoint/step-9/\(ranks[0])"))
    usleep(500_000)
    let run = watch.end(signal)
    #expect(run.status == 0, "\(run.error)")
    #expect(
      try statuses(run) == ["run/checkpoint/step-7 converted", "run/checkpoint/step-8 converted"])
    #expect(run.error.contains("note[watch.ended]: \(signal == SIGINT ? "SIGINT" : "SIGTERM")"))
    #expect(Files.names(in: home.file("out")) == ["step-7", "step-8"])
    let expected = try StoredCheckpoint(step)
    let made = try StoredCheckpoint(home.file("out/step-8"))
    #expect(made.tensors == expected.tensors)
    #expect(made.tensors.count == 27)
  }

  @Test(
    "a file is converted when it has stopped growing and can be read; --until-idle ends the watch")
  func growing() throws {
    Files.makeDirectory(home.file("run"))
    let fixture = ModelFixture.named("mamba-bias-untied/hf").path
    Files.write(Files.read(fixture + "/config.json"), to: home.file("run/config.json"))
    let bytes = Files.read(fixture + "/model.safetensors")
    Files.write(Array(bytes[..<1000]), to: home.file("run/iter-1.safetensors"))
    Files.write("state", to: home.file("run/optimizer.pt"))
    let watch = try Watch(["run", "out", "--to", "hf", "--until-idle", "1.5", "--json"], in: home)
    for count in [20_000, 60_000, 90_000] {
      usleep(400_000)
      Files.write(Array(bytes[..<count]), to: home.file("run/iter-1.safetensors"))
      #expect(!Files.exists(home.file("out")))
    }
    Files.write(bytes, to: home.file("run/iter-1.safetensors"))
    let run = watch.end()
    #expect(run.status == 0, "\(run.error)")
    #expect(try statuses(run) == ["run/iter-1.safetensors converted"])
    #expect(
      try StoredCheckpoint(home.file("out/iter-1")).tensors == StoredCheckpoint(fixture).tensors)
    // The next watch finds it done.
    let again = try Watch(["run", "out", "--to", "hf", "--until-idle", "0.5"], in: home).end()
    #expect(again.status == 0)
    #expect(again.output.contains("skipped    run/iter-1.safetensors -> out/iter-1: done already"))
  }

  @Test(
    "what never becomes complete is told: an unfinished save as a warning, a damaged one as an error"
  )
  func remaining() throws {
    Files.makeDirectory(home.file("run"))
    Marked.copy(flame + "/checkpoint/step-7", to: home.file("run/step-7"))
    Marked.copy(flame + "/checkpoint/step-7", to: home.file("run/step-8"))
    Files.write(Files.read(flame + "/config.json"), to: home.file("run/config.json"))
    Files.remove(home.file("run/step-8/.metadata"))
    let options = ["out", "--to", "hf", "--until-idle", "0.6"]
    let unfinished = try Watch(["run"] + options + ["--json"], in: home).end()
    #expect(unfinished.status == 0, "\(unfinished.error)")
    #expect(try statuses(unfinished) == ["run/step-7 converted", "run/step-8 unfinished"])
    #expect(unfinished.error.contains("warning[watch.unfinished]: run/step-8"))
    // With its index, but one rank's file cut short.
    let file = home.file("run/step-8/__1_0.distcp")
    Files.write(
      Files.read(flame + "/checkpoint/step-7/.metadata"), to: home.file("run/step-8/.metadata"))
    Files.write(Array(Files.read(file).prefix(5000)), to: file)
    let damaged = try Watch(["run/step-*"] + options + ["--json"], in: home).end()
    #expect(damaged.status == 2)
    #expect(try statuses(damaged) == ["run/step-7 skipped", "run/step-8 failed"])
    #expect(try damaged.problems().contains { $0.hasPrefix("dcp.range ") })
    #expect(Files.names(in: home.file("out")) == ["step-7"])
    let nothing = try Watch(["nowhere"] + options + ["--json"], in: home).end()
    #expect(nothing.status == 2)
    #expect(try nothing.problems().contains("checkpoint.not-found nowhere"))
  }
}
