import Synchronization
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
  /// Holds the lock that tells other processes that the sibling is in use.
  private let lock: Int32
  private let claim: OutputClaim

  private static let serial = Atomic(0)

  /// Creates the temporary sibling of `destination`.
  ///
  /// - Parameters:
  ///   - destination: must not exist unless `force`; its parent must.
  ///   - sources: the files and directories that are read; none of them may be touched.
  ///   - force: whether `commit` may replace an existing directory.
  ///   - resumable: whether the temporary outlives an interruption, and one that is there is
  ///     continued. Any other run removes it.
  /// - Throws: `output.exists`, `output.not-a-directory`, `output.foreign` for a directory that holds
  ///   something else than a checkpoint, `output.is-source`, `output.inside-source`,
  ///   `output.contains-source`, `output.parent`, `output.busy` when another run writes to the same
  ///   destination, `io.write`.
  public init(
    destination: String, sources: [String] = [], force: Bool = false, resumable: Bool = false
  ) throws(Diagnostic) {
    let given = FilePath.trimmed(destination)
    guard !given.isEmpty, FilePath.name(of: given) != ".", FilePath.name(of: given) != ".." else {
      throw Diagnostic(
        code: "output.exists", subject: destination, message: "is no name for a new directory")
    }
    // A link to a directory stays; what it points to is replaced.
    let target = FilePath.exists(given) ? FilePath.real(given) ?? given : given
    let parent = FilePath.directory(of: target)
    guard let home = FilePath.real(parent), FilePath.kind(home) == .directory else {
      throw Diagnostic(
        code: "output.parent", subject: destination,
        message: "cannot be created: \(shown(parent)) is no directory", help: "create it first")
    }
    let real = (home == "/" ? "" : home) + "/" + FilePath.name(of: target)
    try Self.check(real, given: destination, sources: sources)
    let stem = ".\(FilePath.name(of: real)).weighbridge-"
    notes = try Self.clean(stem, in: home, destination: real, keeping: resumable)
    if FilePath.exists(real) { try Self.checkReplaceable(real, given: destination, force: force) }
    let number = Self.serial.add(1, ordering: .relaxed).newValue
    let path = "\(home)/\(stem)\(resumable ? "resume" : "\(getpid())-\(number)").partial"
    let (claim, isNew) = try OutputClaim.make(path, for: real, isKept: resumable)
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
    guard force else {
      throw Diagnostic(
        code: "output.exists", subject: given, message: "exists already",
        help: "give another destination, or --force to replace it")
    }
    guard FilePath.kind(real) == .directory else {
      throw Diagnostic(
        code: "output.not-a-directory", subject: given,
        message: "is not a directory, and a directory would replace it", help: "remove it first")
    }
    // Replacing deletes what is there; a mistyped home directory must survive.
    let names = try FilePath.names(in: real)
    let endings = [".safetensors", ".bin", ".pth", ".pt", ".h5", ".hdf5", ".distcp"]
    let isCheckpoint = names.contains { name in endings.contains { name.hasSuffix($0) } }
    guard names.isEmpty || isCheckpoint, !names.contains(".git") else {
      throw Diagnostic(
        code: "output.foreign", subject: given,
        message: "holds no checkpoint, and would be deleted",
        notes: ["it holds \(names.prefix(5).map { shown($0) }.joined(separator: ", "))"],
        help: "remove it yourself if that is meant")
    }
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
      guard !isForeign(path) else {
        notes.append(
          Diagnostic(
            .warning, code: "output.leftover", subject: path,
            message:
              "is named like what an interrupted run leaves, but is no directory of this user's; "
              + "it stays",
            help: "remove it yourself"))
        continue
      }
      guard isAbandoned(path, process: process) else {
        throw Diagnostic(
          code: "output.busy", subject: destination,
          message: "process \(process.map(String.init) ?? "?") is writing to it at this moment",
          help: "wait for it; if no such process runs, remove \(path)")
      }
      if name.hasSuffix("-old.partial"), Rename.withoutReplacing(path, destination) {
        notes.append(
          Diagnostic(
            .note, code: "output.restored", subject: destination,
            message: "was being replaced by an interrupted run; the old directory is back"))
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
    guard force else {
      throw Diagnostic(
        code: "output.exists", subject: destination,
        message: "appeared while it was being written; another run was faster",
        help: "give another destination, or --force to replace it")
    }
    // What was there at the start may have been replaced by something dearer.
    try Self.checkReplaceable(destination, given: destination, force: true)
    // What was private stays private.
    var info = stat()
    guard stat(destination, &info) == 0, chmod(path, info.st_mode & 0o777 | 0o700) == 0 else {
      throw Diagnostic.system("io.write", destination, "cannot be replaced")
    }
    var old = path
    if !Rename.exchanging(path, destination) {
      // No atomic exchange on this file system: two renames, and back if the second fails.
      guard errno == ENOSYS || errno == EINVAL || errno == ENOTSUP || errno == EXDEV else {
        throw Diagnostic.system("io.write", destination, "cannot be replaced")
      }
      old = String(path.dropLast(".partial".count)) + "-old.partial"
      guard rename(destination, old) == 0 else {
        throw Diagnostic.system("io.write", destination, "cannot be replaced")
      }
      guard rename(path, destination) == 0 else {
        let error = Diagnostic.system("io.write", destination, "cannot be replaced")
        _ = rename(old, destination)
        throw error
      }
    }
    // The new name is on the disk before the old files go from it: a power cut finds one of the two.
    // From here on nothing may be thrown: what would be cleaned up is the old directory.
    if !sync || (try? Self.sync(FilePath.directory(of: destination))) != nil {
      Self.removeTree(old)
    }
    guard FilePath.exists(old) else { return [] }
    return [
      Diagnostic(
        .warning, code: "output.leftover", subject: old,
        message: "is the directory that was replaced, and cannot be removed",
        help: "remove it yourself")
    ]
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
    let parent = open(FilePath.directory(of: path), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard parent >= 0 else { return }
    defer { close(parent) }
    FilePath.name(of: path).withCString { remove($0, in: parent) }
  }

  private static func remove(_ name: UnsafePointer<CChar>, in parent: Int32) {
    if unlinkat(parent, name, 0) == 0 { return }
    let descriptor = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
    guard descriptor >= 0 else { return }
    guard let stream = fdopendir(descriptor) else {
      close(descriptor)
      return
    }
    defer { closedir(stream) }
    // By their bytes, which need not be UTF-8; all before the first goes, as removing disturbs.
    var names: [[CChar]] = []
    while let entry = readdir(stream) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
        bytes.prefix { $0 != 0 }.map { CChar(bitPattern: $0) } + [0]
      }
      let dot = CChar(UInt8(ascii: "."))
      if name != [dot, 0], name != [dot, dot, 0] { names.append(name) }
    }
    for name in names { remove(name, in: descriptor) }
    unlinkat(parent, name, AT_REMOVEDIR)
  }
}
