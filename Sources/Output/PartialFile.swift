import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A single file on its way: written beside its place under a hidden name and renamed.
package enum PartialFile {
  /// Where to write what will stand at `directory/name`. What runs that were ended have left of the
  /// same file goes.
  package static func path(of name: String, in directory: String) -> String {
    let (stem, ending) = (".\(name).", ".partial")
    for other in (try? TextFile.names(in: directory)) ?? []
    where other.hasPrefix(stem) && other.hasSuffix(ending) {
      let middle = other.utf8.dropFirst(stem.utf8.count).dropLast(ending.utf8.count)
      guard let process = Int32(String(Substring(middle))), process > 0 else { continue }
      let isGone = process == getpid() || kill(process, 0) != 0 && errno == ESRCH
      if isGone { unlink("\(directory)/\(other)") }
    }
    return "\(directory)/\(stem)\(getpid())\(ending)"
  }
}
