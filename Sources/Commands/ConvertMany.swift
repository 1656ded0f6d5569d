import Conversion
import Hub
import OrderedCollections
import Output
import Synchronization
import Tensors
import WeighbridgeKit

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Many conversions, one after another, each told in a line.
struct ConvertMany {
  /// What became of a source.
  struct Entry: Sendable {
    enum Status: String, Sendable {
      case converted, planned, skipped, refused, failed, unfinished
    }
    var source: String
    var destination: String
    var status: Status
    var result: ConversionResult?
    var problems: [Diagnostic] = []

    /// The problems as they are told among those of other sources.
    var told: [Diagnostic] {
      problems.map { problem in
        guard problem.severity == .error, !problem.subject.hasPrefix(source) else {
          return problem
        }
        var problem = problem
        problem.notes.append("found in \(source)")
        return problem
      }
    }
  }

  /// What has been done, for whichever thread tells of it in the end.
  private final class Log: Sendable {
    let entries = Mutex<[Entry]>([])
    let isStopped = Atomic(false)
    private let isEnded = Atomic(false)

    /// Whether the caller is the one that tells.
    func claimEnd() -> Bool {
      isEnded.compareExchange(expected: false, desired: true, ordering: .acquiringAndReleasing)
        .exchanged
    }
  }

  private let command: Convert
  private let weighbridge: Weighbridge
  private let log = Log()
  private let told = Told()

  init(_ command: Convert, _ weighbridge: Weighbridge) {
    self.command = command
    self.weighbridge = weighbridge
  }

  func work() throws -> Outcome {
    try weighbridge.check(target: command.destination)
    arm()
    let notes = command.watch ? try watch() : try convertAll()
    if !log.claimEnd() {
      // A signal has come, and its thread ends the process.
      while true { pause() }
    }
    let entries = log.entries.withLock { $0 }
    try command.output.result(Self.document(entries, notes), text: Self.summary(entries))
    return Self.outcome(entries)
  }

  private func convertAll() throws -> [Diagnostic] {
    let sources = BatchSources(command.sources, into: command.destination)
    command.output.problems(sources.notes)
    for item in sources.items { add(convert(item)) }
    return sources.notes
  }

  // MARK: Watching

  private func watch() throws -> [Diagnostic] {
    let idle = command.untilIdle
    let interval = command.watchInterval ?? min(5, max(0.2, (idle ?? 10) / 2))
    var notes: [Diagnostic] = []
    for place in command.sources
    where !BatchSources.isPattern(place) && access(place, F_OK) != 0 {
      let note = Diagnostic(
        .note, code: "watch.waiting", subject: place, message: "does not exist yet")
      notes.append(note)
      command.output.problems([note])
    }
    var watch = RunWatch(command.sources, into: command.destination)
    var last = ContinuousClock.now
    while !log.isStopped.load(ordering: .acquiring) {
      let look = watch.look { source in
        let loaded = try weighbridge.load(command.request(source, to: "").input)
        // The config may come later than the weights.
        let missing = loaded.problems.filter { $0.code == "config.missing" }
        if !missing.isEmpty { throw Problems(missing) }
      }
      for item in look.complete {
        if log.isStopped.load(ordering: .acquiring) { break }
        let entry = convert(item)
        // What was changed or removed while it was read comes again when it is complete.
        let failed = [.failed, .refused].contains(entry.status)
        if !failed || watch.isAsTold(item.source) { add(entry) }
      }
      if look.isChanged || !look.complete.isEmpty { last = ContinuousClock.now }
      if let idle, ContinuousClock.now - last >= .seconds(idle) { break }
      let end = ContinuousClock.now + .seconds(interval)
      while ContinuousClock.now < end, !log.isStopped.load(ordering: .acquiring) {
        usleep(20_000)
      }
    }
    for (item, problems) in watch.remaining {
      let isFault = problems.contains { $0.severity == .error }
      add(
        Entry(
          source: item.source, destination: item.destination,
          status: isFault ? .failed : .unfinished, problems: problems))
    }
    for place in command.sources
    where !BatchSources.isPattern(place) && access(place, F_OK) != 0 {
      add(
        Entry(
          source: place, destination: command.destination, status: .failed,
          problems: [
            Diagnostic(
              code: "checkpoint.not-found", subject: place, message: "did not appear",
              help: "give the directory in which the run writes its checkpoints")
          ]))
    }
    return notes
  }

  // MARK: One of them

  private func convert(_ item: BatchSources.Item) -> Entry {
    var entry = Entry(source: item.source, destination: item.destination, status: .failed)
    if let problem = item.problem {
      entry.problems = [problem]
      return entry
    }
    let line = command.progressOptions.line
    defer { line?.clear() }
    do {
      let result = try weighbridge.convertUnlessDone(
        command.request(item.source, to: item.destination), dryRun: command.dryRun,
        progress: line?.handler)
      entry.status = result.wasDone ? .skipped : command.dryRun ? .planned : .converted
      entry.problems = result.problems
      entry.result = result
    } catch let refusal as Refusal {
      entry.status = .refused
      entry.problems = refusal.problems
    } catch let found as Problems {
      entry.problems = found.diagnostics
    } catch let problem as Diagnostic {
      entry.problems = [problem]
    } catch {
      entry.problems = [
        Diagnostic(code: "convert.failed", subject: item.source, message: "\(error)")
      ]
    }
    // Told to end: what failed failed for that.
    Interruption.settle()
    return entry
  }

