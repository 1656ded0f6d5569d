import Synchronization
import Checkpoints
public import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A directory that appears whole or not at all.
///
/// Everything is written into a hidden sibling, `.<name>.weighbridge-<pid>-<n>.partial`; `commit`
/// brings it to the disk and renames it. A sibling whose process is gone is removed by the next run.
///
/// Where a directory is replaced, only files of the names that were written go, and those that an
/// earlier conversion is known to have written. Everything else is in the new directory as well: the
/// same files, linked there before the two change places.
public final class OutputDirectory: Sendable {
  /// Where the directory will stand.
  public let destination: String
  /// Where to write until then.
  public let path: String
  /// Leftovers of earlier runs that were removed.
  public let notes: [Diagnostic]
  /// Whether the temporary is one that an interrupted run kept for this one.
  public let isContinued: Bool
  private let force: Bool
  /// Files of an earlier conversion in the directory that is replaced.
  private let owned: [String: FileState]
  /// Holds the lock that tells other processes that the sibling is in use.
  private let lock: Int32
  private let claim: OutputClaim

  private static let serial = Atomic(0)

  /// Creates the temporary sibling of `destination`.
  ///
  /// - Parameters:
  ///   - destination: must not exist, or be an empty directory, unless `force`. Parents that are
  ///     missing are created, and removed again when nothing comes of it.
  ///   - sources: the files and directories that are read; none of them may be touched.
  ///   - force: whether `commit` may replace an existing directory.
  ///   - resumable: whether the temporary outlives an interruption, and one that is there is
  ///     continued. Any other run removes it.
  ///   - names: the files that will be written, as far as they are known: what stands in their way is
  ///     told before the work begins.
  ///   - owned: which files of the directory that is replaced an earlier conversion wrote; those may
  ///     go even if none of their name is written.
  /// - Throws: `output.exists`, `output.not-a-directory`, `output.foreign` for a directory that holds
  ///   something else than a checkpoint, `output.in-the-way` for files that must not be replaced and
  ///   cannot stay, `output.is-source`, `output.inside-source`, `output.contains-source`,
  ///   `output.parent`, `output.busy` when another run writes to the same destination, `io.write`.
  public init(
    destination: String, sources: [String] = [], force: Bool = false, resumable: Bool = false,
    names: [String] = [], owned: (_ directory: String) -> [String] = { _ in [] }
  ) throws(Diagnostic) {
    let given = FilePath.trimmed(destination)
    guard !given.isEmpty, FilePath.name(of: given) != ".", FilePath.name(of: given) != ".." else {
      throw Diagnostic(
        code: "output.exists", subject: destination, message: "is no name for a new directory",
        help: "the directory is put in place as a whole; give it a name")
    }
    // A link to a directory stays; what it points to is replaced.
    let target = FilePath.exists(given) ? FilePath.real(given) ?? given : given
    let parent = FilePath.directory(of: target)
    // A new directory inside the source is refused before anything is created there.
    let first = FilePath.firstStanding(above: target)
    if let base = FilePath.real(first), FilePath.real(parent) == nil {
      try Self.check(base + "/?", given: destination, sources: sources)
    }
    let made = try Self.makeParents(parent, destination: destination)
    do throws(Diagnostic) {
      guard let home = FilePath.real(parent), FilePath.kind(home) == .directory else {
        throw Diagnostic(
          code: "output.parent", subject: destination,
          message: "cannot be created: \(shown(parent)) is no directory", help: "create it first")
      }
      let real = (home == "/" ? "" : home) + "/" + FilePath.name(of: target)
      try Self.check(real, given: destination, sources: sources)
      let stem = ".\(FilePath.name(of: real)).weighbridge-"
      var notes = try Self.clean(stem, in: home, destination: real, keeping: resumable)
      if let first = made.first {
        notes.append(
          Diagnostic(
            .note, code: "output.parent", subject: first,
            message: "did not exist, and was created for \(shown(FilePath.name(of: real)))"))
      }
      self.notes = notes
      var states: [String: FileState] = [:]
      if FilePath.exists(real) {
        try Self.checkReplaceable(real, given: destination, force: force)
        if force {
          for name in owned(real) { states[name] = FileState("\(real)/\(name)") }
          if !names.isEmpty { _ = try Self.survey(real, new: Set(names), owned: states) }
        }
        try Self.checkHome(home, given: destination, standing: real)
      }
      self.owned = states
      let number = Self.serial.add(1, ordering: .relaxed).newValue
      let path = "\(home)/\(stem)\(resumable ? "resume" : "\(getpid())-\(number)").partial"
      let (claim, isNew) = try OutputClaim.make(path, for: real, isKept: resumable, parents: made)
      do throws(Diagnostic) {
        lock = try Self.hold(path, destination: real)
      } catch {
        // Another run's temporary stays as it is.
        if isNew { claim.abandon(evenKept: true) }
        claim.release()
        throw error
      }
      self.claim = claim
      isContinued = !isNew
      self.destination = real
      self.path = path
      self.force = force
    } catch {
      for path in made.reversed() { rmdir(path) }
      throw error
    }
  }

