import Dispatch
import Synchronization
import Tensors

/// A file behind a URL. Small reads come from a cache that reads ahead, large ones straight from the
/// server.
final class RemoteFile: ByteSource {
  let byteCount: Int
  let identity: RandomAccessFile.Identity
  /// Whether a change that keeps the size can be told.
  let tellsChanges: Bool
  /// Whether the server answers no ranges, so that all of it is in memory.
  var isWhole: Bool { whole != nil }
  /// Whether the server calls it a web page.
  let isPage: Bool
  private let resource: RemoteResource
  private let whole: [UInt8]?
  private let number: Int
  private let fetches = Mutex<[Fetch]>([])

  /// Longer reads need no cache.
  private static let directBytes = 1 << 20
  /// Bytes that are asked for at once where little is wanted.
  private static let leastBytes = 16 << 10
  /// Bytes at the end of a file that are read together: what a zip file says of itself.
  private static let tailBytes = 64 << 10
  /// Bytes at each of the places that are asked for before they are read.
  private static let prefetchBytes = 4 << 10
  private static let mostPrefetches = 4096
  /// Bytes that are read ahead, at most.
  private static let mostBytes = 4 << 20
  /// Bytes of all files that are in memory whole.
  private static let wholeTotal = Atomic(0)
  private static let mostWhole = 256 << 20

  /// Bytes that some thread is asking for.
  private final class Fetch: Sendable {
    let range: Range<Int>
    let group = DispatchGroup()
    init(_ range: Range<Int>) { self.range = range }
  }

  /// Asks for the file's beginning.
  ///
  /// - Parameter expected: the size that is known from elsewhere.
  /// - Throws: `source.*`.
  init(_ resource: RemoteResource, expected: Int? = nil) throws(Diagnostic) {
    self.resource = resource
    let opened = try resource.open()
    let known = opened.validators
    if let expected, expected != known.byteCount {
      throw resource.fault(
        "changed", "has \(known.byteCount) bytes, where the list of files says \(expected)",
        "run it again")
    }
    byteCount = known.byteCount
    tellsChanges = known.areTelling
    isPage = opened.contentType.lowercased().hasPrefix("text/html")
    // Where nothing tells two states of a file apart, no two runs saw the same one.
    let state = known.areTelling ? "\(known.etag ?? "") \(known.modified ?? "")" : nil
    let clock = ContinuousClock.now
    identity = RandomAccessFile.Identity(
      device: 0, inode: Self.hash(resource.url.shown), byteCount: known.byteCount,
      modified: Int(truncatingIfNeeded: Self.hash(state ?? "\(clock)")))
    number = ExtentCache.newFile()
    if opened.isWhole {
      let total = Self.wholeTotal.wrappingAdd(opened.head.count, ordering: .relaxed).newValue
      guard total <= Self.mostWhole else {
        Self.wholeTotal.wrappingSubtract(opened.head.count, ordering: .relaxed)
        throw resource.fault(
          "no-ranges",
          "lies on a server that answers no ranges; with it more than \(Self.mostWhole) bytes would "
            + "be read whole into memory", "download the files, and give their path")
      }
      whole = opened.head
    } else {
      whole = nil
      ExtentCache.add(number, 0, opened.head)
    }
  }

  deinit {
    ExtentCache.remove(number)
    if let whole { Self.wholeTotal.wrappingSubtract(whole.count, ordering: .relaxed) }
  }

  /// FNV-1a.
  private static func hash(_ text: String) -> UInt64 {
    text.utf8.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x0000_0100_0000_01b3 }
  }

  func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(Diagnostic) {
    if let whole {
      whole.withUnsafeBytes {
        buffer.copyMemory(
          from: UnsafeRawBufferPointer(rebasing: $0[offset..<offset + buffer.count]))
      }
      return
    }
    var done = 0
    while done < buffer.count {
      let at = offset + done
      let rest = UnsafeMutableRawBufferPointer(rebasing: buffer[done...])
      let known = ExtentCache.copy(number, from: at, into: rest)
      if known > 0 {
        done += known
        continue
      }
      let (end, before) = ExtentCache.gap(number, from: at, to: offset + buffer.count)
      guard end - at >= Self.directBytes else {
        try fetch(at, wanted: end - at, before: before)
        continue
      }
      var place = done
      try resource.stream(at..<end) { (bytes) throws(Diagnostic) in
        UnsafeMutableRawBufferPointer(rebasing: buffer[place..<place + bytes.count])
          .copyMemory(from: bytes)
        place += bytes.count
      }
      done += end - at
    }
  }

  /// Brings bytes from `offset` on into the cache: more, where what is before them was read too.
  private func fetch(_ offset: Int, wanted: Int, before: Int) throws(Diagnostic) {
    let ahead = before > 0 ? min(max(2 * before, Self.leastBytes), Self.mostBytes) : Self.leastBytes
    var start = offset
    // The end of a file is read backwards.
    if byteCount - offset < Self.tailBytes { start = max(0, byteCount - Self.tailBytes) }
    try fetch(start..<min(max(offset + wanted, start + ahead), byteCount), for: offset)
  }

  private func fetch(_ range: Range<Int>, for offset: Int) throws(Diagnostic) {
    let (own, other): (Fetch?, Fetch?) = fetches.withLock { fetches in
      if let other = fetches.first(where: { $0.range.contains(offset) }) { return (nil, other) }
      let own = Fetch(range)
      own.group.enter()
      fetches.append(own)
      return (own, nil)
    }
    if let other {
      other.group.wait()
      return
    }
    guard let own else { return }
    defer {
      fetches.withLock { $0.removeAll { $0 === own } }
      own.group.leave()
    }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(range.count)
    try resource.stream(range) { (part) throws(Diagnostic) in bytes += part }
    ExtentCache.add(number, range.lowerBound, bytes)
  }

  func prefetch(_ offsets: [Int]) {
    guard whole == nil else { return }
    var ranges: [Range<Int>] = []
    for offset in offsets.sorted() where (0..<byteCount).contains(offset) {
      let end = min(offset + Self.prefetchBytes, byteCount)
      if let last = ranges.last, offset <= last.upperBound,
        end - last.lowerBound <= Self.directBytes
      {
        ranges[ranges.count - 1] = last.lowerBound..<end
      } else if !ExtentCache.holds(number, offset..<end) {
        ranges.append(offset..<end)
      }
      if ranges.count >= Self.mostPrefetches { break }
    }
    let next = Atomic(0)
    let (list, count) = (ranges, ranges.count)
    WaitingThreads.run(min(RemotePlaces.mostThreads, count)) { _ in
      while true {
        let place = next.wrappingAdd(1, ordering: .relaxed).oldValue
        guard place < count, (try? fetch(list[place], for: list[place].lowerBound)) != nil else {
          return
        }
      }
    }
  }

  func stream(
    _ range: Range<Int>, _ take: (UnsafeRawBufferPointer) throws(Diagnostic) -> Void
  ) throws(Diagnostic) {
    guard let whole else { return try resource.stream(range, take) }
    var failure: Diagnostic?
    whole.withUnsafeBytes {
      do throws(Diagnostic) {
        try take(UnsafeRawBufferPointer(rebasing: $0[range]))
      } catch { failure = error }
    }
    if let failure { throw failure }
  }

  func checkUnchanged() throws(Diagnostic) { try resource.checkUnchanged() }
}
