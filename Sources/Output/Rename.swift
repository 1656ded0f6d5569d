import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// The two kinds of rename that never lose a directory. Both leave the reason in `errno`.
enum Rename {
  /// Moves `from` to `to` unless something is there (`EEXIST`).
  static func withoutReplacing(_ from: String, _ to: String) -> Bool {
    if let result = call(from, to, flags: 1) {
      if result == 0 { return true }
      if errno != EINVAL && errno != ENOSYS { return false }
    }
    guard !FilePath.exists(to) else {
      errno = EEXIST
      return false
    }
    return rename(from, to) == 0
  }

  /// Swaps `from` and `to` at once; `ENOSYS` or `EINVAL` where the system cannot.
  static func exchanging(_ from: String, _ to: String) -> Bool {
    if let result = call(from, to, flags: 2) { return result == 0 }
    errno = ENOSYS
    return false
  }

  /// Moves `name` from one open directory to another unless something of that name is there.
  static func withoutReplacing(_ name: [CChar], in from: Int32, to: Int32) -> Bool {
    if let result = call(name, name, flags: 1, in: from, to: to) {
      if result == 0 { return true }
      if errno != EINVAL && errno != ENOSYS { return false }
    }
    var info = stat()
    guard fstatat(to, name, &info, AT_SYMLINK_NOFOLLOW) != 0 else {
      errno = EEXIST
      return false
    }
    return renameat(from, name, to, name) == 0
  }

  private static func call(_ from: String, _ to: String, flags: UInt32) -> Int32? {
    call(Array(from.utf8CString), Array(to.utf8CString), flags: flags, in: AT_FDCWD, to: AT_FDCWD)
  }

  /// Linux's `renameat2`, looked up because neither every libc nor its Swift overlay has it.
  private static func call(
    _ from: [CChar], _ to: [CChar], flags: UInt32, in origin: Int32, to target: Int32
  ) -> Int32? {
    #if os(Linux)
      typealias Function =
        @convention(c) (Int32, UnsafePointer<CChar>, Int32, UnsafePointer<CChar>, UInt32) -> Int32
      guard let symbol = dlsym(nil, "renameat2") else { return nil }
      return unsafeBitCast(symbol, to: Function.self)(origin, from, target, to, flags)
    #else
      return nil
    #endif
  }
}
