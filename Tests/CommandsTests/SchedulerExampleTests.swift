import Foundation
import TestSupport
import Testing
import Yams

/// What Examples/at-scale gives to schedulers.
@Suite("Examples for schedulers")
struct SchedulerExampleTests {
  private static func text(_ name: String) -> String {
    String(
      decoding: Files.read("\(BuiltTool.package)/Examples/at-scale/\(name)"),
      as: Unicode.UTF8.self)
  }

  private static func jobs() throws -> [[String: Any]] {
    try Array(Yams.load_all(yaml: text("kubernetes.yaml"))).map {
      try #require($0 as? [String: Any])
    }
  }

  /// The members that the Kubernetes API (batch/v1 and core/v1) has where the manifest uses them.
  private static let schema: [String: Set<String>] = [
    "": ["apiVersion", "kind", "metadata", "spec"],
    "metadata": ["name", "labels"],
    "spec": [
      "completionMode", "completions", "parallelism", "backoffLimit", "backoffLimitPerIndex",
      "podFailurePolicy", "template", "activeDeadlineSeconds", "ttlSecondsAfterFinished",
    ],
    "spec.template": ["metadata", "spec"],
    "spec.template.spec": ["restartPolicy", "containers", "volumes"],
    "spec.template.spec.containers": [
      "name", "image", "command", "args", "env", "resources", "volumeMounts",
    ],
    "spec.template.spec.volumes": ["name", "persistentVolumeClaim"],
    "spec.podFailurePolicy": ["rules"],
    "spec.podFailurePolicy.rules": ["action", "onExitCodes", "onPodConditions"],
    "spec.podFailurePolicy.rules.onExitCodes": ["containerName", "operator", "values"],
    "spec.podFailurePolicy.rules.onPodConditions": ["type", "status"],
  ]

  private static func check(_ value: Any, at place: String) {
    if let list = value as? [Any] {
      for element in list { check(element, at: place) }
      return
    }
    guard let object = value as? [String: Any], let known = schema[place] else { return }
    for (key, member) in object {
      #expect(known.contains(key), "\(place): \(key)")
      check(member, at: place.isEmpty ? key : "\(place).\(key)")
    }
  }

  /// The words of the one container's shell command.
  private static func command(_ job: [String: Any]) throws -> [String] {
    let spec = try #require(job["spec"] as? [String: Any])
    let template = try #require(spec["template"] as? [String: Any])
    let pod = try #require(template["spec"] as? [String: Any])
    let containers = try #require(pod["containers"] as? [[String: Any]])
    #expect(containers.count == 1)
    let command = try #require(containers[0]["command"] as? [String])
    #expect(command.dropLast() == ["/bin/sh", "-c"])
    return command[2].split(separator: " ").map(String.init)
  }

  @Test(
    "the Indexed Job has the members of batch/v1, an index for each part, and retries each by itself"
  )
  func kubernetes() throws {
    let jobs = try Self.jobs()
    #expect(jobs.count == 2)
    for job in jobs {
      Self.check(job, at: "")
      #expect(job["apiVersion"] as? String == "batch/v1")
      #expect(job["kind"] as? String == "Job")
      let spec = try #require(job["spec"] as? [String: Any])
      let template = try #require(spec["template"] as? [String: Any])
      let pod = try #require(template["spec"] as? [String: Any])
      // A Job takes no other two, and podFailurePolicy takes Never only.
      #expect(pod["restartPolicy"] as? String == "Never")
      let volumes = try #require(pod["volumes"] as? [[String: Any]])
      let containers = try #require(pod["containers"] as? [[String: Any]])
      let mounts = try #require(containers[0]["volumeMounts"] as? [[String: Any]])
      #expect(mounts.map { $0["name"] as? String } == volumes.map { $0["name"] as? String })
    }
    let parts = try #require(jobs[0]["spec"] as? [String: Any])
    #expect(parts["completionMode"] as? String == "Indexed")
    let count = try #require(parts["completions"] as? Int)
    #expect(count == 4)
    #expect(try #require(parts["parallelism"] as? Int) <= count)
    #expect(try #require(parts["backoffLimitPerIndex"] as? Int) > 0)
    #expect(parts["backoffLimit"] == nil)
    let policy = try #require(parts["podFailurePolicy"] as? [String: Any])
    let rules = try #require(policy["rules"] as? [[String: Any]])
    #expect(rules.map { $0["action"] as? String } == ["FailJob", "Ignore"])
    let codes = try #require(rules[0]["onExitCodes"] as? [String: Any])
    #expect(codes["operator"] as? String == "In")
    #expect(codes["values"] as? [Int] == [1, 64])
  }

