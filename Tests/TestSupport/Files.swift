#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// The few calls on files that tests need, without Foundation.
public enum Files {
  /// Replaces or creates a file.
  public static func write(_ bytes: [UInt8], to path: String) {
    let fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o644)
    precondition(fd >= 0, "\(path) cannot be written")
    defer { close(fd) }
    var done = 0
    while done < bytes.count {
      let count = bytes.withUnsafeBytes {
        Self.put(fd, $0.baseAddress! + done, bytes.count - done)
      }
      precondition(count > 0)
      done += count
    }
  }

  private static func put(_ fd: Int32, _ pointer: UnsafeRawPointer, _ count: Int) -> Int {
    #if canImport(Glibc)
      return Glibc.write(fd, pointer, count)
    #elseif canImport(Musl)
      return Musl.write(fd, pointer, count)
    #else
      return Darwin.write(fd, pointer, count)
    #endif
  }

  /// Replaces or creates a file of text.
  public static func write(_ text: String, to path: String) { write(Array(text.utf8), to: path) }

  /// The bytes of a file.
  public static func read(_ path: String) -> [UInt8] {
    let fd = open(path, O_RDONLY)
    precondition(fd >= 0, "\(path) cannot be read")
    defer { close(fd) }
    var info = stat()
    precondition(fstat(fd, &info) == 0)
    let size = Int(info.st_size)
    return [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
      while count < size {
        let more = pread(fd, buffer.baseAddress! + count, size - count, off_t(count))
        precondition(more > 0)
        count += more
      }
    }
  }

  /// The text of a file.
  public static func text(_ path: String) -> String { String(decoding: read(path), as: UTF8.self) }

  /// Whether something stands at `path`.
  public static func exists(_ path: String) -> Bool {
    var info = stat()
    return lstat(path, &info) == 0
  }

  /// Creates a directory in an existing one.
  public static func makeDirectory(_ path: String) {
    precondition(mkdir(path, 0o755) == 0, "\(path) cannot be created")
  }

  /// Creates a symbolic link.
  public static func link(_ path: String, to target: String) {
    precondition(symlink(target, path) == 0)
  }

  /// The names in a directory, in order, hidden ones included.
  public static func names(in directory: String) -> [String] {
    guard let stream = opendir(directory) else { return [] }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if name != ".", name != ".." { names.append(name) }
    }
    return names.sorted()
  }

  /// Removes a file, or a directory with what is in it.
  public static func remove(_ path: String) {
    var info = stat()
    guard lstat(path, &info) == 0 else { return }
    guard info.st_mode & S_IFMT == S_IFDIR else {
      unlink(path)
      return
    }
    for name in names(in: path) { remove(path + "/" + name) }
    rmdir(path)
  }
}
