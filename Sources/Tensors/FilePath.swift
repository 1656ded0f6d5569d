#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// File-system queries on paths.
package enum FilePath {
  /// The kind of an entry, following links.
  package enum Kind { case file, directory, other, nothing }

  /// The kind of the entry at `path`.
  package static func kind(_ path: String) -> Kind {
    if let place = RemotePlaces.holder(of: path) { return place.kind(path) }
    var info = stat()
    guard stat(path, &info) == 0 else { return .nothing }
    switch info.st_mode & S_IFMT {
    case S_IFREG: return .file
    case S_IFDIR: return .directory
    default: return .other
    }
  }

  /// Whether anything stands at `path`, a dangling link included.
  package static func exists(_ path: String) -> Bool {
    if let place = RemotePlaces.holder(of: path) { return place.kind(path) != .nothing }
    var info = stat()
    return lstat(path, &info) == 0
  }

  /// The absolute path with every link resolved; `nil` when something is missing.
  package static func real(_ path: String) -> String? {
    if let place = RemotePlaces.holder(of: path) {
      return place.kind(path) == .nothing ? nil : path
    }
    guard let resolved = realpath(path, nil) else { return nil }
    defer { free(resolved) }
    return String(cString: resolved)
  }

  /// Without slashes at the end.
  package static func trimmed(_ path: String) -> String {
    var path = Substring(path)
    while path.utf8.count > 1, path.utf8.last == UInt8(ascii: "/") { path.removeLast() }
    return String(path)
  }

  /// The path of the directory that holds `path`; `.` for a bare name.
  package static func directory(of path: String) -> String {
    let path = trimmed(path)
    guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return "." }
    return slash == path.startIndex ? "/" : trimmed(String(path[..<slash]))
  }

  /// The nearest directory above `path` that is there.
  package static func firstStanding(above path: String) -> String {
    var place = directory(of: path)
    while !exists(place), place != ".", place != "/" { place = directory(of: place) }
    return place
  }

  /// The last component.
  package static func name(of path: String) -> String {
    String(trimmed(path).split(separator: "/").last ?? "")
  }

  /// Whether the real path `inner` is `outer` or lies below it.
  package static func isInside(_ inner: String, _ outer: String) -> Bool {
    if inner == outer || outer == "/" { return true }
    return inner.utf8.starts(with: outer.utf8)
      && inner.utf8.dropFirst(outer.utf8.count).first == UInt8(ascii: "/")
  }

  /// Where links lead from `path`, when that is out of `directory`; `nil` when it is not.
  ///
  /// Hugging Face's cache keeps `snapshots/<revision>/<name>` as links to `blobs/<digest>`, which
  /// belong to it.
  package static func outside(_ path: String, of directory: String) -> String? {
    if RemotePlaces.holder(of: path) != nil { return nil }
    guard let real = real(path), let home = Self.real(directory) else { return nil }
    if isInside(real, home) { return nil }
    let snapshots = Self.directory(of: home)
    let blobs = Self.directory(of: snapshots) + "/blobs"
    if name(of: snapshots) == "snapshots", Self.directory(of: real) == blobs { return nil }
    return real
  }

  /// A file or directory, whatever path leads to it.
  package struct Identity: Hashable {
    private var device: UInt64
    private var inode: UInt64

    /// The identity of the entry at `path`, following links; `nil` if there is none.
    package init?(_ path: String) {
      var info = stat()
      guard stat(path, &info) == 0 else { return nil }
      device = UInt64(truncatingIfNeeded: info.st_dev)
      inode = UInt64(info.st_ino)
    }

    /// The directories above the real path `path`, up to the root.
    package static func ancestors(of path: String) -> Set<Identity> {
      var found: Set<Identity> = []
      var path = path
      while path != "/" {
        path = FilePath.directory(of: path)
        if path == "." { break }
        if let identity = Identity(path) { found.insert(identity) }
      }
      return found
    }
  }

  /// The names in a directory, in order.
  ///
  /// - Throws: `io.open`.
  package static func names(in directory: String) throws(Diagnostic) -> [String] {
    if let place = RemotePlaces.holder(of: directory) { return try place.names(in: directory) }
    guard let stream = opendir(directory) else {
      throw Diagnostic.system("io.open", directory, "cannot be listed")
    }
    defer { closedir(stream) }
    var names: [TensorName] = []
    while let entry = readdir(stream) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
        pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if name != ".", name != ".." { names.append(TensorName(name)) }
    }
    return names.sorted().map(\.string)
  }
}
