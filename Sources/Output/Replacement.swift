import Checkpoints
import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// How a new directory takes the place of an old one that holds other files as well.
///
/// A hidden sibling holds the new directory (`tree`) and a list of the files that may be removed. What
/// else the old directory holds is linked into the new one: the same files under a second name, which
/// cost nothing, so that the old directory stays whole until both change places at once. Whatever
/// moment the process is killed at, the list and the inodes tell the next run which files may go:
/// those of the list, and those that stand in the destination as well. Nothing else is removed.
struct Replacement {
  static let tree = "tree"
  private static let old = "old"
  private static let list = "list"

  /// A file that may be removed: one that was written here, or that the new ones replace.
  struct Mark: Hashable {
    var name: [UInt8]
    var inode: UInt64
  }

  /// The sibling that holds everything.
  let path: String
  /// Where the new directory will stand.
  let destination: String

  // MARK: Going forward

  /// Makes the sibling with its list, and brings both to the disk.
  func prepare(_ marks: Set<Mark>, sync: Bool) throws(Diagnostic) {
    guard mkdir(path, 0o700) == 0 else {
      throw Diagnostic.system("io.write", path, "cannot be created")
    }
    var bytes: [UInt8] = []
    for mark in marks { bytes += Array("\(mark.inode)/".utf8) + mark.name + [0] }
    do throws(Diagnostic) {
      let file = try OutputFile(path: "\(path)/\(Self.list)", byteCount: bytes.count)
      try file.write(at: 0, bytes)
      try file.finish(sync: sync)
    } catch {
      giveUp()
      throw error
    }
  }

  /// Removes the sibling when nothing but the list is in it.
  func giveUp() {
    unlink("\(path)/\(Self.list)")
    rmdir(path)
  }

  /// Lets the new directory and the old one change places.
  func exchange() throws(Diagnostic) {
    let new = "\(path)/\(Self.tree)"
    if Rename.exchanging(new, destination) { return }
    // No atomic exchange on this file system: two renames, and back if the second fails.
    guard errno == ENOSYS || errno == EINVAL || errno == ENOTSUP else {
      throw Diagnostic.system("io.write", destination, "cannot be replaced")
    }
    guard rename(destination, "\(path)/\(Self.old)") == 0 else {
      throw Diagnostic.system("io.write", destination, "cannot be replaced")
    }
    guard rename(new, destination) == 0 else {
      let error = Diagnostic.system("io.write", destination, "cannot be replaced")
      _ = rename("\(path)/\(Self.old)", destination)
      throw error
    }
  }

