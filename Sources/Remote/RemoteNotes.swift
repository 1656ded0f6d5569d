import Tensors

/// What is to be told of how files behind a URL are read: each once, however many files it is.
struct RemoteNotes {
  private var fixed: [Diagnostic] = []
  private var untold = 0
  private var whole = (files: 0, bytes: 0)
  private var cached = 0

  mutating func add(_ note: Diagnostic) { fixed.append(note) }

  mutating func add(_ file: RemoteFile) {
    if file.isWhole, file.byteCount > 0 {
      whole.files += 1
      whole.bytes += file.byteCount
    } else if !file.tellsChanges {
      untold += 1
    }
  }

  mutating func addCached() { cached += 1 }

  func list(_ subject: String, cache: String) -> [Diagnostic] {
    func files(_ count: Int) -> String { count == 1 ? "1 file" : "\(count) files" }
    var notes = fixed
    if cached > 0 {
      notes.append(
        Diagnostic(
          .note, code: "source.cached", subject: subject,
          message: "\(files(cached)) of this revision \(cached == 1 ? "is" : "are") read from "
            + "\(shown(cache, quoted: false)), where Hugging Face's tools keep what they fetched"))
    }
    if whole.files > 0 {
      notes.append(
        Diagnostic(
          .note, code: "source.whole", subject: subject,
          message: "the server answers no ranges: \(files(whole.files)) of \(whole.bytes) bytes "
            + "\(whole.files == 1 ? "was" : "were") read whole"))
    }
    if untold > 0 {
      notes.append(
        Diagnostic(
          .note, code: "source.no-etag", subject: subject,
          message:
            "the server gives \(files(untold)) neither ETag nor Last-Modified: a change that "
            + "keeps the size would not be noticed"))
    }
    return notes
  }
}