  /// Looks whether a directory could be made at `destination`, as the initializer does, and creates
  /// nothing.
  ///
  /// - Throws: as the initializer, but for other runs.
  public static func foresee(
    destination: String, sources: [String] = [], force: Bool = false, names: [String] = [],
    owned: (_ directory: String) -> [String] = { _ in [] }
  ) throws(Diagnostic) {
    let given = FilePath.trimmed(destination)
    guard !given.isEmpty, FilePath.name(of: given) != ".", FilePath.name(of: given) != ".." else {
      throw Diagnostic(
        code: "output.exists", subject: destination, message: "is no name for a new directory",
        help: "the directory is put in place as a whole; give it a name")
    }
    let target = FilePath.exists(given) ? FilePath.real(given) ?? given : given
    let parent = FilePath.directory(of: target)
    let first = FilePath.exists(parent) ? parent : FilePath.firstStanding(above: target)
    guard let home = FilePath.real(first), FilePath.kind(home) == .directory else {
      throw Diagnostic(
        code: "output.parent", subject: destination,
        message: "cannot be created: \(shown(first)) is no directory", help: "create it first")
    }
    guard first == parent else {
      try check((home == "/" ? "" : home) + "/?", given: destination, sources: sources)
      return try checkHome(home, given: destination, standing: nil)
    }
    let real = (home == "/" ? "" : home) + "/" + FilePath.name(of: target)
    try check(real, given: destination, sources: sources)
    guard FilePath.exists(real) else {
      return try checkHome(home, given: destination, standing: nil)
    }
    try checkReplaceable(real, given: destination, force: force)
    try checkHome(home, given: destination, standing: real)
    guard force, !names.isEmpty else { return }
    var states: [String: FileState] = [:]
    for name in owned(real) { states[name] = FileState("\(real)/\(name)") }
    _ = try survey(real, new: Set(names), owned: states)
  }

  /// Makes sure that something can be put in place in `home`.
  private static func checkHome(
    _ home: String, given: String, standing: String?
  ) throws(Diagnostic) {
    guard access(home, W_OK | X_OK) != 0 else { return }
    let reason = String(cString: strerror(errno))
    throw Diagnostic(
      code: "output.parent", subject: given,
      message: "cannot be put in place: nothing can be created in \(shown(home)): \(reason)",
      notes: standing == nil ? [] : ["a directory appears as a whole, by a rename beside it"],
      help: standing == nil ? nil : "give a new directory in it: \(given)/NAME")
  }

