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

  /// Linux's `renameat2`, looked up because neither every libc nor its Swift overlay has it.
  private static func call(_ from: String, _ to: String, flags: UInt32) -> Int32? {
    #if os(Linux)
      typealias Function =
        @convention(c) (Int32, UnsafePointer<CChar>, Int32, UnsafePointer<CChar>, UInt32) -> Int32
      guard let symbol = dlsym(nil, "renameat2") else { return nil }
      return unsafeBitCast(symbol, to: Function.self)(AT_FDCWD, from, AT_FDCWD, to, flags)
    #else
      return nil
    #endif
  }
}