  @Test("its commands do one conversion: every index its part, and the end")
  func commands() throws {
    let home = TemporaryDirectory()
    let source = ModelFixture.named("samba-fla/fla").path
    let jobs = try Self.jobs()
    /// Runs a container's command on a small checkpoint, with the index that Kubernetes gives it.
    func run(_ job: [String: Any], index: Int) throws -> ToolRun {
      let words = try Self.command(job).map { word in
        word == "weighbridge"
          ? BuiltTool.path
          : word == "/data/run/checkpoint/step-2048"
            ? source
            : word == "/data/fla/step-2048" ? home.file("out") : word == "5GB" ? "200kB" : word
      }
      #expect(words.filter { $0 == source || $0 == home.file("out") }.count == 2)
      return try BuiltTool.run(
        ["-c", "JOB_COMPLETION_INDEX=\(index); " + words.joined(separator: " ")],
        tool: "/bin/sh")
    }
    for index in 0..<4 { #expect(try run(jobs[0], index: index).status == 0) }
    #expect(try run(jobs[0], index: 4).status == 64)
    #expect(try run(jobs[1], index: 0).status == 0)
    let whole = try BuiltTool.run(
      "convert", source, home.file("whole"), "--to", "fla", "--max-shard-size", "200kB")
    #expect(whole.status == 0)
    #expect(contents(home.file("out")) == contents(home.file("whole")))
  }

  @Test("the Slurm script gives each task its part of the array, or of PARTS")
  func slurm() throws {
    let home = TemporaryDirectory()
    let source = ModelFixture.named("samba-fla/fla").path
    Files.makeDirectory(home.file("bin"))
    Files.link(home.file("bin/weighbridge"), to: BuiltTool.path)
    let script = "\(BuiltTool.package)/Examples/at-scale/slurm.sh"
    func run(_ task: Int, _ variables: String) throws -> ToolRun {
      try BuiltTool.run(
        [
          "-c",
          "PATH='\(home.path)/bin':$PATH SLURM_ARRAY_TASK_ID=\(task) \(variables) bash '\(script)' "
            + "'\(source)' '\(home.file("out"))' --to fla --max-shard-size 200kB",
        ], tool: "/bin/bash")
    }
    for task in 1...3 {
      #expect(try run(task, "SLURM_ARRAY_TASK_COUNT=4").status == 0)
    }
    // One task by itself, as when only some are run again.
    #expect(try run(4, "SLURM_ARRAY_TASK_COUNT=1 PARTS=4").status == 0)
    #expect(
      try BuiltTool.run(
        "convert", source, home.file("out"), "--to", "fla", "--max-shard-size", "200kB", "--finish"
      ).status == 0)
    #expect(try BuiltTool.run("inspect", home.file("out")).status == 0)
  }

  @Test(
    "the scripts for Ray and Dask are a dozen lines and run every part, then the end",
    arguments: ["ray", "dask"])
  func python(name: String) {
    let lines = Self.text("\(name)_parts.py").split(separator: "\n")
    #expect(lines.count <= 13)
    let code = lines.joined(separator: "\n")
    #expect(code.contains("\"--part\", f\"{k}/{parts}\""))
    #expect(code.contains("range(1, parts + 1)"))
    #expect(code.contains("[*conversion, \"--finish\"], check=True"))
  }
}