  private func add(_ entry: Entry) {
    log.entries.withLock { $0.append(entry) }
    tell(entry.told)
    if !command.output.json { Standard.output(Self.line(entry)) }
  }

  /// What was told already, and is told once.
  private final class Told: Sendable {
    let keys = Mutex<Set<String>>([])
  }

  private func tell(_ problems: [Diagnostic]) {
    let new = problems.filter { problem in
      if problem.severity == .error || command.output.allProblems { return true }
      // A line for each source; its notes are in the document.
      if problem.severity == .note { return false }
      // The same of another checkpoint of the run.
      return told.keys.withLock { $0.insert("\(problem.code) \(problem.message)").inserted }
    }
    command.output.problems(new)
  }

  // MARK: Words

  private static func line(_ entry: Entry) -> String {
    let place = "\(entry.source) -> \(entry.destination)"
    switch entry.status {
    case .converted, .planned:
      let plan = entry.result?.plan
      let verb = entry.status == .planned ? "would convert" : "converted"
      return "\(verb)  \(place): \(plan?.exactness.rawValue ?? ""), "
        + "\(plan?.tensors.count ?? 0) tensors, \(Shown.bytes(plan?.byteCount ?? 0))"
    case .skipped: return "skipped    \(place): done already, source and options are the same"
    case .refused, .failed:
      let errors = entry.problems.filter { $0.severity == .error }
      let more = errors.count > 1 ? " and \(errors.count - 1) more" : ""
      return "\(entry.status == .refused ? "refused  " : "failed   ")  \(entry.source): "
        + "\(errors.first?.code ?? "convert.failed")\(more)"
    case .unfinished: return "unfinished \(entry.source)"
    }
  }

  private static func count(_ entries: [Entry], _ status: Entry.Status) -> Int {
    entries.reduce(0) { $0 + ($1.status == status ? 1 : 0) }
  }

  private static func summary(_ entries: [Entry]) -> String {
    let words: [(Entry.Status, String)] = [
      (.converted, "converted"), (.planned, "would be converted"), (.skipped, "done already"),
      (.refused, "refused"), (.failed, "failed"), (.unfinished, "not complete"),
    ]
    let counts = words.compactMap { status, word in
      let count = count(entries, status)
      return count == 0 ? nil : "\(count) \(word)"
    }
    let head = entries.count == 1 ? "1 source" : "\(entries.count) sources"
    return counts.isEmpty ? head : "\(head): \(counts.joined(separator: ", "))"
  }

  private static func outcome(_ entries: [Entry]) -> Outcome {
    if entries.contains(where: { $0.status == .failed }) { return .errors }
    return entries.contains { $0.status == .refused } ? .no : .yes
  }

  static func document(_ entries: [Entry], _ notes: [Diagnostic]) -> JSONObject {
    let conversions = entries.map { entry in
      var object: JSONObject = [
        "source": .string(entry.source), "destination": .string(entry.destination),
        "status": .string(entry.status.rawValue), "exactness": .null, "reasons": [],
        "from": .null, "to": .null, "family": .null, "tensors": 0, "bytes": 0, "outputs": [],
        "problems": JSONReport.problems(entry.problems),
      ]
      if let result = entry.result {
        object["exactness"] = .string(result.plan.exactness.rawValue)
        object["reasons"] = .array(result.plan.reasons.map { .string($0.text) })
        object["from"] = .string(result.plan.from.framework)
        object["to"] = .string(result.plan.to.framework)
        object["family"] = .string(result.plan.spec.family)
        object["tensors"] = .int(result.plan.tensors.count)
        object["bytes"] = .int(result.plan.byteCount)
        object["outputs"] = .array(result.outputs.map { .string($0) })
      }
      return JSONValue.object(object)
    }
    var document: JSONObject = ["conversions": .array(conversions)]
    for status in [
      Entry.Status.converted, .planned, .skipped, .refused, .failed, .unfinished,
    ] { document[status.rawValue] = .int(count(entries, status)) }
    document["problems"] = JSONReport.problems(notes + entries.flatMap(\.told))
    return document
  }

  // MARK: Signals

  private func arm() {
    let json = command.output.json
    guard command.watch else {
      var lastWord: (@Sendable (Diagnostic) -> String)?
      if json {
        lastWord = { [log] problem in
          JSONReport.document(Self.document(log.entries.withLock { $0 }, [problem]))
        }
      }
      return Interruption.arm(document: lastWord)
    }
    let file = command.output.jsonFile
    let ending = Interruption.Ending(
      stop: { [log] in log.isStopped.store(true, ordering: .releasing) },
      status: { [log] signal, abandoned in
        guard log.claimEnd() else { return nil }
        let entries = log.entries.withLock { $0 }
        Standard.silence()
        var notes = abandoned.map {
          Diagnostic(
            .note, code: "watch.given-up", subject: $0.destination,
            message: "was being written and is given up",
            help: "the next --watch converts it")
        }
        notes.append(
          Diagnostic(.note, code: "watch.ended", subject: signal, message: "ended the watch"))
        let text = JSONReport.document(Self.document(entries, notes))
        for note in notes {
          Standard.write(note.description + "\n", to: STDERR_FILENO, evenSilent: true)
        }
        Standard.write(
          (json ? text : Self.summary(entries)) + "\n", to: STDOUT_FILENO, evenSilent: true)
        if let file { try? ReportFile(file, form: .json).write(text + "\n") }
        switch Self.outcome(entries) {
        case .yes: return 0
        case .no: return 1
        case .errors: return 2
        }
      })
    Interruption.arm(document: nil, ending: ending)
  }
}