  /// Creates the directories of `path` that are missing.
  ///
  /// - Returns: those that were created, the outermost first.
  private static func makeParents(
    _ path: String, destination: String
  ) throws(Diagnostic) -> [String] {
    var missing: [String] = []
    var place = path
    while !FilePath.exists(place), place != ".", place != "/" {
      // Behind a directory that is not there, `..` means nothing.
      if FilePath.name(of: place) == ".." { return [] }
      missing.append(place)
      place = FilePath.directory(of: place)
    }
    var made: [String] = []
    for path in missing.reversed() {
      guard mkdir(path, 0o777) == 0 else {
        let error = Diagnostic.system(
          "output.parent", destination, "cannot be created: \(shown(path))",
          help: "create its parent first")
        for path in made.reversed() { rmdir(path) }
        throw error
      }
      made.append(path)
    }
    return made
  }

  deinit {
    claim.abandon()
    claim.release()
    close(lock)
  }

  /// Opens the temporary and takes its lock.
  private static func hold(_ path: String, destination: String) throws(Diagnostic) -> Int32 {
    let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
    guard descriptor >= 0 else { throw Diagnostic.system("io.write", path, "cannot be opened") }
    var info = stat()
    var standing = stat()
    // File systems without locks are used all the same; the process's number guards there.
    let isBusy = flock(descriptor, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK
    // A run that ended just now may have put the directory in place before this one had the lock.
    guard !isBusy, fstat(descriptor, &info) == 0, lstat(path, &standing) == 0,
      info.st_dev == standing.st_dev, info.st_ino == standing.st_ino, info.st_uid == geteuid()
    else {
      close(descriptor)
      throw Diagnostic(
        code: "output.busy", subject: destination,
        message: "another run is writing to it at this moment",
        help: "wait for it; if none runs, remove \(path)")
    }
    return descriptor
  }

  // MARK: Checks

  private static func check(
    _ real: String, given: String, sources: [String]
  ) throws(Diagnostic) {
    // By what stands there, not by names: a mount or letters of another case can give a directory
    // a second path.
    let destination = FilePath.Identity(real)
    let above = FilePath.Identity.ancestors(of: real)
    for source in sources {
      guard let origin = FilePath.real(source), let identity = FilePath.Identity(origin) else {
        continue
      }
      let fault: (String, String)
      if destination == identity {
        fault = ("is-source", "is the source itself")
      } else if above.contains(identity) {
        fault = ("inside-source", "lies inside the source \(shown(source))")
      } else if let destination, FilePath.Identity.ancestors(of: origin).contains(destination) {
        fault = ("contains-source", "contains the source \(shown(source))")
      } else {
        continue
      }
      throw Diagnostic(
        code: "output.\(fault.0)", subject: given, message: fault.1,
        help: "the source is never touched; give another destination")
    }
  }

  private static func checkReplaceable(
    _ real: String, given: String, force: Bool
  ) throws(Diagnostic) {
    guard FilePath.kind(real) != .nothing else {
      throw Diagnostic(
        code: "output.exists", subject: given, message: "is a link that leads nowhere",
        help: "remove the link, create what it names, or give another destination")
    }
    guard FilePath.kind(real) == .directory else {
      throw Diagnostic(
        code: force ? "output.not-a-directory" : "output.exists", subject: given,
        message: "is a file, and would have to be a directory",
        help: "a file is never replaced; give another destination")
    }
    let names = try FilePath.names(in: real)
    if isMountPoint(real) {
      throw Diagnostic(
        code: "output.mount", subject: given,
        message: "is where a file system is mounted, and cannot be put in place as a whole",
        help: "give a directory in it: \(given)/NAME")
    }
    if names.isEmpty { return }
    guard force else {
      throw Diagnostic(
        code: "output.exists", subject: given, message: "exists already",
        help: "give another destination, or --force to replace what a conversion writes there")
    }
    // A mistyped home directory is no destination.
    let isCheckpoint = names.contains { CheckpointLocation.hasWeightsEnding($0) }
    guard isCheckpoint, !names.contains(".git") else {
      throw Diagnostic(
        code: "output.foreign", subject: given,
        message: isCheckpoint
          ? "is a git repository; --force replaces no such directory"
          : "holds no checkpoint; --force replaces nothing else",
        notes: ["it holds \(list(names, most: 5))"],
        help: "give another destination, such as a directory in it")
    }
  }

  private static func isMountPoint(_ path: String) -> Bool {
    var own = stat()
    var above = stat()
    guard stat(path, &own) == 0, stat(FilePath.directory(of: path), &above) == 0 else {
      return false
    }
    return own.st_dev != above.st_dev || isMounted(path)
  }

  /// Whether the system lists `path`, a real path, as where something is mounted: a directory of the
  /// same file system can be mounted too.
  private static func isMounted(_ path: String) -> Bool {
    guard let file = fopen("/proc/self/mountinfo", "re") else { return false }
    defer { fclose(file) }
    var line: UnsafeMutablePointer<CChar>?
    var room = 0
    defer { free(line) }
    while getline(&line, &room, file) > 0, let text = line {
      let fields = String(cString: text).split(separator: " ", maxSplits: 5)
      guard fields.count > 4 else { continue }
      if unescaped(fields[4]) == Array(path.utf8) { return true }
    }
    return false
  }

  /// The bytes of a path in which blanks and others stand as `\\040`.
  private static func unescaped(_ text: Substring) -> [UInt8] {
    let bytes = Array(text.utf8)
    var plain: [UInt8] = []
    var at = 0
    while at < bytes.count {
      if bytes[at] == UInt8(ascii: "\\"), at + 3 < bytes.count,
        let code = UInt8(String(decoding: bytes[at + 1...at + 3], as: UTF8.self), radix: 8)
      {
        plain.append(code)
        at += 4
      } else {
        plain.append(bytes[at])
        at += 1
      }
    }
    return plain
  }

  private static func list(_ names: [String], most: Int) -> String {
    names.prefix(most).map { shown($0) }.joined(separator: ", ")
      + (names.count > most ? " and \(names.count - most) more" : "")
  }

  /// A file as it stood when its owner was asked for.
  private struct FileState: Equatable {
    var device: UInt64
    var inode: UInt64
    var byteCount: Int
    var isFile: Bool
    var modified: Int

    /// What stands at `path`, no link followed.
    init?(_ path: String) {
      var info = stat()
      guard lstat(path, &info) == 0 else { return nil }
      device = UInt64(truncatingIfNeeded: info.st_dev)
      inode = UInt64(info.st_ino)
      byteCount = Int(info.st_size)
      isFile = info.st_mode & S_IFMT == S_IFREG
      #if canImport(Darwin)
        let time = info.st_mtimespec
      #else
        let time = info.st_mtim
      #endif
      modified = Int(time.tv_sec) &* 1_000_000_000 &+ Int(time.tv_nsec)
    }
  }

  /// What becomes of a directory's files when `new` are written there.
  private struct Survey {
    /// The files that go.
    var marks: Set<Replacement.Mark> = []
    /// The names that stay.
    var kept: [String] = []
  }

  /// Decides which files of `directory` go, and which stay.
  ///
  /// - Throws: `output.in-the-way` for what can do neither.
  private static func survey(
    _ directory: String, new: Set<String>, owned: [String: FileState]
  ) throws(Diagnostic) -> Survey {
    var survey = Survey()
    var directories: [String] = []
    let written = Set(new.map { Array($0.utf8) })
    for name in try FilePath.names(in: directory) {
      guard let state = FileState("\(directory)/\(name)") else { continue }
      let bytes = Array(name.utf8)
      if written.contains(bytes) {
        var info = stat()
        if lstat("\(directory)/\(name)", &info) == 0, info.st_mode & S_IFMT == S_IFDIR {
          directories.append(name)
        }
        survey.marks.insert(Replacement.Mark(name: bytes, inode: state.inode))
      } else if state.isFile, owned[name] == state {
        survey.marks.insert(Replacement.Mark(name: bytes, inode: state.inode))
      } else {
        survey.kept.append(name)
      }
    }
    guard directories.isEmpty else {
      throw Diagnostic(
        code: "output.in-the-way", subject: directory,
        message: "holds directories where files would be written: \(list(directories, most: 8))",
        help: "give another destination, or move them away; --force removes no directory")
    }
    let others = shadows(new, survey.kept)
    guard others.isEmpty else {
      throw Diagnostic(
        code: "output.in-the-way", subject: directory,
        message: "holds other weights, which would be read instead of the new ones: "
          + list(others, most: 8),
        notes: [
          "no conversion with --sha256 wrote them, so that nothing tells whether they are needed"
        ],
        help: "give another destination, or move them away; --force removes only what it writes")
    }
    return survey
  }

  /// Which of the files that stay a reader would take for, or confuse with, what is written.
  private static func shadows(_ new: Set<String>, _ kept: [String]) -> [String] {
    guard new.contains(where: { CheckpointLocation.hasWeightsEnding($0) }) else { return [] }
    let all = new.union(kept)
    var found: Set<String> = []
    // The first of these that is there is what transformers reads.
    for stem in CheckpointLocation.preferred {
      let present = [stem, stem + ".index.json"].filter(all.contains)
      if present.isEmpty { continue }
      found.formUnion(present.filter { !new.contains($0) })
      break
    }
    // A sharded checkpoint comes before weights of other names, and what an interrupted save or a
    // trainer leaves is taken for a part of it.
    let usual = CheckpointLocation.preferred.flatMap { [$0, $0 + ".index.json"] }
    let isSharded = new.contains(DCPFiles.indexName)
    if isSharded {
      found.formUnion([DCPFiles.indexName + ".tmp", "meta.pt"])
    } else if !usual.contains(where: new.contains) {
      found.formUnion(kept.filter { DCPFiles.isSharded([$0]) })
    }
    // A file and the index of its shards are two models.
    for name in kept {
      if name.hasSuffix(".index.json"), new.contains(String(name.dropLast(".index.json".count))) {
        found.insert(name)
      } else if new.contains(name + ".index.json") {
        found.insert(name)
      }
    }
    return kept.filter(found.contains)
  }

  /// Removes siblings whose process is gone.
  private static func clean(
    _ stem: String, in home: String, destination: String, keeping: Bool
  ) throws(Diagnostic) -> [Diagnostic] {
    var notes: [Diagnostic] = []
    for name in try FilePath.names(in: home)
    where name.hasPrefix(stem) && name.hasSuffix(".partial") {
      if keeping, name == stem + "resume.partial" { continue }
      let path = home + "/" + name
      let process = Int32(name.dropFirst(stem.count).prefix { $0 != "-" })
      // In a directory that others may write to, a name proves nothing.
      guard isTemporary(name.dropFirst(stem.count).dropLast(".partial".count)), !isForeign(path)
      else {
        notes.append(
          Diagnostic(
            .warning, code: "output.leftover", subject: path,
            message:
              "is named like what an interrupted run leaves, but is no directory that this user's "
              + "runs make; it stays",
            help: "remove it yourself"))
        continue
      }
      guard isAbandoned(path, process: process) else {
        throw Diagnostic(
          code: "output.busy", subject: destination,
          message: "process \(process.map(String.init) ?? "?") is writing to it at this moment",
          help: "wait for it; if no such process runs, remove \(path)")
      }
      if name.hasSuffix("-old.partial") {
        // Version 0.1.0 put the directory that it replaced aside.
        if Rename.withoutReplacing(path, destination) {
          notes.append(restored(destination))
        } else {
          notes.append(
            Diagnostic(
              .warning, code: "output.leftover", subject: path,
              message: "is a directory that an interrupted run replaced; it stays",
              help: "look at what it holds, and remove it yourself"))
        }
        continue
      }
      if name.hasSuffix("-swap.partial") {
        notes += told(
          Replacement(path: path, destination: destination).clear(), path, destination)
        if !FilePath.exists(path) {
          notes.append(
            Diagnostic(
              .note, code: "output.leftover", subject: path,
              message: "was left by an interrupted run and is removed"))
        }
        continue
      }
      removeTree(path)
      let gone = !FilePath.exists(path)
      notes.append(
        Diagnostic(
          gone ? .note : .warning, code: "output.leftover", subject: path,
          message: "was left by an interrupted run and "
            + (gone ? "is removed" : "cannot be removed")))
    }
    return notes
  }

  /// Whether what stands between the stem and the ending is what this tool writes there.
  private static func isTemporary(_ middle: Substring) -> Bool {
    var parts = middle.split(separator: "-", omittingEmptySubsequences: false)
    if parts.last == "swap" || parts.last == "old" { parts.removeLast() }
    if parts == ["resume"] { return true }
    return parts.count == 2
      && parts.allSatisfy { !$0.isEmpty && $0.utf8.allSatisfy { $0 >= 48 && $0 < 58 } }
  }

  private static func restored(_ destination: String) -> Diagnostic {
    Diagnostic(
      .note, code: "output.restored", subject: destination,
      message: "was being replaced by an interrupted run; the old directory is back")
  }

  /// What is to be said of a cleared replacement.
  private static func told(
    _ cleared: Replacement.Cleared, _ path: String, _ destination: String
  ) -> [Diagnostic] {
    var notes: [Diagnostic] = []
    if cleared.isRestored { notes.append(restored(destination)) }
    if !cleared.moved.isEmpty {
      notes.append(
        Diagnostic(
          .note, code: "output.kept", subject: destination,
          message: "got files while it was being replaced, which are kept: "
            + list(cleared.moved, most: 8)))
    }
    if !cleared.kept.isEmpty {
      notes.append(
        Diagnostic(
          .warning, code: "output.leftover", subject: path,
          message: "holds what was in the directory that was replaced and could not be moved to "
            + "the new one: " + list(cleared.kept, most: 8),
          help: "look at it, and move or remove it yourself"))
    }
    return notes
  }

  /// Whether no run of this user can have made it: a link, a file, or a directory of somebody else
  /// who is not writing to it.
  private static func isForeign(_ path: String) -> Bool {
    let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
    guard descriptor >= 0 else { return errno == ELOOP || errno == ENOTDIR }
    defer { close(descriptor) }
    var info = stat()
    guard fstat(descriptor, &info) == 0, info.st_uid != geteuid() else { return false }
    return flock(descriptor, LOCK_EX | LOCK_NB) == 0
  }

  /// A dead process holds no lock; a live one of the same number may be another program, but only
  /// the lock could tell, and some file systems have none.
  private static func isAbandoned(_ path: String, process: Int32?) -> Bool {
    let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
    guard descriptor >= 0 else { return errno == ENOENT }
    defer { close(descriptor) }
    if flock(descriptor, LOCK_EX | LOCK_NB) == 0 {
      // Between its creation and its lock a sibling of a live process looks free.
      return process.map { $0 == getpid() || kill($0, 0) != 0 && errno == ESRCH } ?? true
        || age(descriptor) > 5
    }
    return errno != EWOULDBLOCK && process.map { kill($0, 0) != 0 && errno == ESRCH } ?? false
  }

  /// Seconds since a file's status changed.
  private static func age(_ descriptor: Int32) -> Int {
    var info = stat()
    guard fstat(descriptor, &info) == 0 else { return 0 }
    #if canImport(Darwin)
      return time(nil) - info.st_ctimespec.tv_sec
    #else
      return time(nil) - info.st_ctim.tv_sec
    #endif
  }

  // MARK: The end

  /// Puts the directory in its place, at once and whole.
  ///
  /// - Parameter sync: whether every file and directory is brought to the disk before.
  /// - Returns: notes, such as an old directory that could not be removed.
  /// - Throws: `io.write`; `output.exists` when something appeared there meanwhile. The temporary is
  ///   removed then.
  @discardableResult
  public func commit(sync: Bool = true) throws(Diagnostic) -> [Diagnostic] {
    do throws(Diagnostic) {
      if sync { try Self.syncTree(path) }
      let notes = try claim.place { () throws(Diagnostic) in try place(sync: sync) }
      if sync { try Self.sync(FilePath.directory(of: destination)) }
      return notes
    } catch {
      discard()
      throw error
    }
  }

  /// Removes the temporary, unless it is resumable; nothing happens after `commit`.
  public func discard() { claim.abandon() }

  /// Removes the temporary even if it is resumable: what is in it is of no use.
  public func discardForGood() { claim.abandon(evenKept: true) }

  private func place(sync: Bool) throws(Diagnostic) -> [Diagnostic] {
    if Rename.withoutReplacing(path, destination) { return [] }
    guard errno == EEXIST || errno == ENOTEMPTY else {
      throw Diagnostic.system("io.write", destination, "cannot be put in place")
    }
    if (try? FilePath.names(in: destination))?.isEmpty == true {
      // The system itself sees to it that nothing but an empty directory goes.
      let notes = try takeOver(path)
      if rename(path, destination) == 0 { return notes }
      guard errno == EEXIST || errno == ENOTEMPTY else {
        throw Diagnostic.system("io.write", destination, "cannot be put in place")
      }
    }
    guard force else {
      throw Diagnostic(
        code: "output.exists", subject: destination,
        message: "appeared while it was being written; another run was faster",
        help: "give another destination")
    }
    // What was there at the start may have been replaced by something dearer.
    try Self.checkReplaceable(destination, given: destination, force: true)
    let new = try FilePath.names(in: path)
    let survey = try Self.survey(destination, new: Set(new), owned: owned)
    return try replace(new, survey, sync: sync)
  }

  /// Gives the temporary the owner and permissions of the directory that it replaces: what was private
  /// stays private.
  private func takeOver(_ path: String) throws(Diagnostic) -> [Diagnostic] {
    var info = stat()
    var own = stat()
    guard stat(destination, &info) == 0, stat(path, &own) == 0,
      chmod(path, info.st_mode & 0o7777 | 0o700) == 0
    else {
      throw Diagnostic.system("io.write", destination, "cannot be replaced")
    }
    guard info.st_uid != own.st_uid || info.st_gid != own.st_gid else { return [] }
    if chown(path, info.st_uid, info.st_gid) == 0 {
      // Changing the owner may take special permissions away.
      if chmod(path, info.st_mode & 0o7777 | 0o700) == 0 { return [] }
    }
    return [
      Diagnostic(
        .warning, code: "output.owner", subject: destination,
        message: "belonged to another user or group, and belongs to this one now",
        help: "chown it where that matters")
    ]
  }

  private func replace(
    _ new: [String], _ survey: Survey, sync: Bool
  ) throws(Diagnostic) -> [Diagnostic] {
    let swap = String(path.dropLast(".partial".count)) + "-swap.partial"
    let replacement = Replacement(path: swap, destination: destination)
    var marks = survey.marks
    for name in new {
      guard let state = FileState("\(path)/\(name)") else { continue }
      marks.insert(Replacement.Mark(name: Array(name.utf8), inode: state.inode))
    }
    try replacement.prepare(marks, sync: sync)
    let hold = open(swap, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
    defer { if hold >= 0 { close(hold) } }
    if hold >= 0 { flock(hold, LOCK_EX | LOCK_NB) }
    let tree = "\(swap)/\(Replacement.tree)"
    guard rename(path, tree) == 0 else {
      let error = Diagnostic.system("io.write", path, "cannot be put in place")
      replacement.giveUp()
      throw error
    }
    var notes: [Diagnostic] = []
    do throws(Diagnostic) {
      let goes = Set(marks.map(\.name))
      let faults = Replacement.carry(from: destination, to: tree, except: goes, sync: sync)
      guard faults.isEmpty else {
        throw Diagnostic(
          code: "output.in-the-way", subject: destination,
          message: "holds what cannot be carried over into the new directory",
          notes: Array(faults.prefix(8))
            + (faults.count > 8 ? ["and \(faults.count - 8) more"] : []),
          help: "give another destination, or move it away; --force removes only what it writes")
      }
      notes += try takeOver(tree)
      if sync { try Self.sync(tree) }
      try replacement.exchange()
    } catch {
      // The old directory stands; what was linked into the new one goes with it.
      _ = replacement.clear()
      throw error
    }
    // From here on nothing may be thrown: the new directory stands.
    if !survey.kept.isEmpty {
      notes.append(
        Diagnostic(
          .note, code: "output.kept", subject: destination,
          message: "holds files that no conversion is known to have written, which are kept: "
            + Self.list(survey.kept, most: 8),
          help: survey.kept.contains(where: CheckpointLocation.hasWeightsEnding)
            ? "name the weights themselves where the directory could mean several" : nil))
    }
    // The new name is on the disk before the old files go from it: a power cut finds one of the two.
    guard !sync || (try? Self.sync(FilePath.directory(of: destination))) != nil,
      !sync || (try? Self.sync(swap)) != nil
    else {
      notes.append(
        Diagnostic(
          .warning, code: "output.leftover", subject: swap,
          message: "holds the directory that was replaced: it cannot be brought to the disk that "
            + "the new one stands", help: "the next run to the same destination removes it"))
      return notes
    }
    notes += Self.told(replacement.clear(), swap, destination)
    return notes
  }

  private static func syncTree(_ directory: String) throws(Diagnostic) {
    for name in try FilePath.names(in: directory) {
      let path = directory + "/" + name
      switch FilePath.kind(path) {
      case .directory: try syncTree(path)
      case .file: try sync(path)
      case .other, .nothing: break
      }
    }
    try sync(directory)
  }

  private static func sync(_ path: String) throws(Diagnostic) {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
      throw Diagnostic.system("io.write", path, "cannot be brought to the disk")
    }
    defer { close(descriptor) }
    // Some file systems cannot sync a directory and say so.
    guard fsync(descriptor) == 0 || errno == EINVAL || errno == ENOTSUP else {
      throw Diagnostic.system("io.write", path, "cannot be brought to the disk")
    }
  }

  /// Removes a directory and what is in it, following no link.
  ///
  /// Each directory is opened in the one above and its entries are removed in it: whoever may write
  /// there can put a link in a directory's place, but not lead this out of it.
  package static func removeTree(_ path: String) {
    let home = FilePath.directory(of: path)
    var parent = open(home, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    if parent < 0, errno == EMFILE, Descriptors.makeRoom(atLeast: 4) {
      parent = open(home, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    }
    guard parent >= 0 else { return }
    defer { close(parent) }
    FilePath.name(of: path).withCString { remove($0, in: parent) }
  }

  /// Removes `name` of an open directory, with what is in it.
  static func remove(_ name: UnsafePointer<CChar>, in parent: Int32) {
    if unlinkat(parent, name, 0) == 0 { return }
    let descriptor = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
    guard descriptor >= 0 else { return }
    defer { close(descriptor) }
    // All before the first goes, as removing disturbs.
    for name in Replacement.names(in: descriptor) ?? [] {
      remove(name.map { CChar(bitPattern: $0) } + [0], in: descriptor)
    }
    unlinkat(parent, name, AT_REMOVEDIR)
  }
}