  /// Links all that `source` holds, but for the names `except`, into `target`.
  ///
  /// - Returns: what could not be carried over, each with the reason.
  static func carry(
    from source: String, to target: String, except: Set<[UInt8]>, sync: Bool
  ) -> [String] {
    let from = open(source, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    let to = open(target, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    defer { for descriptor in [from, to] where descriptor >= 0 { close(descriptor) } }
    var info = stat()
    guard from >= 0, to >= 0, fstat(from, &info) == 0 else {
      return ["\(shown(source)): \(String(cString: strerror(errno)))"]
    }
    var faults: [String] = []
    carry(from, to, except, info.st_dev, "", sync, &faults)
    return faults
  }

  private static func carry(
    _ from: Int32, _ to: Int32, _ except: Set<[UInt8]>, _ device: dev_t, _ prefix: String,
    _ sync: Bool, _ faults: inout [String]
  ) {
    func fault(_ name: [UInt8], _ reason: String) {
      faults.append("\(shown(prefix + String(decoding: name, as: UTF8.self))): \(reason)")
    }
    guard let names = names(in: from) else {
      faults.append("\(shown(prefix)): \(String(cString: strerror(errno)))")
      return
    }
    for name in names where !except.contains(name) {
      let text = name.map { CChar(bitPattern: $0) } + [0]
      var info = stat()
      guard fstatat(from, text, &info, AT_SYMLINK_NOFOLLOW) == 0 else { continue }
      guard info.st_mode & S_IFMT == S_IFDIR else {
        // A link is linked itself, not what it points to.
        if linkat(from, text, to, text, 0) != 0 {
          fault(name, String(cString: strerror(errno)))
        }
        continue
      }
      guard info.st_dev == device else {
        fault(name, "another file system is mounted there")
        continue
      }
      let inner = openat(from, text, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
      guard inner >= 0 else {
        fault(name, String(cString: strerror(errno)))
        continue
      }
      defer { close(inner) }
      guard mkdirat(to, text, 0o700) == 0 else {
        fault(name, String(cString: strerror(errno)))
        continue
      }
      let outer = openat(to, text, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
      guard outer >= 0 else {
        fault(name, String(cString: strerror(errno)))
        continue
      }
      defer { close(outer) }
      carry(
        inner, outer, [], device, prefix + String(decoding: name, as: UTF8.self) + "/", sync,
        &faults)
      if !dress(outer, like: info) { fault(name, "its owner cannot be kept") }
      if sync { fsync(outer) }
    }
  }

  /// Gives a directory the owner, permissions and times of another.
  static func dress(_ descriptor: Int32, like info: stat) -> Bool {
    var own = stat()
    guard fstat(descriptor, &own) == 0 else { return false }
    if own.st_uid != info.st_uid || own.st_gid != info.st_gid,
      fchown(descriptor, info.st_uid, info.st_gid) != 0
    {
      return false
    }
    guard fchmod(descriptor, info.st_mode & 0o7777) == 0 else { return false }
    #if canImport(Darwin)
      let times = [info.st_atimespec, info.st_mtimespec]
    #else
      let times = [info.st_atim, info.st_mtim]
    #endif
    return futimens(descriptor, times) == 0
  }

  // MARK: Clearing up

  /// What was found while clearing up.
  struct Cleared {
    /// The old directory was put back, as the new one had not come.
    var isRestored = false
    /// What had come into the old directory meanwhile, and is in the new one now.
    var moved: [String] = []
    /// What stays in the sibling: it is never removed without being shown.
    var kept: [String] = []
  }

  /// Removes the sibling with what may go: the files of its list, and files that stand in the
  /// destination as well. Anything else moves there, or stays where it is when it cannot.
  func clear() -> Cleared {
    var cleared = Cleared()
    let marks = Self.marks("\(path)/\(Self.list)")
    if FilePath.exists("\(path)/\(Self.old)") {
      cleared.isRestored = Rename.withoutReplacing("\(path)/\(Self.old)", destination)
    }
    let home = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
    guard home >= 0 else { return cleared }
    defer { close(home) }
    let standing = open(destination, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    defer { if standing >= 0 { close(standing) } }
    for name in [Self.old, Self.tree] where FilePath.exists("\(path)/\(name)") {
      Self.dispose(Array(name.utf8), in: home, standing, marks, "", &cleared)
    }
    if cleared.kept.isEmpty { giveUp() }
    return cleared
  }

  private static func marks(_ path: String) -> Set<Mark> {
    guard let file = try? RandomAccessFile(path: path),
      let bytes = try? file.bytes(at: 0, count: file.byteCount)
    else { return [] }
    var marks: Set<Mark> = []
    // A line without its end was cut short.
    for line in bytes.split(separator: 0, omittingEmptySubsequences: false).dropLast() {
      guard let slash = line.firstIndex(of: UInt8(ascii: "/")),
        let inode = UInt64(String(decoding: line[..<slash], as: UTF8.self))
      else { continue }
      marks.insert(Mark(name: Array(line[(slash + 1)...]), inode: inode))
    }
    return marks
  }

  private static func dispose(
    _ directory: [UInt8], in parent: Int32, _ standing: Int32, _ marks: Set<Mark>,
    _ prefix: String, _ cleared: inout Cleared
  ) {
    let own = directory.map { CChar(bitPattern: $0) } + [0]
    let descriptor = openat(parent, own, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
    guard descriptor >= 0, let names = names(in: descriptor) else {
      if descriptor >= 0 { close(descriptor) }
      cleared.kept.append(prefix)
      return
    }
    defer { close(descriptor) }
    // A directory that forbids writing keeps its names as well.
    fchmod(descriptor, 0o700)
    for name in names {
      let text = name.map { CChar(bitPattern: $0) } + [0]
      let told = prefix + String(decoding: name, as: UTF8.self)
      var info = stat()
      guard fstatat(descriptor, text, &info, AT_SYMLINK_NOFOLLOW) == 0 else { continue }
      if marks.contains(Mark(name: name, inode: UInt64(info.st_ino))) {
        text.withUnsafeBufferPointer { OutputDirectory.remove($0.baseAddress!, in: descriptor) }
        continue
      }
      var twin = stat()
      let hasTwin = standing >= 0 && fstatat(standing, text, &twin, AT_SYMLINK_NOFOLLOW) == 0
      if !hasTwin {
        if standing >= 0, Rename.withoutReplacing(text, in: descriptor, to: standing) {
          cleared.moved.append(told)
        } else {
          cleared.kept.append(told)
        }
      } else if info.st_mode & S_IFMT == S_IFDIR, twin.st_mode & S_IFMT == S_IFDIR {
        let other = openat(standing, text, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        defer { if other >= 0 { close(other) } }
        dispose(name, in: descriptor, other, [], told + "/", &cleared)
      } else if info.st_dev == twin.st_dev, info.st_ino == twin.st_ino {
        unlinkat(descriptor, text, 0)
      } else {
        cleared.kept.append(told)
      }
    }
    unlinkat(parent, own, AT_REMOVEDIR)
  }

  /// The names in an open directory, by their bytes, which need not be UTF-8.
  static func names(in descriptor: Int32) -> [[UInt8]]? {
    // Its own place in the directory: the one given may be listed again.
    let own = openat(descriptor, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard own >= 0 else { return nil }
    guard let stream = fdopendir(own) else {
      close(own)
      return nil
    }
    defer { closedir(stream) }
    var names: [[UInt8]] = []
    while let entry = readdir(stream) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) { Array($0.prefix { $0 != 0 }) }
      if name != Array(".".utf8), name != Array("..".utf8) { names.append(name) }
    }
    return names
  }
}
