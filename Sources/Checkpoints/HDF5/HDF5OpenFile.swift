/// A file that stays open in libhdf5, and the dataset that was used last.
///
/// Everything in it is touched only by who holds the library's lock, which a session shows.
final class HDF5OpenFile: @unchecked Sendable {
  private let file: HDF5Session.Handle
  private var current: (index: Int, handle: HDF5Session.Handle)?

  /// Takes over an open file.
  init(_ file: HDF5Session.Handle) { self.file = file }

  deinit {
    HDF5Library.run { session in
      if let current { session.close(current.handle) }
      session.close(file)
    }
  }

  /// The dataset number `index` at `path`, open; the one before is closed.
  func dataset(
    _ index: Int, path: String, _ session: HDF5Session
  ) throws(HDF5Failure) -> HDF5Session.Handle {
    if let current, current.index == index { return current.handle }
    if let current { session.close(current.handle) }
    current = nil
    let handle = try session.openObject(file, path)
    current = (index, handle)
    return handle
  }
}
