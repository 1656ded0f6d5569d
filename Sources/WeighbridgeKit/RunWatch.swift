import Checkpoints
import Conversion
import Hub
package import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// What a run has written so far, looked at again and again.
///
/// A checkpoint is complete when none of its files has changed from one look to the next and it can be
/// read: a sharded one by its `.metadata`, which its writer puts there last.
package struct RunWatch {
  /// What a look found.
  package struct Look: Sendable {
    /// Complete, and new or changed since they were told last.
    package var complete: [BatchSources.Item] = []
    /// Whether anything is new, changed or gone.
    package var isChanged = false
  }

  private struct State {
    var item: BatchSources.Item
    var stamp: [String]
    /// Whether the last look found the same stamp.
    var isSteady = false
    /// The stamp that was told as complete.
    var told: [String]?
    /// Why it cannot be read.
    var problems: [Diagnostic] = []
  }

  private let places: [String]
  private let destination: String
  private var states: [String: State] = [:]

  /// A watch of directories in which checkpoints appear, or of patterns of their paths.
  package init(_ places: [String], into destination: String) {
    self.places = places
    self.destination = FilePath.trimmed(destination)
  }

  /// Looks once.
  ///
  /// - Parameter read: opens a checkpoint, to see whether it can be read.
  package mutating func look(_ read: (String) throws -> Void) -> Look {
    var look = Look()
    let items = items()
    let present = Set(items.map(\.source))
    for source in states.keys where !present.contains(source) {
      // Trainers remove the older ones.
      states[source] = nil
      look.isChanged = true
    }
    for item in items {
      let stamp = Self.stamp(of: item.source)
      guard var state = states[item.source], state.stamp == stamp else {
        states[item.source] = State(item: item, stamp: stamp, told: states[item.source]?.told)
        look.isChanged = true
        continue
      }
      state.isSteady = true
      state.item = item
      defer { states[item.source] = state }
      guard state.told != stamp else { continue }
      do {
        if item.problem == nil { try read(item.source) }
        state.problems = []
      } catch {
        state.problems =
          (error as? Problems)?.diagnostics ?? (error as? Refusal)?.problems
          ?? [error as? Diagnostic].compactMap { $0 }
        continue
      }
      // What was read while it was written to is not complete.
      guard Self.stamp(of: item.source) == stamp else { continue }
      state.told = stamp
      look.complete.append(item)
    }
    return look
  }

  /// Whether a source is as it was when it was told; otherwise it will be told again.
  package mutating func isAsTold(_ source: String) -> Bool {
    guard let state = states[source], state.told != nil else { return false }
    if Self.stamp(of: source) == state.told { return true }
    states[source]?.told = nil
    return false
  }

  /// What was never complete: a warning for each that is still being written or whose save did not
  /// finish, an error for each that is finished and cannot be read.
  package var remaining: [(item: BatchSources.Item, problems: [Diagnostic])] {
    let left = states.values.filter { $0.told != $0.stamp }
    let order = BatchSources.sorted(left.map(\.item.source))
    return order.compactMap { source in
      guard let state = states[source] else { return nil }
      let unfinished = ["dcp.unfinished", "shards.missing-file"]
      if state.problems.isEmpty || state.problems.contains(where: { unfinished.contains($0.code) })
      {
        let reason = state.problems.first.map { ": \($0.message)" } ?? ""
        return (
          state.item,
          [
            Diagnostic(
              .warning, code: "watch.unfinished", subject: source,
              message: "was not complete, and is not converted\(reason)",
              help: "the next --watch converts it, once it is")
          ]
        )
      }
      return (state.item, state.problems)
    }
  }

  /// The checkpoints that are there, complete or not.
  private func items() -> [BatchSources.Item] {
    var paths: [String] = []
    let own = FilePath.Identity(destination)
    for place in places {
      if BatchSources.isPattern(place) {
        paths += BatchSources.matches(place)
        continue
      }
      let names = (try? FilePath.names(in: place)) ?? []
      // What was named is itself a checkpoint.
      if FilePath.kind(place) == .file || DCPFiles.isSharded(names) {
        paths.append(place)
        continue
      }
      paths += BatchSources.sorted(names.filter { !$0.hasPrefix(".") }).map {
        place.hasSuffix("/") ? place + $0 : "\(place)/\($0)"
      }.filter(Self.isCandidate)
    }
    paths.removeAll { own != nil && FilePath.Identity($0) == own }
    return BatchSources(paths, into: destination).items
  }

  /// Whether something in a run's directory is, or may become, a checkpoint.
  private static func isCandidate(_ path: String) -> Bool {
    switch FilePath.kind(path) {
    case .file: return CheckpointLocation.mayBeModel(FilePath.name(of: path))
    case .directory:
      do {
        _ = try CheckpointLocation(finding: path)
        return true
      } catch { return error.code != "checkpoint.none" && error.code != "checkpoint.not-found" }
    case .other, .nothing: return false
    }
  }

  /// Every file of a checkpoint with its size and the time of its last change.
  private static func stamp(of path: String) -> [String] {
    var lines: [String] = []
    func add(_ path: String, _ depth: Int) {
      var info = stat()
      guard stat(path, &info) == 0, lines.count < 100_000 else { return }
      if info.st_mode & S_IFMT == S_IFDIR {
        guard depth > 0 else { return }
        lines.append(path)
        for name in (try? FilePath.names(in: path)) ?? [] { add("\(path)/\(name)", depth - 1) }
        return
      }
      #if canImport(Darwin)
        let time = info.st_mtimespec
      #else
        let time = info.st_mtim
      #endif
      lines.append("\(path) \(info.st_ino) \(info.st_size) \(time.tv_sec).\(time.tv_nsec)")
    }
    add(FilePath.trimmed(path), 4)
    return lines
  }
}
