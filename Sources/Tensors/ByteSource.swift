import Synchronization

/// The bytes of a file that is no local one. Safe from several threads.
package protocol ByteSource: Sendable {
  /// Bytes in it.
  var byteCount: Int { get }
  /// What tells it, and its state, from any other.
  var identity: RandomAccessFile.Identity { get }

  /// Fills `buffer` with the bytes from `offset` on, all of which lie in the file.
  ///
  /// - Throws: `source.*`.
  func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(Diagnostic)

  /// Hands the bytes `range` to `take` as they come, in order.
  ///
  /// - Throws: `source.*`; what `take` throws.
  func stream(
    _ range: Range<Int>, _ take: (UnsafeRawBufferPointer) throws(Diagnostic) -> Void
  ) throws(Diagnostic)

  /// Asks for a few bytes at each of `offsets` at once, as they are going to be read one by one. What
  /// fails is told when it is read.
  func prefetch(_ offsets: [Int])

  /// Makes sure that everything that was read is of one state of the file.
  ///
  /// - Throws: `source.changed`.
  func checkUnchanged() throws(Diagnostic)
}

/// A file of a `RemoteDirectory`.
package enum RemoteContent: Sendable {
  /// Its bytes come from elsewhere.
  case source(any ByteSource)
  /// A copy of it lies at a local path.
  case local(String)
}

/// Files behind a URL, under paths that begin with it.
package protocol RemoteDirectory: AnyObject, Sendable {
  /// What stands at `path`. What cannot be asked for counts as a file, so that opening it tells why.
  func kind(_ path: String) -> FilePath.Kind
  /// The names in the directory at `path` that matter here, in order.
  ///
  /// - Throws: `source.*`.
  func names(in path: String) throws(Diagnostic) -> [String]
  /// Opens the file at `path`.
  ///
  /// - Throws: `source.*`.
  func open(_ path: String) throws(Diagnostic) -> RemoteContent
  /// What was noticed so far: a revision that was pinned, a copy in a cache, a server without ranges.
  var notes: [Diagnostic] { get }
}

/// The places behind URLs that were opened: the paths below them are read there, by everything that
/// reads a path. Where none was opened, no path leads to the network.
package enum RemotePlaces {
  /// Connections that are worth their making.
  package static let mostThreads = 8
  private static let places = Mutex<[String: any RemoteDirectory]>([:])

  /// Lets the paths at and below `prefix` be those of `directory`, instead of an earlier one's.
  package static func open(_ directory: any RemoteDirectory, at prefix: String) {
    places.withLock { $0[prefix] = directory }
  }

  /// The place that holds `path`; of several, the innermost.
  package static func holder(of path: String) -> (any RemoteDirectory)? {
    // Local paths, which are nearly all, cost a look at their first bytes.
    guard path.utf8.starts(with: "http".utf8) || path.utf8.starts(with: "hf:".utf8) else {
      return nil
    }
    return places.withLock { places in
      var best: (count: Int, place: any RemoteDirectory)?
      for (prefix, place) in places
      where FilePath.isInside(path, prefix) && prefix.utf8.count > best?.count ?? 0 {
        best = (prefix.utf8.count, place)
      }
      return best?.place
    }
  }

  /// What was noticed about the place that holds `path`.
  package static func notes(of path: String) -> [Diagnostic] { holder(of: path)?.notes ?? [] }

  /// Opens files at once that are going to be opened one by one; what is wrong is told then.
  package static func expect(_ paths: [String]) {
    guard let first = paths.first, let place = holder(of: first) else { return }
    let threads = min(mostThreads, paths.count)
    WaitingThreads.run(threads) { thread in
      for number in stride(from: thread, to: paths.count, by: threads) {
        _ = try? place.open(paths[number])
      }
    }
  }

  static func open(_ path: String) throws(Diagnostic) -> RemoteContent? {
    try holder(of: path)?.open(path)
  }
}
